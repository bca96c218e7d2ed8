"""What `make cam` leaves: drawings, maps and masks of each image, and the boxes of all as data.

A format of an image, or of all images together, is one function and one entry of IMAGE_FORMATS or
TABLE_FORMATS.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from textwrap import wrap
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cam_repro.config import ProtocolConfig
from cam_repro.data.images import read_image, read_upright
from cam_repro.data.views import VIEWS
from cam_repro.files import replacing, write_text
from cam_repro.localization.boxes import (
    LOOSE,
    Box,
    Region,
    loose_and_tight,
    paper_regions,
    resized_boxes,
)
from cam_repro.localization.overlay import overlay
from cam_repro.localization.rle import run_lengths

LARGEST_SIDE = 2048  # pixels: of a larger image the maps are made, and drawn, at this size
BOX_COLOUR = (0, 255, 0)
GAP = 6  # pixels between images
NARROWEST = 205  # pixels across that a caption has
LETTERS_ACROSS = 40  # of a caption that fit above an image, if it is wide enough for SMALLEST_TEXT
SMALLEST_TEXT = 13  # pixels


@dataclass(frozen=True)
class FoundBox:
    """box: inclusive, in the pixels of the image's file; share: of the image, that its region has.

    share and run_lengths (`rle.run_lengths` of the region's mask) are none where the boxes are not
    those of one threshold's regions, and run_lengths where nobody asks for it.
    """

    box: Box
    share: float | None
    run_lengths: str | None


@dataclass(frozen=True)
class FoundClass:
    """A class that a network sees in an image; boxes: by falling size of their regions."""

    label: int
    probability: float
    boxes: list[FoundBox]


@dataclass(frozen=True)
class FoundImage:
    """An image's classes, best first and then the one that was asked for, and what was written."""

    path: Path
    size: tuple[int, int]  # width and height of the file, upright
    classes: list[FoundClass]
    files: dict[str, list[Path]]  # by format


@dataclass(frozen=True)
class ImageTask:
    """What the network said of an image, and what is to be made of it.

    maps (M,crops,h,w): of the M `labels`; drawn: places among them; captions: of those; files:
    format → its files, one for each drawn class or, of drawings, one for all.
    """

    path: Path
    size: tuple[int, int]
    labels: list[int]
    probabilities: list[float]
    maps: np.ndarray
    drawn: list[int]
    captions: list[str]
    files: dict[str, list[Path]]


@dataclass(frozen=True)
class BoxRule:
    """How maps become boxes, the same for every image.

    size: pixels a side of what the network sees; every_region: whether each region has a box, or
    only the largest; run_lengths: whether the regions' masks are wanted too.
    """

    protocol: ProtocolConfig
    size: int
    every_region: bool
    run_lengths: bool


@dataclass(frozen=True)
class Drawn:
    """What an image's files are made of, of each drawn class.

    heatmaps (h,w): at the image's size or, if that is larger, at LARGEST_SIDE; boxes, regions: on
    the heatmap; regions are empty where the rule has none.
    """

    task: ImageTask
    heatmaps: list[np.ndarray]
    boxes: list[list[Box]]
    regions: list[list[Region]]


def finish_image(task: ImageTask, rule: BoxRule) -> FoundImage:
    """Enlarge an image's maps, draw their boxes and write its files, in any process."""
    size = shown_size(task.size)
    place = VIEWS[rule.protocol.view].place
    drawn = Drawn(task, [], [], [])
    classes = []
    for number, label in enumerate(task.labels):
        heatmap = place(task.maps[number], size, rule.size, rule.protocol.resize)
        regions = _regions(heatmap, rule)
        boxes = [region.box for region in regions]
        if not regions:
            boxes = [loose_and_tight(heatmap, rule.protocol)[LOOSE]]
        if number in task.drawn:
            drawn.heatmaps.append(heatmap)
            drawn.boxes.append(boxes)
            drawn.regions.append(regions)
        found = _found_boxes(boxes, regions, size, task.size, rule)
        classes.append(FoundClass(label, task.probabilities[number], found))
    for format_, paths in task.files.items():
        IMAGE_FORMATS[format_](drawn, paths)
    return FoundImage(task.path, task.size, classes, task.files)


def _regions(heatmap: np.ndarray, rule: BoxRule) -> list[Region]:
    """The regions that have a box; none where the boxes are not those of one threshold."""
    if rule.protocol.boxes != "paper":
        return []
    if rule.every_region:
        return paper_regions(heatmap, rule.protocol.threshold)
    return paper_regions(heatmap, rule.protocol.threshold, largest=True)[:1]


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """The size of an image's heatmaps: its own, or that of LARGEST_SIDE."""
    factor = min(1, LARGEST_SIDE / max(size))
    width, height = size
    return max(1, round(width * factor)), max(1, round(height * factor))


def _found_boxes(
    boxes: list[Box],
    regions: list[Region],
    size: tuple[int, int],
    own_size: tuple[int, int],
    rule: BoxRule,
) -> list[FoundBox]:
    """Boxes and regions of heatmaps of `size` in the pixels of the image's file."""
    found = []
    for number, box in enumerate(boxes):
        own = tuple(resized_boxes(box, size, own_size).tolist())
        share = regions[number].share if regions else None
        lengths = None
        if rule.run_lengths:
            lengths = run_lengths(_mask([regions[number]], size, own_size))
        found.append(FoundBox(own, share, lengths))
    return found


def _mask(regions: list[Region], size: tuple[int, int], own_size: tuple[int, int]) -> np.ndarray:
    """(height,width) of bool in the image's own size: the pixels of some regions."""
    width, height = size
    mask = np.zeros((height, width), bool)
    for region in regions:
        x1, y1, x2, y2 = region.box
        mask[y1 : y2 + 1, x1 : x2 + 1] |= region.mask
    if size == own_size:
        return mask
    return cv2.resize(mask.view(np.uint8), own_size, interpolation=cv2.INTER_NEAREST).view(bool)


# --- files of one image


def _write_drawing(drawn: Drawn, paths: list[Path]) -> None:
    """The image under each class's heatmap with its boxes, side by side under their captions."""
    task = drawn.task
    pixels = _pixels(task)
    cells = []
    for heatmap, boxes in zip(drawn.heatmaps, drawn.boxes, strict=True):
        cell = Image.fromarray(overlay(pixels, heatmap))
        draw = ImageDraw.Draw(cell)
        for box in boxes:
            draw.rectangle(box, outline=BOX_COLOUR, width=max(2, round(max(cell.size) / 100)))
        cells.append(cell)
    sheet = np.array(side_by_side(task.captions, cells))
    (path,) = paths
    _, encoded = cv2.imencode(path.suffix, sheet[:, :, ::-1])
    with replacing(path) as temporary:
        temporary.write_bytes(encoded)


def _pixels(task: ImageTask) -> np.ndarray:
    """The image (H,W,3) as large as its heatmaps."""
    size = shown_size(task.size)
    if size == task.size:
        return read_image(task.path, upright=True)
    pixels, _ = read_upright(task.path, LARGEST_SIDE)
    return cv2.resize(pixels, size)  # which Pillow may have rounded to another by a pixel


def side_by_side(captions: list[str], images: list[Image.Image]) -> Image.Image:
    """Images of one size in a row on white, each under its caption, which is wrapped."""
    width = max(images[0].width, NARROWEST)
    font = _font(max(SMALLEST_TEXT, width // LETTERS_ACROSS))
    letter = font.getlength("n")
    lines = [wrap(caption, int(width / letter)) for caption in captions]
    line_height = sum(font.getmetrics())
    head = line_height * max(map(len, lines)) + GAP
    sheet_width = len(images) * (width + GAP) - GAP
    sheet = Image.new("RGB", (sheet_width, head + images[0].height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, image in enumerate(images):
        left = number * (width + GAP)
        middle = left + width // 2
        text = "\n".join(lines[number])
        draw.text((middle, head - GAP // 2), text, "black", font, anchor="md", align="center")
        sheet.paste(image, (middle - image.width // 2, head))
    return sheet


@lru_cache
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: Pillow's own font has no letters but Latin ones."""
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", pixels)


def _write_maps(drawn: Drawn, paths: list[Path]) -> None:
    """Each heatmap (h,w) as float32, as it is: without ReLU or scaling."""
    for heatmap, path in zip(drawn.heatmaps, paths, strict=True):
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, heatmap.astype(np.float32, copy=False))


def _write_masks(drawn: Drawn, paths: list[Path]) -> None:
    """The regions of each class as white on black, in the image's own size."""
    size = drawn.task.size
    for regions, path in zip(drawn.regions, paths, strict=True):
        mask = _mask(regions, shown_size(size), size)
        with replacing(path) as temporary:
            Image.fromarray(mask).save(temporary, format="png")


IMAGE_FORMATS: dict[str, Callable[[Drawn, list[Path]], None]] = {
    "png": _write_drawing,
    "jpg": _write_drawing,
    "npy": _write_maps,
    "mask": _write_masks,
}
DRAWINGS = ("png", "jpg")  # one file for all drawn classes
ENDINGS = {"mask": ".mask.png", "coco": ".coco.json"}  # of the others the format's name


# --- files of all images


@dataclass(frozen=True)
class Answer:
    """What a network said of images.

    heading: which network, by which method and protocol; wnids, words: (C,) of its classes;
    unreadable: a line for each file that could not be read.
    """

    heading: dict[str, Any]
    wnids: list[str]
    words: list[str]
    images: list[FoundImage]
    unreadable: list[str]


def _write_json(answer: Answer, path: Path) -> None:
    """The heading, and of each image its classes, probabilities, boxes and files."""
    images = []
    for image in answer.images:
        classes = []
        for found in image.classes:
            boxes = [{"box": list(one.box), "share": one.share} for one in found.boxes]
            named = {
                "label": found.label,
                "wnid": answer.wnids[found.label],
                "name": answer.words[found.label],
            }
            classes.append(named | {"probability": found.probability, "boxes": boxes})
        width, height = image.size
        files = {}
        for format_, paths in image.files.items():
            files[format_] = [path.name for path in paths]
        about = {"file": str(image.path), "width": width, "height": height}
        images.append(about | {"classes": classes, "written": files})
    record = answer.heading | {"images": images, "unreadable": answer.unreadable}
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


COLUMNS = (
    "file", "width", "height", "rank", "label", "wnid", "name", "probability",
    "x1", "y1", "x2", "y2", "share",
)  # fmt: skip


def _write_csv(answer: Answer, path: Path) -> None:
    """A line for each box; rank counts an image's classes from 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for image in answer.images:
        for rank, found in enumerate(image.classes, start=1):
            named = (found.label, answer.wnids[found.label], answer.words[found.label])
            for one in found.boxes:
                of_image = (image.path, *image.size, rank)
                writer.writerow((*of_image, *named, found.probability, *one.box, one.share))
    write_text(path, text.getvalue())


def _write_coco(answer: Answer, path: Path) -> None:
    """Detections as pycocotools reads them: `COCO(path)`, or its `annotations` by `loadRes`.

    bbox is x, y, width, height; a category's id is its label + 1, since COCO's begin at 1. An
    image's id is the number that its file is called by, as COCO's are, or else its place from 1.
    """
    stems = [image.path.stem for image in answer.images]
    are_numbers = all(stem.isdecimal() for stem in stems) and len({*map(int, stems)}) == len(stems)
    images = []
    annotations = []
    for place, image in enumerate(answer.images, start=1):
        image_id = int(image.path.stem) if are_numbers else place
        width, height = image.size
        about = {"id": image_id, "file_name": str(image.path), "width": width, "height": height}
        images.append(about)
        for found in image.classes:
            for one in found.boxes:
                x1, y1, x2, y2 = one.box
                width = x2 - x1 + 1
                height = y2 - y1 + 1
                detection = {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": found.label + 1,
                    "bbox": [x1, y1, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                    "score": found.probability,
                }
                if one.run_lengths is not None:
                    mask_size = [image.size[1], image.size[0]]
                    detection["segmentation"] = {"size": mask_size, "counts": one.run_lengths}
                    detection["area"] = round(one.share * image.size[0] * image.size[1])
                annotations.append(detection)
    categories = []
    for label, wnid in enumerate(answer.wnids):
        categories.append({"id": label + 1, "name": answer.words[label], "wnid": wnid})
    data = {
        "info": answer.heading,
        "images": images,
        "categories": categories,
        "annotations": annotations,
    }
    write_text(path, json.dumps(data, ensure_ascii=False) + "\n")


TABLE_FORMATS: dict[str, Callable[[Answer, Path], None]] = {
    "json": _write_json,
    "csv": _write_csv,
    "coco": _write_coco,
}
