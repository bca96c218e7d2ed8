"""Pictures of where a network looks: heatmap, predicted box (red), true boxes (green)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cam_repro.data.images import read_image
from cam_repro.data.split import Split
from cam_repro.files import replacing
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


def example_images(images: int, count: int = COLUMNS * ROWS) -> list[int]:
    """The numbers of `count` images spread over a split, or of all."""
    return np.linspace(0, images - 1, min(count, images), dtype=int).tolist()


def write_figure(
    path: Path, split: Split, guesses: np.ndarray, heatmaps: dict[int, np.ndarray], boxes: np.ndarray
) -> None:
    """For each image of `heatmaps`, of its true class: the map and its box, of all boxes (N,4); guesses (N,)."""
    rows = -(-len(heatmaps) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL, rows * (CELL + CAPTION)), "white")
    for place, (image, heatmap) in enumerate(heatmaps.items()):
        cell = panel(read_image(split.path(image)), heatmap, boxes[image], split.true_boxes(image))
        cell.thumbnail((CELL - 4, CELL - 4))
        left, top = place % COLUMNS * CELL, place // COLUMNS * (CELL + CAPTION)
        sheet.paste(cell, (left + (CELL - cell.width) // 2, top + (CELL - cell.height) // 2))
        _caption(sheet, left, top + CELL, split, int(split.labels[image]), int(guesses[image]))
    save_picture(path, sheet)


def _caption(sheet: Image.Image, left: int, top: int, split: Split, true: int, guessed: int) -> None:
    name, wrong = (split.words[label].split(",")[0] for label in (true, guessed))
    text = name if true == guessed else f"{name} (guess: {wrong})"
    ImageDraw.Draw(sheet).text((left + 4, top), text[:32], fill="black")


def save_picture(path: Path, picture: Image.Image) -> None:
    with replacing(path) as temporary:
        picture.save(temporary, "PNG", optimize=True)
