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

from cam_repro import UserError
from cam_repro.advice import typed
from cam_repro.config import LIBRARIES, names_in, written_recipe
from cam_repro.evaluation.record import record_files
from cam_repro.files import write_text
from cam_repro.provenance import unfinished
from cam_repro.reporting import paper
from cam_repro.reporting.layout import DASH, GENERATED, aligned, bullets, said_with_interval
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
    "Command: what trains the first of the runs, where it was trained here, and what measures it. "
    "`weights=…`: DEFAULT where there are published ones, else the file of the record's sha256; "
    "`data=…`: the layout of the images, with `data.root=`.",
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
    localizations = [run for run in localizations if _images_of(run) == usual]
    groups: dict[str, list[Result]] = {}
    for run in localizations:
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
    """What two results of one row have in common: the network, and all of the training but its
    seed.
    """
    training = run.provenance.get("training") or {"weights": run.provenance["weights"]}
    recipe = []
    for key in sorted(training.keys() - paper.NOT_OF_THE_RECIPE):
        if training[key] is not None:  # as settings are that older trainings did not have
            recipe.append((key, training[key]))
    network = [run.model, run.provenance.get("network"), run.input_size, run.interpolation]
    return str([*network, run.method, *recipe])


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
    """As published; or the recipe, its epochs, and how far it is, where the record says so."""
    training = run.provenance.get("training")
    if not training:
        return "as published"
    if "name" not in training:
        return "by an unknown recipe"
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
    return said_with_interval(runs[0], metric)


# The commands.


def _command(run: Result) -> str:
    model = _typed_model(run.model)
    data = _typed_data(run.data)
    name = [] if run.name == run.model else [typed("name", run.name)]
    training = run.provenance.get("training")
    method = [] if run.method == "cam" else [typed("method", run.method)]
    evaluate = ["make eval-localization", data, model, *name]
    if not training or "name" not in training:
        return " ".join([*evaluate, "weights=…", *method])
    train = ["make train", data, model, *name, typed("recipe", training["name"])]
    train += [typed(f"recipe.{key}", value) for key, value in _changes(training).items()]
    if training.get("seed"):
        train.append(typed("seed", training["seed"]))
    if training.get("weights"):
        train.append(_typed_weights(training["weights"]))
    return " && ".join([" ".join(train), " ".join([*evaluate, *method])])


def _typed_weights(weights: str) -> str:
    """A name as it was typed; of a file, whose path is of another machine, that it was one."""
    is_name = weights == "none" or weights.startswith(("DEFAULT", "IMAGENET"))
    return typed("weights", weights) if is_name else "weights=FILE"


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
    return f"data={data}" if data in names_in("data") else f"data=… {typed('data.name', data)}"


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
    """`results/leaderboard.md`, of every data set there that has boxes; None without any.

    A data set with an unfit record is passed over, and said.
    """
    lines = []
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        try:
            lines += _section(folder) if record_files(folder) else []
        except UserError as error:
            print(f"leaderboard: {folder} is passed over: {error}")
    if not lines:
        return None
    path = results / "leaderboard.md"
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
