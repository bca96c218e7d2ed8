"""Class activation maps from small maps worked by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cam_repro.data.views import ten_crop_coverage
from cam_repro.localization.maps import class_activation_maps, merge_ten_crops, top_classes

MAPS = torch.tensor([[[[1.0, 0.0], [0.0, 2.0]], [[0.0, 3.0], [0.0, 0.0]]]])  # (1,2,2,2)
WEIGHT = torch.tensor([[1.0, 1.0], [2.0, -1.0], [0.0, 0.5]])  # (3,2)


def test_a_map_is_the_weighted_sum_of_the_last_maps() -> None:
    cams = class_activation_maps(MAPS, WEIGHT)
    assert cams[0].tolist() == [[[1, 3], [0, 2]], [[2, -3], [0, 4]], [[0, 1.5], [0, 0]]]


def test_asked_classes_come_in_the_asked_order_for_each_image() -> None:
    maps = torch.cat([MAPS, 2 * MAPS])
    classes = torch.tensor([[2, 0], [1, 1]])
    cams, every = class_activation_maps(maps, WEIGHT, classes), class_activation_maps(maps, WEIGHT)
    assert torch.equal(cams[0], every[0, [2, 0]])
    assert torch.equal(cams[1], every[1, [1, 1]])


def test_of_equal_logits_the_lower_class_comes_first() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, 2.0, 1.0, 0.0]])
    assert top_classes(logits).tolist() == [[1, 3, 2, 4, 0]]
    assert top_classes(logits[:, :3]).tolist() == [[1, 2, 0]]


# --- the release's ten crops


@pytest.mark.parametrize("side", [13, 224])
def test_constant_maps_merge_into_how_many_crops_see_each_pixel(side: int) -> None:
    merged = merge_ten_crops(torch.ones(1, 10, 2, side, side))
    assert merged.shape == (1, 2, 256, 256)
    torch.testing.assert_close(merged[0, 1], torch.from_numpy(ten_crop_coverage(224)))
    counts, pixels = merged[0, 0].round().unique(return_counts=True)
    assert counts.tolist() == [2, 4, 6, 10]
    assert (100 * pixels / 256**2).tolist() == pytest.approx([4.7, 20.3, 18.8, 56.3], abs=0.06)
    averaged = merge_ten_crops(-torch.ones(1, 10, 2, side, side), average=True)
    torch.testing.assert_close(averaged, torch.ones(1, 2, 256, 256))


@pytest.mark.parametrize(("side", "far", "middle"), [(224, 32, 16), (227, 29, 15)])
def test_a_crop_and_its_mirror_are_added_at_the_same_place(
    side: int, far: int, middle: int
) -> None:
    asymmetric = torch.arange(float(side * side)).view(side, side)
    for number, (left, top) in enumerate(
        [(0, 0), (0, far), (far, 0), (far, far), (middle, middle)]
    ):
        maps, expected = torch.zeros(1, 10, 1, side, side), torch.zeros(256, 256)
        maps[0, number, 0] = asymmetric
        maps[0, number + 5, 0] = -asymmetric.flip(-1)  # the magnitude counts, not the sign
        expected[top : top + side, left : left + side] = 2 * asymmetric
        assert torch.equal(merge_ten_crops(maps, side)[0, 0], expected)


def test_small_maps_are_resized_bicubically_before_their_magnitude_is_taken() -> None:
    maps = torch.randn(2, 10, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    one_crop = torch.zeros_like(maps)
    one_crop[:, 0] = maps[:, 0]
    expected = F.interpolate(maps[:, 0], size=(224, 224), mode="bicubic", align_corners=False).abs()
    torch.testing.assert_close(
        merge_ten_crops(one_crop)[..., :224, :224], expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(1, 5, 1, 13, 13), (1, 10, 1, 227, 227)])
def test_maps_that_are_not_of_ten_crops_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected maps \(N,10,M,h,w\) of at most 224×224"):
        merge_ten_crops(torch.zeros(shape))
