"""Differences over draws and images: what both sides share cancels."""

from __future__ import annotations

import numpy as np
import pytest

from cam_repro.localization.intervals import difference_over_draws


def test_a_difference_over_draws_is_of_the_tested_images_and_paired() -> None:
    one = np.array([[1, 0, -1, 1], [0, -1, 0, 1]], np.int8)
    two = np.array([[1, 1, -1, 1], [1, -1, 0, 0]], np.int8)
    difference, low, high = difference_over_draws(one, two)
    assert difference == pytest.approx(100 / 6)
    assert low < difference < high
    assert difference_over_draws(one, one) == (0, 0, 0)
    with pytest.raises(ValueError, match="do not count the same images"):
        difference_over_draws(one, two[::-1])


def test_draws_that_disagree_widen_the_interval_beyond_that_of_the_images() -> None:
    """Of images alone it would be a point: each image has one draw of gain and one of loss."""
    wrong = np.zeros((2, 50), np.int8)
    mixed = np.stack([np.ones(50, np.int8), np.zeros(50, np.int8)])
    assert difference_over_draws(wrong, mixed)[1:] == (0, 100)


def test_a_longer_list_of_images_that_were_never_tested_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(0, 2, (1, 40)).astype(np.int8)
    two = rng.integers(0, 2, (1, 40)).astype(np.int8)
    rest = np.full((1, 60), -1, np.int8)
    with_rest = difference_over_draws(np.hstack([one, rest]), np.hstack([two, rest]))
    assert with_rest == difference_over_draws(one, two)
