"""One figure of every view's boxes beside the true ones: all in the pixels of the pictures as stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data import Split, load_split
from cam_repro.data.images import read_image
from cam_repro.data.views import VIEWS
from cam_repro.distributed import join_world
from cam_repro.evaluation.draw import draw_boxes
from cam_repro.evaluation.evaluate import example_images
from cam_repro.evaluation.maps import predict_split
from cam_repro.evaluation.trained import load_trained
from cam_repro.localization.boxes import LOOSE
from cam_repro.reporting.figures import TRUE, save_picture
from cam_repro.reporting.results import protocol_name

PICTURES, COLUMNS, CELL, LEGEND = 20, 5, 256, 24  # pixels but for the first two
COLOURS = ((255, 50, 50), (60, 130, 255), (255, 200, 0), (230, 80, 255), (80, 230, 230), (255, 140, 60))


def compare_views(config: Config) -> Path:
    """Draw, on up to 20 val images, the box of the true class's map by every view; returns the figure's path."""
    if config.protocol.boxes == "sweep" or config.protocol.name == "all":
        raise UserError(f"protocol={config.protocol.name} draws no single box; choose protocol=paper or release")
    method = config.method or "cam"
    with join_world(config.device, config.deterministic) as world:
        whole = load_split(config.data, "val", Path(config.cache), world)
        split = whole.subset(example_images(len(whole), PICTURES))
        trained = load_trained(config, config.name or config.model.name, (split.wnids, split.words), world.device)
        split = split.answered_by(trained.wnids, trained.words)
        size, boxes = config.protocol.size or trained.model.input_size, {}
        for view in VIEWS:
            batches = predict_split(trained.network, split, view, size, [method], world, workers=config.data.workers)
            (drawn,) = draw_boxes(
                batches, [replace(config.protocol, view=view)], size, split, world, title=view
            ).true_class_boxes.values()
            boxes[view] = drawn[:, LOOSE]
    folder = Path(config.results) / config.data.name / trained.name
    path = folder / f"views-{method}-{protocol_name(config.protocol)}.png"
    save_picture(path, _sheet(split, boxes))
    print(f"{len(split)} pictures, true boxes and those of {', '.join(boxes)}: {path}")
    return path


def _sheet(split: Split, boxes: dict[str, np.ndarray]) -> Image.Image:
    rows = -(-len(split) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL, rows * CELL + LEGEND), "white")
    for image in range(len(split)):
        cell = _cell(read_image(split.path(image)), split.true_boxes(image), {v: b[image] for v, b in boxes.items()})
        left, top = image % COLUMNS * CELL, image // COLUMNS * CELL
        sheet.paste(cell, (left + (CELL - cell.width) // 2, top + (CELL - cell.height) // 2))
    _legend(ImageDraw.Draw(sheet), rows * CELL)
    return sheet


def _cell(picture: np.ndarray, true_boxes: np.ndarray, boxes: dict[str, np.ndarray]) -> Image.Image:
    """The picture made small, then the boxes drawn in its scale, so that every line is as thick as the others."""
    cell = Image.fromarray(picture)
    cell.thumbnail((CELL - 6, CELL - 6))
    draw_on, scale = ImageDraw.Draw(cell), cell.width / picture.shape[1]
    for box in true_boxes:
        draw_on.rectangle(_scaled(box, scale), outline=TRUE, width=4)
    for box, colour in zip(boxes.values(), COLOURS, strict=False):
        draw_on.rectangle(_scaled(box, scale), outline=colour, width=2)
    return cell


def _scaled(box: np.ndarray, scale: float) -> tuple[float, ...]:
    """Inclusive corners in a picture of another size; the last pixel's far edge counts."""
    x1, y1, x2, y2 = (float(corner) for corner in box)
    return x1 * scale, y1 * scale, (x2 + 1) * scale - 1, (y2 + 1) * scale - 1


def _legend(draw_on: ImageDraw.ImageDraw, top: int) -> None:
    left = 8
    for name, colour in zip(["true box", *VIEWS], [TRUE, *COLOURS], strict=False):
        draw_on.rectangle((left, top + 6, left + 18, top + 18), fill=colour)
        draw_on.text((left + 24, top + 5), name.replace("_", " "), fill="black")
        left += 170
