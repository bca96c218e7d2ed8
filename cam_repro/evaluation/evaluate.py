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
from cam_repro.evaluation.maps import MapBatch, images_a_batch, predict_split, predictions
from cam_repro.evaluation.metric import Scores
from cam_repro.evaluation.record import refuse_other_data, write_record
from cam_repro.evaluation.rows import MethodAndMetric, RowBatch, RowPool, in_order, rows_of_network
from cam_repro.evaluation.spec import Evaluation, EvaluationSpec, Seen
from cam_repro.localization.methods import unsupported_reason
from cam_repro.provenance import device_name, versions

FEW_IMAGES = 4  # at once, of which each has a batch of changed copies or more
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
    for seen, asks_network in dict.fromkeys((spec.seen, spec.asks_network) for spec in specs):
        began = time.perf_counter()
        together = []
        for spec in specs:
            if (spec.seen, spec.asks_network) == (seen, asks_network):
                together.append(spec)
        wanted = _wanted(together)
        cache = _cache(evaluation, seen, wanted, asks_network)
        bar = _progress_bar(evaluation, seen, wanted)
        examples: list[tuple[str, int, np.ndarray]] = []

        of_maps = [] if asks_network else wanted
        with cache, bar, RowPool(split, of_maps, cache.add_rows, bar) as pool:
            for rows in cache.cached_rows():
                pool.take(rows)
            if asks_network:
                for rows in _rows_of_network(evaluation, seen, cache, wanted):
                    cache.add_rows(rows)
                    pool.take(rows)
            else:
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


def _rows_of_network(
    evaluation: Evaluation, seen: Seen, cache: EvaluationCache, wanted: Sequence[MethodAndMetric]
) -> Iterator[RowBatch]:
    """The rows that are not cached yet of metrics that ask the network."""
    config = evaluation.config
    network = evaluation.trained.network
    view, size, interpolation = seen
    for methods, first, length in cache.missing(_images_here(evaluation)):
        found_by_batch = predictions(
            network,
            evaluation.split,
            view,
            size,
            methods,
            evaluation.world,
            batch_size=length or min(FEW_IMAGES, config.eval_batch_size),
            first=first,
            interpolation=interpolation,
            workers=config.data.workers,
            best_alone=True,
        )
        of_methods = [key for key in wanted if key[0] in methods]
        yield from rows_of_network(found_by_batch, network, of_methods, config.eval_batch_size)


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
    evaluation: Evaluation, seen: Seen, wanted: Sequence[MethodAndMetric], asks_network: bool
) -> EvaluationCache:
    config = evaluation.config
    trained = evaluation.trained
    world = evaluation.world
    identity = {
        "network": repr(trained.model),
        "weights": trained.weights.sha256,
        "data": evaluation.fingerprint,
        "images": len(evaluation.split),
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
        asks_network=asks_network,
        classes_with="cam" if has_cam else None,
        fresh=config.force,
    )
