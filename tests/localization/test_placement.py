"""Maps of crops at their place in the picture, and one box from every view."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cam_repro.data.views import VIEWS, center_crop_window, crops_in, normalise, take_view
from cam_repro.localization import boxes
from cam_repro.localization.methods import look
from cam_repro.localization.placement import (
    heatmap_in_picture,
    mean_softmax,
    merge_ten_crops,
    picture_heatmaps,
    ten_crop_coverage,
)
from cam_repro.networks.network import CamNetwork


def brightness_network() -> CamNetwork:
    """Maps = how bright each 8×8 patch is, black about 0; both classes weigh them alike."""
    patches = nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 1, 1), nn.ReLU())
    classifier = nn.Linear(1, 2)
    nn.init.ones_(patches[1].weight)
    nn.init.constant_(patches[1].bias, 6.0)  # black is −2.1, −2.0 and −1.8 after normalisation
    nn.init.ones_(classifier.weight)
    return CamNetwork(patches, nn.Identity(), classifier, "average", 0.0).eval()


def blob_picture(width: int, height: int, box: tuple[int, int, int, int]) -> np.ndarray:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[box[1] : box[3] + 1, box[0] : box[2] + 1] = 255
    return picture


def box_seen(picture: np.ndarray, view: str, crop: int, method: str) -> np.ndarray:
    height, width = picture.shape[:2]
    pixels = torch.from_numpy(take_view(picture, view, crop).copy()).permute(0, 3, 1, 2)
    seen = look(brightness_network(), normalise(pixels), methods=[method], crops=crops_in(view), count=1)
    heatmap = picture_heatmaps(seen.heat[method][0].numpy(), view, (width, height), crop)[0]
    assert heatmap.shape == (height, width)
    return np.array(boxes.paper_box(heatmap, 0.5))


@pytest.mark.parametrize("method", ["cam", "gradcam"])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    ("size", "blob"),
    [((480, 160), (190, 40, 279, 109)), ((150, 400), (31, 140, 90, 199)), ((90, 90), (25, 40, 54, 75))],
)
def test_every_view_finds_a_blob_at_its_place_in_the_picture(
    size: tuple[int, int], blob: tuple[int, int, int, int], view: str, method: str
) -> None:
    found = box_seen(blob_picture(*size, blob), view, 224, method)
    seen = np.array(size) if view != "center_crop" else np.full(2, 0.875 * min(size))
    patch = np.tile(seen / 28, 2)  # a map's pixel in the picture's pixels
    assert (np.abs(found - blob) <= patch).all(), f"{found} for {blob}"


@pytest.mark.parametrize("view", ["squash", "ten_crop_averaged"])
def test_a_blob_in_the_corner_is_found_there(view: str) -> None:
    blob = (400, 0, 479, 49)
    found = box_seen(blob_picture(480, 160, blob), view, 224, "cam")
    assert (np.abs(found - blob) <= np.array([480, 160, 480, 160]) / 28).all()


def test_what_the_center_crop_cuts_off_has_no_heat() -> None:
    heatmaps = picture_heatmaps(np.full((2, 13, 13), 3.0, np.float32), "center_crop", (300, 200), 224)
    left, top, right, bottom = (round(edge) for edge in center_crop_window(300, 200, 224))
    assert (left, top, right, bottom) == (62, 12, 238, 188)
    np.testing.assert_allclose(heatmaps[:, top:bottom, left:right], 3, rtol=1e-5)
    assert heatmaps.sum(dtype=float) == pytest.approx(2 * 3 * (right - left) * (bottom - top))


def test_a_heatmap_is_put_into_its_window() -> None:
    picture = heatmap_in_picture(np.array([[1.0, 2.0], [3.0, 4.0]]), (1, 2, 3, 4), (5, 4))
    assert picture.tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, 2, 0, 0], [0, 3, 4, 0, 0]]


@pytest.mark.parametrize("side", [1, 13, 224])
def test_constant_maps_merge_into_how_many_crops_see_each_pixel(side: int) -> None:
    merged = merge_ten_crops(torch.ones(1, 10, 2, side, side))
    assert merged.shape == (1, 2, 256, 256)
    torch.testing.assert_close(merged[0, 1], ten_crop_coverage())
    counts, pixels = merged[0, 0].round().unique(return_counts=True)
    assert counts.tolist() == [2, 4, 6, 10]
    assert (100 * pixels / 256**2).tolist() == pytest.approx([4.7, 20.3, 18.8, 56.3], abs=0.06)
    torch.testing.assert_close(
        merge_ten_crops(-torch.ones(1, 10, 2, side, side), average=True), torch.ones(1, 2, 256, 256)
    )


def test_crops_of_227_pixels_are_29_and_14_apart() -> None:
    merged = merge_ten_crops(torch.ones(1, 10, 1, 13, 13), crop=227)[0, 0].round()
    assert merged.shape == (256, 256)
    middle = torch.zeros(256, 256)
    for left, top in ((0, 0), (0, 29), (29, 0), (29, 29), (14, 14)):
        middle[top : top + 227, left : left + 227] += 2
    assert torch.equal(merged, middle)


@pytest.mark.parametrize(("number", "left", "top"), [(0, 0, 0), (1, 0, 32), (2, 32, 0), (3, 32, 32), (4, 16, 16)])
def test_a_crop_and_its_mirror_are_added_at_the_same_place(number: int, left: int, top: int) -> None:
    asymmetric = torch.arange(224.0 * 224).view(224, 224)
    maps = torch.zeros(1, 10, 1, 224, 224)
    maps[0, number, 0] = asymmetric
    maps[0, number + 5, 0] = -asymmetric.flip(-1)  # the magnitude counts, not the sign
    expected = torch.zeros(256, 256)
    expected[top : top + 224, left : left + 224] = 2 * asymmetric
    assert torch.equal(merge_ten_crops(maps)[0, 0], expected)


def test_small_maps_are_resized_bicubically_before_their_magnitude_is_taken() -> None:
    maps = torch.randn(2, 10, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    one_crop = torch.zeros_like(maps)
    one_crop[:, 0] = maps[:, 0]
    expected = F.interpolate(maps[:, 0], size=(224, 224), mode="bicubic", align_corners=False).abs()
    torch.testing.assert_close(merge_ten_crops(one_crop)[..., :224, :224], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 5, 1, 13, 13), (1, 10, 1, 227, 227)])
def test_maps_that_are_not_of_ten_crops_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected maps \(N,10,M,h,w\) of at most 224×224"):
        merge_ten_crops(torch.zeros(shape))


def test_the_mean_of_the_softmax_is_not_the_softmax_of_the_mean() -> None:
    logits = torch.zeros(1, 10, 2)
    logits[0, 0, 0] = 100.0  # one crop is certain of class 0,
    logits[0, 1:, 1] = 2.0  # nine lean to class 1
    scores = mean_softmax(logits)
    lean = 1 / (1 + np.exp(-2.0))
    torch.testing.assert_close(scores, torch.tensor([[(1 + 9 * (1 - lean)) / 10, 9 * lean / 10]], dtype=torch.float32))
    assert scores.argmax() == 1
    assert logits.mean(1).softmax(-1).argmax() == 0
