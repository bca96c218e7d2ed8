"""Which images train a classifier and which test it: the data set's own split, or seeded draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from cam_repro import UserError
from cam_repro.config import SvmConfig
from cam_repro.data import Split
from cam_repro.localization.intervals import bootstrap
from cam_repro.option_errors import shown


@dataclass(frozen=True)
class Draw:
    """Sorted numbers of images: train in the split for training, test in that for test."""

    train: np.ndarray
    test: np.ndarray


def make_draws(train: Split, test: Split, settings: SvmConfig, seed: int) -> list[Draw]:
    """Every draw; one where nothing is drawn. The splits may be one, of which a draw takes parts.

    Draw d follows from (seed, d) alone. Raises UserError, before any work, where a class has too
    few images, where there is one class, and where test images would be training images.
    """
    _check(train, test, settings)
    all_train = np.arange(len(train))
    all_test = np.arange(len(test))
    if settings.per_class is None and settings.test_per_class is None:
        return [Draw(all_train, all_test)]
    draws = []
    for number in range(settings.draws):
        rng = np.random.default_rng((seed, number))
        chosen = _of_each_class(train.labels, all_train, settings.per_class, rng)
        left = all_test
        if test is train:
            left = np.setdiff1d(left, chosen)
        tested = _of_each_class(test.labels, left, settings.test_per_class, rng)
        draws.append(Draw(chosen, tested))
    return draws


def images_of_draws(draws: Sequence[Draw], *, one_split: bool) -> list[np.ndarray]:
    """The sorted numbers of the images that some draw takes, of each split.

    one_split: training and test images are of the same one.
    """
    of_training = np.unique(np.concatenate([draw.train for draw in draws]))
    of_test = np.unique(np.concatenate([draw.test for draw in draws]))
    return [np.union1d(of_training, of_test)] if one_split else [of_training, of_test]


def _of_each_class(
    labels: np.ndarray, candidates: np.ndarray, count: int | None, rng: np.random.Generator
) -> np.ndarray:
    """So many of the candidates of each class, or all of them."""
    if count is None:
        return candidates
    chosen = []
    for label in np.unique(labels):
        of_class = candidates[labels[candidates] == label]
        chosen.append(rng.permutation(of_class)[:count])
    return np.sort(np.concatenate(chosen))


def _check(train: Split, test: Split, settings: SvmConfig) -> None:
    if train.wnids != test.wnids:
        unlike = next(pair for pair in zip_longest(train.wnids, test.wnids) if len(set(pair)) > 1)
        differ = f"{unlike[0]} against {unlike[1]}"
        raise UserError(f"the training and the test images are of other classes: {differ}")
    classes = len(train.wnids)
    if classes < 2:
        raise UserError(f"{train.folder} has one class, {train.wnids[0]}: a classifier needs two")
    if test is train and settings.per_class is None:
        raise UserError(
            f"data.split={train.name} has no test images of its own; type svm.per_class=100, the "
            "training images that are drawn of each class"
        )
    per_class = settings.per_class or 1
    _check_counts(train, per_class, settings.test_per_class or 1 if test is train else 0)
    if test is not train and settings.test_per_class:
        _check_counts(test, 0, settings.test_per_class)


def check_grid(train: Split, settings: SvmConfig) -> None:
    """UserError for values of C out of order, or more folds than a class has training images."""
    grid = settings.c
    if not grid or grid != sorted(set(grid)):
        raise UserError(f"svm.c={shown(grid)} must be one value, or several that rise")
    smallest = settings.per_class or min(np.bincount(train.labels))
    if len(grid) > 1 and smallest < settings.folds:
        raise UserError(
            f"svm.folds={settings.folds} asks for as many training images of each class, and one "
            f"has {smallest}; type svm.folds={max(2, smallest)}, or one C as svm.c=[0.01]"
        )


def _check_counts(split: Split, for_training: int, for_test: int) -> None:
    """UserError where a class has fewer images than a draw takes of it."""
    counts = np.bincount(split.labels, minlength=len(split.wnids))
    few = np.flatnonzero(counts < for_training + for_test)
    if len(few):
        first = few[0]
        asked = f"{for_training} for training and {for_test} for test are asked for"
        raise UserError(
            f"{len(few)} of {len(counts)} classes have too few images in {split.folder}: "
            f"{split.wnids[first]} has {counts[first]}, {asked}; give smaller svm.per_class= or "
            "svm.test_per_class="
        )


def score_draws(
    labels: np.ndarray, draws: Sequence[Draw], answers: Sequence[np.ndarray]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Accuracies of the answers to the test images of each draw, of labels (N,), for a record.

    Over all test images, and as the mean of the classes' accuracies; each with its deviation over
    draws, and over images with a bootstrap interval. Beside it arrays: in how many draws an image
    was tested, and in how many its answer was right, (N,); and `right_of_draws` (D,N): in each draw
    1 where the answer was right, 0 where it was wrong, -1 where the image was not tested.
    """
    tested = np.zeros(len(labels), np.int32)
    right = np.zeros(len(labels), np.int32)
    right_of_draws = np.full((len(draws), len(labels)), -1, np.int8)
    found: dict[str, list[float]] = {"accuracy": [], "class_accuracy": []}
    for number, (draw, of_draw) in enumerate(zip(draws, answers, strict=True)):
        truth = labels[draw.test]
        is_right = of_draw == truth
        tested[draw.test] += 1
        right[draw.test] += is_right
        right_of_draws[number, draw.test] = is_right
        of_classes = [is_right[truth == label].mean() for label in np.unique(truth)]
        found["accuracy"].append(100 * float(is_right.mean()))
        found["class_accuracy"].append(100 * float(np.mean(of_classes)))
    deviation = {}
    if len(draws) > 1:
        deviation = {name: round(float(np.std(of, ddof=1)), 4) for name, of in found.items()}
    measured = {
        "draws": len(draws),
        "train_images": len(draws[0].train),
        "images": len(draws[0].test),
        "metrics": {name: round(float(np.mean(of)), 4) for name, of in found.items()},
        "deviation": deviation,
        "confidence": bootstrap({"accuracy": (right, tested)}),
        "each_draw": {name: [round(one, 4) for one in of] for name, of in found.items()},
    }
    return measured, {"right": right, "tested": tested, "right_of_draws": right_of_draws}
