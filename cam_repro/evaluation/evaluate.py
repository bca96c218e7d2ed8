"""A trained network over a split: maps → rows of each metric → numbers with intervals → a record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cam_repro.evaluation.cache import EvaluationCache
from cam_repro.evaluation.maps import MapBatch, images_a_batch, predict_split
from cam_repro.evaluation.metrics import Scores
from cam_repro.evaluation.record import refuse_other_data, write_record
from cam_repro.evaluation.rows import RowPool, in_order
from cam_repro.evaluation.spec import Evaluation, EvaluationSpec
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

    What is computed is kept batch by batch, and a start after a kill goes on from there to the same
    numbers. All processes must call it; the leader alone is given the results.
    """
    config = evaluation.config
    split = evaluation.split
    world = evaluation.world
    if specs:
        refuse_other_data(evaluation)
    example_images = np.linspace(0, len(split) - 1, min(EXAMPLES, len(split)), dtype=int)
    results: list[Result] = []
    for seen in dict.fromkeys(spec.seen for spec in specs):
        began = time.perf_counter()
        view, size, interpolation = seen
        together = [spec for spec in specs if spec.seen == seen]
        wanted = list(dict.fromkeys((spec.method, spec.metric) for spec in together if spec.method))
        methods = list(dict.fromkeys(method for method, _ in wanted))
        examples: list[tuple[str, int, np.ndarray]] = []
        share = len(range(world.rank, len(split), world.size))  # of the images, this process's
        cache = EvaluationCache(
            Path(config.cache) / "maps",
            _identity(evaluation, seen),
            methods,
            wanted,
            fresh=config.force,
        )
        bar = tqdm(
            total=share * max(1, len(methods)),
            desc=f"{evaluation.trained.name}: {view}",
            unit="image",
            disable=None if world.is_main else True,
        )

        with cache, bar, RowPool(split, wanted, cache.keep_rows, bar) as pool:
            for rows in cache.kept_rows():
                pool.take(rows)
            for batch in cache.kept_maps():
                examples += _examples_in(batch, example_images)
                pool.submit(batch)
            for of_methods, first, length in cache.missing(share):
                batches = predict_split(
                    evaluation.trained.network,
                    split,
                    view,
                    size,
                    of_methods,
                    world,
                    batch_size=length or images_a_batch(config.eval_batch_size, view, of_methods),
                    first=first,
                    interpolation=interpolation,
                    workers=config.data.workers,
                )
                for batch in batches:
                    examples += _examples_in(batch, example_images)
                    cache.keep_maps(batch)
                    pool.submit(batch)
            pool.finish()

        row_batches = world.gather(pool.rows)
        examples = world.gather(examples)
        for spec in together if world.is_main else []:
            key = None if spec.method is None else (spec.method, spec.metric)
            rows = in_order(row_batches, key, len(split))
            scores = spec.metric.compute(rows, split, evaluation.blacklist)
            seconds = time.perf_counter() - began
            record = write_record(evaluation, spec, scores, seconds)
            of_method = {image: maps for method, image, maps in examples if method == spec.method}
            results.append(Result(spec, scores, rows["classes"], of_method, seconds, record))
    return results


def _examples_in(batch: MapBatch, wanted: np.ndarray) -> list[tuple[str, int, np.ndarray]]:
    """The true class's maps (V,h,w) of the wanted images: (method, image, maps)."""
    found = []
    for place in np.flatnonzero(np.isin(batch.images, wanted)):
        for method, maps in batch.maps.items():
            found.append((method, int(batch.images[place]), maps[place, :, -1].copy()))
    return found


def _identity(evaluation: Evaluation, seen: tuple[str, int, str]) -> dict[str, Any]:
    """All that a network's maps depend on but the method and the code."""
    config = evaluation.config
    trained = evaluation.trained
    world = evaluation.world
    return {
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
