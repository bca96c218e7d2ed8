"""MaxBoxAcc over the threshold, as a picture and as numbers: how much one threshold is worth against another."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cam_repro.files import replacing

PAPER_THRESHOLD = 0.2  # of the maximum (Zhou et al. 2016, §3.2)
CURVES = {"v1": ("V1: largest contour, IoU ≥ 0.5", "tab:blue"), "v2": ("V2: any contour, IoU 0.3, 0.5, 0.7", "tab:red")}
FLOORS = {"floor_whole_image": ("the whole image (V1)", ":"), "floor_centre_box": ("a centred box (V1)", "--")}
INCHES, DOTS_PER_INCH = (7.0, 4.8), 110


def write_curve(
    path: Path, thresholds: np.ndarray, v1: np.ndarray, v2: np.ndarray,
    *, best: Mapping[str, float], floors: Mapping[str, float], title: str,
) -> None:  # fmt: skip
    """A PNG of both curves (T,), in percent, over thresholds (T,), fractions of the maximum; the same bytes each time.

    best: {"v1": threshold, "v2": threshold}; floors: V1 in percent of the boxes that ignore the picture, by the names
    of their metrics. The point at 20 % of the maximum, the paper's, is marked on both curves.
    """
    with style.context("default"):  # no machine's own settings; the font comes with matplotlib
        figure = Figure(figsize=INCHES, dpi=DOTS_PER_INCH, layout="constrained")
        axes = figure.add_subplot()
        for name, curve in (("v1", v1), ("v2", v2)):
            _draw_curve(axes, name, np.asarray(thresholds), np.asarray(curve), best[name])
        _draw_floors(axes, floors)
        axes.set(
            xlim=(0, 1), ylim=(0, 100), xlabel="threshold, of the normalised map’s maximum", ylabel="MaxBoxAcc (%)"
        )
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.25)
        figure.legend(fontsize=7.5, loc="outside lower center", ncols=3)
        with replacing(path) as temporary:
            FigureCanvasAgg(figure).print_png(temporary, metadata={"Software": None})


def _draw_curve(axes: Axes, name: str, thresholds: np.ndarray, curve: np.ndarray, best: float) -> None:
    label, colour = CURVES[name]
    axes.plot(thresholds, curve, color=colour, label=label)
    for threshold, marker, what in ((best, "*", "best, at"), (PAPER_THRESHOLD, "o", "fixed at")):
        height = curve[np.abs(thresholds - threshold).argmin()]
        text = f"{height:.1f} %, {what} {threshold:.3g}"
        axes.plot(threshold, height, marker, color=colour, markeredgecolor="black", markersize=9, label=text)


def _draw_floors(axes: Axes, floors: Mapping[str, float]) -> None:
    for name, height in floors.items():
        label, style = FLOORS[name]
        axes.axhline(height, color="black", linewidth=1, linestyle=style, label=f"{height:.1f} %, {label}")


def write_curve_csv(path: Path, thresholds: np.ndarray, v1: np.ndarray, v2: np.ndarray) -> None:
    """Columns threshold, v1, v2: a threshold of the maximum a line, accuracies in percent."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("threshold", "v1", "v2"))
        for threshold, *accuracies in zip(thresholds, v1, v2, strict=True):
            writer.writerow((f"{threshold:.3f}", *(f"{accuracy:.4f}" for accuracy in accuracies)))
