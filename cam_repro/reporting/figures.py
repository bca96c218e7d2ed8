"""Pictures for people: where a network looks (heatmap, predicted box red, true boxes green), and
MaxBoxAcc's curve.
"""

from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from cam_repro.evaluation.evaluate import Result
from cam_repro.evaluation.metrics import Scores
from cam_repro.evaluation.record import record_path
from cam_repro.evaluation.spec import Evaluation
from cam_repro.files import replacing
from cam_repro.localization.max_box_acc import THRESHOLDS
from cam_repro.localization.overlay import colour, overlay

FONT, TITLE = (  # matplotlib's own: Pillow's has ASCII's letters alone
    ImageFont.truetype(
        distribution("matplotlib").locate_file("matplotlib/mpl-data/fonts/ttf/DejaVuSans.ttf"), size
    )
    for size in (13, 16)
)
LINE, GAP, HEAD, FOOT = (
    20,
    6,
    40,
    52,
)  # pixels: a line of a caption, between pictures, the title above, the scale below
SIDE, DPI = 205, 150  # at print five such pictures are as wide as a page's two columns, 7 inches
TRUE, PREDICTED = (60, 230, 90), (255, 50, 50)
PAPER_THRESHOLD = 0.2  # of the maximum (Zhou et al. 2016, §3.2)
CURVES = (
    ("v1", "tab:blue", "V1: largest contour, IoU ≥ 0.5"),
    ("v2_iou30", "tab:orange", "V2: any contour, IoU ≥ 0.3"),
    ("v2_iou50", "tab:red", "V2: any contour, IoU ≥ 0.5"),
    ("v2_iou70", "tab:purple", "V2: any contour, IoU ≥ 0.7"),
)
BASELINES = (
    ("baseline_whole_image", "the whole image (V1)", ":"),
    ("baseline_centre_box", "a centred box (V1)", "--"),
)

Cell = tuple[str, Image.Image]  # a caption and a picture


def first_name(words: str) -> str:
    """Of a class: the first of its names, as "ladybird" of "ladybird, ladybug"."""
    return words.split(",")[0]


def panel(
    picture: np.ndarray, heatmap: np.ndarray, predicted: np.ndarray, true_boxes: np.ndarray
) -> Image.Image:
    """One picture (H,W,3) under its heatmap (H,W), with boxes in its own pixels."""
    image = Image.fromarray(overlay(picture, heatmap))
    draw = ImageDraw.Draw(image)
    width = max(2, round(max(image.size) / 100))
    for box in np.reshape(true_boxes, (-1, 4)):
        draw.rectangle(tuple(map(int, box)), outline=TRUE, width=width)
    draw.rectangle(tuple(map(int, predicted)), outline=PREDICTED, width=width)
    return image


def draw_result(evaluation: Evaluation, result: Result) -> Path:
    """The figure beside a record: MaxBoxAcc's curves, or example images with map and predicted box."""
    spec = result.spec
    path = record_path(evaluation, spec).with_suffix(".png")
    if result.scores.curves:
        record = result.record
        title = f"{record['model']}, {spec.method}, {record['data']}, {record['images']:,} images"
        write_curves(path, result.scores, title)
    else:
        _write_examples(path, evaluation, result)
    return path


def _write_examples(path: Path, evaluation: Evaluation, result: Result) -> None:
    """Of the example images: the true class's map and its box, and what was guessed."""
    spec = result.spec
    split = evaluation.split
    cells = []
    for image, maps_vhw in sorted(result.example_maps.items()):
        picture = split.read(image)
        heatmap = spec.metric.heatmap(maps_vhw, (picture.shape[1], picture.shape[0]))
        true_class = first_name(split.words[split.labels[image]])
        best_class = first_name(split.words[result.classes[image, 0]])
        caption = true_class
        if split.labels[image] != result.classes[image, 0]:
            caption += f"\n(guess: {best_class})"
        predicted_box = result.scores.predicted_boxes[image]
        cells.append((caption, panel(picture, heatmap, predicted_box, split.true_boxes(image))))
    write_sheet(path, cells, columns=4)


def write_sheet(
    path: Path, cells: Sequence[Cell], columns: int, side: int = SIDE, title: str = ""
) -> Path:
    """Pictures under their captions as a PNG, each made to fit a square of `side` pixels, or of the
    largest if 0.

    With a title there is the scale of the maps' colours too, at the foot.
    """
    width, height = (
        (side, side)
        if side
        else (max(of) for of in zip(*(one.size for _, one in cells), strict=True))
    )
    width = max(width, SIDE)  # a caption's room
    above = LINE * (1 + max(caption.count("\n") for caption, _ in cells))
    rows, head, foot = -(-len(cells) // columns), HEAD if title else 0, FOOT if title else 0
    size = columns * (width + GAP) - GAP, head + rows * (above + height + GAP) - GAP + foot
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for place, (caption, picture) in enumerate(cells):
        fitted = ImageOps.contain(picture, (width, height))
        left, top = (
            place % columns * (width + GAP),
            head + place // columns * (above + height + GAP),
        )
        said = "\n".join(_cut(line, FONT, width) for line in caption.split("\n"))
        draw.text((left + width / 2, top), said, "black", FONT, "ma", align="center")
        sheet.paste(
            fitted,
            (left + (width - fitted.width) // 2, top + above + (height - fitted.height) // 2),
        )
    if title:
        draw.text((size[0] / 2, HEAD / 2), _cut(title, TITLE, size[0]), "black", TITLE, "mm")
        start, end = size[0] // 3, 2 * size[0] // 3
        scale = colour(np.tile(np.linspace(0, 1, end - start), (14, 1)))
        sheet.paste(Image.fromarray(scale), (start, size[1] - FOOT + 12))
        for x, said in ((start, "0 and below"), (end, "the map’s maximum")):
            draw.text((x, size[1] - 6), said, "black", FONT, "ms")
    with replacing(
        path
    ) as temporary:  # compressed a third as long as for the smallest file, a hundredth larger
        sheet.save(temporary, "PNG", compress_level=4, dpi=(DPI, DPI))
    return path


def _cut(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """As much of a line as fits."""
    while font.getlength(line) > width:
        line = line[:-1]
    return line


def write_curves(path: Path, scores: Scores, title: str) -> None:
    """A PNG of MaxBoxAcc's curves over the threshold; the same bytes each time.

    The best threshold of each and 20 % of the maximum, the paper's, are marked.
    """
    from matplotlib import style  # takes a second to import, and nothing else needs it
    from matplotlib.figure import Figure

    with style.context("default"):  # no machine's own settings; the font comes with matplotlib
        figure = Figure(figsize=(7.0, 5.4), dpi=110, layout="constrained")
        axes = figure.add_subplot()
        for name, colour_of_line, label in CURVES:
            curve = scores.curves[name]
            axes.plot(THRESHOLDS, curve, color=colour_of_line, label=label)
            marks = ((scores.thresholds[name], "*", "best, at"), (PAPER_THRESHOLD, "o", "fixed at"))
            for threshold, marker, what in marks:
                height = curve[np.abs(THRESHOLDS - threshold).argmin()]
                axes.plot(
                    threshold,
                    height,
                    marker,
                    color=colour_of_line,
                    markeredgecolor="black",
                    markersize=8,
                    label=f"{height:.1f} %, {what} {threshold:.3g}",
                )
        for name, label, line in BASELINES:
            height = scores.metrics[name]
            axes.axhline(
                height, color="black", linewidth=1, linestyle=line, label=f"{height:.1f} %, {label}"
            )
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
