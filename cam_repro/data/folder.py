"""A folder of images per class, without boxes: ROOT/<class>/… or ROOT/<split>/<class>/….

The folders of the splits may have any of the usual names. Where there is no val/, test/ stands in
for it; where there is neither, a tenth of each class is held out. Images are turned upright by
their EXIF tags. Links are followed. What is passed over is counted in the split's remarks.
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
from cam_repro.data.ilsvrc_lists import words_of_ilsvrc
from cam_repro.data.images import SUFFIXES
from cam_repro.data.layout import Listing, Sources
from cam_repro.data.storage import Files
from cam_repro.option_errors import shown

SPLIT_NAMES = {  # the usual names of a split's folder, in upper or lower case
    "train": ("train", "training", "train_set", "training_set", "trainset"),
    "val": ("val", "valid", "validation", "val_set", "valid_set", "validation_set", "valset"),
    "test": ("test", "testing", "test_set", "testing_set", "testset"),
}
HELD_OUT = 10  # one of so many images of a class is for validation


@dataclass
class Found:
    """What lies under a folder of class folders.

    images: class → the sorted paths of its images, relative to `folder`; passed_over: a kind → the
    paths of what is no image of a class.
    """

    folder: Path
    images: dict[str, list[bytes]] = field(default_factory=dict)
    passed_over: dict[str, list[str]] = field(default_factory=dict)

    def pass_over(self, kind: str, path: str) -> None:
        self.passed_over.setdefault(kind, []).append(path)


def find(data: DataConfig) -> "ClassFolders":
    root = Path(data.root or "")
    if data.root is None or not root.is_dir():
        given = data.root or "null"
        raise UserError(f"data={data.name}: data.root={given} is no folder; {data.get}")
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
        names = _training_classes(self.training)
        if not names:
            whole = _list_all(self.root, self.folders, self.without)
            names = sorted(whole.images)
        if not names:
            raise _no_images(self.training, self.folders)
        return names

    @property
    def words(self) -> list[str]:
        """Those of ILSVRC for folders that are named by its wnids; else the names themselves."""
        return words_of_ilsvrc(self.wnids)

    def splits(self) -> list[str]:
        beside = [split for split in ("val", "test") if split in self.folders]
        if not self.training.images:
            return beside
        return ["train", *(beside or ["val"])]

    def watched(self, split: str) -> None:
        """Nothing, since there is nothing to do but to list the folders."""

    def sources(self, split: str) -> Sources:
        return Sources()

    def listing(self, split: str) -> Listing:
        """The images of "train", "val" or "test", or with "all" every image of the folder.

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
            folder = found.folder / unknown[0]
            raise UserError(f"{folder} is a class that {self.training.folder} does not have")

        remarks = dict(found.passed_over)
        has_other_splits = "val" in self.folders or "test" in self.folders
        is_held_out = found is self.training and not has_other_splits
        files = []
        labels = []
        alone = []
        for label, wnid in enumerate(wnids):
            of_class = found.images.get(wnid, [])
            if is_held_out:
                if len(of_class) == 1:
                    alone.append(wnid)
                held_out = held_out_of(of_class)
                of_class = [file for file in of_class if (file in held_out) == (split == "val")]
            files += of_class
            labels += [label] * len(of_class)
        if alone:
            remarks["classes of one image, which is for training"] = alone
        if not files:
            raise UserError(
                f"{found.folder} leaves no images for {split}; "
                "add some, or sort them into train/ and val/"
            )
        return Listing(
            Files(found.folder, np.array(files)),
            np.array(labels, np.int64),
            wnids,
            words=words_of_ilsvrc(wnids),
            name=split,
            upright=True,
            remarks=remarks,
        )


def held_out_of(files: list[bytes]) -> set[bytes]:
    """A tenth of a class's images, rounded, at least one; none of a single image.

    They are the first in the order of their paths' hashes, so that an image that is added or taken
    away moves at most one other to the other side: where it is among the first itself, or where the
    tenth grows by one.
    """
    if len(files) < 2:
        return set()

    def place(file: bytes) -> tuple[bytes, bytes]:
        return hashlib.blake2b(file, digest_size=8).digest(), file

    in_order = sorted(files, key=place)
    count = max(1, (len(files) + HELD_OUT // 2) // HELD_OUT)
    return set(in_order[:count])


def _split_folders(root: Path) -> dict[str, Path]:
    """The folders of splits: those of a usual name that hold folders alone.

    A folder of a usual name that holds images is a class.
    """
    found: dict[str, Path] = {}
    for folder in sorted(root.iterdir()):
        split = _split_of(folder.name)
        if split is None or not folder.is_dir() or not _holds_folders_alone(folder):
            continue
        if split in found:
            raise UserError(
                f"{found[split]} and {folder} both look like the folder of {split}; "
                "leave one of them"
            )
        found[split] = folder
    return found


def _split_of(name: str) -> str | None:
    """Which split a folder's name usually means."""
    for split, usual in SPLIT_NAMES.items():
        if name.lower() in usual:
            return split
    return None


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
        others = [folder.name for folder in folders.values()]
        return _list_classes(root, but=[*without, *others])
    found = _list_classes(folders["train"])
    for folder in sorted(root.iterdir()):
        is_hidden = folder.name.startswith(".")
        if folder.is_dir() and folder not in folders.values() and not is_hidden:
            found.pass_over("folders beside the splits", folder.name)
    return found


def _list_all(root: Path, folders: dict[str, Path], without: Sequence[str] = ()) -> Found:
    """Every class folder of every split; where there is no train/, those of the root too."""
    parts = [_list_training(root, folders, without)]
    for split in ("val", "test"):
        if split in folders:
            parts.append(_list_classes(folders[split]))
    whole = Found(root)
    for part in parts:
        inside = "" if part.folder == root else f"{part.folder.name}/"
        for wnid, files in part.images.items():
            of_class = whole.images.setdefault(wnid, [])
            of_class += [os.fsencode(inside) + file for file in files]
        for kind, paths in part.passed_over.items():
            for path in paths:
                whole.pass_over(kind, inside + path)
    return whole


def _list_classes(folder: Path, but: Sequence[str] = ()) -> Found:
    """The images under the class folders of `folder`; but: names of folders to leave out."""
    found = Found(folder)
    folders_above = [folder, *folder.resolve().parents]
    above = {_identity(path) for path in folders_above}
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
    """The images at any depth under a class folder, relative to `found.folder`.

    above: the folders above the class folder. They are never listed, and every other folder is
    listed once, so that no link leads round in a circle.
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
    """Whether it is a folder or a link to one."""
    if entry.is_symlink():
        # False for a link to itself, where DirEntry.is_dir raises an error.
        return os.path.isdir(entry)  # noqa: PTH112
    return entry.is_dir()


def _identity(folder: Path) -> tuple[int, int]:
    """What is the same for every path that leads to a folder."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _kind_of_file(name: str) -> str:
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122  of each of a million files
    # Phones write these files; a reader of them would bring a video decoder with it.
    if suffix in (".heic", ".heif"):
        return f"{suffix} files, to be converted to JPEG (heif-convert)"
    return f"{suffix} files" if suffix else "files without a suffix"


def _training_classes(training: Found) -> list[str]:
    """The sorted classes; none without images.

    Raises UserError for folders that are not meant as classes.
    """
    names = sorted(training.images)
    splits = {_split_of(name) for name in names} - {None}
    if len(splits) == len(names) > 1:
        raise UserError(
            f"{training.folder} has the folders {' and '.join(names)}, with images and no folders "
            f"of classes in them; sort them into {training.folder}/{names[-1]}/<class>/"
        )
    if len(names) == 1:
        raise _one_class(training.folder, names[0])
    return names


def _one_class(folder: Path, name: str) -> UserError:
    """What is said of a folder whose images are all in one folder.

    That folder may be a class, or lie above the folder of the classes.
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
    classes = shown(", ".join(inner))
    option = shlex.quote(f"data.root={holder}")
    return UserError(
        f"{folder} has one folder of images, {name}, which would be the only class; {holder} has "
        f"{len(inner)}, {classes}: if these are the classes, type {option}"
    )


def _no_images(training: Found, folders: dict[str, Path]) -> UserError:
    """What is said where there is nothing to train on."""
    folder = training.folder
    said = f"no images in folders under {folder}"
    if folders:
        said += f" ({', '.join(sorted(folders))} can be evaluated on with data.split=)"
    said += f"; expected {folder}/<class>/*.jpg"
    if training.passed_over:
        counts = [f"{kind}: {len(paths)}" for kind, paths in training.passed_over.items()]
        said += f", found {'; '.join(counts)}"
    if "images in no class folder" in training.passed_over:
        above = shlex.quote(f"data.root={folder.resolve().parent}")
        said += f"; if {folder.name} is itself a class, type {above}"
    return UserError(said)
