"""Data sets of this field in the layouts in which their authors distribute them.

Each is one function, which finds the data set at a root: its classes, and the images of each split.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cam_repro import UserError
from cam_repro.config import DataConfig
from cam_repro.cores import in_threads
from cam_repro.data.annotations import Annotation, Known, Object, Source, parse_box, read_annotation
from cam_repro.data.folder import ClassFolders
from cam_repro.data.layout import Listing, Sources
from cam_repro.data.storage import Files
from cam_repro.files import read_text

CALTECH_BACKGROUND = "BACKGROUND_Google"  # Caltech-101's folder of images of none of its classes
LabelledFiles = list[tuple[str, int]]  # images' paths in a folder, and the numbers of their classes


@dataclass
class Listed:
    """A data set whose splits are lists of images.

    files: split -> its images in `folder`, read when asked for; boxes: split -> the annotations of
    its images; remarks: split -> what was left out and why; lists: files and folders that change
    with the listing.
    """

    found: str
    folder: Path
    wnids: list[str]
    words: list[str]
    files: dict[str, Callable[[], LabelledFiles]]
    boxes: dict[str, Source] = field(default_factory=dict)
    remarks: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    lists: list[Path] = field(default_factory=list)

    def splits(self) -> list[str]:
        return list(self.files)

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
        return Listing(
            images,
            np.array(labels, np.int64),
            self.wnids,
            self.words,
            name=split,
            remarks=self.remarks.get(split, {}),
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


def rows_of(path: Path) -> list[list[str]]:
    """The words of each line of a list."""
    return [line.split() for line in read_text(path).splitlines() if line.strip()]


def hashes(paths: list[Path]) -> list[bytes]:
    """A hash of each file's bytes."""
    names = [os.fsencode(path.resolve()).lstrip(b"/") for path in paths]
    files = Files(Path("/"), np.array(names))
    return list(in_threads(files.hash, range(len(files))))
