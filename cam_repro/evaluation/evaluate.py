"""A trained network over a split: maps → rows of each metric → numbers → a record."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cam_repro.evaluation.cache import EvaluationCache
from cam_repro.evaluation.maps import MapBatch, images_a_batch, predict_split
from cam_repro.evaluation.metrics import Scores
from cam_repro.evaluation.record import refuse_other_data, write_record
from cam_repro.evaluation.rows import MethodAndMetric, RowPool, in_order
from cam_repro.evaluation.spec import Evaluation, EvaluationSpec, Seen
from cam_repro.localization.methods import unsupported_reason
from cam_repro.provenance import device_name, versions

EXAMPLES = 12  # images, spread over the split, whose maps are kept for a figure


@dataclass(frozen=True)
class Result:
    """What an evaluation found for a spec.

    classes (N,5): the network's best ones; example_maps: {image: (V,h,w)}, the true class's maps of
    a few images, for a figure; seconds: of all specs that shared forward passes with this one;
    record: what was written of it.
    """

    spec: EvaluationSpec
    scores: Scores
    classes: np.ndarray
    example_maps: dict[int, np.ndarray]
    seconds: float
    record: dict[str, Any]


def evaluate(evaluation: Evaluation, specs: Sequence[EvaluationSpec]) -> list[Result]:
    """Measure each spec and write its record; those that see the same pixels share forward passes.

    What is computed is cached batch by batch: a start after a kill resumes there, with the same
    numbers. All processes must call it; the leader alone is given the results.
    """
    split = evaluation.split
    world = evaluation.world
    if specs:
        refuse_other_data(evaluation)
    example_images = np.linspace(0, len(split) - 1, min(EXAMPLES, len(split)), dtype=int)
    results: list[Result] = []
    for seen in dict.fromkeys(spec.seen for spec in specs):
        began = time.perf_counter()
        together = [spec for spec in specs if spec.seen == seen]
        wanted = _wanted(together)
        cache = _cache(evaluation, seen, wanted)
        bar = _progress_bar(evaluation, seen, wanted)
        examples: list[tuple[str, int, np.ndarray]] = []

        with cache, bar, RowPool(split, wanted, cache.add_rows, bar) as pool:
            for rows in cache.cached_rows():
                pool.take(rows)
            for batch in _maps(evaluation, seen, cache):
                examples += _examples_in(batch, example_images)
                pool.submit(batch)
            pool.finish()

        row_batches = world.gather(pool.rows)
        examples = world.gather(examples)
        if not world.is_main:
            continue
        for spec in together:
            rows = in_order(row_batches, spec.method_and_metric, len(split))
            scores = spec.metric.compute(rows, split, evaluation.blacklist)
            seconds = time.perf_counter() - began
            record = write_record(evaluation, spec, scores, seconds)
            of_method = {image: maps for method, image, maps in examples if method == spec.method}
            results.append(Result(spec, scores, rows["classes"], of_method, seconds, record))
    return results


def _wanted(specs: Sequence[EvaluationSpec]) -> list[MethodAndMetric]:
    """The metrics asked of each method's maps, each once; none of a classification."""
    wanted: list[MethodAndMetric] = []
    for spec in specs:
        asked = spec.method_and_metric
        if asked is not None and asked not in wanted:
            wanted.append(asked)
    return wanted


def _maps(evaluation: Evaluation, seen: Seen, cache: EvaluationCache) -> Iterator[MapBatch]:
    """The maps of this process's images: cached ones, then the network's, which are cached too."""
    yield from cache.cached_maps()
    config = evaluation.config
    view, size, interpolation = seen
    for methods, first, length in cache.missing(_images_here(evaluation)):
        batches = predict_split(
            evaluation.trained.network,
            evaluation.split,
            view,
            size,
            methods,
            evaluation.world,
            batch_size=length or images_a_batch(config.eval_batch_size, view, methods),
            first=first,
            interpolation=interpolation,
            workers=config.data.workers,
        )
        for batch in batches:
            cache.add_maps(batch)
            yield batch


def _images_here(evaluation: Evaluation) -> int:
    """How many of the split's images are this process's."""
    world = evaluation.world
    return len(range(world.rank, len(evaluation.split), world.size))


def _progress_bar(evaluation: Evaluation, seen: Seen, wanted: Sequence[MethodAndMetric]) -> tqdm:
    view, _, _ = seen
    methods = {method for method, _ in wanted}
    return tqdm(
        total=_images_here(evaluation) * max(1, len(methods)),
        desc=f"{evaluation.trained.name}: {view}",
        unit="image",
        disable=None if evaluation.world.is_main else True,
    )


def _examples_in(batch: MapBatch, wanted: np.ndarray) -> list[tuple[str, int, np.ndarray]]:
    """The true class's maps (V,h,w) of the wanted images: (method, image, maps)."""
    found = []
    for place in np.flatnonzero(np.isin(batch.images, wanted)):
        image = int(batch.images[place])
        for method, maps in batch.maps.items():
            of_true_class = maps[place, :, -1].copy()
            found.append((method, image, of_true_class))
    return found


def _cache(
    evaluation: Evaluation, seen: Seen, wanted: Sequence[MethodAndMetric]
) -> EvaluationCache:
    config = evaluation.config
    trained = evaluation.trained
    world = evaluation.world
    identity = {
        "network": repr(trained.model),
        "weights": trained.weights.sha256,
        "data": evaluation.fingerprint,
        "seen": seen,
        "batch": config.eval_batch_size,
        "deterministic": config.deterministic,
        "share": [world.rank, world.size],
        "versions": versions(),
        "device": device_name(str(world.device)),
    }
    # Class activation maps cost next to nothing beside the classes, and the localization that
    # mostly follows a classification then needs no network
    has_cam = not unsupported_reason("cam", trained.network)
    return EvaluationCache(
        Path(config.cache) / "maps",
        identity,
        wanted,
        classes_with="cam" if has_cam else None,
        fresh=config.force,
    )
