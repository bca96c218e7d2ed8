"""The two evaluations: a trained network over a val split, scored, written and printed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from cam_repro import UserError
from cam_repro.config import Config, ProtocolConfig, protocols_of
from cam_repro.data import Split, load_split
from cam_repro.data.views import crops_in
from cam_repro.distributed import World, join_world
from cam_repro.evaluation.drawing import Drawings, draw, look_at_split, rule_of
from cam_repro.evaluation.kept_maps import MapCache
from cam_repro.evaluation.predictions import GUESSES, LOOSE, TIGHT, five_guesses, write_predictions
from cam_repro.evaluation.subjects import Subject, subject_of, trained_models
from cam_repro.localization.errors import centre_boxes, read_blacklist, score_images, whole_image_boxes
from cam_repro.localization.methods import COMPARED, refusal
from cam_repro.localization.wsol import accuracies, boxes_on_map, floor_accuracies
from cam_repro.networks import CamNetwork
from cam_repro.provenance import code_of
from cam_repro.reporting import results
from cam_repro.reporting.figures import example_images, write_curve, write_curve_csv, write_figure
from cam_repro.reporting.results import (
    CLASSIFICATION,
    LOCALIZATION,
    Measured,
    file_name,
    input_size,
    protocol_name,
    result_folder,
)

# The code from a picture to its maps: with a change in it kept maps are no longer those of the network.
MAKE_THE_MAPS = ("data", "networks", "distributed.py", "localization/methods.py", "localization/maps.py",
                 "localization/placement.py", "evaluation/drawing.py")  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """A network on a split, `origin` is `results.origin`'s."""

    config: Config
    subject: Subject
    split: Split
    world: World
    origin: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One result file to be made: a method's maps under a protocol."""

    method: str
    protocol: ProtocolConfig
    size: int
    path: Path
    head: dict[str, Any]

    @property
    def figure(self) -> Path:
        return self.path.with_suffix(".png")

    @property
    def curve(self) -> Path:
        return self.path.with_suffix(".csv")

    @property
    def predictions(self) -> Path:
        """predictions.txt is the paper's own way to a box; the others say what they are."""
        way = self.path.stem.removeprefix("localization-")
        return self.path.with_name("predictions.txt" if way == "cam-paper" else f"predictions-{way}.txt")

    @property
    def beside(self) -> list[Path]:
        """The files that it leaves beside its record."""
        return [self.curve if self.protocol.boxes == "sweep" else self.predictions, self.figure]


def evaluate_classification(config: Config) -> list[dict[str, Any]]:
    """Top-1 and top-5 classification error of the configured network, or of every trained one."""
    if config.protocol.name == "all":
        raise UserError("protocol=all is for localization; a classification has one view: name its protocol")
    return [_classify(evaluation) for evaluation in evaluations(config)]


def evaluate_localization(config: Config) -> list[dict[str, Any]]:
    """Top-1 and top-5 localization error likewise, with GT-known, both floors and predictions.txt.

    With protocol=all by every protocol and every method that the network can serve.
    """
    return [record for evaluation in evaluations(config) for record in localize(evaluation)]


def evaluations(config: Config) -> Iterator[Evaluation]:
    """The configured network, or every trained one, loaded and ready."""
    models = [config.model] if config.model else trained_models(config)
    with join_world(config.device, config.deterministic) as world:
        split = load_split(config.data, "val", Path(config.cache), world)
        for model in models:
            subject = subject_of(config, model, split.wnids, world)
            origin = results.origin(config, subject, split, str(world.device))
            yield Evaluation(config, subject, split, world, origin)


def _classify(evaluation: Evaluation) -> dict[str, Any]:
    config, subject = evaluation.config, evaluation.subject
    path = result_folder(config, subject.model.name) / file_name(None, protocol_name(config.protocol))
    head = results.heading(config, subject.model, config.protocol, None)
    if record := _done_before(evaluation, path, head):
        return record
    began, view, size = time.perf_counter(), config.protocol.view, input_size(config.protocol, subject.model)
    labels = _see(evaluation, view, size, [], [], f"{subject.model.name}, {view}").labels
    found = _devkit(evaluation, labels, np.zeros((*labels.shape, 4)), CLASSIFICATION)
    return _write(evaluation, path, head, found, time.perf_counter() - began)


def localize(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Every (method, protocol) asked for; those that share what the network is shown share its forward passes."""
    if not _can_be_localized(evaluation):
        return []
    jobs, records = _jobs(evaluation), []
    before = {job.path: _done_before(evaluation, job.path, job.head, job.beside) for job in jobs}
    to_do = [job for job in jobs if not before[job.path]]
    for shown, together in groupby(sorted(to_do, key=_shown), _shown):
        records += _run(evaluation, *shown, list(together))
    return [record for record in before.values() if record] + records


def _can_be_localized(evaluation: Evaluation) -> bool:
    """Of every trained network those that cannot serve the method are left out; one asked for by name is refused."""
    config, subject, classes = evaluation.config, evaluation.subject, len(evaluation.split.wnids)
    if classes < GUESSES:
        raise UserError(f"data={config.data.name} has {classes} classes; localization takes {GUESSES} guesses an image")
    reason = refusal(_methods(config, subject.network)[0], subject.network)
    if reason and config.model is None and evaluation.world.is_main:
        print(f"{subject.model.name} is left out: {reason}", flush=True)
    return not reason or config.model is not None


def _jobs(evaluation: Evaluation) -> list[Job]:
    config, model = evaluation.config, evaluation.subject.model
    folder, jobs = result_folder(config, model.name), []
    for method in _methods(config, evaluation.subject.network):
        for protocol in protocols_of(config.protocol):
            path = folder / file_name(method, protocol_name(protocol))
            head = results.heading(config, model, protocol, method)
            jobs.append(Job(method, protocol, input_size(protocol, model), path, head))
    return jobs


def _methods(config: Config, network: CamNetwork) -> list[str]:
    if config.method or config.protocol.name != "all":
        return [config.method or "cam"]
    return [method for method in COMPARED if not refusal(method, network)]


def _shown(job: Job) -> tuple[str, int]:
    """What the network is shown for a job: the kind of crops, and their size."""
    return "ten_crop" if crops_in(job.protocol.view) > 1 else job.protocol.view, job.size


def _done_before(
    evaluation: Evaluation, path: Path, head: dict[str, Any], beside: Sequence[Path] = ()
) -> dict[str, Any] | None:
    """The record of this evaluation if nothing has changed since, as the leading process finds it."""
    whole = all(file.is_file() for file in beside) and not evaluation.config.force
    record = evaluation.world.broadcast(results.unchanged(path, head, evaluation.origin) if whole else None)
    if record and evaluation.world.is_main:
        _print(record, f"{path} (nothing has changed since; force=true evaluates again)")
    return record


def _run(evaluation: Evaluation, view: str, size: int, jobs: list[Job]) -> list[dict[str, Any]]:
    began, model = time.perf_counter(), evaluation.subject.model
    methods = list(dict.fromkeys(job.method for job in jobs))
    rules: list[ProtocolConfig] = []
    for job in jobs:
        if rule_of(job.protocol) not in rules:
            rules.append(rule_of(job.protocol))
    drawings = _see(evaluation, view, size, methods, rules, f"{model.name}: {', '.join(methods)}; {view}")
    seconds = time.perf_counter() - began
    return [_report(evaluation, job, drawings, rules.index(rule_of(job.protocol)), seconds) for job in jobs]


def _see(
    evaluation: Evaluation, view: str, size: int, methods: Sequence[str], rules: list[ProtocolConfig], title: str
) -> Drawings:
    config, split, world = evaluation.config, evaluation.split, evaluation.world
    batches = look_at_split(
        evaluation.subject.network, split, view, size, methods, world,
        batch_size=config.eval_batch_size, workers=config.data.workers, cache=_map_cache(evaluation, view, size),
    )  # fmt: skip
    return draw(batches, rules, size, split, world, examples=example_images(len(split)), title=title)


def _map_cache(evaluation: Evaluation, view: str, size: int) -> MapCache | None:
    """One process sees every image; several, each with its share, keep nothing."""
    config = evaluation.config
    if evaluation.world.size > 1:
        return None
    decides = ("network", "weights", "data", "settings", "decoder", "versions", "device")
    identity = {key: evaluation.origin[key] for key in decides}
    identity |= {"view": view, "size": size, "code": code_of(MAKE_THE_MAPS)}
    return MapCache(Path(config.cache) / "maps", identity, fresh=config.force)


def _report(evaluation: Evaluation, job: Job, drawings: Drawings, rule: int, seconds: float) -> dict[str, Any]:
    if not evaluation.world.is_main:
        return {}
    drawn, examples = drawings.drawn[job.method, rule], drawings.examples[job.method, rule]
    if job.protocol.boxes == "sweep":
        found = _report_sweep(evaluation, job, drawings.sizes, drawn)
    else:
        found = _report_boxes(evaluation, job, drawings, drawn, examples)
    return _write(evaluation, job.path, job.head, found, seconds)


def _report_boxes(
    evaluation: Evaluation, job: Job, drawings: Drawings, boxes: np.ndarray, examples: dict[int, np.ndarray]
) -> Measured:
    labels, guesses = five_guesses(drawings.labels, boxes[:, :-1], job.protocol.guesses)
    true_class_boxes = boxes[:, -1, TIGHT if job.protocol.guesses == "tight" else LOOSE]
    write_predictions(job.predictions, labels, guesses)
    write_figure(job.figure, evaluation.split, drawings.labels[:, 0], examples, true_class_boxes)
    return _devkit(evaluation, labels, guesses, LOCALIZATION, gt_known_boxes=true_class_boxes, sizes=drawings.sizes)


def _devkit(
    evaluation: Evaluation, labels: np.ndarray, boxes: np.ndarray, names: tuple[str, ...], **options: Any
) -> Measured:
    config, split = evaluation.config, evaluation.split
    scored = score_images(
        labels, boxes, split.labels, [split.true_boxes(image) for image in range(len(split))],
        blacklist=read_blacklist(config.blacklist) if config.blacklist else (), image_numbers=split.devkit_numbers(),
        **options,
    )  # fmt: skip
    return results.measured(scored, names)


def _report_sweep(evaluation: Evaluation, job: Job, sizes: np.ndarray, right: np.ndarray) -> Measured:
    right = np.unpackbits(right, axis=-1).astype(bool)
    found, floors = accuracies(right), sweep_floors(evaluation.split, sizes)
    write_curve_csv(job.curve, found["thresholds"], found["curve_v1"], found["curve_v2"])
    write_curve(
        job.figure, found["thresholds"], found["curve_v1"], found["curve_v2"],
        best={key: found[f"threshold_{key}"] for key in ("v1", "v2")},
        floors={name: floors[name] for name in ("floor_whole_image", "floor_centre_box")},
        title=f"{evaluation.subject.model.name}, {job.method}, {evaluation.config.data.name}, {len(right):,} images",
    )  # fmt: skip
    return results.measured_sweep(found, floors, len(right))


def sweep_floors(split: Split, sizes: np.ndarray) -> dict[str, float]:
    """MaxBoxAcc of the two boxes that ignore the picture, on the same maps; in percent."""
    truth = [boxes_on_map(split.true_boxes(image), sizes[image]) for image in range(len(split))]
    floors = {}
    for name, boxes in (("whole_image", whole_image_boxes(sizes)), ("centre_box", centre_boxes(sizes))):
        on_map = np.concatenate([boxes_on_map(box, size) for box, size in zip(boxes, sizes, strict=True)])
        floors[f"floor_{name}"], floors[f"floor_{name}_v2"] = floor_accuracies(on_map, truth)
    return floors


def _write(evaluation: Evaluation, path: Path, head: dict[str, Any], found: Measured, seconds: float) -> dict[str, Any]:
    if not evaluation.world.is_main:
        return {}
    record = results.write_result(path, head, evaluation.origin, found, seconds)
    _print(record, str(path))
    return record


def _print(record: dict[str, Any], where: str) -> None:
    size, way = record["input_size"], f"{record['method']}, protocol {record['protocol']['name']}"
    print(f"{record['model']} on {record['data']}, {record['images']} images at {size} px, {way}:")
    for metric, value in record["metrics"].items():
        low, high = record["confidence"].get(metric, (None, None))
        interval = "" if low is None else f"   95 % interval {low:.2f} … {high:.2f}"
        print(f"  {metric:20} {value:6.2f} %{interval}" if value is not None else f"  {metric:20} undefined")
    for key, threshold in record.get("thresholds", {}).items():
        print(f"  best threshold of {key.upper()} for the whole data set: {threshold}")
    print(f"  {where}", flush=True)
