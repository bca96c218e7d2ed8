"""Pictures of where a network looks: heatmap, predicted box (red), true boxes (green)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cam_repro.config import ProtocolConfig
from cam_repro.data.ilsvrc import Split
from cam_repro.data.images import read_image
from cam_repro.files import replacing
from cam_repro.localization.evaluation import Seen
from cam_repro.localization.overlay import overlay

COLUMNS, ROWS, CELL, CAPTION = 4, 3, 192, 16  # pixels
TRUE, PREDICTED = (60, 230, 90), (255, 50, 50)


def panel(picture: np.ndarray, heatmap: np.ndarray, predicted: np.ndarray, true_boxes: np.ndarray) -> Image.Image:
    """One picture (H,W,3) under its heatmap (H,W), with boxes in its own pixels."""
    image = Image.fromarray(overlay(picture, heatmap))
    draw = ImageDraw.Draw(image)
    width = max(2, round(max(image.size) / 100))
    for box in np.reshape(true_boxes, (-1, 4)):
        draw.rectangle(tuple(map(int, box)), outline=TRUE, width=width)
    draw.rectangle(tuple(map(int, predicted)), outline=PREDICTED, width=width)
    return image


def write_figure(path: Path, split: Split, seen: Seen, boxes: np.ndarray, protocol: ProtocolConfig) -> None:
    """Twelve val images spread over the split: the true class's map and its box (N,4), beside the true boxes."""
    count = min(COLUMNS * ROWS, len(split))
    chosen = np.linspace(0, len(split) - 1, count, dtype=int)
    sheet = Image.new("RGB", (COLUMNS * CELL, -(-count // COLUMNS) * (CELL + CAPTION)), "white")
    for place, image in enumerate(chosen):
        heatmap = seen.heatmaps(image, protocol.resize)[-1]
        cell = panel(read_image(split.path(image)), heatmap, boxes[image], split.true_boxes(image))
        cell.thumbnail((CELL - 4, CELL - 4))
        left, top = place % COLUMNS * CELL, place // COLUMNS * (CELL + CAPTION)
        sheet.paste(cell, (left + (CELL - cell.width) // 2, top + (CELL - cell.height) // 2))
        _caption(sheet, left, top + CELL, split, int(split.labels[image]), int(seen.labels[image, 0]))
    save_picture(path, sheet)


def _caption(sheet: Image.Image, left: int, top: int, split: Split, true: int, guessed: int) -> None:
    name, wrong = (split.words[label].split(",")[0] for label in (true, guessed))
    text = name if true == guessed else f"{name} (guess: {wrong})"
    ImageDraw.Draw(sheet).text((left + 4, top), text[:32], fill="black")


def save_picture(path: Path, picture: Image.Image) -> None:
    with replacing(path) as temporary:
        picture.save(temporary, "PNG", optimize=True)
