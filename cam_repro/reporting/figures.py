"""Pictures for people: where a network looks (heatmap, predicted box red, true boxes green), and MaxBoxAcc's curve."""

from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from cam_repro.data.images import read_image
from cam_repro.data.split import Split
from cam_repro.files import replacing
from cam_repro.localization.overlay import colour, overlay

FONT, TITLE = (  # matplotlib's own: Pillow's has ASCII's letters alone
    ImageFont.truetype(distribution("matplotlib").locate_file("matplotlib/mpl-data/fonts/ttf/DejaVuSans.ttf"), size)
    for size in (13, 16)
)
LINE, GAP, HEAD, FOOT = 20, 6, 40, 52  # pixels: a line of a caption, between pictures, the title above, the scale below
SIDE, DPI = 205, 150  # at print five such pictures are as wide as a page's two columns, 7 inches
TRUE, PREDICTED = (60, 230, 90), (255, 50, 50)
PAPER_THRESHOLD = 0.2  # of the maximum (Zhou et al. 2016, §3.2)
CURVES = (("v1", "tab:blue", "V1: largest contour, IoU ≥ 0.5"), ("v2", "tab:red", "V2: any contour, IoU 0.3, 0.5, 0.7"))
FLOORS = (("floor_whole_image", "the whole image (V1)", ":"), ("floor_centre_box", "a centred box (V1)", "--"))

Cell = tuple[str, Image.Image]  # a caption and a picture


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
    cells = []
    for image, heatmap in heatmaps.items():
        true, guess = (first_name(split.words[label]) for label in (split.labels[image], guesses[image]))
        caption = true if split.labels[image] == guesses[image] else f"{true}\n(guess: {guess})"
        cells.append((caption, panel(read_image(split.path(image)), heatmap, boxes[image], split.true_boxes(image))))
    write_sheet(path, cells, columns=4)


def write_sheet(path: Path, cells: Sequence[Cell], columns: int, side: int = SIDE, title: str = "") -> Path:
    """Pictures under their captions as a PNG, each made to fit a square of `side` pixels, or of the largest if 0.

    With a title there is the scale of the maps' colours too, at the foot.
    """
    width, height = (side, side) if side else (max(of) for of in zip(*(one.size for _, one in cells), strict=True))
    width = max(width, SIDE)  # a caption's room
    above = LINE * (1 + max(caption.count("\n") for caption, _ in cells))
    rows, head, foot = -(-len(cells) // columns), HEAD if title else 0, FOOT if title else 0
    size = columns * (width + GAP) - GAP, head + rows * (above + height + GAP) - GAP + foot
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for place, (caption, picture) in enumerate(cells):
        fitted = ImageOps.contain(picture, (width, height))
        left, top = place % columns * (width + GAP), head + place // columns * (above + height + GAP)
        said = "\n".join(_cut(line, FONT, width) for line in caption.split("\n"))
        draw.text((left + width / 2, top), said, "black", FONT, "ma", align="center")
        sheet.paste(fitted, (left + (width - fitted.width) // 2, top + above + (height - fitted.height) // 2))
    if title:
        draw.text((size[0] / 2, HEAD / 2), _cut(title, TITLE, size[0]), "black", TITLE, "mm")
        start, end = size[0] // 3, 2 * size[0] // 3
        scale = colour(np.tile(np.linspace(0, 1, end - start), (14, 1)))
        sheet.paste(Image.fromarray(scale), (start, size[1] - FOOT + 12))
        for x, said in ((start, "0 and below"), (end, "the map’s maximum")):
            draw.text((x, size[1] - 6), said, "black", FONT, "ms")
    with replacing(path) as temporary:  # compressed a third as long as for the smallest file, a hundredth larger
        sheet.save(temporary, "PNG", compress_level=4, dpi=(DPI, DPI))
    return path


def _cut(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """As much of a line as fits."""
    while font.getlength(line) > width:
        line = line[:-1]
    return line


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
        for name, line_colour, label in CURVES:
            curve = sweep[f"curve_{name}"]
            axes.plot(thresholds, curve, color=line_colour, label=label)
            marked = (sweep[f"threshold_{name}"], "*", "best, at"), (PAPER_THRESHOLD, "o", "fixed at")
            for threshold, marker, what in marked:
                height = curve[np.abs(thresholds - threshold).argmin()]
                label = f"{height:.1f} %, {what} {threshold:.3g}"
                axes.plot(
                    threshold, height, marker, color=line_colour, markeredgecolor="black", markersize=9, label=label
                )
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
