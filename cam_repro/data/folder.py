"""A folder of pictures per class, without boxes: ROOT/<class>/…, or ROOT/train/<class>/… and ROOT/val/<class>/….

Where there is no val/, a tenth of the pictures is held out for it, chosen by a hash of their paths: which ones does not
change when others are added. Hidden files and folders are passed over.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

from cam_repro import UserError
from cam_repro.config import DataConfig
from cam_repro.data.images import SUFFIXES
from cam_repro.data.split import Split

HELD_OUT = 10  # one picture of so many is for validation


def open_split(data: DataConfig, split: str, cache: Path) -> Split:
    """The train or val split; nothing is kept in `cache`, since listing the folders is all there is to do."""
    folder, (wnids, words) = _split_folder(data, split), read_classes(data)
    files = _pictures(folder)
    if unknown := sorted(files.keys() - set(wnids)):
        raise UserError(f"{folder / unknown[0]} is a class that {_split_folder(data, 'train')} does not have")
    pairs = [(file, label) for label, wnid in enumerate(wnids) for file in files.get(wnid, [])]
    if _split_folder(data, "train") == _split_folder(data, "val"):
        pairs = [(file, label) for file, label in pairs if _is_held_out(file) == (split == "val")]
    if not pairs:
        raise UserError(f"{folder} leaves no pictures for {split}; add some, or sort them into train/ and val/")
    paths, labels = zip(*pairs, strict=True)
    boxes, starts = np.empty((0, 4), np.int32), np.zeros(len(pairs) + 1, np.int64)
    return Split(folder, np.array(paths), np.array(labels, np.int64), boxes, starts, wnids, words)


def read_classes(data: DataConfig) -> tuple[list[str], list[str]]:
    """The sorted names of the folders that hold train pictures, as their own words."""
    folder = _split_folder(data, "train")
    if not (names := sorted(_pictures(folder))):
        raise UserError(f"no pictures in folders under {folder}; expected {folder}/<class>/*.jpg")
    return names, names


def _split_folder(data: DataConfig, split: str) -> Path:
    root = Path(data.root or "")
    if data.root is None or not root.is_dir():
        raise UserError(f"data={data.name}: data.root={data.root or 'null'} is no folder; {data.get}")
    return next((root / name for name in (split, "train") if (root / name).is_dir()), root)


def _pictures(folder: Path) -> dict[str, list[bytes]]:
    """Class → the sorted paths of its pictures, from `folder` on."""
    found = {}
    for of_class in folder.iterdir():
        if of_class.is_dir() and not of_class.name.startswith("."):
            inside = [path.relative_to(folder) for path in of_class.rglob("*") if path.suffix.lower() in SUFFIXES]
            shown = sorted(os.fsencode(path) for path in inside if not any(part.startswith(".") for part in path.parts))
            found |= {of_class.name: shown} if shown else {}
    return found


def _is_held_out(file: bytes) -> bool:
    return int.from_bytes(hashlib.blake2b(file, digest_size=8).digest(), "big") % HELD_OUT == 0
