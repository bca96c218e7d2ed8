"""A trained network over a val split: for every method and protocol asked for, what was right and what was drawn.

`evaluations` opens the networks, `classification_jobs` and `localization_jobs` say what is to be measured of one, and
`evaluate` measures it. What the results are written to is the next room's.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from cam_repro import UserError
from cam_repro.config import Config, ProtocolConfig, check_choice, protocols_of
from cam_repro.data import Split, load_split
from cam_repro.data.views import VIEWS
from cam_repro.distributed import World, join_world
from cam_repro.evaluation.draw import DrawnImage, draw_boxes, rule_of
from cam_repro.evaluation.maps import KeptMaps, predict_split
from cam_repro.evaluation.predictions import guesses_of
from cam_repro.evaluation.trained import TrainedNetwork, load_trained, trained_runs
from cam_repro.localization.boxes import LOOSE, TIGHT
from cam_repro.localization.errors import FLOORS, ScoredImages, centred_boxes, read_blacklist, score_images
from cam_repro.localization.iou import best_iou
from cam_repro.localization.methods import METHODS, refusal
from cam_repro.localization.wsol import IOU_V1, IOUS_V2, accuracies, boxes_on_map
from cam_repro.provenance import code_of, device_name, versions

# The code from a picture to its maps: with a change in it kept maps are no longer those of the network.
CODE_OF_THE_MAPS = ("data", "networks", "distributed.py", "localization/methods.py", "localization/maps.py",
                    "evaluation/maps.py")  # fmt: skip
EXAMPLES = 12  # images, spread over the split, whose heatmaps are kept for a figure


@dataclass(frozen=True)
class Evaluation:
    """A trained network, and the split it is evaluated on."""

    config: Config
    trained: TrainedNetwork
    split: Split
    fingerprint: str  # of the split
    world: World
    blacklist: frozenset[int]


@dataclass(frozen=True)
class Job:
    """What is to be measured: errors under a protocol, by a method's maps; without a method classification alone."""

    protocol: ProtocolConfig
    method: str | None
    size: int  # pixels a side of what the network sees


@dataclass(frozen=True)
class Outcome:
    """What an evaluation found for a job, of N images.

    scored: the devkit's judgement, none of a sweep; sweep: `wsol.accuracies` and the floors, none of the others;
    labels (N,5) and boxes (N,5,4): the guesses; best_classes (N,); true_class_boxes (N,4) and heatmaps, {image:
    (H,W)} of some images: of the true class; seconds: of all jobs that shared forward passes with this one.
    """

    seconds: float
    best_classes: np.ndarray
    scored: ScoredImages | None = None
    sweep: dict[str, Any] | None = None
    labels: np.ndarray | None = None
    boxes: np.ndarray | None = None
    true_class_boxes: np.ndarray | None = None
    heatmaps: dict[int, np.ndarray] | None = None


def evaluations(config: Config) -> Iterator[Evaluation]:
    """The configured network, or every trained one, loaded and ready. Raises UserError before any long work."""
    for protocol in protocols_of(config.protocol):
        check_choice("protocol.view", protocol.view, VIEWS)
    if config.method is not None:
        check_choice("method", config.method, METHODS)
    blacklist = read_blacklist(config.blacklist)
    with join_world(config.device, config.deterministic) as world:
        split = load_split(config.data, "val", Path(config.cache), world)
        fingerprint = world.broadcast(split.fingerprint() if world.is_main else "")
        fit, names = 0, trained_runs(config)
        for name in names:
            try:
                trained = load_trained(config, name, (split.wnids, split.words), world.device)
                answered = split.answered_by(trained.wnids, trained.words)
            except UserError as error:
                if config.name or config.model:
                    raise
                world.say(f"{name} is passed over: {error}")
                continue
            fit += 1
            yield Evaluation(config, trained, answered, fingerprint, world, blacklist)
        if not fit:
            raise UserError(f"none of {', '.join(names)} can be evaluated on data={config.data.name}; see above")


def classification_jobs(evaluation: Evaluation) -> list[Job]:
    protocol = evaluation.config.protocol
    if protocol.name == "all":
        raise UserError("protocol=all is for localization; a classification has one view: name its protocol")
    return [Job(protocol, None, protocol.size or evaluation.trained.model.input_size)]


def localization_jobs(evaluation: Evaluation) -> list[Job]:
    """The configured method and protocol; with protocol=all every protocol and every method the network can serve.

    Of every trained network those that cannot serve the method are left out; one asked for by name is refused.
    """
    config, model, network = evaluation.config, evaluation.trained.model, evaluation.trained.network
    if not len(evaluation.split.boxes):
        raise UserError(f"data={config.data.name} has no boxes, so nothing can be localized; make eval-classification")
    methods = [config.method or "cam"]
    if config.method is None and config.protocol.name == "all":
        methods = [name for name, method in METHODS.items() if method.in_all and not refusal(name, network)]
    elif reason := refusal(methods[0], network):
        if config.model is not None:
            raise UserError(reason)
        if evaluation.world.is_main:
            print(f"{evaluation.trained.name} is left out: {reason}", flush=True)
        return []
    protocols = protocols_of(config.protocol)
    return [Job(protocol, name, protocol.size or model.input_size) for name in methods for protocol in protocols]


def evaluate(evaluation: Evaluation, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
    """Each job with its outcome; those that show the network the same pixels share its forward passes.

    All processes must call it; the leader alone is given the outcomes.
    """
    for shown, together in groupby(sorted(jobs, key=_shown), key=_shown):
        same_pixels, began = list(together), time.perf_counter()
        drawn = _draw(evaluation, same_pixels, *shown)
        if evaluation.world.is_main:
            for job in same_pixels:
                yield job, _outcome(evaluation, job, drawn, time.perf_counter() - began)


def _shown(job: Job) -> tuple[str, int]:
    """What the network is shown for a job: the kind of crops, and their size."""
    return "ten_crop" if VIEWS[job.protocol.view].crops > 1 else job.protocol.view, job.size


def _draw(evaluation: Evaluation, jobs: list[Job], view: str, size: int) -> list[DrawnImage]:
    """The boxes of all the jobs' rules on all their methods' maps; maps that were kept are read.

    One process sees every image and keeps the small maps; several, each with its share, keep nothing.
    """
    config, trained, split, world = evaluation.config, evaluation.trained, evaluation.split, evaluation.world
    methods = list(dict.fromkeys(job.method for job in jobs if job.method))
    protocols = [job.protocol for job in jobs if job.method]
    kept = _kept_maps(evaluation, view, size)
    on_disk = [method for method in methods if kept.holds(method) and not config.force and world.size == 1]
    others = [method for method in methods if method not in on_disk]
    passes = [kept.read(method) for method in on_disk]
    if others or not methods:
        batches = predict_split(
            trained.network, split, view, size, others, world,
            batch_size=config.eval_batch_size, workers=config.data.workers,
        )  # fmt: skip
        passes.append(kept.keep(batches, others) if world.size == 1 else batches)
    examples = np.linspace(0, len(split) - 1, min(EXAMPLES, len(split)), dtype=int).tolist()
    options = {"examples": examples, "title": f"{trained.name}: {view}"}
    drawn, *more = (draw_boxes(batches, protocols, size, split, world, **options) for batches in passes)
    for other in more:
        for image, again in zip(drawn, other, strict=True):
            image.add(again)
    return drawn


def _kept_maps(evaluation: Evaluation, view: str, size: int) -> KeptMaps:
    config, trained = evaluation.config, evaluation.trained
    identity = {
        "network": repr(trained.model), "weights": trained.weights.sha256, "data": evaluation.fingerprint,
        "view": view, "size": size, "batch": config.eval_batch_size, "deterministic": config.deterministic,
        "versions": versions(), "device": device_name(str(evaluation.world.device)), "code": code_of(CODE_OF_THE_MAPS),
    }  # fmt: skip
    return KeptMaps(Path(config.cache) / "maps", identity)


def _outcome(evaluation: Evaluation, job: Job, drawn: list[DrawnImage], seconds: float) -> Outcome:
    """What a job asks of all that was drawn."""
    classes, sizes = np.stack([image.classes for image in drawn]), np.stack([image.size for image in drawn])
    if job.method is None:
        return Outcome(seconds, classes[:, 0], _score(evaluation, classes, np.zeros((*classes.shape, 4))))
    key = job.method, rule_of(job.protocol)
    if job.protocol.boxes == "sweep":
        right = np.unpackbits([image.right_by_threshold[key] for image in drawn], axis=-1).astype(bool)
        return Outcome(seconds, classes[:, 0], sweep=accuracies(right) | sweep_floors(evaluation.split, sizes))
    labels, boxes = guesses_of(classes, np.stack([image.boxes[key] for image in drawn]), job.protocol.guesses)
    which = TIGHT if job.protocol.guesses == "tight" else LOOSE
    true_class_boxes = np.stack([image.true_class_box[key][which] for image in drawn])
    scored = _score(evaluation, labels, boxes, gt_known_boxes=true_class_boxes, sizes=sizes)
    heatmaps = {image.number: image.heatmaps[key] for image in drawn if key in image.heatmaps}
    return Outcome(seconds, classes[:, 0], scored, None, labels, boxes, true_class_boxes, heatmaps)


def _score(evaluation: Evaluation, labels: np.ndarray, boxes: np.ndarray, **options: Any) -> ScoredImages:
    """The devkit's judgement of guesses (N,K) with boxes (N,K,4)."""
    split = evaluation.split
    return score_images(
        labels, boxes, split.labels, [split.true_boxes(image) for image in range(len(split))],
        blacklist=evaluation.blacklist, image_numbers=split.devkit_numbers(), **options,
    )  # fmt: skip


def sweep_floors(split: Split, sizes: np.ndarray) -> dict[str, float]:
    """MaxBoxAcc of the two boxes that ignore the picture, on the same maps; in percent."""
    truth = [boxes_on_map(split.true_boxes(image), sizes[image]) for image in range(len(split))]
    floors = {}
    for name, side in FLOORS.items():
        boxes = map(boxes_on_map, centred_boxes(sizes, side), sizes)
        best = np.concatenate([best_iou(box, of_image) for box, of_image in zip(boxes, truth, strict=True)])
        for version, ious in (("", [IOU_V1]), ("_v2", IOUS_V2)):
            floors[f"floor_{name}{version}"] = 100.0 * float(np.mean([best >= iou for iou in ious]))
    return floors
