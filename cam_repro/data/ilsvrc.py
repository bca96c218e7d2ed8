"""ILSVRC in every form in which it is distributed, found by looking at what lies at the root.

Only names found by listing folders and archives become paths; names written in lists are looked up
among them, so no list can lead out of the tree. Links in the tree are followed: whoever owns the
tree put them there.
"""

import os
import re
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from cam_repro import UserError
from cam_repro.config import DataConfig
from cam_repro.data.annotations import Source, read_solution, read_xml_archive, read_xml_folder
from cam_repro.data.ilsvrc_lists import (
    IMAGE_SETS,
    MAPPING,
    VAL_NAME,
    imagenet_subset,
    in_listed_order,
    read_devkit,
    read_synset_mapping,
)
from cam_repro.data.images import SUFFIXES
from cam_repro.data.layout import Listing, Sources
from cam_repro.data.storage import Archived, Files, tar_members

# Places under Kaggle's root.
SOLUTION = "LOC_val_solution.csv"
IMAGES = "ILSVRC/Data/CLS-LOC"
ANNOTATIONS = "ILSVRC/Annotations/CLS-LOC/val"
# As image-net.org names what it gives away.
BOX_ARCHIVE = "ILSVRC2012_bbox_val_v3.tgz"
DEVKIT = "ILSVRC2012_devkit_t12"

BOX_PLACES = {  # where an image's boxes are taken from, the first place first
    ANNOTATIONS: read_xml_folder,
    "Annotations/CLS-LOC/val": read_xml_folder,
    BOX_ARCHIVE: read_xml_archive,
    SOLUTION: read_solution,
}
WNID = re.compile(r"n\d{8}")
CLASS_TAR = re.compile(rb"n\d{8}\.tar")  # in the tar of train, a tar a class
NAME_WITH_CLASS = re.compile(r"(.+)_(n\d{8})")  # Hugging Face's: ILSVRC2012_val_00000293_n01440764
SHARD = re.compile(r"-(\d+)-of-(\d+)")  # in a name: train-00003-of-00294.parquet
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


OF_ANOTHER_TASK = "_t3.tar"  # image-net.org's ILSVRC2012_img_train_t3.tar, of dogs


class Form:
    """ILSVRC as it lies at a root.

    parts: a split -> its folder (of a tree) or its archives. found: the form in words.
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
        """The names of folders that are classes; empty where all of ILSVRC's classes are meant."""
        return set()

    def splits(self) -> list[str]:
        return list(self.parts)

    def check_split(self, split: str) -> None:
        if split not in IMAGE_SETS:
            splits = " and ".join(IMAGE_SETS)
            raise UserError(f"data.split={split}: data.layout=ilsvrc has the splits {splits} alone")

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
        """The images of a split; those of val in the devkit's order where all have its names."""
        label_array = np.array(labels, np.int64)
        # Names as bytes, not as Paths: there may be a million.
        stems = [os.path.basename(name) for name in images.names.tolist()]  # noqa: PTH119
        if split == "val" and all(stem.startswith(b"ILSVRC2012_val_") for stem in stems):
            order = np.argsort(np.array(stems), kind="stable")
            images = images.take(order)
            label_array = label_array[order]
        return Listing(images, label_array, self.wnids, self.words, split)


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
        if split not in self.parts:
            return []
        return scan_images(self.parts[split][0])

    def watched(self, split: str) -> list[Path]:
        self.check_split(split)
        if split not in self.parts:
            return []
        folder = self.parts[split][0]
        watched = [self.image_set(split), folder, *folder.glob("*/")]
        if split == "val":
            # The images too, since their sizes are compared with their annotations.
            watched += [folder / file for file in scan_images(folder)]
        return watched

    def listing(self, split: str, listed_only: bool = True) -> Listing:
        """listed_only: only the images that the list of ImageSets names, where there is one."""
        self.check_split(split)
        (folder,) = self.parts.get(split, [self.root / split])
        files = scan_images(folder)
        if not files:
            raise UserError(f"{folder} holds no images (*.JPEG); see data.root=")
        image_set = self.image_set(split)
        if listed_only and image_set.is_file():
            files = in_listed_order(image_set, files)
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
        archives = self.parts[split]
        read = _images_of_shard if archives[0].suffix == ".parquet" else _images_of_tar
        class_of = {wnid: label for label, wnid in enumerate(self.wnids)}
        # Columns of numbers, which take less memory than a million rows.
        names: list[bytes] = []
        archive = array("q")
        first = array("q")
        second = array("q")
        labels = array("q")
        for number, path in enumerate(archives):
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
            raise UserError(f"{archives[0]} holds no images; expected JPEGs")
        images = Archived(
            self.root,
            np.array(names),
            archives=tuple(os.fspath(path.relative_to(self.root)) for path in archives),
            archive=np.array(archive, np.int32),
            first=np.array(first),
            second=np.array(second),
        )
        order = np.argsort(images.names, kind="stable")
        ordered = images.names[order]
        twice = np.flatnonzero(ordered[1:] == ordered[:-1])
        if len(twice):
            one = images.path(order[twice[0]])
            other = images.path(order[twice[0] + 1])
            raise UserError(f"{len(twice)} images are there twice, first {one} and {other}")
        return self._listing(split, images.take(order), np.array(labels)[order])


def _kaggle(root: Path) -> Form | None:
    if not (root / IMAGES).is_dir():
        return None
    parts = {split: [root / IMAGES / split] for split in IMAGE_SETS}
    return Tree(root, "", parts)


def _torchvision(root: Path) -> Form | None:
    parts = {}
    for split in IMAGE_SETS:
        for folder in (root / split, root / f"ILSVRC2012_img_{split}"):
            if folder.is_dir() and scan_images(folder, at_most=1):
                parts[split] = [folder]
    if not parts:
        return None
    folders = " and ".join(f"{split}/" for split in parts)
    return Tree(root, f"ILSVRC in torchvision's form: {folders}", parts)


def _imagenet_v2(root: Path) -> Form | None:
    if not root.is_dir():
        return None
    folders = []
    for entry in os.scandir(root):
        if entry.is_dir() and not entry.name.startswith("."):
            folders.append(entry.name)
    are_numbers = all(name.isdecimal() and int(name) < 1000 for name in folders)
    if len(folders) < 2 or not are_numbers:
        return None
    found = f"ImageNetV2: {len(folders)} folders named by ILSVRC's class numbers"
    return NumberedTree(root, found, {"val": [root]})


def _tars(root: Path) -> Form | None:
    return _archives(root, "*.tar", "tars of ILSVRC")


def _parquet(root: Path) -> Form | None:
    return _archives(root, "*.parquet", "ILSVRC in parquet shards")


def _archives(root: Path, pattern: str, kind: str) -> Form | None:
    for folder in (root, root / "data"):
        parts: dict[str, list[Path]] = {}
        for archive in sorted(folder.glob(pattern)):
            is_other = archive.name.startswith(".") or archive.name.endswith(OF_ANOTHER_TASK)
            for split in IMAGE_SETS:
                if split in archive.name.lower() and not is_other:
                    parts.setdefault(split, []).append(archive)
        if parts:
            _refuse_missing_shards(parts)
            counts = [f"{len(archives)} of {split}" for split, archives in parts.items()]
            return Archives(root, f"{kind}: {' and '.join(counts)}", parts)
    return None


def _refuse_missing_shards(parts: dict[str, list[Path]]) -> None:
    """UserError where a split lacks some of its shards, whose names say how many there are."""
    for archives in parts.values():
        found = [SHARD.search(archive.name) for archive in archives]
        if not all(found):
            continue
        number, count = found[0].groups()
        there = {int(one[1]) for one in found}
        missing = sorted(set(range(int(count))) - there)
        if missing:
            first = str(missing[0]).zfill(len(number))
            name = archives[0].name.replace(found[0][0], f"-{first}-of-{count}")
            raise UserError(
                f"{archives[0].parent} lacks {len(missing)} of {count} shards, "
                f"the first {name}; fetch it"
            )


def _images_of_tar(tar: Path) -> Iterator[tuple[str, int, int, int]]:
    """The images of a tar: (name, offset, length, class number or -1).

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
                number = file.read(length).strip()
                if not number.isdigit():
                    raise UserError(f"{tar}: {name} holds {number[:40]!r}, expected a class number")
                numbers[key] = int(number)
            elif f".{suffix.lower()}" in SUFFIXES:
                images.append((key, name, offset, length))
    for key, name, offset, length in images:
        yield name, offset, length, numbers.get(key, -1)


def _images_of_shard(shard: Path) -> Iterator[tuple[str, int, int, int]]:
    """The images of a parquet shard: (name, row group, row in it, class number).

    Its columns are image {bytes, path} and label.
    """
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(shard) as opened:
            for group in range(opened.num_row_groups):
                table = opened.read_row_group(group, columns=["image.path", "label"])
                names = table["image"].combine_chunks().field("path").to_pylist()
                labels = table["label"].to_pylist()
                for row, name in enumerate(names):
                    unnamed = f"{shard.stem}-{group}-{row}.JPEG"
                    yield name or unnamed, group, row, labels[row]
    except (ArrowInvalid, KeyError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{shard} is no whole shard of images and labels: {reason}; fetch it again"
        ) from None


def canonical(name: str) -> tuple[str, str]:
    """An image's name as Kaggle's tree has it, and its class; "" where the name does not tell it.

    It is n01440764/n01440764_10026.JPEG in train and ILSVRC2012_val_00000001.JPEG in val, whatever
    a form adds to it.
    """
    wnid = wnid_of(name)
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    doubled = NAME_WITH_CLASS.fullmatch(stem)
    if doubled:
        stem = doubled[1]
    in_class_folder = wnid and not stem.startswith(VAL_NAME.partition("{")[0])
    folder = f"{wnid}/" if in_class_folder else ""
    return f"{folder}{stem}{dot}{suffix}", wnid


def wnid_of(name: str) -> str:
    """The class that an image's folder or its own name tells; "" where neither does."""
    folder, _, file = name.rpartition("/")
    stem = file.rpartition(".")[0]
    candidates = [folder.rpartition("/")[2]]
    doubled = NAME_WITH_CLASS.fullmatch(stem)
    if doubled:
        candidates.append(doubled[2])
    candidates.append(stem.partition("_")[0])
    for wnid in candidates:
        if WNID.fullmatch(wnid):
            return wnid
    return ""


def scan_images(folder: Path, at_most: int | None = None) -> list[str]:
    """The sorted relative paths of all images, in class folders or beside each other.

    Hidden files are passed over, macOS' ._ files among them. Empty where there is no folder.
    at_most: how many are enough, where only their presence matters.
    """
    found: list[str] = []
    for entry in os.scandir(folder) if folder.is_dir() else ():
        if entry.name.startswith("."):
            continue
        names = [entry.name]
        if entry.is_dir():
            names = []
            for inner in os.scandir(entry.path):
                if not inner.name.startswith("."):
                    names.append(f"{entry.name}/{inner.name}")
        found += [name for name in names if name.lower().endswith(SUFFIXES)]
        if at_most is not None and len(found) >= at_most:
            break
    return sorted(found)
