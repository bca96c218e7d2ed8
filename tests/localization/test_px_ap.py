"""PxAP by hand, and against the area under precision over recall as one writes it first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cam_repro.localization.px_ap import (
    precision_and_recall,
    px_ap,
    px_ap_interval,
    score_histograms,
)


def test_four_pixels_by_hand() -> None:
    """Falling scores 1, 0.75, 0.5, 0 are object, rest, object, ignored."""
    heatmap = np.array([[1, 0.75], [0.5, 0]])
    mask = np.array([[1, 0], [1, 255]], np.uint8)
    histograms = score_histograms(heatmap, mask)
    assert histograms.sum(axis=1).tolist() == [2, 1]
    precision, recall = precision_and_recall(histograms)
    assert sorted({*recall.round(3)}) == [0, 0.5, 1] and precision[-1] == pytest.approx(2 / 3)
    assert px_ap(histograms) == pytest.approx(100 * (0.5 * 1 + 0.5 * 2 / 3))


@given(st.integers(0, 2**32 - 1))
def test_it_is_the_area_under_precision_over_recall_at_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    heatmap = rng.integers(0, 11, (6, 7)) / 10
    mask = rng.choice([0, 1, 255], (6, 7), p=[0.5, 0.4, 0.1]).astype(np.uint8)
    mask[0, 0] = 1
    area, before = 0.0, 0.0
    for threshold in np.arange(10, -1, -1) / 10:
        above = heatmap > threshold - 0.05
        true = (above & (mask == 1)).sum()
        recall = true / (mask == 1).sum()
        if true:
            area += (recall - before) * true / (above & (mask != 255)).sum()
        before = recall
    assert px_ap(score_histograms(heatmap, mask)) == pytest.approx(100 * area)


def test_a_perfect_map_has_100_and_one_that_says_nothing_the_objects_share() -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[:3] = 1
    assert px_ap(score_histograms(mask.astype(float), mask)) == 100
    histograms = score_histograms(np.zeros((10, 10)), mask)
    assert px_ap(histograms) == pytest.approx(30)


def test_the_interval_holds_the_number_and_has_no_width_for_equal_images() -> None:
    rng = np.random.default_rng(0)
    images = []
    for _ in range(40):
        mask = (rng.random((8, 8)) < 0.4).astype(np.uint8)
        images.append(score_histograms(np.clip(rng.random((8, 8)) + 0.3 * mask, 0, 1), mask))
    images = np.stack(images)
    low, high = px_ap_interval(images)
    assert low < px_ap(images.sum(axis=0)) < high
    low, high = px_ap_interval(np.repeat(images[:1], 20, axis=0))
    assert low == pytest.approx(high) == pytest.approx(px_ap(images[0]))
