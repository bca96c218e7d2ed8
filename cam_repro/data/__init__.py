"""Data sets: from files on the disk to images with labels and boxes."""

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
from cam_repro.data.ilsvrc_lists import MAPPING, imagenet_classes, read_synset_mapping
from cam_repro.data.images import MAY_BE_DEEP, is_deep
from cam_repro.data.layout import Layout, Listing, Sources, check_command
from cam_repro.data.masks import Masks
from cam_repro.data.shapes import make_shapes
from cam_repro.data.split import Split, load_arrays, save_arrays
from cam_repro.data.storage import from_arrays, to_arrays
from cam_repro.option_errors import shown

if TYPE_CHECKING:  # torch is not needed to read a tree
    from cam_repro.distributed import DistributedContext

__all__ = ["LAYOUTS", "Split", "imagenet_classes", "load_classes", "load_split", "open_split"]

# How a data set lies on the disk: find(data) -> Layout. Raises UserError where it is not there.
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
# To be raised whenever the cached index has other contents, or data is read by other rules.
_INDEX_FORMAT = "7"
MASK_ARRAYS = ("files", "starts", "ignored")


def load_split(data: DataConfig, split: str, cache: Path, world: DistributedContext) -> Split:
    """The split of a data set; "val" is the one that data.split= chooses.

    The leading process makes the built-in data set and the index where they are missing. What was
    found, and what is odd about it, is said once.
    """
    check_choice("data.layout", data.layout, LAYOUTS)
    if split == "val":
        split = data.split
    if not world.is_main:
        world.barrier()
    elif data.generate is not None and data.root is not None:
        generate = data.generate
        make_shapes(Path(data.root), generate.seed, generate.train, generate.val)
    found = open_split(data, split, cache)
    if world.is_main:
        world.barrier()
        _say_what_was_found(data, found)
    return found


def open_split(data: DataConfig, split: str, cache: Path) -> Split:
    """The split of a data set on the disk, from the index in `cache` unless its files changed.

    Raises UserError, before an image is decoded, where annotations contradict their images.
    """
    layout = find_layout(data)
    sources = find_sources(data, layout, split)
    watched = layout.watched(split)
    place = f"{Path(data.root).resolve()}|{split}"
    key = hashlib.sha256(place.encode()).hexdigest()[:16]
    index = cache / "index" / f"{key}.npz"
    signature = ""
    arrays = {}
    if watched is not None:
        watched = [*watched, *sources.files()]
        signature = _signature(watched, layout.wnids, data)
        arrays = load_arrays(index)
    if not signature or arrays.get("signature") != signature:
        arrays = _index(data, layout.listing(split), sources)
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
        hashes=cache / "index" / f"{key}-hashes.npz",
        masks=masks,
        form=layout.found,
        **facts,
    )


def _index(data: DataConfig, listing: Listing, sources: Sources) -> dict[str, np.ndarray]:
    """All of a split, as arrays: images, labels, boxes, and other facts as JSON."""
    annotations = Annotations(listing, sources)
    truths, left_out = assemble(listing, annotations, check_command(data))
    remarks = dict(listing.remarks)
    if data.boxes is not None:
        strangers = [what for _, what in annotations.without_image()]
        if strangers:
            remarks["boxes of images that are not there"] = strangers
    facts = {
        "folder": os.fspath(listing.images.folder),
        "name": listing.name,
        "wnids": listing.wnids,
        "words": listing.words,
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
    return arrays


def find_layout(data: DataConfig) -> Layout:
    check_choice("data.layout", data.layout, LAYOUTS)
    return LAYOUTS[data.layout](data)


def find_sources(data: DataConfig, layout: Layout, split: str) -> Sources:
    """The annotations of a split: those of data.boxes=, else the layout's own.

    data.boxes= replaces the boxes of the split that is evaluated, data.split=. Beside it the
    layout's own sources tell classes alone.
    """
    own = layout.sources(split)
    if data.boxes is None:
        if data.box_corners is not None:
            raise UserError(
                f"data.box_corners={data.box_corners} is about data.boxes=, which is not given"
            )
        return own
    if split != data.split:
        return own
    given = open_annotations(Path(data.boxes), data.box_corners)
    for_classes = [*own.boxes, *own.classes]
    return Sources([given], for_classes, own.with_difficult)


def _signature(watched: list[Path], wnids: list[str], data: DataConfig) -> str:
    """Changes with the classes, and with any of the watched files: their names, sizes and dates."""
    rules = [_INDEX_FORMAT, data.layout, str(data.lists), str(data.box_corners), *wnids]
    digest = hashlib.sha256("\n".join(rules).encode())
    for path in sorted(map(os.fspath, watched)):
        found = None
        # Paths as text: there may be 50,000 files.
        if os.path.exists(path):  # noqa: PTH110
            status = os.stat(path)  # noqa: PTH116
            found = (status.st_ctime_ns, status.st_size)
        digest.update(os.fsencode(f"{path}|{found}\n"))
    return digest.hexdigest()


def _say_what_was_found(data: DataConfig, split: Split) -> None:
    """The form of the data, what was passed over, and which images are scaled to 8 bits; once."""
    images = len(split)
    if split.form or data.boxes is not None:
        boxes = len(split.boxes)
        form = split.form or split.folder
        said = f"{split.name}: {form}; {images:,} images, {boxes:,} boxes"
        without = np.count_nonzero(np.diff(split.box_starts) == 0)
        if boxes and without:
            said += f"; {without:,} images without"
        _say_once(said)
    if split.left_out:
        counts = [f"{count:,} {why}" for why, count in split.left_out.items()]
        left_out = ", ".join(counts)
        _say_once(f"{split.name}: boxes that no prediction has to find, left out: {left_out}")
    remarks = []
    for kind, names in split.remarks.items():
        remarks.append(f"{kind}: {len(names):,} ({shown(names[0])})")
    if remarks:
        _say_once(f"{split.folder}: {'; '.join(remarks)}")
    deep = _deep_images(split)
    if deep:
        _say_once(
            f"{split.name}: {len(deep):,} of {images:,} images have more than 8 bits, which are "
            f"scaled to 8 by each image's own range ({split.path(deep[0])})"
        )


def _deep_images(split: Split) -> list[int]:
    """The images of more than 8 bits, which are looked at only where their names allow it."""
    may_be_deep = []
    for image, file in enumerate(split.files.tolist()):
        if file.lower().endswith(MAY_BE_DEEP):
            may_be_deep.append(image)

    def has_deep_values(image: int) -> bool:
        return is_deep(split.path(image), split.images.content(image))

    found = in_threads(has_deep_values, may_be_deep)
    return [image for image, deep in zip(may_be_deep, found, strict=True) if deep]


@cache
def _say_once(line: str) -> None:
    print(line, flush=True)


def load_classes(data: DataConfig) -> tuple[list[str], list[str]]:
    """wnids and words of the classes, in the order of a network's outputs; makes no data set."""
    if data.layout == "ilsvrc" and data.root is not None:
        mapping = Path(data.root) / MAPPING  # which is enough where the images are elsewhere
        if mapping.is_file():
            return read_synset_mapping(mapping)
    layout = find_layout(data)
    return layout.wnids, layout.words
