"""Why a guess fails, on boxes few enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cam_repro.localization.errors import bootstrap_intervals, score_images, summarise
from cam_repro.localization.failures import KINDS, kind_of_guess

OBJECT = (10, 10, 19, 19)  # 100 pixels
OTHER = (30, 10, 39, 19)


@pytest.mark.parametrize(
    ("box", "class_right", "truth", "kind"),
    [
        ((10, 10, 19, 14), True, [OBJECT], "right"),  # 50 of 100 pixels
        ((10, 10, 19, 14), False, [OBJECT], "wrong_class"),
        ((10, 10, 19, 13), False, [OBJECT], "wrong_both"),
        ((10, 10, 19, 13), True, [OBJECT], "part"),  # wholly on it, 40 of its 100 pixels
        ((5, 10, 14, 13), True, [OBJECT], "part"),  # just half of it on the object
        ((4, 10, 13, 13), True, [OBJECT], "elsewhere"),  # 16 of its 40 pixels
        ((0, 0, 19, 19), True, [OBJECT], "too_large"),  # the whole object, a quarter of the box
        ((0, 0, 14, 19), True, [OBJECT], "too_large"),  # just half of the object
        ((0, 0, 13, 19), True, [OBJECT], "elsewhere"),  # 40 of it
        # 60 of both hundreds: across its border, IoU 60 of 140.
        ((14, 10, 23, 19), True, [OBJECT], "elsewhere"),
        ((10, 10, 39, 19), True, [OBJECT, OTHER], "several"),  # both whole
        ((15, 10, 34, 19), True, [OBJECT, OTHER], "several"),  # just half of each
        # 40 of the one, half of the other, which is meant.
        ((16, 10, 34, 19), True, [OBJECT, OTHER], "too_large"),
        ((10, 10, 39, 19), False, [OBJECT, OTHER], "wrong_both"),
    ],
)
def test_the_first_rule_that_holds_names_the_failure(
    box: tuple, class_right: bool, truth: list, kind: str
) -> None:
    assert kind_of_guess(box, class_right, truth) == kind


def test_the_shares_count_each_image_once_and_agree_with_the_errors() -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 60, (200, 5, 2))
    boxes = np.concatenate([corners, corners + rng.integers(5, 60, (200, 5, 2))], axis=2)
    labels = rng.integers(0, 2, (200, 5))
    truth = [boxes[i, : 1 + i % 2] + rng.integers(0, 25) for i in range(200)]
    truth[7] = np.empty((0, 4))
    scored = score_images(labels, boxes, np.zeros(200), truth, blacklist={20})
    found = summarise(scored)
    shares = [found[f"share_{kind}"] for kind in KINDS]
    assert sum(shares) == pytest.approx(100) and max(shares) < 100
    assert found["share_right"] == pytest.approx(100 - found["loc_top1_error"])  # of 198 images
    low, high = bootstrap_intervals(scored)["share_elsewhere"]
    assert low < found["share_elsewhere"] < high
