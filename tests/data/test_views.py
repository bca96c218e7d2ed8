"""Which pixels each view shows the network."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms import v2

from cam_repro.config import RecipeConfig
from cam_repro.data import views
from cam_repro.data.views import VIEWS, resize_map

SIZES = [(500, 375), (375, 500), (333, 333), (61, 400), (1200, 301), (30, 20)]


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [224, 227, 64])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_center_crop_has_torchvisions_pixels(width: int, height: int, size: int) -> None:
    image = noise(width, height)
    recipe = v2.Compose([v2.Resize(round(size * 256 / 224)), v2.CenterCrop(size)])
    of_a_tensor = recipe(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0)
    of_a_pillow_image = np.asarray(recipe(Image.fromarray(image)))
    ours = views.center_crop(image, size)
    assert np.array_equal(ours, of_a_tensor)
    assert np.abs(ours.astype(int) - of_a_pillow_image).max() <= 1


@pytest.mark.parametrize(("size", "far", "middle"), [(224, 32, 16), (227, 29, 15)])
def test_ten_crops_are_cut_where_the_release_does_from_the_warped_image_then_mirrored(
    size: int, far: int, middle: int
) -> None:
    image = noise(300, 200)
    warped = views.squash(image, 256)
    crops = views.ten_crop(image, size)
    places = [(0, 0), (0, far), (far, 0), (far, far), (middle, middle)]
    assert views.ten_crop_places(size) == places
    assert np.array_equal(crops[:5], [warped[y : y + size, x : x + size] for x, y in places])
    assert np.array_equal(crops[5:], crops[:5, :, ::-1])


@pytest.mark.parametrize("size", [64, 160, 288])
def test_ten_crops_of_other_sizes_keep_the_releases_proportions(size: int) -> None:
    far = views.ten_crop_places(size)[3][0]
    assert far / (size + far) == pytest.approx(32 / 256, abs=0.01)
    for view in VIEWS.values():
        assert view.take(noise(40, 30), size).shape == (view.crops, size, size, 3)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_resized_window_has_pillows_pixels_but_for_one_level(width: int, height: int) -> None:
    window = noise(width, height)[height // 4 : height - 2, width // 5 : width - 3]
    pillows = Image.fromarray(window).resize((64, 48), Image.Resampling.BILINEAR)
    assert np.abs(views.resize(window, 64, 48).astype(int) - np.asarray(pillows)).max() <= 1


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_bicubically_shrunk_image_has_pillows_pixels_rows_first(width: int, height: int) -> None:
    """Noise overshoots everywhere. Pillow 13 would shrink the columns of tall images first."""
    image = noise(width, height)
    rows = Image.fromarray(image).resize((64, height), Image.Resampling.BICUBIC)
    pillows = np.asarray(rows.resize((64, 48), Image.Resampling.BICUBIC))
    difference = np.abs(views.resize(image, 64, 48, "bicubic").astype(int) - pillows)
    assert difference.max() <= 2
    assert np.mean(difference > 1) < 1e-3 and np.mean(difference > 0) < 0.05


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", VIEWS)
def test_every_view_shrinks_by_the_filter_that_it_is_given(
    name: str, interpolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = noise(90, 70)
    take = VIEWS[name].take
    asked: list[str] = []

    def resize(image: np.ndarray, width: int, height: int, by: str) -> np.ndarray:
        asked.append(by)
        return np.zeros((height, width, 3), np.uint8)

    monkeypatch.setattr(views, "resize", resize)
    take(image, 32, interpolation)
    take(image, 32)
    assert asked == [interpolation, "bilinear"]


def test_a_training_crop_is_shrunk_by_the_filter_that_it_is_given() -> None:
    image = noise(90, 70)
    recipe = RecipeConfig(crop="resized", mirror=False)
    for interpolation in ("bilinear", "bicubic"):
        left, top, right, bottom = views.random_window(90, 70, recipe, np.random.default_rng(1))
        expected = views.resize(image[top:bottom, left:right], 32, 32, interpolation)
        crop = views.training_crop(image, 32, recipe, np.random.default_rng(1), interpolation)
        assert np.array_equal(crop, expected)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (13, 13), (9, 5), (100, 75)])
def test_maps_are_enlarged_as_torch_does(width: int, height: int, interpolation: str) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 13, 13)).astype(np.float32)
    options = {"size": (height, width), "mode": interpolation, "align_corners": False}
    expected = F.interpolate(torch.from_numpy(maps)[None], **options)[0].numpy()
    ours = [resize_map(heatmap, width, height, interpolation) for heatmap in maps]
    np.testing.assert_allclose(ours, expected, atol=5e-6)


@pytest.mark.parametrize(
    ("image_size", "window"), [((300, 200), (62, 12, 238, 188)), ((200, 300), (12, 62, 188, 238))]
)
def test_the_center_crop_shows_the_middle_and_what_it_cuts_off_has_no_heat(
    image_size: tuple[int, int], window: tuple[int, ...]
) -> None:
    maps = np.full((1, 13, 13), 3.0, np.float32)
    placed = VIEWS["center_crop"].place(maps, image_size, 224, "bicubic")
    left, top, right, bottom = window
    np.testing.assert_allclose(placed[top:bottom, left:right], 3, rtol=1e-5)
    assert placed.sum(dtype=float) == pytest.approx(3 * (right - left) * (bottom - top))


@pytest.mark.parametrize("crop", ["squash", "resized"])
@pytest.mark.parametrize(("width", "height"), [*SIZES, (1, 1), (2, 700)])
def test_a_training_crop_lies_in_the_image(width: int, height: int, crop: str) -> None:
    recipe = RecipeConfig(crop=crop, crop_area=0.01)
    rng = np.random.default_rng(0)
    for _ in range(50):
        left, top, right, bottom = views.random_window(width, height, recipe, rng)
        assert 0 <= left < right <= width and 0 <= top < bottom <= height


@pytest.mark.parametrize(("size", "side"), [(224, 224), (227, 227), (112, 224)])
def test_a_squash_crop_is_the_releases_window_of_256_pixels_anywhere(size: int, side: int) -> None:
    rng = np.random.default_rng(0)
    windows = np.array(
        [views.random_window(256, 256, RecipeConfig(), rng, size) for _ in range(2000)]
    )
    assert set((windows[:, 2:] - windows[:, :2]).ravel()) == {side}
    assert set(windows[:, :2].ravel()) == set(range(256 - side + 1))


def test_training_crops_have_the_areas_and_aspects_of_torchvisions() -> None:
    """Means over 4,000 crops of RandomResizedCrop's own parameters, and of ours."""
    width, height = 500, 375
    rng = np.random.default_rng(0)
    recipe = RecipeConfig(crop="resized", crop_area=0.08)
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    ours = []
    theirs = []
    for _ in range(4000):
        ours.append(views.random_window(width, height, recipe, rng))
        p = v2.RandomResizedCrop(224).make_params([image])
        theirs.append([p["left"], p["top"], p["left"] + p["width"], p["top"] + p["height"]])
    ours = np.array(ours, dtype=float)
    theirs = np.array(theirs)
    assert ours.mean(0) == pytest.approx(theirs.mean(0), abs=6)  # a standard error is below 2
    assert ours.std(0) == pytest.approx(theirs.std(0), abs=6)


def test_normalisation_is_imagenets() -> None:
    pixels = torch.tensor([124, 116, 104], dtype=torch.uint8).view(1, 3, 1, 1)
    assert views.normalise(pixels).abs().max() < 0.01
