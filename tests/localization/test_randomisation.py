"""Cascading randomisation: which layers, and how two maps are held against each other."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from cam_repro.localization.randomisation import (
    cuts,
    layers_from_the_end,
    randomised,
    rank_correlation,
    ssim,
)


def small_network() -> nn.Sequential:
    torch.manual_seed(77)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(),
        nn.Linear(5, 2),
    ).eval()  # fmt: skip


def test_layers_are_counted_from_the_classifier_down_with_their_normalisation() -> None:
    network = small_network()
    expected = [[network[5]], [network[3]], [network[0], network[1]]]
    assert layers_from_the_end(network) == expected
    assert cuts(3, 8) == [1, 2, 3]
    assert cuts(50, 5) == [1, 13, 26, 38, 50]


def test_the_classifier_is_random_first_and_then_more_until_nothing_is_left() -> None:
    network = small_network()
    before = torch.random.get_rng_state()
    changed = []
    for copy in randomised(network, 3):
        same = [torch.equal(network[i].weight, copy[i].weight) for i in (5, 3, 0)]
        changed.append(same.count(False))
    assert changed == [1, 2, 3]
    assert torch.equal(before, torch.random.get_rng_state())
    first, again = (next(randomised(network, 3))[5].weight for _ in range(2))
    assert torch.equal(first, again)


def test_the_rank_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(0, 9, (6, 5)).astype(float)
    other = rng.integers(0, 9, (6, 5)).astype(float)
    expected = spearmanr(one.ravel(), other.ravel()).statistic
    assert rank_correlation(one, other) == pytest.approx(expected)
    assert rank_correlation(one, np.exp(one)) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    flat = np.ones((6, 5))
    assert rank_correlation(flat, flat) == 1 and rank_correlation(one, flat) == 0


def test_ssim_is_one_of_equal_maps_whatever_their_scale_and_lower_of_others() -> None:
    rng = np.random.default_rng(0)
    one = rng.random((30, 40))
    assert ssim(one, 3 * one - 5) == pytest.approx(1)
    assert ssim(one, one[::-1]) < 0.2
    assert ssim(np.zeros((12, 12)), np.full((12, 12), 9.0)) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least 11×11"):
        ssim(np.ones((7, 7)), np.ones((7, 7)))
