"""disk → image, label, boxes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cam_repro.config import DataConfig, check_choice
from cam_repro.cores import in_threads
from cam_repro.data import folder, ilsvrc
from cam_repro.data.ilsvrc import imagenet_classes
from cam_repro.data.images import MAY_BE_DEEP, is_deep
from cam_repro.data.shapes import make_shapes
from cam_repro.data.split import Split
from cam_repro.option_errors import shown

if TYPE_CHECKING:  # torch is not needed to read a tree
    from cam_repro.distributed import World

__all__ = ["LAYOUTS", "Split", "imagenet_classes", "load_classes", "load_split", "open_split"]

# How a data set lies on the disk. A layout is a module with open_split(data, "train", "val" or
# another split that it has, cache folder) -> Split and read_classes(data) -> (wnids, words), which
# looks at no image.
LAYOUTS = {"ilsvrc": ilsvrc, "folder": folder}


def load_split(data: DataConfig, split: str, cache: Path, world: World) -> Split:
    """The split of a data set: the leader makes the built-in one and the index where they are not
    there yet.

    "val" is the split that data.split= chooses. What is odd about the folder is said, once.
    """
    check_choice("data.layout", data.layout, LAYOUTS)
    if split == "val":
        split = data.split
    if not world.is_main:
        world.barrier()
    elif data.generate is not None and data.root is not None:
        make_shapes(Path(data.root), data.generate.seed, data.generate.train, data.generate.val)
    found = open_split(data, split, cache)
    if world.is_main:
        world.barrier()
        _say_remarks(found)
    return found


def open_split(data: DataConfig, split: str, cache: Path) -> Split:
    """The split of a data set that is there; nothing is made but its index."""
    check_choice("data.layout", data.layout, LAYOUTS)
    found = LAYOUTS[data.layout].open_split(data, split, cache)
    key = hashlib.sha256(f"{found.folder.resolve()}|{split}".encode()).hexdigest()[:16]
    return replace(found, hashes=cache / "index" / f"{key}-hashes.npz")


def _say_remarks(split: Split) -> None:
    """A line about what was passed over in a folder, and one about the images whose values are
    scaled.
    """
    parts = [f"{kind}: {len(names):,} ({shown(names[0])})" for kind, names in split.remarks.items()]
    if parts:
        _say_once(f"{split.folder}: {'; '.join(parts)}")
    files = enumerate(split.files.tolist())
    paths = [split.path(image) for image, file in files if file.lower().endswith(MAY_BE_DEEP)]
    deep = [path for path, is_one in zip(paths, in_threads(is_deep, paths), strict=True) if is_one]
    if deep:
        _say_once(
            f"{split.name}: {len(deep):,} of {len(split):,} images have more than 8 bits, which are scaled to 8 by "
            f"each image's own range ({deep[0]})"
        )


@cache
def _say_once(line: str) -> None:
    print(line, flush=True)


def load_classes(data: DataConfig) -> tuple[list[str], list[str]]:
    """wnids and words of the classes, in the order of a network's answers; nothing is made for it."""
    check_choice("data.layout", data.layout, LAYOUTS)
    return LAYOUTS[data.layout].read_classes(data)
