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
from cam_repro.data.images import decoder
from cam_repro.data.views import VIEWS
from cam_repro.distributed import World, join_world
from cam_repro.evaluation.draw import DrawnBoxes, draw_boxes, rule_of
from cam_repro.evaluation.maps import KeptMaps, predict_split
from cam_repro.evaluation.predictions import guesses_of
from cam_repro.evaluation.trained import TrainedNetwork, load_trained, trained_runs
from cam_repro.localization.boxes import LOOSE, TIGHT
from cam_repro.localization.errors import (
    ScoredImages,
    centre_boxes,
    read_blacklist,
    score_images,
    whole_image_boxes,
)
from cam_repro.localization.methods import METHODS, refusal
from cam_repro.localization.wsol import accuracies, boxes_on_map, floor_accuracies
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
    blacklist = read_blacklist(config.blacklist) if config.blacklist else frozenset()
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


def _draw(evaluation: Evaluation, jobs: list[Job], view: str, size: int) -> DrawnBoxes:
    """The boxes of all the jobs' rules on all their methods' maps; maps that were kept are read.

    One process sees every image and keeps the small maps; several, each with its share, keep nothing.
    """
    config, trained, split, world = evaluation.config, evaluation.trained, evaluation.split, evaluation.world
    methods = list(dict.fromkeys(job.method for job in jobs if job.method))
    protocols = [job.protocol for job in jobs if job.method]
    kept = _kept_maps(evaluation, view, size)
    on_disk = [method for method in methods if kept.holds(method) and not config.force and world.size == 1]
    others = [method for method in methods if method not in on_disk]
    passes = [kept.read(on_disk)] if on_disk else []
    if others or not methods:
        batches = predict_split(
            trained.network, split, view, size, others, world,
            batch_size=config.eval_batch_size, workers=config.data.workers,
        )  # fmt: skip
        passes.append(kept.keep(batches, others) if world.size == 1 else batches)
    examples = np.linspace(0, len(split) - 1, min(EXAMPLES, len(split)), dtype=int).tolist()
    options = {"examples": examples, "title": f"{trained.name}: {view}"}
    drawn = [draw_boxes(batches, protocols, size, split, world, **options) for batches in passes]
    for other in drawn[1:]:
        drawn[0].add(other)
    return drawn[0]


def _kept_maps(evaluation: Evaluation, view: str, size: int) -> KeptMaps:
    config, trained = evaluation.config, evaluation.trained
    identity = {
        "network": repr(trained.model), "weights": trained.weights.sha256, "data": evaluation.fingerprint,
        "view": view, "size": size, "batch": config.eval_batch_size, "deterministic": config.deterministic,
        "decoder": decoder(), "versions": versions(), "device": device_name(str(evaluation.world.device)),
        "code": code_of(CODE_OF_THE_MAPS),
    }  # fmt: skip
    return KeptMaps(Path(config.cache) / "maps", identity)


def maps_of_images(evaluation: Evaluation, images: list[int], method: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """What a network says of `images` (n) seen whole: classes (n,G), the best first, and maps (n,G+1,h,w) before
    upsampling, of these classes and of the true one; kept maps where there are any, else the network's own."""
    config, trained, split = evaluation.config, evaluation.trained, evaluation.split
    kept, numbers = _kept_maps(evaluation, "squash", size), images
    if kept.holds(method):
        batches = kept.read([method])
    else:
        numbers = list(range(len(images)))
        batches = predict_split(
            trained.network, split.subset(images), "squash", size, [method], evaluation.world,
            batch_size=config.eval_batch_size, workers=config.data.workers,
        )  # fmt: skip
    found, wanted = {}, {*numbers}
    for batch in batches:
        maps = np.concatenate([batch.maps[method][:, 0], batch.true_class_maps[method]], axis=1)
        rows = zip(batch.images.tolist(), batch.classes, maps, strict=True)
        found |= {number: (of_image, maps_of_image) for number, of_image, maps_of_image in rows if number in wanted}
    classes, maps = zip(*(found[number] for number in numbers), strict=True)
    return np.stack(classes), np.stack(maps)


def _outcome(evaluation: Evaluation, job: Job, drawn: DrawnBoxes, seconds: float) -> Outcome:
    """What a job asks of all that was drawn."""
    split, best = evaluation.split, drawn.classes[:, 0]
    if job.method is None:
        nowhere = np.zeros((*drawn.classes.shape, 4))
        return Outcome(seconds, best, _score(evaluation, drawn.classes, nowhere))
    key = job.method, rule_of(job.protocol)
    if job.protocol.boxes == "sweep":
        right = np.unpackbits(drawn.right_by_threshold[key], axis=-1).astype(bool)
        return Outcome(seconds, best, sweep=accuracies(right) | sweep_floors(split, drawn.sizes))
    labels, boxes = guesses_of(drawn.classes, drawn.boxes[key], job.protocol.guesses)
    true_class_boxes = drawn.true_class_boxes[key][:, TIGHT if job.protocol.guesses == "tight" else LOOSE]
    scored = _score(evaluation, labels, boxes, gt_known_boxes=true_class_boxes, sizes=drawn.sizes)
    return Outcome(seconds, best, scored, None, labels, boxes, true_class_boxes, drawn.heatmaps[key])


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
    for name, boxes in (("whole_image", whole_image_boxes(sizes)), ("centre_box", centre_boxes(sizes))):
        on_map = np.concatenate([boxes_on_map(box, size) for box, size in zip(boxes, sizes, strict=True)])
        floors[f"floor_{name}"], floors[f"floor_{name}_v2"] = floor_accuracies(on_map, truth)
    return floors
