"""The paper's figures 7, 8 and 9: the maps of an SVM, whose weights take the place of w.

`make svm` draws them of the SVM of the first draw, on that draw's test images: Fig. 7 with
svm.crops=true, Fig. 9 with svm.objects=FILE, Fig. 8 always.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cam_repro.evaluation.record import protocol_name
from cam_repro.features.crops import SVM, inside_of
from cam_repro.features.maps import heatmap_of, maps_of_heads
from cam_repro.features.objects import ObjectShares, object_shares
from cam_repro.features.svm import SvmOfFirstDraw
from cam_repro.files import write_text
from cam_repro.localization.overlay import overlay
from cam_repro.reporting.figures import COLUMNS, panel
from cam_repro.reporting.layout import csv_text
from cam_repro.reporting.plots import SIDE, Cell, write_sheet
from cam_repro.reporting.results import first_name

CLASSES = 6  # rows of Fig. 8
SCENES = 2  # classes of Fig. 9
OBJECTS = 6  # of each list of Fig. 9, as in the paper


def draw_svm(svm: SvmOfFirstDraw) -> list[Path]:
    """Write the figures of a network's SVM into its folder of results/."""
    test = svm.test
    if test.trained.network.cam_obstacle:
        return []
    config = test.config
    protocol = protocol_name(config.protocol)
    ending = ".png" if protocol == "paper" else f"-{protocol}.png"
    name = test.trained.name
    folder = Path(config.results) / config.data.name / name
    where = f"{name}, {config.data.name}" + ("" if protocol == "paper" else f", {protocol}")
    titles = {8: "Class activation maps of an SVM, a row for each class"}
    cells = {8: _fig8(svm)}
    if svm.crop_boxes is not None:
        titles[7] = "Boxes (red) of an SVM’s maps, true ones green; below, the crops"
        cells[7] = _fig7(svm, svm.crop_boxes)
    if svm.objects:
        titles[9] = "Objects that a class shows, above, and that its map lies on, below"
        cells[9] = _fig9(svm, folder / f"figure9{ending}")
    written = []
    for number in sorted(cells):
        path = folder / f"figure{number}{ending}"
        title = f"{titles[number]}. {where}."
        written.append(write_sheet(path, cells[number], COLUMNS, title=title))
    print(*written, sep="\n")
    return written


def _fig7(svm: SvmOfFirstDraw, boxes: np.ndarray) -> list[Cell]:
    """A row of images with their boxes, and one of what is inside of the red ones."""
    split = svm.test.split
    with_truth = np.diff(split.box_starts)[svm.images] > 0
    candidates = np.flatnonzero(with_truth) if with_truth.any() else np.arange(len(svm.images))
    rng = np.random.default_rng(svm.test.config.seed)
    count = min(COLUMNS, len(candidates))
    places = np.sort(rng.choice(candidates, count, replace=False))
    images = svm.images[places]
    above = []
    below = []
    heatmaps = _heatmaps(svm, images, svm.answers[places])
    for place, image, heatmap in zip(places, images, heatmaps, strict=True):
        pixels = split.read(image)
        caption = first_name(split.words[split.labels[image]])
        if svm.answers[place] != split.labels[image]:
            caption += f"\n(guess: {first_name(split.words[svm.answers[place]])})"
        above.append((caption, panel(pixels, heatmap, boxes[place], split.true_boxes(image))))
        below.append(("", Image.fromarray(inside_of(pixels, boxes[place]))))
    return [*_filled(above), *_filled(below)]


def _fig8(svm: SvmOfFirstDraw) -> list[Cell]:
    """Up to six classes, spread over all; images that the SVM answers rightly come first."""
    split = svm.test.split
    order = np.random.default_rng(svm.test.config.seed).permutation(len(svm.images))
    images = svm.images[order]
    wrong = svm.answers[order] != split.labels[images]
    images = images[wrong.argsort(kind="stable")]
    classes = np.unique(split.labels[images])
    spread = np.linspace(0, len(classes) - 1, min(CLASSES, len(classes))).round().astype(int)
    cells = []
    for label in classes[spread]:
        shown = images[split.labels[images] == label][:COLUMNS]
        row = []
        for image, heatmap in zip(shown, _heatmaps_of_class(svm, shown, label), strict=True):
            caption = "" if row else first_name(split.words[label])
            row.append((caption, _mapped(svm, image, heatmap)))
        cells += _filled(row)
    return cells


def _fig9(svm: SvmOfFirstDraw, path: Path) -> list[Cell]:
    """For the two classes with most annotated images: some images, their maps, and both lists.

    The shares of all their objects are written beside the figure as a CSV.
    """
    split = svm.test.split
    annotated = np.array(sorted(svm.objects))
    counts = np.bincount(split.labels[annotated], minlength=len(split.wnids))
    scenes = [int(label) for label in np.argsort(-counts, kind="stable")[:SCENES] if counts[label]]
    cells = []
    lines = []
    for label in scenes:
        images = annotated[split.labels[annotated] == label]
        word = first_name(split.words[label])
        heatmaps = _heatmaps_of_class(svm, images, label)
        shares = object_shares([svm.objects[image] for image in images.tolist()], heatmaps)
        for one in shares:
            lines.append({"class": word, "images": len(images)} | one._asdict())
        shown = images[: COLUMNS - 1]
        above = []
        below = []
        for image, heatmap in zip(shown, _heatmaps_of_class(svm, shown, label), strict=True):
            caption = "" if above else f"{word}, {len(images):,} images"
            above.append((caption, Image.fromarray(split.read(image))))
            below.append(("", _mapped(svm, image, heatmap)))
        frequent = _listed(shares, "annotated")
        informative = _listed(shares, "overlapping")
        cells += [*_filled(above, COLUMNS - 1), ("most frequent", frequent)]
        cells += [*_filled(below, COLUMNS - 1), ("most often in the map", informative)]
    write_text(path.with_suffix(".csv"), csv_text(lines))
    return cells


def _heatmaps_of_class(svm: SvmOfFirstDraw, images: np.ndarray, label: int) -> Iterator[np.ndarray]:
    return _heatmaps(svm, images, np.full(len(images), label))


def _heatmaps(svm: SvmOfFirstDraw, images: np.ndarray, classes: np.ndarray) -> Iterator[np.ndarray]:
    """The map (H,W) of a class, classes (n,), over each of the images (n,) of the split."""
    found = maps_of_heads(svm.test, images, {SVM: svm.classifier}, {SVM: classes[:, None]})
    for size, of_heads in found:
        yield heatmap_of(svm.test, of_heads[SVM][:, 0], size)


def _mapped(svm: SvmOfFirstDraw, image: int, heatmap: np.ndarray) -> Image.Image:
    return Image.fromarray(overlay(svm.test.split.read(image), heatmap))


def _listed(shares: Sequence[ObjectShares], by: str) -> Image.Image:
    """The objects with the largest shares above 0, a line each, as an image."""
    above_zero = [one for one in shares if getattr(one, by) > 0]
    largest = sorted(above_zero, key=lambda one: -getattr(one, by))[:OBJECTS]
    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(image)
    # The font of the captions, which comes with matplotlib.
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), 14)
    for place, one in enumerate(largest):
        draw.text((8, 8 + 30 * place), one.name[:18], "black", font)
        share = f"{getattr(one, by):.0f} %"
        draw.text((SIDE - 8, 8 + 30 * place), share, "black", font, anchor="ra")
    return image


def _filled(row: list[Cell], columns: int = COLUMNS) -> list[Cell]:
    """A row of so many cells; the last may be white."""
    white = Image.new("RGB", (1, 1), "white")
    return row + [("", white)] * (columns - len(row))
