"""A folder of images per class, without boxes: ROOT/<class>/…, or ROOT/train/<class>/… beside
ROOT/val/<class>/….

The splits may have any of the usual names. Where there is no val/, test/ stands in for it; where
there is neither, a tenth of each class is held out. Images are turned upright by their EXIF tags.
Links are followed. What is passed over is counted in the split's remarks.
"""

import hashlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cam_repro import UserError
from cam_repro.config import DataConfig
from cam_repro.data.images import SUFFIXES
from cam_repro.data.layout import Listing, Sources
from cam_repro.data.storage import Files
from cam_repro.option_errors import shown

SPLIT_NAMES = {  # of their folders, in any case
    "train": ("train", "training", "train_set", "training_set", "trainset"),
    "val": ("val", "valid", "validation", "val_set", "valid_set", "validation_set", "valset"),
    "test": ("test", "testing", "test_set", "testing_set", "testset"),
}
HELD_OUT = 10  # one image of so many of a class is for validation


@dataclass
class Found:
    """What lies under a folder of class folders.

    images: class → the sorted paths of its images, from `folder` on; passed_over: a kind → paths of
    what is no image of a class.
    """

    folder: Path
    images: dict[str, list[bytes]] = field(default_factory=dict)
    passed_over: dict[str, list[str]] = field(default_factory=dict)

    def pass_over(self, kind: str, path: str) -> None:
        self.passed_over.setdefault(kind, []).append(path)


def find(data: DataConfig) -> "ClassFolders":
    root = Path(data.root or "")
    if data.root is None or not root.is_dir():
        raise UserError(
            f"data={data.name}: data.root={data.root or 'null'} is no folder; {data.get}"
        )
    return ClassFolders(root)


class ClassFolders:
    """A folder of images per class at a root; without: names of folders that are no classes."""

    found = ""

    def __init__(self, root: Path, without: Sequence[str] = ()) -> None:
        self.root = root
        self.without = without
        self.folders = _split_folders(root)
        self.training = _list_training(root, self.folders, without)

    @property
    def wnids(self) -> list[str]:
        """The sorted names of the folders that hold training images.

        Where there are none, as in a test set, those of the images that are there.
        """
        names = _training_classes(self.training) or sorted(
            _list_all(self.root, self.folders, self.without).images
        )
        if not names:
            raise _no_images(self.training, self.folders)
        return names

    @property
    def words(self) -> list[str]:
        return self.wnids

    def splits(self) -> list[str]:
        beside = [split for split in ("val", "test") if split in self.folders]
        if not self.training.images:
            return beside
        return ["train", *(beside or ["val"])]

    def watched(self, split: str) -> None:
        """Nothing: listing the folders is all there is to do."""

    def sources(self, split: str) -> Sources:
        return Sources()

    def listing(self, split: str) -> Listing:
        """Of "train", "val" or "test", or "all": every image of the folder.

        Raises UserError for a folder that is not as the first line of this file says.
        """
        if split == "val" and "val" not in self.folders and "test" in self.folders:
            split = "test"
        if split == "all":
            found = _list_all(self.root, self.folders, self.without)
            wnids = sorted(found.images)
        elif split in self.folders and split != "train":
            found = _list_classes(self.folders[split])
            wnids = _training_classes(self.training) or sorted(found.images)
        elif split == "test":
            raise UserError(
                f"data.split=test: {self.root} has no folder test; "
                f"choose data.split=all to take all of {self.root}"
            )
        else:
            found = self.training
            wnids = _training_classes(found)
            if not wnids:
                raise _no_images(found, self.folders)
        unknown = sorted(found.images.keys() - set(wnids))
        if unknown:
            raise UserError(
                f"{found.folder / unknown[0]} is a class that {self.training.folder} does not have"
            )

        remarks = dict(found.passed_over)
        is_held_out = found is self.training and not self.folders.keys() & {"val", "test"}
        files, labels = [], []
        for label, wnid in enumerate(wnids):
            of_class = found.images.get(wnid, [])
            if is_held_out:
                held_out = held_out_of(of_class)
                if not held_out and of_class:
                    remarks.setdefault("classes of one image, which is for training", []).append(
                        wnid
                    )
                of_class = [file for file in of_class if (file in held_out) == (split == "val")]
            files += of_class
            labels += [label] * len(of_class)
        if not files:
            raise UserError(
                f"{found.folder} leaves no images for {split}; "
                "add some, or sort them into train/ and val/"
            )
        images = Files(found.folder, np.array(files))
        return Listing(
            images, np.array(labels, np.int64), wnids, wnids, split, upright=True, remarks=remarks
        )


def held_out_of(files: list[bytes]) -> set[bytes]:
    """A tenth of a class's images, rounded, at least one; none of a single image.

    They are the first in the order of their paths' hashes, so that an image which is added, or
    taken away, changes the side of one other at the most: where it is among the first itself, or
    where the tenth grows by one.
    """
    if len(files) < 2:
        return set()
    in_order = sorted(files, key=lambda file: (hashlib.blake2b(file, digest_size=8).digest(), file))
    count = max(1, (len(files) + HELD_OUT // 2) // HELD_OUT)
    return set(in_order[:count])


def _split_folders(root: Path) -> dict[str, Path]:
    """The folders of splits: those of a usual name that hold folders. One that holds images is a
    class of that name.
    """
    found: dict[str, Path] = {}
    for folder in sorted(root.iterdir()):
        for split, names in SPLIT_NAMES.items():
            if (
                folder.name.lower() not in names
                or not folder.is_dir()
                or not _holds_folders_alone(folder)
            ):
                continue
            if split in found:
                raise UserError(
                    f"{found[split]} and {folder} both look like the folder of {split}; leave one of them"
                )
            found[split] = folder
    return found


def _holds_folders_alone(folder: Path) -> bool:
    holds_folders = False
    for inner in os.scandir(folder):
        if inner.name.startswith("."):
            continue
        if _is_folder(inner):
            holds_folders = True
        elif inner.name.lower().endswith(SUFFIXES):
            return False
    return holds_folders


def _list_training(root: Path, folders: dict[str, Path], without: Sequence[str] = ()) -> Found:
    """The folder of train, or the root without the folders of the other splits."""
    if "train" not in folders:
        return _list_classes(root, but=[*without, *(folder.name for folder in folders.values())])
    found = _list_classes(folders["train"])
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and folder not in folders.values() and not folder.name.startswith("."):
            found.pass_over("folders beside the splits", folder.name)
    return found


def _list_all(root: Path, folders: dict[str, Path], without: Sequence[str] = ()) -> Found:
    """Every class folder of every split, and those of the root where none of them is one of train."""
    whole = Found(root)
    parts = [_list_training(root, folders, without)]
    parts += [_list_classes(folders[split]) for split in ("val", "test") if split in folders]
    for part in parts:
        inside = "" if part.folder == root else f"{part.folder.name}/"
        for wnid, files in part.images.items():
            whole.images.setdefault(wnid, []).extend(os.fsencode(inside) + file for file in files)
        for kind, paths in part.passed_over.items():
            whole.passed_over.setdefault(kind, []).extend(inside + path for path in paths)
    return whole


def _list_classes(folder: Path, but: Sequence[str] = ()) -> Found:
    """The images under the class folders of `folder`, but for some of these."""
    found = Found(folder)
    above = {_identity(path) for path in (folder, *folder.resolve().parents)}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            found.pass_over("hidden files and folders", entry.name)
        elif _is_folder(entry):
            if entry.name in but:
                continue
            files = _list_images(found, entry.name, above)
            if files:
                found.images[entry.name] = sorted(files)
            else:
                found.pass_over("classes without images", entry.name)
        elif entry.name.lower().endswith(SUFFIXES):
            found.pass_over("images in no class folder", entry.name)
        else:
            found.pass_over(_kind_of_file(entry.name), entry.name)
    return found


def _list_images(found: Found, wnid: str, above: set[tuple[int, int]]) -> list[bytes]:
    """The images at any depth under a class folder, from the found's folder on.

    Each folder is listed once, and those above the class folder not at all, so that no link leads
    round in a circle.
    """
    files = []
    listed = set(above)
    waiting = [wnid]
    while waiting:
        inside = waiting.pop()
        folder = found.folder / inside
        identity = _identity(folder)
        if identity in listed:
            found.pass_over("links to folders that are listed anyway", inside)
            continue
        listed.add(identity)
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = f"{inside}/{entry.name}"
            if entry.name.startswith("."):
                found.pass_over("hidden files and folders", path)
            elif _is_folder(entry):
                waiting.append(path)
            elif not entry.name.lower().endswith(SUFFIXES):
                found.pass_over(_kind_of_file(entry.name), path)
            elif entry.is_symlink() and not os.path.isfile(entry):  # noqa: PTH113
                found.pass_over("links that lead nowhere", path)
            else:
                files.append(os.fsencode(path))
    return files


def _is_folder(entry: os.DirEntry) -> bool:
    """Or a link to one; a link to itself, of which DirEntry raises an error, is none."""
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()  # noqa: PTH112


def _identity(folder: Path) -> tuple[int, int]:
    """The same for every path that leads to a folder."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _kind_of_file(name: str) -> str:
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122  of each of a million files
    if suffix in (
        ".heic",
        ".heif",
    ):  # a phone's: a reader of them would bring a video decoder with it
        return f"{suffix} files, to be converted to JPEG (heif-convert)"
    return f"{suffix} files" if suffix else "files without a suffix"


def _training_classes(training: Found) -> list[str]:
    """The sorted classes; none without images. Raises UserError for what is not meant as classes."""
    names = sorted(training.images)
    splits = [
        split for split, usual in SPLIT_NAMES.items() for name in names if name.lower() in usual
    ]
    if len(splits) == len(names) == len(set(splits)) > 1:
        raise UserError(
            f"{training.folder} has the folders {' and '.join(names)}, with images and no folders of classes in them; "
            f"sort them into {training.folder}/{names[-1]}/<class>/"
        )
    if len(names) == 1:
        raise _one_class(training.folder, names[0])
    return names


def _one_class(folder: Path, name: str) -> UserError:
    """What is said of a folder whose images are all in one: it may lie above the folder of the
    classes.
    """
    holder = folder / name
    inner = sorted(_list_classes(holder).images)
    while len(inner) == 1:
        holder = holder / inner[0]
        inner = sorted(_list_classes(holder).images)
    if not inner:
        return UserError(
            f"{folder} has one class, {name}; two are needed, a folder of images for each"
        )
    return UserError(
        f"{folder} has one folder of images, {name}, which would be the only class; {holder} has {len(inner)}, "
        f"{shown(', '.join(inner))}: if these are the classes, type {shlex.quote(f'data.root={holder}')}"
    )


def _no_images(training: Found, folders: dict[str, Path]) -> UserError:
    """What is said where there is nothing to train on."""
    folder = training.folder
    said = f"no images in folders under {folder}"
    if folders:
        said += f" ({', '.join(sorted(folders))} can be evaluated on with data.split=)"
    said += f"; expected {folder}/<class>/*.jpg"
    if training.passed_over:
        said += ", found " + "; ".join(
            f"{kind}: {len(paths)}" for kind, paths in training.passed_over.items()
        )
    if "images in no class folder" in training.passed_over:
        above = shlex.quote(f"data.root={folder.resolve().parent}")
        said += f"; if {folder.name} is itself a class, type {above}"
    return UserError(said)
