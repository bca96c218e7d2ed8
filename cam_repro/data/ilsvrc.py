"""ILSVRC in every form in which it is distributed, found by looking; and its lists, read and written.

Only names found by listing folders and archives become paths; names written in lists are looked up
among them, so no list can lead out of the tree. Links in the tree are followed: whoever owns the
tree put them there.
"""

import io
import os
import re
import tarfile
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from cam_repro import UserError
from cam_repro.config import DataConfig
from cam_repro.data.annotations import (
    Annotation,
    Known,
    Source,
    read_solution,
    read_xml_archive,
    read_xml_folder,
)
from cam_repro.data.images import SUFFIXES
from cam_repro.data.layout import Listing, Sources
from cam_repro.data.storage import Archived, Files, tar_members
from cam_repro.files import read_text

MAPPING = "LOC_synset_mapping.txt"  # this and what follows: places under Kaggle's root
SOLUTION = "LOC_val_solution.csv"
IMAGES = "ILSVRC/Data/CLS-LOC"
ANNOTATIONS = "ILSVRC/Annotations/CLS-LOC/val"
IMAGE_SETS = {
    "train": "ILSVRC/ImageSets/CLS-LOC/train_cls.txt",
    "val": "ILSVRC/ImageSets/CLS-LOC/val.txt",
}
BOX_ARCHIVE = "ILSVRC2012_bbox_val_v3.tgz"  # as image-net.org names what it gives away
DEVKIT = "ILSVRC2012_devkit_t12"
VAL_NAME = "ILSVRC2012_val_{:08d}"

BOX_PLACES = {  # the first goes before the second
    ANNOTATIONS: read_xml_folder,
    "Annotations/CLS-LOC/val": read_xml_folder,
    BOX_ARCHIVE: read_xml_archive,
    SOLUTION: read_solution,
}
WNID = re.compile(r"n\d{8}")
CLASS_TAR = re.compile(rb"n\d{8}\.tar")  # in the tar of train, a tar a class
NAME_WITH_CLASS = re.compile(r"(.+)_(n\d{8})")  # Hugging Face's: ILSVRC2012_val_00000293_n01440764
FORMS = (
    f"Kaggle's {IMAGES}, torchvision's train/<wnid> and val/<wnid>, image-net.org's "
    "ILSVRC2012_img_val.tar and _img_train.tar, Hugging Face's train-*.parquet and "
    "validation-*.parquet, WebDataset's tars, ImageNetV2's folders 0 to 999"
)


def find(data: DataConfig) -> "Form":
    """The form in which ILSVRC, or another data set in its layout, lies at the root."""
    advice = "data=shapes needs nothing"
    if data.get:
        advice = f"{data.get}; or data=shapes, which needs nothing"
    if data.root is None:
        raise UserError(f"data={data.name} has no root: {advice}")
    root = Path(data.root)
    for look in (_kaggle, _parquet, _tars, _torchvision, _imagenet_v2):
        form = look(root)
        if form is not None:
            return form
    raise UserError(f"data.root={root} holds ILSVRC in none of its forms ({FORMS}): {advice}")


class Form:
    """ILSVRC as it lies at a root.

    parts: a split -> its folder (of a tree) or its archives. found: in words.
    """

    def __init__(self, root: Path, found: str, parts: dict[str, list[Path]]) -> None:
        self.root = root
        self.found = found
        self.parts = parts

    @cached_property
    def _classes(self) -> tuple[list[str], list[str]]:
        if (self.root / MAPPING).is_file():
            return read_synset_mapping(self.root / MAPPING)
        return imagenet_subset(self.class_folders(), self.root)

    @property
    def wnids(self) -> list[str]:
        return self._classes[0]

    @property
    def words(self) -> list[str]:
        return self._classes[1]

    def class_folders(self) -> set[str]:
        """Names of folders that are classes; empty where all of ILSVRC's are meant."""
        return set()

    def splits(self) -> list[str]:
        return list(self.parts)

    def check_split(self, split: str) -> None:
        if split not in IMAGE_SETS:
            raise UserError(
                f"data.split={split}: data.layout=ilsvrc has the splits {' and '.join(IMAGE_SETS)} alone"
            )

    def sources(self, split: str) -> Sources:
        """The boxes of val that lie beside the images, and the devkit's list of classes."""
        if split != "val":
            return Sources(with_difficult=True)
        boxes = []
        for place, read in BOX_PLACES.items():
            for path in (self.root / place, self.root / "data" / place):
                if path.is_file() or any(path.glob("*.xml")):
                    boxes.append(Source(path, read))
        classes = []
        for devkit in (self.root / DEVKIT, self.root / f"{DEVKIT}.tar.gz"):
            if devkit.exists():
                classes.append(Source(devkit, read_devkit))
        return Sources(boxes, classes, with_difficult=True)

    def _listing(self, split: str, images: Files, labels: Sequence[int]) -> Listing:
        """In the devkit's order, where all images have its names."""
        stems = [os.path.basename(name) for name in images.names.tolist()]  # noqa: PTH119  of a million
        if split == "val" and all(stem.startswith(b"ILSVRC2012_val_") for stem in stems):
            order = np.argsort(np.array(stems), kind="stable")
            images = images.take(order)
            labels = np.array(labels, np.int64)[order]
        return Listing(images, np.array(labels, np.int64), self.wnids, self.words, split)


class Tree(Form):
    """Images that are files of their own: in class folders, or beside each other."""

    def class_folders(self) -> set[str]:
        names = set()
        for (folder,) in self.parts.values():
            for entry in os.scandir(folder) if folder.is_dir() else ():
                if entry.is_dir() and not entry.name.startswith("."):
                    names.add(entry.name)
        return names

    def image_set(self, split: str) -> Path:
        """The list of the split's images, which need not be there."""
        beside = self.root / IMAGE_SETS[split].removeprefix("ILSVRC/")
        return beside if beside.is_file() else self.root / IMAGE_SETS[split]

    def files(self, split: str) -> list[str]:
        """All images of the split's folder, listed or not."""
        return scan_images(self.parts[split][0]) if split in self.parts else []

    def watched(self, split: str) -> list[Path]:
        self.check_split(split)
        if split not in self.parts:
            return []
        folder = self.parts[split][0]
        watched = [self.image_set(split), folder, *folder.glob("*/")]
        if split == "val":  # which are held against their annotations
            watched += (folder / file for file in scan_images(folder))
        return watched

    def listing(self, split: str, listed_only: bool = True) -> Listing:
        """listed_only: of the images that are there those alone that a list of ImageSets names."""
        self.check_split(split)
        folder = self.parts.get(split, [self.root / split])[0]
        files = scan_images(folder)
        if not files:
            raise UserError(f"{folder} holds no images (*.JPEG); see data.root=")
        if listed_only and self.image_set(split).is_file():
            files = _in_order_of(
                read_image_set(self.image_set(split)), files, self.image_set(split)
            )
        class_of = {wnid: label for label, wnid in enumerate(self.wnids)}
        labels = []
        for file in files:
            wnid = file.partition("/")[0] if "/" in file else wnid_of(file)
            if wnid and wnid not in class_of:
                raise UserError(
                    f"{folder / file} is of class {wnid}, which {MAPPING} does not list"
                )
            labels.append(class_of.get(wnid, -1))
        names = np.array([os.fsencode(file) for file in files])
        return self._listing(split, Files(folder, names), labels)


class NumberedTree(Tree):
    """ImageNetV2: a folder a class, named by its number in ILSVRC's order."""

    def class_folders(self) -> set[str]:
        return set()

    def listing(self, split: str, listed_only: bool = True) -> Listing:
        self.check_split(split)
        if split not in self.parts:
            raise UserError(f"{self.root} is ImageNetV2, which has a val split alone")
        files = scan_images(self.root)
        names = np.array([os.fsencode(file) for file in files])
        labels = [int(file.partition("/")[0]) for file in files]
        return self._listing(split, Files(self.root, names), labels)


class Archives(Form):
    """Images in tars or parquet shards, which stay as they are."""

    def watched(self, split: str) -> list[Path]:
        self.check_split(split)
        return self.parts.get(split, [])

    def listing(self, split: str) -> Listing:
        self.check_split(split)
        if split not in self.parts:
            raise UserError(
                f"{self.root} has no archive of {split}; it has {' and '.join(self.parts)}"
            )
        read = _rows_of_shard if self.parts[split][0].suffix == ".parquet" else _rows_of_tar
        class_of = {wnid: label for label, wnid in enumerate(self.wnids)}
        names: list[bytes] = []
        archive, first, second, labels = (array("q") for _ in range(4))
        for number, path in enumerate(self.parts[split]):
            for name, start, length, class_number in read(path):
                name, wnid = canonical(name)
                label = class_of.get(wnid, -1) if wnid else class_number
                if (wnid and label < 0) or label >= len(class_of):
                    raise UserError(
                        f"{path}: {name} is of class {wnid or label}, which is none of ILSVRC's"
                    )
                names.append(os.fsencode(name))
                archive.append(number)
                first.append(start)
                second.append(length)
                labels.append(label)
        if not names:
            raise UserError(f"{self.parts[split][0]} holds no images; expected JPEGs")
        images = Archived(
            self.root,
            np.array(names),
            archives=tuple(os.fspath(path.relative_to(self.root)) for path in self.parts[split]),
            archive=np.array(archive, np.int32),
            first=np.array(first),
            second=np.array(second),
        )
        order = np.argsort(images.names, kind="stable")
        return self._listing(split, images.take(order), np.array(labels)[order])


def _kaggle(root: Path) -> Form | None:
    if not (root / IMAGES).is_dir():
        return None
    return Tree(root, "", {split: [root / IMAGES / split] for split in IMAGE_SETS})


def _torchvision(root: Path) -> Form | None:
    parts = {}
    for split in IMAGE_SETS:
        for folder in (root / split, root / f"ILSVRC2012_img_{split}"):
            if folder.is_dir() and scan_images(folder, at_most=1):
                parts[split] = [folder]
    if not parts:
        return None
    return Tree(
        root, f"ILSVRC in torchvision's form: {' and '.join(f'{split}/' for split in parts)}", parts
    )


def _imagenet_v2(root: Path) -> Form | None:
    if not root.is_dir():
        return None
    folders = [entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != "."]
    if len(folders) < 2 or not all(name.isdecimal() and int(name) < 1000 for name in folders):
        return None
    return NumberedTree(
        root, f"ImageNetV2: {len(folders)} folders named by ILSVRC's class numbers", {"val": [root]}
    )


def _tars(root: Path) -> Form | None:
    return _archives(root, "*.tar", "tars of ILSVRC")


def _parquet(root: Path) -> Form | None:
    return _archives(root, "*.parquet", "ILSVRC in parquet shards")


def _archives(root: Path, pattern: str, kind: str) -> Form | None:
    for folder in (root, root / "data"):
        parts: dict[str, list[Path]] = {}
        for archive in sorted(folder.glob(pattern)):
            is_hidden = archive.name.startswith(".")
            for split in IMAGE_SETS:
                if split in archive.name.lower() and not is_hidden:
                    parts.setdefault(split, []).append(archive)
        if parts:
            _refuse_missing_shards(parts)
            counts = " and ".join(
                f"{len(archives)} of {split}" for split, archives in parts.items()
            )
            return Archives(root, f"{kind}: {counts}", parts)
    return None


def _refuse_missing_shards(parts: dict[str, list[Path]]) -> None:
    """Shards say how many they are: train-00003-of-00294.parquet."""
    for archives in parts.values():
        found = [re.search(r"-(\d+)-of-(\d+)", archive.name) for archive in archives]
        if not all(found):
            continue
        numbers = {int(one[1]) for one in found}
        missing = sorted(set(range(int(found[0][2]))) - numbers)
        if missing:
            first = archives[0].name.replace(
                found[0][0], f"-{missing[0]:0{len(found[0][1])}d}-of-{found[0][2]}"
            )
            raise UserError(
                f"{archives[0].parent} lacks {len(missing)} of {found[0][2]} shards, the first {first}; fetch it"
            )


def _rows_of_tar(tar: Path) -> Iterator[tuple[str, int, int, int]]:
    """Images of a tar: (name, offset, length, class number or -1).

    WebDataset puts the class of key.jpg into key.cls beside it.
    """
    images = []
    numbers = {}
    with tar.open("rb") as file:
        for raw, offset, length in tar_members(tar, CLASS_TAR):
            name = os.fsdecode(raw).removeprefix("./")
            base = name.rpartition("/")[2]
            if base.startswith("."):
                continue
            key, _, suffix = name.rpartition(".")
            if suffix == "cls":
                file.seek(offset)
                numbers[key] = int(file.read(length))
            elif f".{suffix.lower()}" in SUFFIXES:
                images.append((key, name, offset, length))
    for key, name, offset, length in images:
        yield name, offset, length, numbers.get(key, -1)


def _rows_of_shard(shard: Path) -> Iterator[tuple[str, int, int, int]]:
    """Images of a parquet shard with columns image {bytes, path} and label: (name, group, row, class)."""
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(shard) as opened:
            for group in range(opened.num_row_groups):
                table = opened.read_row_group(group, columns=["image.path", "label"])
                names = table["image"].combine_chunks().field("path").to_pylist()
                for row, (name, label) in enumerate(
                    zip(names, table["label"].to_pylist(), strict=True)
                ):
                    yield name or f"{shard.stem}-{group}-{row}.JPEG", group, row, label
    except (ArrowInvalid, KeyError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{shard} is no whole shard of images and labels: {reason}; fetch it again"
        ) from None


def canonical(name: str) -> tuple[str, str]:
    """An image's name as Kaggle's tree has it, and its class, empty where the name does not tell it.

    n01440764/n01440764_10026.JPEG in train, ILSVRC2012_val_00000001.JPEG in val, whatever a form
    adds to them.
    """
    wnid = wnid_of(name)
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    doubled = NAME_WITH_CLASS.fullmatch(stem)
    if doubled:
        stem = doubled[1]
    folder = f"{wnid}/" if wnid and stem.startswith(f"{wnid}_") else ""
    return f"{folder}{stem}{dot}{suffix}", wnid


def wnid_of(name: str) -> str:
    """The class that an image's name tells, by its folder or by itself; empty where it tells none."""
    folder, _, file = name.rpartition("/")
    stem = file.rpartition(".")[0]
    doubled = NAME_WITH_CLASS.fullmatch(stem)
    for wnid in (folder.rpartition("/")[2], doubled[2] if doubled else "", stem.partition("_")[0]):
        if WNID.fullmatch(wnid):
            return wnid
    return ""


def _in_order_of(names: list[str], files: list[str], image_set: Path) -> list[str]:
    """The files in the order of a list, which names them with or without their class folders."""
    by_name = {file.rpartition("/")[2].rpartition(".")[0]: file for file in files}
    by_name |= by_listed_name(files)
    missing = [name for name in names if name not in by_name]
    if missing:
        raise UserError(
            f"{image_set} lists {len(missing)} images that are not there, first {missing[0]}"
        )
    return [by_name[name] for name in names]


def scan_images(folder: Path, at_most: int | None = None) -> list[str]:
    """Relative paths of all images, in class folders or beside each other, sorted.

    Hidden files are passed over, macOS' ._ files among them. None where there is no folder.
    at_most: enough to know that there are some.
    """
    found: list[str] = []
    for entry in os.scandir(folder) if folder.is_dir() else ():
        if entry.name.startswith("."):
            continue
        names = [entry.name]
        if entry.is_dir():
            inside = [inner.name for inner in os.scandir(entry.path) if inner.name[0] != "."]
            names = [f"{entry.name}/{name}" for name in inside]
        found += [name for name in names if name.lower().endswith(SUFFIXES)]
        if at_most is not None and len(found) >= at_most:
            break
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


def read_synset_mapping(path: Path) -> tuple[list[str], list[str]]:
    """wnids and words, one class a line: class i is line i."""
    lines = [line.split(maxsplit=1) for line in read_text(path).splitlines() if line.strip()]
    wnids = [line[0] for line in lines]
    if len(set(wnids)) != len(wnids) or not wnids:
        raise UserError(
            f"{path} lists {len(wnids)} classes, {len(set(wnids))} different; expected one a line"
        )
    return wnids, [line[1] if len(line) > 1 else line[0] for line in lines]


def imagenet_classes() -> tuple[list[str], list[str]]:
    """wnids and words of ILSVRC 2012's 1000 classes, in the order of all published networks."""
    return read_synset_mapping(Path(__file__).with_name("imagenet_classes.txt"))


def imagenet_subset(folders: set[str], root: Path) -> tuple[list[str], list[str]]:
    """Those of ILSVRC's classes that have folders, in ILSVRC's order; all where none has."""
    wnids, words = imagenet_classes()
    others = sorted(folders - set(wnids))
    if others:
        raise UserError(
            f"no {MAPPING} under data.root={root}, and the folder {others[0]} is none of ILSVRC's classes; "
            "write one line `wnid words` a class there, or choose data=folder"
        )
    kept = [place for place, wnid in enumerate(wnids) if wnid in folders or not folders]
    return [wnids[place] for place in kept], [words[place] for place in kept]


def read_devkit(path: Path) -> Known:
    """The classes of val by ILSVRC2012_devkit_t12, packed or unpacked: meta.mat and the list of numbers."""
    from scipy.io import loadmat

    lists = {"meta.mat": b"", "ILSVRC2012_validation_ground_truth.txt": b""}
    try:
        if path.is_dir():
            for name in lists:
                lists[name] = (path / "data" / name).read_bytes()
        else:
            with tarfile.open(path) as archive:
                for member in archive:
                    name = member.name.rpartition("/")[2]
                    if name in lists and member.isfile():
                        lists[name] = archive.extractfile(member).read()
        meta, truth = lists.values()
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        wnid_of_number = {int(one["ILSVRC2012_ID"]): str(one["WNID"]) for one in synsets}
        known = {}
        for image, number in enumerate(truth.split(), 1):
            known[VAL_NAME.format(image)] = Annotation(name=wnid_of_number[int(number)])
    except (
        OSError,
        tarfile.TarError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        NotImplementedError,
    ) as error:
        raise UserError(f"{path} is not ILSVRC2012's devkit: {error}; fetch it again") from None
    return known


def write_lists(root: Path, classes: Mapping[str, str], names: Mapping[str, Iterable[str]]) -> None:
    """The classes (wnid → words), and each split's images: `<name without suffix> <number>`, sorted."""
    lines = [f"{wnid} {words}\n" for wnid, words in classes.items()]
    (root / MAPPING).write_text("".join(lines), encoding="utf-8")
    for split, of_split in names.items():
        path = root / IMAGE_SETS[split]
        path.parent.mkdir(parents=True, exist_ok=True)
        numbered = [f"{name} {number}\n" for number, name in enumerate(sorted(of_split), 1)]
        path.write_text("".join(numbered))
