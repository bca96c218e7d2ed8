"""ILSVRC's CLS-LOC tree: which images there are, their labels and their boxes; and its lists, read
and written.

Only names found by listing the tree's folders become paths; names written in its lists are looked
up among them, so no list can lead out of the tree. Links in the tree are followed: whoever owns the
tree put them there.
"""

import hashlib
import os
import shlex
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import DataConfig, names_in
from cam_repro.cores import in_threads
from cam_repro.data.annotations import (
    CONTRADICTIONS,
    Annotation,
    Finding,
    Truth,
    box_findings,
    read_annotation,
    read_solution,
    size_findings,
)
from cam_repro.data.images import SUFFIXES, CorruptImage, read_size
from cam_repro.data.split import Split, load_arrays, save_arrays
from cam_repro.files import read_text

MAPPING = "LOC_synset_mapping.txt"  # this and what follows: places under the tree's root
SOLUTION = "LOC_val_solution.csv"
IMAGES = "ILSVRC/Data/CLS-LOC"
ANNOTATIONS = "ILSVRC/Annotations/CLS-LOC/val"
IMAGE_SETS = {
    "train": "ILSVRC/ImageSets/CLS-LOC/train_cls.txt",
    "val": "ILSVRC/ImageSets/CLS-LOC/val.txt",
}
# A large data set has a few such boxes of its own, and is scored with them; more mean that the
# annotations are those of other images, or of the same at another size.
NOISE_KINDS = ("box outside the image", "annotation of another size")
MOST_NOISE = 0.001  # of the images
_INDEX_FORMAT = "4"  # of the cached index: another one, or other rules of reading, make it anew


def open_split(data: DataConfig, split: str, cache: Path) -> Split:
    """The train or val split of a tree, from the index in `cache` unless the tree has changed
    since.

    Raises UserError, before an image is decoded, where val's annotations contradict its images or
    each other.
    """
    if split not in IMAGE_SETS:
        raise UserError(
            f"data.split={split}: data.layout=ilsvrc has the splits {' and '.join(IMAGE_SETS)} alone"
        )
    root, (wnids, words) = tree_root(data), read_classes(data)
    key = hashlib.sha256(f"{root.resolve()}|{split}".encode()).hexdigest()[:16]
    index, signature = cache / "index" / f"{key}.npz", _signature(root, split, wnids)
    arrays = load_arrays(index)
    if arrays.pop("signature", None) != signature:
        arrays = _build_index(root, split, wnids, check_command(data))
        save_arrays(index, signature=np.array(signature), **arrays)
    return Split(root / IMAGES / split, **arrays, wnids=wnids, words=words, name=split)


def read_classes(data: DataConfig) -> tuple[list[str], list[str]]:
    """wnids and words in the tree's order; no image is looked for."""
    return read_synset_mapping(tree_root(data, MAPPING) / MAPPING)


def imagenet_classes() -> tuple[list[str], list[str]]:
    """wnids and words of ILSVRC 2012's 1000 classes, in the order of torchvision's, timm's and
    Caffe's networks.
    """
    return read_synset_mapping(Path(__file__).with_name("imagenet_classes.txt"))


def tree_root(data: DataConfig, wanted: str = IMAGES) -> Path:
    """The data root, or a UserError that says which part of the tree was looked for and how to get
    it.
    """
    advice = (
        f"{data.get}; or data=shapes, which needs nothing"
        if data.get
        else "data=shapes needs nothing"
    )
    if data.root is None:
        raise UserError(f"data={data.name} has no root: {advice}")
    root = Path(data.root)
    if not (root / wanted).exists():
        raise UserError(f"no {wanted} under data.root={root}: {advice}")
    return root


def read_synset_mapping(path: Path) -> tuple[list[str], list[str]]:
    """wnids and words, one class a line: class i is line i."""
    lines = [line.split(maxsplit=1) for line in read_text(path).splitlines() if line.strip()]
    wnids = [line[0] for line in lines]
    if len(set(wnids)) != len(wnids) or not wnids:
        raise UserError(
            f"{path} lists {len(wnids)} classes, {len(set(wnids))} different; expected one a line"
        )
    return wnids, [line[1] if len(line) > 1 else line[0] for line in lines]


def _signature(root: Path, split: str, wnids: list[str]) -> str:
    """Changes with the class order, with files added or removed, and with the size or date of any
    annotation and of any val image, which are held against each other."""
    folder = root / IMAGES / split
    watched = [root / SOLUTION, root / IMAGE_SETS[split], folder, *folder.glob("*/")]
    if split == "val":
        watched += (root / ANNOTATIONS).glob("*.xml")
        watched += (folder / file for file in scan_images(folder))
    digest = hashlib.sha256("\n".join([_INDEX_FORMAT, *wnids]).encode())
    for path in sorted(map(os.fspath, watched)):
        status = os.stat(path) if os.path.exists(path) else None  # noqa: PTH110, PTH116  of 50,000 files
        digest.update(os.fsencode(f"{path}|{status and (status.st_ctime_ns, status.st_size)}\n"))
    return digest.hexdigest()


def _build_index(root: Path, split: str, wnids: list[str], command: str) -> dict[str, np.ndarray]:
    """The arrays of a Split. command: what a UserError proposes to type, to list all that it
    counts.
    """
    folder = root / IMAGES / split
    files = _listed_files(root, split)
    class_of = {wnid: label for label, wnid in enumerate(wnids)}
    solution = read_solution(root / SOLUTION) if split == "val" else {}
    with_xml = xml_stems(root) if split == "val" else set()

    def look_at(file: str) -> tuple[Truth | None, list[Finding]]:
        stem = stem_of(file)
        annotation = (
            read_annotation(root / ANNOTATIONS / f"{stem}.xml") if stem in with_xml else None
        )
        listed = solution.get(stem)
        truth = truth_of(file, annotation, listed)
        if (
            annotation is None and listed is None
        ):  # its folder alone tells its class, and there is no box
            return truth, []
        try:
            size = read_size(folder / file)
        except CorruptImage as error:
            raise UserError(
                f"corrupt image {error}: an evaluation counts every image; fetch it again"
            ) from None
        return truth, list(contradictions(file, annotation, listed, size, class_of))

    labels, boxes = [], []
    findings = shared_annotations(files, with_xml, solution)
    looked_at = (
        in_threads(look_at, files) if split == "val" else map(look_at, files)
    )  # of train no file is opened
    for file, (truth, found) in zip(
        tqdm(files, f"index {split}", leave=False, disable=None), looked_at, strict=True
    ):
        if truth is None:
            raise UserError(
                f"{folder / file} has no label: neither {stem_of(file)}.xml nor {SOLUTION} names it"
            )
        if truth[0] not in class_of:
            raise UserError(
                f"{folder / file} is of class {truth[0]}, which {MAPPING} does not list"
            )
        labels.append(class_of[truth[0]])
        boxes.append(truth[1])
        findings += found
    refuse_contradictions(findings, len(files), folder, command)
    return {
        "files": np.array([os.fsencode(file) for file in files]),
        "labels": np.array(labels, np.int64),
        "boxes": np.array([box for of_image in boxes for box in of_image], np.int32).reshape(-1, 4),
        "box_starts": np.cumsum([0] + [len(of_image) for of_image in boxes]),
    }


def refuse_contradictions(findings: list[Finding], images: int, folder: Path, command: str) -> None:
    """UserError where annotations contradict their images, but for a few boxes of many images.

    command: what to type to list all that is counted.
    """
    wrong = [(kind, what) for kind, what in findings if kind in CONTRADICTIONS]
    if not wrong:
        return
    kind, what = wrong[0]
    said = (
        f"{folder}: annotations that contradict their images or each other: {len(wrong):,}, "
        f"first {what} ({kind}); to list them all, type {command}"
    )
    is_noise = all(kind in NOISE_KINDS for kind, _ in wrong) and len(wrong) <= MOST_NOISE * images
    if not is_noise:
        raise UserError(said)
    tqdm.write(f"{said}; they are scored as they stand")


def _listed_files(root: Path, split: str) -> list[str]:
    """The images of a split, in the order of its list in ImageSets; all of them, sorted, where
    there is none.
    """
    folder, image_set = root / IMAGES / split, root / IMAGE_SETS[split]
    files = scan_images(folder)
    if not files:
        raise UserError(f"{folder} holds no images (*.JPEG); see data.root=")
    if not image_set.is_file():
        return files
    names, by_name = read_image_set(image_set), by_listed_name(files)
    if missing := [name for name in names if name not in by_name]:
        raise UserError(
            f"{image_set} lists {len(missing)} images that are not there, first {missing[0]}"
        )
    return [by_name[name] for name in names]


def scan_images(folder: Path) -> list[str]:
    """Relative paths of all images, in class folders or beside each other, sorted; none where there
    is no folder.
    """
    found = []
    for entry in os.scandir(folder) if folder.is_dir() else ():
        names = (
            [f"{entry.name}/{inner.name}" for inner in os.scandir(entry.path)]
            if entry.is_dir()
            else [entry.name]
        )
        found += [name for name in names if name.lower().endswith(SUFFIXES)]
    return sorted(found)


def by_listed_name(files: list[str]) -> dict[str, str]:
    """Files by their name without suffix, as ImageSets name them."""
    return {file.rpartition(".")[0]: file for file in files}


def read_image_set(path: Path) -> list[str]:
    """The names in a list of `name number` lines (the number may be left out)."""
    names = [line.split()[0] for line in read_text(path).splitlines() if line.strip()]
    if len(set(names)) != len(names) or not names:
        raise UserError(
            f"{path} lists {len(names)} images, {len(set(names))} different; expected one a line"
        )
    return names


def xml_stems(root: Path) -> set[str]:
    """The images that have an annotation of their own."""
    return {path.stem for path in (root / ANNOTATIONS).glob("*.xml")}


def stem_of(file: str) -> str:
    """The image's name in its annotation: neither class folder nor suffix."""
    return file.rpartition("/")[2].rpartition(".")[0]


def truth_from_folder(file: str) -> Truth | None:
    return (file.partition("/")[0], []) if "/" in file else None


def truth_of(file: str, annotation: Annotation | None, listed: Truth | None) -> Truth | None:
    """Class and boxes of an image: its XML's, else those of LOC_val_solution.csv, else the class of
    its folder.
    """
    if annotation and annotation.truth:
        return annotation.truth
    return listed or truth_from_folder(file)


def contradictions(
    file: str,
    annotation: Annotation | None,
    listed: Truth | None,
    size: tuple[int, int],
    wnids: Container[str],
) -> Iterator[Finding]:
    """Where what is said of an image contradicts the image, its (width, height), its class folder
    or itself.
    """
    own = annotation.truth if annotation else None
    truth = truth_of(file, annotation, listed)
    folder = truth_from_folder(file)
    if truth and folder and folder[0] in wnids and folder[0] != truth[0]:
        yield "class of another folder", f"{file}: its annotation says {truth[0]}"
    if own and listed and own[0] != listed[0] and own[0] in wnids:
        yield "class of another list", f"{file}: its XML says {own[0]}, {SOLUTION} says {listed[0]}"
    elif (
        own and listed and own[0] == listed[0] and listed[1] and sorted(own[1]) != sorted(listed[1])
    ):
        yield (
            "boxes of another list",
            f"{file}: its XML has other boxes than {SOLUTION}; the XML's are taken",
        )
    if annotation:
        yield from size_findings(f"{stem_of(file)}.xml", annotation.size, size)
    if truth:
        yield from box_findings(file, truth[1], size)


def shared_annotations(
    files: list[str], with_xml: set[str], solution: Mapping[str, Truth]
) -> list[Finding]:
    """Images of one name in several class folders, which cannot all be what the one annotation of
    that name says.
    """
    annotated = with_xml | solution.keys()
    images_of = defaultdict(list)
    for file in files if annotated else []:
        images_of[stem_of(file)].append(file)
    return [
        (
            "annotation of several images",
            f"{images[0]}: {images[1]} has the same annotation, {stem}",
        )
        for stem, images in images_of.items()
        if len(images) > 1 and stem in annotated
    ]


def check_command(data: DataConfig) -> str:
    """What lists everything that is wrong with a data set, as it is typed."""
    chosen = data.name if data.name in names_in("data") else data.layout
    return shlex.join(["make", "check-data", f"data={chosen}", f"data.root={data.root}"])


def write_lists(root: Path, classes: Mapping[str, str], names: Mapping[str, Iterable[str]]) -> None:
    """The classes (wnid → words), and each split's images: `<name without suffix> <running
    number>`, sorted.
    """
    (root / MAPPING).write_text(
        "".join(f"{wnid} {words}\n" for wnid, words in classes.items()), encoding="utf-8"
    )
    for split, of_split in names.items():
        path = root / IMAGE_SETS[split]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "".join(f"{name} {number}\n" for number, name in enumerate(sorted(of_split), 1))
        )
