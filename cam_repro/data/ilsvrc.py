"""ILSVRC's CLS-LOC tree: which images there are, their labels and their boxes; and its lists, read and written.

Only names found by listing the tree's folders become paths; names written in its lists are looked up among them, so
no list can lead out of the tree. Links in the tree are followed: whoever owns the tree put them there.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import DataConfig
from cam_repro.data.annotations import Truth, read_annotation, read_solution
from cam_repro.data.images import SUFFIXES
from cam_repro.data.split import Split, load_arrays, save_arrays
from cam_repro.files import read_text

MAPPING = "LOC_synset_mapping.txt"  # this and what follows: places under the tree's root
SOLUTION = "LOC_val_solution.csv"
IMAGES = "ILSVRC/Data/CLS-LOC"
ANNOTATIONS = "ILSVRC/Annotations/CLS-LOC/val"
IMAGE_SETS = {"train": "ILSVRC/ImageSets/CLS-LOC/train_cls.txt", "val": "ILSVRC/ImageSets/CLS-LOC/val.txt"}
_INDEX_FORMAT = "3"  # of the cached index: another one, or other rules of reading, make it anew


def open_split(data: DataConfig, split: str, cache: Path) -> Split:
    """The train or val split of a tree, from the index in `cache` unless the tree has changed since."""
    root, (wnids, words) = tree_root(data), read_classes(data)
    key = hashlib.sha256(f"{root.resolve()}|{split}".encode()).hexdigest()[:16]
    index, signature = cache / "index" / f"{key}.npz", _signature(root, split, wnids)
    arrays = load_arrays(index)
    if arrays.pop("signature", None) != signature:
        arrays = _build_index(root, split, wnids)
        save_arrays(index, signature=np.array(signature), **arrays)
    return Split(root / IMAGES / split, **arrays, wnids=wnids, words=words)


def read_classes(data: DataConfig) -> tuple[list[str], list[str]]:
    """wnids and words in the tree's order; no image is looked for."""
    return read_synset_mapping(tree_root(data, MAPPING) / MAPPING)


def imagenet_classes() -> tuple[list[str], list[str]]:
    """wnids and words of ILSVRC 2012's 1000 classes, in the order of torchvision's, timm's and Caffe's networks."""
    return read_synset_mapping(Path(__file__).with_name("imagenet_classes.txt"))


def tree_root(data: DataConfig, wanted: str = IMAGES) -> Path:
    """The data root, or a UserError that says which part of the tree was looked for and how to get it."""
    advice = f"{data.get}; or data=shapes, which needs nothing" if data.get else "data=shapes needs nothing"
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
        raise UserError(f"{path} lists {len(wnids)} classes, {len(set(wnids))} different; expected one a line")
    return wnids, [line[1] if len(line) > 1 else line[0] for line in lines]


def _signature(root: Path, split: str, wnids: list[str]) -> str:
    """Changes with the class order, with files added or removed, and with any annotation's size or date."""
    folder = root / IMAGES / split
    watched = [root / SOLUTION, root / IMAGE_SETS[split], folder, *folder.glob("*/")]
    watched += (root / ANNOTATIONS).glob("*.xml") if split == "val" else []
    digest = hashlib.sha256("\n".join([_INDEX_FORMAT, *wnids]).encode())
    for path in sorted(map(os.fspath, watched)):
        status = os.stat(path) if os.path.exists(path) else None  # noqa: PTH110, PTH116  of 50,000 files
        digest.update(os.fsencode(f"{path}|{status and (status.st_ctime_ns, status.st_size)}\n"))
    return digest.hexdigest()


def _build_index(root: Path, split: str, wnids: list[str]) -> dict[str, np.ndarray]:
    """The arrays of a Split, in the order of its list in ImageSets; sorted where there is none."""
    folder, image_set = root / IMAGES / split, root / IMAGE_SETS[split]
    files = scan_images(folder)
    if not files:
        raise UserError(f"{folder} holds no images (*.JPEG); see data.root=")
    if image_set.is_file():
        listed, by_name = read_image_set(image_set), by_listed_name(files)
        if missing := [name for name in listed if name not in by_name]:
            raise UserError(f"{image_set} lists {len(missing)} images that are not there, first {missing[0]}")
        files = [by_name[name] for name in listed]
    class_of = {wnid: label for label, wnid in enumerate(wnids)}
    solution = read_solution(root / SOLUTION) if split == "val" else {}
    with_xml = xml_stems(root) if split == "val" else set()
    labels, boxes = [], []
    for file in tqdm(files, f"index {split}", leave=False, disable=None):
        stem = stem_of(file)
        truth = read_annotation(root / ANNOTATIONS / f"{stem}.xml").truth if stem in with_xml else None
        truth = truth or solution.get(stem) or truth_from_folder(file)
        if truth is None:
            raise UserError(f"{folder / file} has no label: neither {stem}.xml nor {SOLUTION} names it")
        if truth[0] not in class_of:
            raise UserError(f"{folder / file} is of class {truth[0]}, which {MAPPING} does not list")
        labels.append(class_of[truth[0]])
        boxes.append(truth[1])
    return {
        "files": np.array([os.fsencode(file) for file in files]),
        "labels": np.array(labels, np.int64),
        "boxes": np.array([box for of_image in boxes for box in of_image], np.int32).reshape(-1, 4),
        "box_starts": np.cumsum([0] + [len(of_image) for of_image in boxes]),
    }


def scan_images(folder: Path) -> list[str]:
    """Relative paths of all images, in class folders or beside each other, sorted; none where there is no folder."""
    found = []
    for entry in os.scandir(folder) if folder.is_dir() else ():
        names = [f"{entry.name}/{inner.name}" for inner in os.scandir(entry.path)] if entry.is_dir() else [entry.name]
        found += [name for name in names if name.lower().endswith(SUFFIXES)]
    return sorted(found)


def by_listed_name(files: list[str]) -> dict[str, str]:
    """Files by their name without suffix, as ImageSets name them."""
    return {file.rpartition(".")[0]: file for file in files}


def read_image_set(path: Path) -> list[str]:
    """The names in a list of `name number` lines (the number may be left out)."""
    names = [line.split()[0] for line in read_text(path).splitlines() if line.strip()]
    if len(set(names)) != len(names) or not names:
        raise UserError(f"{path} lists {len(names)} images, {len(set(names))} different; expected one a line")
    return names


def xml_stems(root: Path) -> set[str]:
    """The images that have an annotation of their own."""
    return {path.stem for path in (root / ANNOTATIONS).glob("*.xml")}


def stem_of(file: str) -> str:
    """The image's name in its annotation: neither class folder nor suffix."""
    return file.rpartition("/")[2].rpartition(".")[0]


def truth_from_folder(file: str) -> Truth | None:
    return (file.partition("/")[0], []) if "/" in file else None


def write_lists(root: Path, classes: Mapping[str, str], names: Mapping[str, Iterable[str]]) -> None:
    """The classes (wnid → words), and each split's images: `<name without suffix> <running number>`, sorted."""
    (root / MAPPING).write_text("".join(f"{wnid} {words}\n" for wnid, words in classes.items()), encoding="utf-8")
    for split, of_split in names.items():
        path = root / IMAGE_SETS[split]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name} {number}\n" for number, name in enumerate(sorted(of_split), 1)))
