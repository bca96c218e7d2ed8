"""Trainings as curves, from their metrics.jsonl: loss, and errors on the training and the val pictures."""

import json
from pathlib import Path

from matplotlib import style
from matplotlib.figure import Figure

from cam_repro import UserError
from cam_repro.advice import train_command
from cam_repro.config import Config, run_folder
from cam_repro.reporting.figures import save_figure

CURVES = (  # heading, and the metrics that are drawn, each with its line
    ("training loss", {"train_loss": "-"}),
    ("top-1 error (%): val solid, training dotted", {"val_top1_error": "-", "train_top1_error": ":"}),
    ("top-5 error (%), val", {"val_top5_error": "-"}),
)


def draw_curves(config: Config) -> Path:
    """Draw the configured run, or every one of the data set, into `results/<data>/curves.png`; returns its path.

    Raises UserError where no epoch is over, or a line of metrics.jsonl cannot be read.
    """
    runs = Path(config.runs) / config.data.name
    found = sorted(path.parent for path in runs.glob("*/metrics.jsonl"))
    if config.name or config.model:
        found = [run_folder(config)]
    epochs = {folder.name: _epochs(folder / "metrics.jsonl") for folder in found}
    if not any(epochs.values()):
        raise UserError(f"no epoch of a training is over in {runs}; first: {train_command(config)}")
    path = Path(config.results) / config.data.name / "curves.png"
    with style.context("default"):
        figure = Figure(figsize=(10, 3.6), dpi=150, layout="constrained")
        for axes, (heading, lines) in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
            for place, (name, of_run) in enumerate(epochs.items()):
                for metric, line in lines.items():
                    numbers, values = ([epoch[key] for epoch in of_run] for key in ("epoch", metric))
                    label = name if line == "-" else None
                    axes.plot(numbers, values, line, color=f"C{place}", label=label, marker=".")
            axes.set_title(heading, fontsize=9)
            axes.set(xlabel="epoch", ylim=(0, None))
            axes.grid(alpha=0.25)
        figure.legend(*axes.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3)
        save_figure(path, figure)
    print(f"{', '.join(epochs)}: {path}")
    return path


def _epochs(path: Path) -> list[dict[str, float]]:
    keys = ["epoch", *(metric for _, metrics in CURVES for metric in metrics)]
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [{key: epoch[key] for key in keys} for epoch in map(json.loads, lines)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read as a training's metrics ({error}); mend or remove it") from None
