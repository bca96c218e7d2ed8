"""Trainings as curves, from their metrics.jsonl: loss, and errors on the training and the val
images.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from matplotlib import style
from matplotlib.figure import Figure

from cam_repro import UserError
from cam_repro.advice import train_command
from cam_repro.config import Config, run_folder
from cam_repro.reporting.figures import save_figure

CURVES = (  # heading, and the metrics that are drawn, each with its line
    ("training loss", {"train_loss": "-"}),
    (
        "top-1 error (%): val solid, training dotted",
        {"val_top1_error": "-", "train_top1_error": ":"},
    ),
    ("top-5 error (%), val", {"val_top5_error": "-"}),
)


def draw_curves(config: Config) -> Path:
    """Draw the configured run, or every one of the data set, into `results/<data>/curves.png`;
    returns its path.

    The top-5 error is left out where no network has five classes. Raises UserError where no epoch
    is over, or a line of metrics.jsonl cannot be read.
    """
    runs = Path(config.runs) / config.data.name
    found = sorted(path.parent for path in runs.glob("*/metrics.jsonl"))
    if config.name or config.model:
        found = [run_folder(config)]
    epochs = {folder.name: _epochs(folder / "metrics.jsonl") for folder in found}
    if not any(epochs.values()):
        raise UserError(f"no epoch of a training is over in {runs}; first: {train_command(config)}")
    path = Path(config.results) / config.data.name / "curves.png"
    panels = [(heading, lines) for heading, lines in CURVES if _measured(lines, epochs)]
    with style.context("default"):
        figure = Figure(figsize=(1 + 3 * len(panels), 3.6), dpi=150, layout="constrained")
        for axes, (heading, lines) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            for place, (name, of_run) in enumerate(epochs.items()):
                numbers = [epoch["epoch"] for epoch in of_run]
                for metric, line in lines.items():
                    values = [epoch[metric] for epoch in of_run]
                    label = name if line == "-" else None
                    axes.plot(numbers, values, line, color=f"C{place}", label=label, marker=".")
            axes.set_title(heading, fontsize=9)
            axes.set(xlabel="epoch", ylim=(0, None))
            axes.grid(alpha=0.25)
        figure.legend(
            *axes.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3
        )
        save_figure(path, figure)
    print(f"{', '.join(epochs)}: {path}")
    return path


def _measured(metrics: Iterable[str], epochs: Mapping[str, list[dict[str, float | None]]]) -> bool:
    """Whether some epoch of some run has a value of one of the metrics."""
    of_all = [epoch for of_run in epochs.values() for epoch in of_run]
    return any(epoch[metric] is not None for epoch in of_all for metric in metrics)


def _epochs(path: Path) -> list[dict[str, float | None]]:
    """The epochs of a training; the top-5 error of fewer than five classes is None."""
    keys = ["epoch", *(metric for _, metrics in CURVES for metric in metrics)]
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [{key: epoch[key] for key in keys} for epoch in map(json.loads, lines)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as a training's metrics ({error}); mend or remove it"
        ) from None
