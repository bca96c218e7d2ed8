"""Data sets of this field in the layouts in which their authors distribute them.

Each is one function, which finds the data set at a root: its classes, and the images of each split.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from cam_repro import UserError
from cam_repro.config import DataConfig
from cam_repro.cores import in_threads
from cam_repro.data.annotations import (
    Annotation,
    Known,
    Object,
    Source,
    parse_box,
    read_annotation,
    read_wsol,
)
from cam_repro.data.folder import ClassFolders
from cam_repro.data.ilsvrc_lists import words_of_ilsvrc
from cam_repro.data.layout import Listing, Sources
from cam_repro.data.masks import Masks
from cam_repro.data.storage import Files
from cam_repro.files import read_text

CALTECH_BACKGROUND = "BACKGROUND_Google"  # Caltech-101's folder of images of none of its classes
LabelledFiles = list[tuple[str, int]]  # images' paths in a folder, and the numbers of their classes


@dataclass
class Listed:
    """A data set whose splits are lists of images.

    files: split -> its images in `folder`, read when asked for; boxes: split -> the annotations of
    its images; remarks: split -> what was left out and why; masks: split -> the masks of its
    images, read when asked for; lists: files and folders that change with the listing.
    """

    found: str
    folder: Path
    wnids: list[str]
    words: list[str]
    files: dict[str, Callable[[], LabelledFiles]]
    boxes: dict[str, Source] = field(default_factory=dict)
    remarks: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    masks: dict[str, Callable[[], Masks]] = field(default_factory=dict)
    lists: list[Path] = field(default_factory=list)

    def splits(self) -> list[str]:
        return [split for split in self.files if split != "all"]

    def watched(self, split: str) -> list[Path]:
        return self.lists

    def sources(self, split: str) -> Sources:
        source = self.boxes.get(self._of(split))
        return Sources() if source is None else Sources([source])

    def listing(self, split: str) -> Listing:
        split = self._of(split)
        listed = self.files[split]()
        if not listed:
            raise UserError(f"{self.folder} holds no images of {split}")
        names = [os.fsencode(name) for name, _ in listed]
        labels = [label for _, label in listed]
        images = Files(self.folder, np.array(names))
        masks = self.masks[split]() if split in self.masks else None
        return Listing(
            images,
            np.array(labels, np.int64),
            self.wnids,
            self.words,
            name=split,
            remarks=self.remarks.get(split, {}),
            masks=masks,
        )

    def _of(self, split: str) -> str:
        """The split that is meant: without val it is test."""
        if split == "val" and "val" not in self.files:
            split = "test"
        if split not in self.files:
            there = ", ".join(self.files)
            raise UserError(f"data.split={split}: {self.folder} has {there}")
        return split


def root_of(data: DataConfig, *parts: str) -> Path:
    """The root, or a folder in it, that holds all of these files and folders."""
    wanted = ", ".join(parts)
    if data.root is None:
        raise UserError(f"data={data.name} has no root: {data.get}")
    given = Path(data.root)
    for root in (given, *sorted(given.glob("*/"))):
        if all((root / part).exists() for part in parts):
            return root
    raise UserError(f"data.root={data.root} does not hold {wanted}: {data.get}")


def tinyimagenet(data: DataConfig) -> Listed:
    """Tiny-ImageNet-200: 200 classes of ILSVRC, 64×64 pixels, a box for every train and val image.

    A train image whose bytes are those of a val image is left out.
    """
    root = root_of(data, "wnids.txt", "words.txt", "train", "val")
    wnids = sorted(read_text(root / "wnids.txt").split())
    lines = read_text(root / "words.txt").splitlines()
    words_of = dict(line.split("\t", 1) for line in lines)
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    remarks: dict[str, list[str]] = {}

    def val_images() -> LabelledFiles:
        listed = []
        for name, wnid, *_ in rows_of(root / "val/val_annotations.txt"):
            listed.append((f"val/images/{name}", label_of[wnid]))
        return listed

    def train_images() -> LabelledFiles:
        listed = []
        for wnid in wnids:
            folder = f"train/{wnid}/images"
            for name in sorted(os.listdir(root / folder)):  # noqa: PTH208
                if not name.startswith("."):
                    listed.append((f"{folder}/{name}", label_of[wnid]))
        val = [root / name for name, _ in val_images()]
        hashes_of_val = set(hashes(val))
        kept = []
        also_in_val = []
        train = [root / name for name, _ in listed]
        for (name, label), content in zip(listed, hashes(train), strict=True):
            if content in hashes_of_val:
                also_in_val.append(name)
            else:
                kept.append((name, label))
        if also_in_val:
            remarks["train images that stand in val too, left out"] = also_in_val
        return kept

    words = [words_of.get(wnid, wnid) for wnid in wnids]
    folders = [root / f"train/{wnid}/images" for wnid in wnids]
    val_list = root / "val/val_annotations.txt"
    train_boxes = Source(root / "train", read_tiny_boxes, pattern="*/*_boxes.txt")
    val_boxes = Source(val_list, read_tiny_boxes)
    return Listed(
        "Tiny-ImageNet",
        root,
        wnids,
        words,
        files={"train": train_images, "val": val_images},
        boxes={"train": train_boxes, "val": val_boxes},
        remarks={"train": remarks},
        lists=[root / "wnids.txt", val_list, *folders],
    )


def read_tiny_boxes(path: Path) -> Known:
    """Tiny-ImageNet's boxes: a line `name [wnid] x1 y1 x2 y2` an image; in train a file a class."""
    known: dict[str, Annotation] = {}
    for file in [path] if path.is_file() else sorted(path.glob("*/*_boxes.txt")):
        for name, *said in rows_of(file):
            stem = name.rpartition(".")[0]
            box = parse_box(said[-4:])
            known[stem] = Annotation([Object(box)])
    return known


def stanford40(data: DataConfig) -> Listed:
    """Stanford 40 Actions: the box is the person's, the class the action's."""
    root = root_of(data, "JPEGImages", "ImageSplits", "XMLAnnotations")
    lists = root / "ImageSplits"
    train_lists = [path.name for path in lists.glob("*_train.txt")]
    actions = sorted(name.removesuffix("_train.txt") for name in train_lists)

    def images(split: str) -> LabelledFiles:
        listed = []
        for label, action in enumerate(actions):
            for name in read_text(lists / f"{action}_{split}.txt").split():
                listed.append((name, label))
        return listed

    boxes = Source(root / "XMLAnnotations", read_persons)
    return Listed(
        "Stanford 40 Actions",
        root / "JPEGImages",
        actions,
        [action.replace("_", " ") for action in actions],
        files={"train": lambda: images("train"), "test": lambda: images("test")},
        boxes={"train": boxes, "test": boxes},
        lists=[root / "JPEGImages", *sorted(lists.glob("*.txt"))],
    )


def read_persons(path: Path) -> Known:
    """Stanford 40's XMLs, whose objects are called person whatever the action is."""
    known = {}
    for file in sorted(path.glob("*.xml")):
        annotation = read_annotation(file)
        objects = [one._replace(name=None) for one in annotation.objects]
        known[file.stem] = annotation._replace(objects=objects)
    return known


def scene15(data: DataConfig) -> Listed | ClassFolders:
    """Scene-15: a folder a class; train.txt and test.txt, where both are there, are its splits."""
    root = root_of(data, "CALsuburb")
    lists = {"train": root / "train.txt", "test": root / "test.txt"}
    if not all(path.is_file() for path in lists.values()):
        return ClassFolders(root)
    folders = [folder.name for folder in root.glob("*/")]
    classes = sorted(name for name in folders if not name.startswith("."))
    label_of = {name: label for label, name in enumerate(classes)}

    def images(split: str) -> LabelledFiles:
        listed = []
        for name in read_text(lists[split]).splitlines():
            if name:
                class_name = name.partition("/")[0]
                listed.append((name, label_of[class_name]))
        return listed

    return Listed(
        "Scene-15",
        root,
        wnids=classes,
        words=classes,
        files={
            "train": lambda: images("train"),
            "test": lambda: images("test"),
            "all": lambda: images("train") + images("test"),
        },
        lists=[*lists.values()],
    )


def caltech101(data: DataConfig) -> ClassFolders:
    """Caltech-101: a folder a class. One more folder has images of no class, and is left out."""
    return ClassFolders(root_of(data, "accordion"), without=(CALTECH_BACKGROUND,))


def cub200(data: DataConfig) -> Listed:
    """CUB-200-2011: 200 kinds of birds, a box for every image, and the official split.

    A box `x y width height` of bounding_boxes.txt goes from x to x + width, as in the WSOL
    benchmark.
    """
    root = root_of(data, "images.txt", "train_test_split.txt", "bounding_boxes.txt", "images")
    classes = [name for _, name in rows_of(root / "classes.txt")]
    words = [name.partition(".")[2].replace("_", " ") for name in classes]
    number_of = dict(rows_of(root / "image_class_labels.txt"))
    is_train = dict(rows_of(root / "train_test_split.txt"))

    def images(flag: str) -> LabelledFiles:
        listed = []
        for image, name in rows_of(root / "images.txt"):
            if is_train[image] == flag:
                listed.append((name, int(number_of[image]) - 1))
        return listed

    def read_boxes(path: Path) -> Known:
        name_of = dict(rows_of(root / "images.txt"))
        known: dict[str, Annotation] = {}
        for image, *said in rows_of(path):
            x, y, width, height = parse_box(said)
            name = name_of[image].rpartition(".")[0]
            box = (x, y, x + width, y + height)
            known[name] = Annotation([Object(box)])
        return known

    boxes = Source(root / "bounding_boxes.txt", read_boxes)
    return Listed(
        "CUB-200-2011",
        root / "images",
        classes,
        words,
        files={"train": lambda: images("1"), "test": lambda: images("0")},
        boxes={"train": boxes, "test": boxes},
        lists=sorted(root.glob("*.txt")),
    )


def wsol(data: DataConfig) -> Listed:
    """The WSOL benchmark's own lists of CUB, OpenImages30k or ILSVRC (Choe et al. 2020).

    data.lists= is one of its folders metadata/<data set>, with train/, val/ and test/; the images
    lie under the root as the lists name them. val is the benchmark's train-fullsup.
    """
    if data.root is None or data.lists is None:
        raise UserError(f"data={data.name} needs data.root= and data.lists=: {data.get}")
    root = Path(data.root)
    folder = Path(data.lists)
    splits = [split for split in ("train", "val", "test") if (folder / split).is_dir()]
    if "train" not in splits or not root.is_dir():
        raise UserError(f"data.lists={folder} with data.root={root}: no lists of train, or no root")
    label_lists = [folder / split / "class_labels.txt" for split in splits]
    images_of: dict[str, LabelledFiles] = {}
    for split, path in zip(splits, label_lists, strict=True):
        labels = dict(_cells(path))
        images_of[split] = [(image, int(label)) for image, label in labels.items()]
    # A class is named by the folder of its first training image.
    name_of: dict[int, str] = {}
    for image, label in images_of["train"]:
        name_of.setdefault(label, image.split("/")[-2])
    if sorted(name_of) != list(range(len(name_of))):
        raise UserError(f"{label_lists[0]} has no image of some class below {max(name_of)}")
    wnids = [name_of[label] for label in sorted(name_of)]

    def listed_images(split: str) -> LabelledFiles:
        return images_of[split]

    listed = Listed(
        f"the WSOL benchmark's lists in {folder}",
        root,
        wnids,
        words_of_ilsvrc(wnids),
        files={split: partial(listed_images, split) for split in splits},
        lists=[*label_lists, *folder.glob("*/localization.txt")],
    )
    for split in splits:
        path = folder / split / "localization.txt"
        first = next(iter(_cells(path)), [])
        if len(first) == 3:
            images = [image for image, _ in images_of[split]]
            listed.masks[split] = partial(_masks, root, path, images)
        elif first:
            listed.boxes[split] = Source(path, read_wsol)
    return listed


def _cells(path: Path) -> list[list[str]]:
    """The cells of each line of a list with commas; none where it is not there."""
    if not path.is_file():
        return []
    return [line.split(",") for line in read_text(path).splitlines() if line]


def _masks(root: Path, path: Path, images: list[str]) -> Masks:
    """The images' masks by a list of lines `image,mask,ignored`, one a mask."""
    masks: dict[str, list[str]] = {image: [] for image in images}
    ignored = dict.fromkeys(images, "")
    for image, mask, ignore in _cells(path):
        masks[image].append(mask)
        ignored[image] = ignore or ignored[image]
    files = []
    starts = [0]
    for image in images:
        files += [os.fsencode(mask) for mask in masks[image]]
        starts.append(len(files))
    ignored_files = [os.fsencode(ignored[image]) for image in images]
    return Masks(root, np.array(files), np.array(starts), np.array(ignored_files))


def rows_of(path: Path) -> list[list[str]]:
    """The words of each line of a list."""
    return [line.split() for line in read_text(path).splitlines() if line.strip()]


def hashes(paths: list[Path]) -> list[bytes]:
    """A hash of each file's bytes."""
    names = [os.fsencode(path.resolve()).lstrip(b"/") for path in paths]
    files = Files(Path("/"), np.array(names))
    return list(in_threads(files.hash, range(len(files))))
