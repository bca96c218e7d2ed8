"""Draws of images: of every class as many as were asked for, and never the same for both uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cam_repro import UserError
from cam_repro.config import SvmConfig
from cam_repro.data import Split
from cam_repro.data.storage import Files
from cam_repro.features.draws import check_grid, make_draws


def split_of(*counts: int, name: str = "all", wnids: str = "abcdefgh") -> Split:
    """So many images of each class, in a mixed order."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    files = np.array([b"%d.jpg" % number for number in range(len(labels))])
    boxes = np.empty((0, 4), np.int32)
    starts = np.zeros(len(labels) + 1, np.int64)
    classes = [*wnids[: len(counts)]]
    images = Files(Path("/images"), files)
    return Split(images, labels, boxes, starts, classes, classes, name=name)


def test_of_one_split_each_class_gives_so_many_for_training_and_the_rest_for_test() -> None:
    split = split_of(9, 7, 12)
    draws = make_draws(split, split, SvmConfig(per_class=5, draws=3), seed=1)
    assert len({draw.train.tobytes() for draw in draws}) == 3
    for draw in draws:
        assert np.bincount(split.labels[draw.train]).tolist() == [5, 5, 5]
        assert np.bincount(split.labels[draw.test]).tolist() == [4, 2, 7]
        assert sorted([*draw.train, *draw.test]) == [*range(28)]
    again = make_draws(split, split, SvmConfig(per_class=5, draws=2), seed=1)
    assert [draw.train.tolist() for draw in again] == [draw.train.tolist() for draw in draws[:2]]


def test_official_splits_are_taken_whole_or_drawn_from_each_on_its_own_side() -> None:
    train, test = split_of(9, 7, name="train"), split_of(6, 8, name="val")
    (draw,) = make_draws(train, test, SvmConfig(), seed=0)
    assert (len(draw.train), len(draw.test)) == (16, 14)
    of_each = SvmConfig(per_class=5, test_per_class=2, draws=2)
    for draw in make_draws(train, test, of_each, seed=0):
        assert np.bincount(train.labels[draw.train]).tolist() == [5, 5]
        assert np.bincount(test.labels[draw.test]).tolist() == [2, 2]


TOO_FEW = [
    ({"per_class": 7}, r"1 of 3 classes have too few images in /images: b has 7, 7 for .* 1 for"),
    ({"per_class": 5, "test_per_class": 3}, "b has 7, 5 for training and 3 for test"),
    ({}, "data.split=all has no test images of its own; type svm.per_class="),
    ({"per_class": 2}, "svm.folds=3 .* one has 2; type svm.folds=2, or one C as svm.c="),
    (
        {"per_class": 5, "c": [1.0, 0.1]},
        r"svm.c=\[1.0,0.1\] must be one value, or several that rise",
    ),
]


@pytest.mark.parametrize(("settings", "message"), TOO_FEW)
def test_what_cannot_be_drawn_is_refused_in_one_line(settings: dict, message: str) -> None:
    split = split_of(9, 7, 12)
    with pytest.raises(UserError, match=message):
        make_draws(split, split, SvmConfig(**settings), seed=0)
        check_grid(split, SvmConfig(**settings))


def test_one_class_and_a_class_without_training_images_are_refused() -> None:
    one = split_of(9)
    with pytest.raises(UserError, match="/images has one class, a: a classifier needs two"):
        make_draws(one, one, SvmConfig(per_class=5), seed=0)
    train, test = split_of(9, 0, 9, name="train"), split_of(3, 3, 3, name="val")
    with pytest.raises(UserError, match="b has 0, 1 for training"):
        make_draws(train, test, SvmConfig(), seed=0)
    others = split_of(9, 9, 9, name="val", wnids="xyz")
    with pytest.raises(UserError, match="are of other classes: a against x"):
        make_draws(split_of(9, 9, 9, name="train"), others, SvmConfig(), seed=0)
