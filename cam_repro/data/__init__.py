"""disk → image, label, boxes."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cam_repro import UserError
from cam_repro.config import DataConfig, check_choice
from cam_repro.cores import in_threads
from cam_repro.data import benchmarks, folder, ilsvrc
from cam_repro.data.annotations import open_annotations
from cam_repro.data.ground_truth import Annotations, assemble
from cam_repro.data.ilsvrc import imagenet_classes
from cam_repro.data.images import MAY_BE_DEEP, is_deep
from cam_repro.data.layout import Layout, Sources, check_command
from cam_repro.data.masks import Masks
from cam_repro.data.shapes import make_shapes
from cam_repro.data.split import Split, load_arrays, save_arrays
from cam_repro.data.storage import from_arrays, to_arrays
from cam_repro.option_errors import shown

if TYPE_CHECKING:  # torch is not needed to read a tree
    from cam_repro.distributed import World

__all__ = ["LAYOUTS", "Split", "imagenet_classes", "load_classes", "load_split", "open_split"]

# How a data set lies on the disk: find(data) -> Layout, which raises UserError where there is none.
LAYOUTS = {
    "ilsvrc": ilsvrc.find,
    "folder": folder.find,
    "tinyimagenet": benchmarks.tinyimagenet,
    "stanford40": benchmarks.stanford40,
    "scene15": benchmarks.scene15,
    "caltech101": benchmarks.caltech101,
    "cub200": benchmarks.cub200,
    "wsol": benchmarks.wsol,
}
MASK_ARRAYS = ("files", "starts", "ignored")
_INDEX_FORMAT = "6"  # of the cached index: another one, or other rules of reading, make it anew


def load_split(data: DataConfig, split: str, cache: Path, world: World) -> Split:
    """The split of a data set: the leader makes the built-in one and the index where they are not.

    "val" is the split that data.split= chooses. What was found, and what is odd about it, is said
    once.
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
        _say_what_was_found(data, found)
    return found


def open_split(data: DataConfig, split: str, cache: Path) -> Split:
    """The split of a data set that is there, from the index in `cache` unless its files changed.

    Raises UserError, before an image is decoded, where annotations contradict their images.
    """
    layout = find_layout(data)
    sources = find_sources(data, layout, split)
    watched = layout.watched(split)
    key = hashlib.sha256(f"{Path(data.root).resolve()}|{split}".encode()).hexdigest()[:16]
    index = cache / "index" / f"{key}.npz"
    signature = ""
    arrays = {}
    if watched is not None:
        signature = _signature([*watched, *sources.files()], layout.wnids, data)
        arrays = load_arrays(index)
    if not signature or arrays.get("signature") != signature:
        listing = layout.listing(split)
        annotations = Annotations(listing, sources)
        truths, left_out = assemble(listing, annotations, check_command(data))
        remarks = dict(listing.remarks)
        strangers = [what for _, what in annotations.without_image()] if data.boxes else []
        if strangers:
            remarks["boxes of images that are not there"] = strangers
        facts = {
            "folder": os.fspath(listing.images.folder),
            "name": listing.name,
            "upright": listing.upright,
            "remarks": remarks,
            "left_out": left_out,
        }
        arrays = {**to_arrays(listing.images), **truths}
        if listing.masks is not None:
            facts["mask_folder"] = os.fspath(listing.masks.folder)
            for part in MASK_ARRAYS:
                arrays[f"mask_{part}"] = getattr(listing.masks, part)
        arrays["facts"] = np.array(json.dumps(facts))
        if signature:
            save_arrays(index, signature=np.array(signature), **arrays)
    facts = json.loads(str(arrays["facts"]))
    masks = None
    if "mask_folder" in facts:
        parts = {part: arrays[f"mask_{part}"] for part in MASK_ARRAYS}
        masks = Masks(Path(facts.pop("mask_folder")), **parts)
    return Split(
        from_arrays(Path(facts.pop("folder")), arrays),
        labels=arrays["labels"],
        boxes=arrays["boxes"],
        box_starts=arrays["box_starts"],
        wnids=layout.wnids,
        words=layout.words,
        hashes=cache / "index" / f"{key}-hashes.npz",
        masks=masks,
        **facts,
    )


def find_layout(data: DataConfig) -> Layout:
    check_choice("data.layout", data.layout, LAYOUTS)
    return LAYOUTS[data.layout](data)


def find_sources(data: DataConfig, layout: Layout, split: str) -> Sources:
    """The annotations of a split: those of data.boxes=, else those that lie in the layout.

    data.boxes= is of the split that is evaluated; of the layout's own sources only classes count
    beside it.
    """
    own = layout.sources(split)
    if data.boxes is None:
        if data.box_corners is not None:
            raise UserError(
                f"data.box_corners={data.box_corners} is about data.boxes=, which is not given"
            )
        return own
    if split == "train":
        return own
    given = open_annotations(Path(data.boxes), data.box_corners)
    return Sources([given], [*own.boxes, *own.classes], own.with_difficult)


def _signature(watched: list[Path], wnids: list[str], data: DataConfig) -> str:
    """Changes with the classes, with files added or removed, and with the date of any watched one."""
    digest = hashlib.sha256("\n".join([_INDEX_FORMAT, str(data.box_corners), *wnids]).encode())
    for path in sorted(map(os.fspath, watched)):
        status = os.stat(path) if os.path.exists(path) else None  # noqa: PTH110, PTH116  of 50,000 files
        said = status and (status.st_ctime_ns, status.st_size)
        digest.update(os.fsencode(f"{path}|{said}\n"))
    return digest.hexdigest()


def _say_what_was_found(data: DataConfig, split: Split) -> None:
    """The form of the data, what was passed over, and images whose values are scaled; once each."""
    layout = find_layout(data)
    if layout.found or data.boxes is not None:
        form = layout.found or split.folder
        said = f"{split.name}: {form}; {len(split):,} images, {len(split.boxes):,} boxes"
        without = np.count_nonzero(np.diff(split.box_starts) == 0)
        _say_once(f"{said}; {without:,} images without" if len(split.boxes) and without else said)
    if split.left_out:
        counts = ", ".join(f"{count:,} {why}" for why, count in split.left_out.items())
        _say_once(f"{split.name}: boxes that no prediction has to find, left out: {counts}")
    parts = [f"{kind}: {len(names):,} ({shown(names[0])})" for kind, names in split.remarks.items()]
    if parts:
        _say_once(f"{split.folder}: {'; '.join(parts)}")
    files = split.files.tolist()
    may_be_deep = [image for image, file in enumerate(files) if file.lower().endswith(MAY_BE_DEEP)]

    def has_deep_values(image: int) -> bool:
        return is_deep(split.path(image), split.images.content(image))

    found = zip(may_be_deep, in_threads(has_deep_values, may_be_deep), strict=True)
    deep = [image for image, is_one in found if is_one]
    if deep:
        _say_once(
            f"{split.name}: {len(deep):,} of {len(split):,} images have more than 8 bits, which are "
            f"scaled to 8 by each image's own range ({split.path(deep[0])})"
        )


@cache
def _say_once(line: str) -> None:
    print(line, flush=True)


def load_classes(data: DataConfig) -> tuple[list[str], list[str]]:
    """wnids and words of the classes, in the order of a network's answers; nothing is made for it."""
    layout = find_layout(data)
    return layout.wnids, layout.words
