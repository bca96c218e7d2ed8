"""The trained networks that leave the house: weights as safetensors, each with a model card.

The card says what the network is, how it was trained, on which images, what it reached by every
protocol, and what may be done with it. It reads records and measures nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cam_repro import UserError
from cam_repro.advice import train_command
from cam_repro.config import Config, ModelConfig, typed_model
from cam_repro.files import read_bytes, write_text
from cam_repro.networks import read_weights
from cam_repro.networks.export import publish
from cam_repro.networks.weights import Weights
from cam_repro.provenance import unfinished
from cam_repro.reporting import paper
from cam_repro.reporting.layout import DASH, aligned, said_with_interval
from cam_repro.reporting.results import Result, read_results
from cam_repro.training.checkpoint import CHECKPOINT

LARGEST = 30e6  # bytes of a file
METRICS = {  # in the order of the card's table
    "cls_top1_error": "top-1 classification error ↓",
    "cls_top5_error": "top-5 classification error ↓",
    "loc_top1_error": "top-1 localization error ↓",
    "loc_top5_error": "top-5 localization error ↓",
    "gt_known_loc": "GT-known ↑",
    "max_box_acc_v1": "MaxBoxAcc V1 ↑",
    "max_box_acc_v2": "MaxBoxAcc V2 ↑",
    "pointing_game": "pointing game ↑",
}
LICENCE = (
    "The code that trained it is under the MIT licence. Weights carry what their images allow: of "
    "ILSVRC and of what is drawn from it (Imagenette, Tiny-ImageNet) the terms of access are "
    "non-commercial research and education; for other images, see their own terms."
)


class Trained(NamedTuple):
    """A finished training whose very weights were evaluated; best: its record by the paper."""

    checkpoint: Path
    best: Result
    results: list[Result]  # every record of the weights, `best` among them

    @property
    def gt_known(self) -> float:
        return self.best.metrics["gt_known_loc"]


def make_release(config: Config) -> list[Path]:
    """Write the `best` networks of a data set into `release/`; returns the files, cards included.

    Of the runs of one network the one with the highest GT-known by the paper's protocol counts, and
    so do networks among each other. What is left out is printed with its reason. Raises UserError
    where nothing is left.
    """
    found = _evaluated_trainings(config)
    best_of: dict[str, Trained] = {}
    for trained in sorted(found, key=lambda one: one.gt_known):
        best_of[trained.best.model] = trained
    written = []
    networks = 0
    for trained in sorted(best_of.values(), key=lambda one: -one.gt_known):
        if networks == config.best:
            break
        weights = read_weights(trained.checkpoint, "")
        size = sum(tensor.nbytes for tensor in weights.tensors.values())
        if size > LARGEST:
            limit = f"more than {LARGEST / 1e6:.0f}"
            print(f"{trained.best.name} is left out: {size / 1e6:.0f} MB are {limit}")
            continue
        written += _written(trained, weights, config)
        networks += 1
    if not written:
        raise UserError(
            f"no network of {config.data.name} can be released: none with a finished training in "
            f"{config.runs} and its evaluation in {config.results} has at most "
            f"{LARGEST / 1e6:.0f} MB"
        )
    return written


def _evaluated_trainings(config: Config) -> list[Trained]:
    """Every finished training of the data set, with the records of its weights."""
    runs = Path(config.runs) / config.data.name
    results = read_results(Path(config.results) / config.data.name, config.data.split)
    found = []
    for checkpoint in sorted(runs.glob(f"*/{CHECKPOINT}")):
        sha256 = hashlib.sha256(read_bytes(checkpoint)).hexdigest()
        of_weights = [run for run in results if run.provenance["weights"] == sha256]
        by_paper = [run for run in of_weights if _is_of_paper(run)]
        so_far = unfinished(of_weights[0].provenance.get("training")) if of_weights else ""
        if by_paper and not so_far:
            found.append(Trained(checkpoint, by_paper[0], of_weights))
        else:
            name = checkpoint.parent.name
            why = so_far or "its weights were not evaluated by protocol=paper"
            print(f"{name} is left out: {why}")
    if not found:
        raise UserError(
            f"nothing to release of {config.data.name}: no evaluated training in {runs}; first: "
            f"{train_command(config)}, then make eval-localization with the same"
        )
    return found


def _is_of_paper(run: Result) -> bool:
    by_cam = run.kind == "localization" and run.method == "cam"
    return by_cam and run.protocol["name"] == "paper"


def _written(trained: Trained, weights: Weights, config: Config) -> list[Path]:
    """The weights and the card of one network."""
    data = config.data.name
    path = Path(config.release) / f"{trained.best.model}-{data}.safetensors"
    sha256 = publish(weights, path, data)
    card = write_text(path.with_suffix(".md"), model_card(path, sha256, weights, trained.results))
    print(f"{path.stat().st_size / 1e6:.1f} MB  {sha256}  {path}")
    return [path, card]


def model_card(path: Path, sha256: str, weights: Weights, results: Sequence[Result]) -> str:
    """What a stranger has to know of a file; results: every record of its weights."""
    model = weights.model
    first = next(run for run in results if _is_of_paper(run))
    title = f"{paper.row_title(model.name)}, {first.data}"
    pooling = "max" if model.pool == "max" else "average"
    surgery = f"`{model.backbone}` as it is (docs/networks.md)."
    if not model.native:
        surgery = (
            f"`{model.backbone}`, cut and given a 3×3 convolution of {model.units} units, global "
            f"{pooling} pooling and a linear classifier (Zhou et al. 2016, §3; docs/networks.md)."
        )
    megabytes = path.stat().st_size / 1e6
    size = f"images of {model.input_size} pixels, {megabytes:.1f} MB, sha256 `{sha256}`"
    lines = [f"# {title}", "", f"{surgery} {len(weights.wnids)} classes, {size}.", ""]
    lines += ["## Use", "", *_use(path, model), ""]
    lines += ["## Training", "", *_training(weights), ""]
    lines += ["## Numbers", "", *aligned(_numbers(results)), "", _about_numbers(first), ""]
    return "\n".join([*lines, "## Licence", "", LICENCE, ""])


def _use(path: Path, model: ModelConfig) -> list[str]:
    """The command, and the lines of Python, that use a file."""
    return [
        "```",
        f"make cam image=photo.jpg {typed_model(model)} weights={path.name}",
        "```",
        "",
        "```python",
        "import torch",
        "# FOLDER: a clone of cam_repro",
        f'network = torch.hub.load(FOLDER, "{model.name}", weights="{path.name}", source="local")',
        "logits, maps = network.forward_with_maps(images)  # (N,3,H,W), normalised",
        "```",
        "",
        "The classes, the normalisation and the filter that shrank the images are in the file's "
        "metadata (docs/networks.md).",
    ]


def _about_numbers(first: Result) -> str:
    """Of which images they are, what both baselines have there, and how the run was chosen."""
    images = f"{first.images:,} {first.split} images of {first.data}"
    centre = first.metrics["baseline_centre_box"]
    whole = first.metrics["baseline_whole_image"]
    return (
        f"In percent, on {images}, with half the 95 % bootstrap interval. GT-known of a centred "
        f"box: {centre:.1f}, of the whole image: {whole:.1f}. Where several runs of this network "
        "were trained, this is the best of them by GT-known, so its numbers are a little too good."
    )


def _training(weights: Weights) -> list[str]:
    """The recipe, a setting a line, and what it began with."""
    training: dict[str, Any] = dict(weights.training or {})
    began = "random weights"
    if weights.starting_weights:
        # Its file alone: a path is of this machine
        file = weights.starting_weights["source"].rpartition("/")[2]
        began = f"{file}, sha256 {weights.starting_weights['sha256']}"
    lines = [f"Began with {began}."]
    commit = training.pop("commit", None)
    if commit:
        lines[0] += f" Commit `{commit}`."
    training.pop("weights", None)
    settings = [f"{key} {value}" for key, value in training.items() if value is not None]
    return [*lines, "", f"Recipe: {', '.join(settings)}."]


def _numbers(results: Sequence[Result]) -> list[list[str]]:
    """Heading and a row of each metric, a column of each method and protocol."""
    columns = {}
    for run in results:
        if run.kind != "classification" and METRICS.keys() & run.metrics.keys():
            columns[f"{run.method}, {run.protocol['name']}"] = run
    cells = [["metric", *columns]]
    for metric, heading in METRICS.items():
        row = [said_with_interval(run, metric) for run in columns.values()]
        if set(row) != {DASH}:
            cells.append([heading, *row])
    return cells
