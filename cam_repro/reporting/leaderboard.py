"""The leaderboard: every network and method of every data set, by the paper's boxes.

A data set has a table of its own, since numbers of different images cannot be compared. Runs of one
recipe that differ in nothing but their seed share a row. The two boxes that ignore the picture
stand among the others, where they belong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from cam_repro.advice import typed
from cam_repro.config import LIBRARIES, REPOSITORY, names_in, written_recipe
from cam_repro.evaluation.record import record_files
from cam_repro.files import write_text
from cam_repro.provenance import unfinished
from cam_repro.reporting import paper
from cam_repro.reporting.layout import DASH, GENERATED, aligned, bullets
from cam_repro.reporting.results import Result, read_results

PROTOCOL = "paper"
BASELINES = {"centred box": "baseline_centre_box", "whole image": "baseline_whole_image"}
METRICS = {
    "GT-known ↑": "gt_known_loc",
    "loc top-1 ↓": "loc_top1_error",
    "loc top-5 ↓": "loc_top5_error",
    "cls top-1 ↓": "cls_top1_error",
}
NOTES = (
    "Protocol `paper`: the whole image squashed to the network's input, one box round the largest "
    "region above 20 % of the map's maximum. Sorted by GT-known, the share of images whose true "
    "class's box has IoU ≥ 0.5.",
    "±: half the 95 % bootstrap interval over images. Of several runs, which differ in their seed "
    "alone: the mean, and in brackets the smallest and the largest.",
    "Centred box (0.75 of each side) and whole image ask no network. Bold: not above the centred "
    "box.",
    "Command: what trains the first of the runs, where it was trained here, and what measures it; "
    "`data.root=` is where the images lie.",
)


@dataclass(frozen=True)
class Standing:
    """A row: runs that differ in their seed alone; a baseline has none."""

    network: str
    training: str
    method: str
    runs: list[Result]
    gt_known: float
    cells: list[str]  # under METRICS
    is_below_centre: bool
    command: str


def leaderboard(runs: Sequence[Result]) -> list[Standing]:
    """The rows of one data set's results, the highest GT-known first; none without boxes.

    Of results on different images those count that most share.
    """
    localizations = []
    for run in runs:
        if run.kind == "localization" and run.protocol["name"] == PROTOCOL:
            localizations.append(run)
    if not localizations:
        return []
    usual, _ = Counter(map(_images_of, localizations)).most_common(1)[0]
    groups: dict[str, list[Result]] = {}
    for run in localizations:
        if _images_of(run) == usual:
            groups.setdefault(_told_apart(run), []).append(run)
    centre = localizations[0].metrics["baseline_centre_box"]
    filters = {run.model: set() for run in localizations}
    for run in localizations:
        filters[run.model].add(run.interpolation)
    standings = []
    for group in groups.values():
        network = paper.row_title(group[0].model)
        if len(filters[group[0].model]) > 1:
            network += f" ({group[0].interpolation})"
        standings.append(_standing(network, group, centre))
    for name, metric in BASELINES.items():
        value = localizations[0].metrics[metric]
        cells = [f"{value:.1f}", *[DASH] * (len(METRICS) - 1)]
        standings.append(Standing(name, DASH, DASH, [], value, cells, False, DASH))
    return sorted(standings, key=lambda row: -row.gt_known)


def _images_of(run: Result) -> tuple[Any, ...]:
    """What two results of the same images have in common."""
    baselines = [run.metrics[metric] for metric in BASELINES.values()]
    return run.images, run.loc_images, *baselines


def _told_apart(run: Result) -> str:
    """What two results of one row have in common: everything of the training but its seed."""
    training = dict(run.provenance.get("training") or {"weights": run.provenance["weights"]})
    for key in paper.NOT_OF_THE_RECIPE:
        training.pop(key, None)
    seen = [run.input_size, run.interpolation]
    return str([run.model, run.method, *seen, *sorted(training.items())])


def _standing(network: str, runs: Sequence[Result], centre: float) -> Standing:
    runs = sorted(runs, key=lambda run: (_seed(run), run.name))
    first = runs[0]
    gt_known = mean(run.metrics["gt_known_loc"] for run in runs)
    return Standing(
        network=network,
        training=_training(first),
        method=first.method,
        runs=list(runs),
        gt_known=gt_known,
        cells=[_said(runs, metric) for metric in METRICS.values()],
        is_below_centre=gt_known <= centre,
        command=_command(first),
    )


def _seed(run: Result) -> int:
    return (run.provenance.get("training") or {}).get("seed", 0)


def _training(run: Result) -> str:
    """As published; or the recipe, its epochs, and how far it is."""
    training = run.provenance.get("training")
    if not training:
        return "as published"
    said = [training["name"], f"{training['epochs']} epochs"]
    if "new_lr" in _changes(training):
        said.append(f"new layers {training['new_lr']:g} × as fast")
    if so_far := unfinished(training):
        said.append(f"unfinished: {so_far}")
    return ", ".join(said)


def _said(runs: Sequence[Result], metric: str) -> str:
    values = [run.metrics.get(metric) for run in runs]
    if None in values:
        return DASH
    if len(values) > 1:
        return f"{mean(values):.1f} ({min(values):.1f} … {max(values):.1f})"
    low, high = runs[0].interval(metric)
    return f"{values[0]:.1f}" if low is None else f"{values[0]:.1f} ± {(high - low) / 2:.1f}"


# The commands.


def _command(run: Result) -> str:
    model = _typed_model(run.model)
    data = _typed_data(run.data)
    name = [] if run.name == run.model else [typed("name", run.name)]
    training = run.provenance.get("training")
    method = [] if run.method == "cam" else [typed("method", run.method)]
    evaluate = ["make eval-localization", data, model, *name, *method]
    if not training:
        return " ".join([*evaluate[:3], "weights=DEFAULT", *evaluate[3:]])
    train = ["make train", data, model, *name, typed("recipe", training["name"])]
    train += [typed(f"recipe.{key}", value) for key, value in _changes(training).items()]
    if training.get("seed"):
        train.append(typed("seed", training["seed"]))
    if training.get("weights"):
        train.append("weights=FILE")
    return " && ".join([" ".join(train), " ".join(evaluate)])


def _changes(training: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in which a training differs from its recipe as it is written today."""
    if training["name"] not in names_in("recipe"):
        return {}
    changes = {}
    for key, value in asdict(written_recipe(training["name"])).items():
        if key in training and training[key] != value:
            changes[key] = training[key]
    return changes


def _typed_model(model: str) -> str:
    library, _, name = model.partition("-")
    return f"model={library}/{name}" if library in LIBRARIES else f"model={model}"


def _typed_data(data: str) -> str:
    if data in names_in("data"):
        return f"data={data}"
    return f"data=ilsvrc {typed('data.name', data)} data.root=…"


# The tables as a file and on the page.


def cells_of_leaderboard(standings: Sequence[Standing]) -> list[list[str]]:
    """Heading and rows, each with the number of its command; a baseline has none."""
    cells = [["network", "training", "method", "runs", *METRICS, "command"]]
    numbers = _numbers(standings)
    for row in standings:
        known, *others = row.cells
        known = f"**{known}**" if row.is_below_centre else known
        runs, number = DASH, DASH
        if row.runs:
            runs = str(len(row.runs))
            number = str(numbers[row.command])
        cells.append([row.network, row.training, row.method, runs, known, *others, number])
    return cells


def commands_of(standings: Sequence[Standing]) -> list[str]:
    """A command of each row that was measured, in the order of their numbers."""
    return list(_numbers(standings))


def _numbers(standings: Sequence[Standing]) -> dict[str, int]:
    commands = dict.fromkeys(row.command for row in standings if row.runs)
    return {command: number for number, command in enumerate(commands, 1)}


def write_leaderboard(results: Path) -> Path | None:
    """`docs/leaderboard.md`, of every data set in `results/` that has boxes; None without any.

    Of results elsewhere it is written into their own folder.
    """
    lines = []
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        if record_files(folder):
            lines += _section(folder)
    if not lines:
        return None
    own = results.resolve() == (REPOSITORY / "results").resolve()
    path = (REPOSITORY / "docs" if own else results) / "leaderboard.md"
    notes = bullets([*NOTES, GENERATED])
    return write_text(path, "\n".join(["# Leaderboard", "", *notes, "", *lines]))


def _section(folder: Path) -> list[str]:
    """The table and the commands of one data set."""
    runs = read_results(folder)
    standings = leaderboard(runs)
    if not standings:
        return []
    measured = next(row.runs[0] for row in standings if row.runs)
    title = f"## {measured.data} {measured.split}, {measured.loc_images:,} images with boxes"
    commands = [f"{n}. `{line}`" for n, line in enumerate(commands_of(standings), 1)]
    return [title, "", *aligned(cells_of_leaderboard(standings)), "", *commands, ""]
