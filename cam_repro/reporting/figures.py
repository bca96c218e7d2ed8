"""Pictures for people: where a network looks (heatmap, predicted box red, true boxes green), and MaxBoxAcc's curve."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cam_repro.data.images import read_image
from cam_repro.data.split import Split
from cam_repro.files import replacing
from cam_repro.localization.overlay import overlay

COLUMNS, CELL, CAPTION = 4, 192, 16  # pixels but for the first
TRUE, PREDICTED = (60, 230, 90), (255, 50, 50)
PAPER_THRESHOLD = 0.2  # of the maximum (Zhou et al. 2016, §3.2)
CURVES = (("v1", "tab:blue", "V1: largest contour, IoU ≥ 0.5"), ("v2", "tab:red", "V2: any contour, IoU 0.3, 0.5, 0.7"))
FLOORS = (("floor_whole_image", "the whole image (V1)", ":"), ("floor_centre_box", "a centred box (V1)", "--"))


def first_name(words: str) -> str:
    """Of a class: the first of its names, as "ladybird" of "ladybird, ladybug"."""
    return words.split(",")[0]


def panel(picture: np.ndarray, heatmap: np.ndarray, predicted: np.ndarray, true_boxes: np.ndarray) -> Image.Image:
    """One picture (H,W,3) under its heatmap (H,W), with boxes in its own pixels."""
    image = Image.fromarray(overlay(picture, heatmap))
    draw = ImageDraw.Draw(image)
    width = max(2, round(max(image.size) / 100))
    for box in np.reshape(true_boxes, (-1, 4)):
        draw.rectangle(tuple(map(int, box)), outline=TRUE, width=width)
    draw.rectangle(tuple(map(int, predicted)), outline=PREDICTED, width=width)
    return image


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
        true, guess = (first_name(split.words[label]) for label in (split.labels[image], guesses[image]))
        caption = true if split.labels[image] == guesses[image] else f"{true} (guess: {guess})"
        ImageDraw.Draw(sheet).text((left + 4, top + CELL), caption[:32], fill="black")
    save_picture(path, sheet)


def save_picture(path: Path, picture: Image.Image) -> Path:
    with replacing(path) as temporary:
        picture.save(temporary, "PNG", compress_level=4)  # three times as fast as the smallest file, a hundredth larger
    return path


def write_curve(path: Path, sweep: Mapping[str, Any], title: str) -> None:
    """A PNG of both curves of a sweep (`wsol.accuracies` and the floors) over its thresholds; the same bytes each time.

    The best threshold of each and 20 % of the maximum, the paper's, are marked.
    """
    from matplotlib import style  # takes a second to import, and nothing else needs it
    from matplotlib.figure import Figure

    thresholds = sweep["thresholds"]
    with style.context("default"):  # no machine's own settings; the font comes with matplotlib
        figure = Figure(figsize=(7.0, 4.8), dpi=110, layout="constrained")
        axes = figure.add_subplot()
        for name, colour, label in CURVES:
            curve = sweep[f"curve_{name}"]
            axes.plot(thresholds, curve, color=colour, label=label)
            marked = (sweep[f"threshold_{name}"], "*", "best, at"), (PAPER_THRESHOLD, "o", "fixed at")
            for threshold, marker, what in marked:
                height = curve[np.abs(thresholds - threshold).argmin()]
                label = f"{height:.1f} %, {what} {threshold:.3g}"
                axes.plot(threshold, height, marker, color=colour, markeredgecolor="black", markersize=9, label=label)
        for name, label, line in FLOORS:
            height = sweep[name]
            axes.axhline(height, color="black", linewidth=1, linestyle=line, label=f"{height:.1f} %, {label}")
        axes.set(xlim=(0, 1), xlabel="threshold, of the normalised map’s maximum")
        axes.set(ylim=(0, 100), ylabel="MaxBoxAcc (%)")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.25)
        figure.legend(fontsize=7.5, loc="outside lower center", ncols=3)
        save_figure(path, figure)


def save_figure(path: Path, figure: Any) -> None:
    """A matplotlib Figure as a PNG that does not name matplotlib's version."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def write_curve_csv(path: Path, sweep: Mapping[str, Any]) -> None:
    """Columns threshold, v1, v2: a threshold of the maximum a line, accuracies in percent."""
    columns = np.column_stack([sweep[key] for key in ("thresholds", "curve_v1", "curve_v2")])
    with replacing(path) as temporary:
        np.savetxt(temporary, columns, ("%.3f", "%.4f", "%.4f"), delimiter=",", header="threshold,v1,v2", comments="")
