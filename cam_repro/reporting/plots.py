"""What matplotlib draws, as PNGs: images side by side, MaxBoxAcc's curves and trainings' curves."""

import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib import style
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox, TransformedBbox
from PIL import Image

from cam_repro import UserError
from cam_repro.advice import train_command
from cam_repro.config import Config, run_folder
from cam_repro.evaluation.metric import Scores
from cam_repro.files import replacing
from cam_repro.localization.boxes import PAPER_THRESHOLD
from cam_repro.localization.max_box_acc import THRESHOLDS
from cam_repro.localization.overlay import colour

# No machine's own settings; a dollar sign in a name is no formula. The font comes with matplotlib.
STYLE = ("default", {"text.parse_math": False})

SIDE = 205  # pixels of an image: five of them are as wide as a page's two columns, 7 inches
DPI = 150  # at print
SPACING = 6  # pixels between images
LINE = 20  # pixels of a line of a caption
HEAD = 40  # pixels of a sheet's title
FOOT = 52  # pixels of the scale below
LETTER = 7  # pixels across, about
SMALL = 6.2  # points of a caption
LARGE = 7.7  # of a title


TRAINING_CURVES = (  # heading, and the metrics that are drawn, each with its line
    ("training loss", {"train_loss": "-"}),
    (
        "top-1 error (%): val solid, training dotted",
        {"val_top1_error": "-", "train_top1_error": ":"},
    ),
    ("top-5 error (%), val", {"val_top5_error": "-"}),
    ("GT-known (%), val", {"val_gt_known_loc": "-"}),
    ("box (% of the image), val", {"val_box_area": "-"}),
)
MAX_BOX_ACC_CURVES = (
    ("v1", "tab:blue", "V1: largest contour, IoU ≥ 0.5"),
    ("v2_iou30", "tab:orange", "V2: any contour, IoU ≥ 0.3"),
    ("v2_iou50", "tab:red", "V2: any contour, IoU ≥ 0.5"),
    ("v2_iou70", "tab:purple", "V2: any contour, IoU ≥ 0.7"),
)
BASELINE_LINES = (
    ("baseline_whole_image", "the whole image (V1)", ":"),
    ("baseline_centre_box", "a centred box (V1)", "--"),
)


Cell = tuple[str, Image.Image]  # a caption and an image


def write_sheet(
    path: Path, cells: Sequence[Cell], columns: int, side: int = SIDE, title: str = ""
) -> Path:
    """Images under their captions as a PNG, each made to fit a square of `side` pixels.

    side=0: they keep their sizes, in cells as large as the largest. With a title there is the scale
    of the maps' colours too, at the foot.
    """
    width = side or max(image.width for _, image in cells)
    height = side or max(image.height for _, image in cells)
    width = max(width, SIDE)  # a caption's room
    captions = []
    for caption, _ in cells:
        captions.append("\n".join(fill(line, width // LETTER) for line in caption.split("\n")))
    rows = math.ceil(len(cells) / columns)
    head = HEAD if title else 0
    foot = FOOT if title else 0
    above = LINE * (1 + max(caption.count("\n") for caption in captions)) + SPACING
    sheet_width = columns * (width + SPACING) - SPACING
    sheet_height = head + rows * (above + height) + foot
    places = {"left": 0, "right": 1, "wspace": SPACING / width, "hspace": above / height}
    places["top"] = 1 - (head + above) / sheet_height
    places["bottom"] = foot / sheet_height
    with style.context(STYLE):
        figure = Figure(figsize=(sheet_width / DPI, sheet_height / DPI), dpi=DPI)
        grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw=places)
        for axes in grid.flat:
            axes.set_axis_off()
        room = Bbox.from_bounds(0, 1, 1, above / height)  # above axes of 1 by 1
        for axes, caption, (_, image) in zip(grid.flat, captions, cells, strict=False):
            axes.imshow(image)
            axes.set_adjustable("datalim")  # the axes stay as large as the cell
            drawn = axes.set_title(caption, fontsize=SMALL, y=1, pad=3, clip_on=True)
            drawn.set_clip_box(TransformedBbox(room, axes.transAxes))
        if title:
            figure.suptitle(title, fontsize=LARGE, y=1 - HEAD / 3 / sheet_height)
            scale = ScalarMappable(
                cmap=ListedColormap(colour(np.linspace(0, 1, 256)[None])[0] / 255)
            )
            strip = figure.add_axes((1 / 3, 26 / sheet_height, 1 / 3, 14 / sheet_height))
            bar = figure.colorbar(scale, strip, orientation="horizontal", ticks=[0, 1])
            bar.outline.set_visible(False)
            bar.ax.tick_params(length=0)
            bar.set_ticklabels(["0 and below", "the map’s maximum"], fontsize=SMALL)
        return save_figure(path, figure)


def draw_max_box_acc(path: Path, scores: Scores, title: str) -> Path:
    """A PNG of MaxBoxAcc's curves over the threshold; the same bytes each time.

    The best threshold of each and 20 % of the maximum, the paper's, are marked.
    """
    with style.context(STYLE):
        figure = Figure(figsize=(7.0, 5.4), dpi=110, layout="constrained")
        axes = figure.add_subplot()
        for name, colour, label in MAX_BOX_ACC_CURVES:
            curve = scores.curves[name]
            axes.plot(THRESHOLDS, curve, color=colour, label=label)
            marks = ((scores.thresholds[name], "*", "best, at"), (PAPER_THRESHOLD, "o", "fixed at"))
            for threshold, marker, what in marks:
                height = curve[np.abs(THRESHOLDS - threshold).argmin()]
                label = f"{height:.1f} %, {what} {threshold:.3g}"
                look = {"color": colour, "markeredgecolor": "black", "markersize": 8}
                axes.plot(threshold, height, marker, label=label, **look)
        for name, label, line in BASELINE_LINES:
            height = scores.metrics[name]
            label = f"{height:.1f} %, {label}"
            axes.axhline(height, color="black", linewidth=1, linestyle=line, label=label)
        axes.set(xlim=(0, 1), xlabel="threshold, of the normalised map’s maximum")
        axes.set(ylim=(0, 100), ylabel="MaxBoxAcc (%)")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.25)
        figure.legend(fontsize=7.5, loc="outside lower center", ncols=3)
        return save_figure(path, figure)


def draw_px_ap(path: Path, scores: Scores, title: str) -> Path:
    """A PNG of precision over recall, whose area is PxAP; the same bytes each time."""
    with style.context(STYLE):
        figure = Figure(figsize=(5.4, 4.6), dpi=110, layout="constrained")
        axes = figure.add_subplot()
        area = f"PxAP {scores.metrics['px_ap']:.1f} %"
        axes.plot(scores.curves["recall"], scores.curves["precision"], label=area)
        height = scores.metrics["baseline_whole_image"]
        label = f"{height:.1f} %, every pixel alike"
        axes.axhline(height, color="black", linewidth=1, linestyle="--", label=label)
        axes.set(xlim=(0, 100), xlabel="recall of the objects’ pixels (%)")
        axes.set(ylim=(0, 100), ylabel="precision (%)")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
        return save_figure(path, figure)


def draw_curves(config: Config) -> Path:
    """Draw the configured run, or every one of the data set, into `results/<data>/curves.png`.

    What no training has measured is left out: the top-5 error where no network has five classes,
    localization without boxes. Raises UserError where no epoch is over, or a line of metrics.jsonl
    cannot be read.
    """
    runs = Path(config.runs) / config.data.name
    found = sorted(path.parent for path in runs.glob("*/metrics.jsonl"))
    if config.name or config.model:
        found = [run_folder(config)]
    epochs = {folder.name: _epochs(folder / "metrics.jsonl") for folder in found}
    if not any(epochs.values()):
        raise UserError(f"no epoch of a training is over in {runs}; first: {train_command(config)}")
    path = Path(config.results) / config.data.name / "curves.png"
    panels = [panel for panel in TRAINING_CURVES if _is_measured(panel[1], epochs)]
    with style.context(STYLE):
        figure = Figure(figsize=(1 + 3 * len(panels), 3.6), dpi=150, layout="constrained")
        for axes, (heading, lines) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            for place, (name, of_run) in enumerate(epochs.items()):
                numbers = [epoch["epoch"] for epoch in of_run]
                for metric, line in lines.items():
                    # A value that was not measured is a gap
                    values = [
                        math.nan if epoch[metric] is None else epoch[metric] for epoch in of_run
                    ]
                    label = name if line == "-" else None
                    axes.plot(numbers, values, line, color=f"C{place}", label=label, marker=".")
            axes.set_title(heading, fontsize=9)
            axes.set(xlabel="epoch", ylim=(0, None))
            axes.grid(alpha=0.25)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=3)
        save_figure(path, figure)
    print(f"{', '.join(epochs)}: {path}")
    return path


def _is_measured(
    metrics: Iterable[str], epochs: Mapping[str, list[dict[str, float | None]]]
) -> bool:
    """Whether some epoch of some run has a value of one of the metrics."""
    values = []
    for of_run in epochs.values():
        for epoch in of_run:
            values += [epoch[metric] for metric in metrics]
    return any(value is not None for value in values)


def _epochs(path: Path) -> list[dict[str, float | None]]:
    """The epochs of a training; what was not measured is None."""
    keys = ["epoch"]
    for _, metrics in TRAINING_CURVES:
        keys += metrics
    if not path.exists():
        return []
    epochs = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            epoch = json.loads(line)
            # Trainings of before localization was looked at have no such metrics
            values = {key: epoch.get(key) for key in keys}
            epochs.append(values | {"epoch": epoch["epoch"], "train_loss": epoch["train_loss"]})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as a training's metrics ({error}); mend or remove it"
        ) from None
    return epochs


def save_figure(path: Path, figure: Figure) -> Path:
    """A PNG that does not name matplotlib's version: the same bytes each time."""
    with replacing(path) as temporary, warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        # Compressed a third as long as for the smallest file, which is a hundredth smaller.
        options = {"compress_level": 4}
        figure.savefig(temporary, format="png", metadata={"Software": None}, pil_kwargs=options)
    return path
