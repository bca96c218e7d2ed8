"""Class activation maps from small maps worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cam_repro.localization.maps import class_activation_maps, resize_maps, top_classes

MAPS = torch.tensor([[[[1.0, 0.0], [0.0, 2.0]], [[0.0, 3.0], [0.0, 0.0]]]])  # (1,2,2,2)
WEIGHT = torch.tensor([[1.0, 1.0], [2.0, -1.0], [0.0, 0.5]])  # (3,2)


def test_a_map_is_the_weighted_sum_of_the_last_maps() -> None:
    cams = class_activation_maps(MAPS, WEIGHT)
    assert cams[0].tolist() == [[[1, 3], [0, 2]], [[2, -3], [0, 4]], [[0, 1.5], [0, 0]]]


def test_asked_classes_come_in_the_asked_order_for_each_picture() -> None:
    maps = torch.cat([MAPS, 2 * MAPS])
    classes = torch.tensor([[2, 0], [1, 1]])
    cams, every = class_activation_maps(maps, WEIGHT, classes), class_activation_maps(maps, WEIGHT)
    assert torch.equal(cams[0], every[0, [2, 0]])
    assert torch.equal(cams[1], every[1, [1, 1]])


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(1, 1), (13, 13), (5, 9), (75, 100)])
def test_resizing_gives_the_pixels_of_torchs_interpolation(mode: str, size: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 13, 13)).astype(np.float32)
    expected = F.interpolate(torch.from_numpy(maps)[None], size=size, mode=mode, align_corners=False)[0].numpy()
    np.testing.assert_allclose(resize_maps(maps, size, mode), expected, atol=2e-6)


def test_of_equal_logits_the_lower_class_comes_first() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, 2.0, 1.0, 0.0]])
    assert top_classes(logits).tolist() == [[1, 3, 2, 4, 0]]
    assert top_classes(logits[:, :3]).tolist() == [[1, 2, 0]]
