"""Which part of a picture the network sees, as uint8 pixels; normalised on the device."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F

from cam_repro.config import RecipeConfig

Window = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the picture
Pixels = tuple[int, int, int, int]  # the same in whole pixels

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
VIEWS = ("squash", "center_crop", "ten_crop", "ten_crop_averaged")


def squash(image_hwc: np.ndarray, size: int) -> np.ndarray:
    """The whole picture warped to (size,size,3)."""
    return resize(image_hwc, size, size)


def resize(image_hwc: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture, or a window of one, as (height,width,3) uint8: bilinear with antialiasing.

    torch's integer arithmetic, as torchvision resizes tensors; Pillow's pixels but for ±1 in 2 of 1,000 (bench).
    """
    pixels = torch.from_numpy(image_hwc)[None].permute(0, 3, 1, 2)  # as they lie: else torch would turn them over
    return F.interpolate(pixels, (height, width), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()


def take_view(image_hwc: np.ndarray, view: str, size: int) -> np.ndarray:
    """(V,size,size,3): the V = crops_in(view) crops of the picture that an evaluation shows to the network."""
    if view == "squash":
        return squash(image_hwc, size)[None]
    return center_crop(image_hwc, size)[None] if view == "center_crop" else ten_crop(image_hwc, size)


def crops_in(view: str) -> int:
    return 10 if view.startswith("ten_crop") else 1


def center_crop(image_hwc: np.ndarray, size: int) -> np.ndarray:
    """The middle (size,size,3) of the picture whose short side is resized to size·256/224, as torchvision's recipe."""
    height, width = image_hwc.shape[:2]
    (new_width, new_height), left, top = _center_crop_geometry(width, height, size)
    return resize(image_hwc, new_width, new_height)[top : top + size, left : left + size]


def center_crop_window(width: int, height: int, size: int) -> Window:
    """The part of a (height,width) picture that `center_crop` shows, in the picture's pixels."""
    (new_width, new_height), left, top = _center_crop_geometry(width, height, size)
    x_scale, y_scale = width / new_width, height / new_height
    return left * x_scale, top * y_scale, (left + size) * x_scale, (top + size) * y_scale


def _center_crop_geometry(width: int, height: int, size: int) -> tuple[tuple[int, int], int, int]:
    """Width and height of the resized picture, then left and top of the crop in it; rounded as torchvision does."""
    short = round(size * 256 / 224)
    long = int(short * max(width, height) / min(width, height))
    new_width, new_height = (short, long) if width <= height else (long, short)
    return (new_width, new_height), round((new_width - size) / 2), round((new_height - size) / 2)


def ten_crop(image_hwc: np.ndarray, size: int) -> np.ndarray:
    """The release's ten crops (10,size,size,3) of the whole picture warped to a square: five places, then mirrored."""
    warped = squash(image_hwc, ten_crop_side(size))
    crops = [warped[y : y + size, x : x + size] for x, y in ten_crop_places(size)]
    return np.stack(crops + [crop[:, ::-1] for crop in crops])


def ten_crop_side(size: int) -> int:
    """The warped square's side: 256 for crops of 224 (GoogLeNet, VGG) and of 227 (AlexNet), else in proportion."""
    return 256 if size in (224, 227) else round(size * 256 / 224)


def ten_crop_places(size: int) -> list[tuple[int, int]]:
    """(left, top) of the five crops in the warped square, in the release's order."""
    far = ten_crop_side(size) - size
    return [(0, 0), (0, far), (far, 0), (far, far), (far // 2, far // 2)]


def training_crop(image_hwc: np.ndarray, size: int, recipe: RecipeConfig, rng: np.random.Generator) -> np.ndarray:
    """One random crop of the recipe's kind, (size,size,3), mirrored half of the time."""
    height, width = image_hwc.shape[:2]
    left, top, right, bottom = random_window(width, height, recipe, rng)
    crop = resize(image_hwc[top:bottom, left:right], size, size)
    return torch.from_numpy(crop).flip(1).numpy() if recipe.mirror and rng.random() < 0.5 else crop


def random_window(width: int, height: int, recipe: RecipeConfig, rng: np.random.Generator) -> Pixels:
    draw = _squash_window if recipe.crop == "squash" else _resized_window
    return draw(width, height, recipe, rng)


def _squash_window(width: int, height: int, recipe: RecipeConfig, rng: np.random.Generator) -> Pixels:
    """224 of 256 pixels of the warped picture (release), in the picture's own pixels."""
    left, top = rng.integers(0, 33, 2)
    edges = np.array([left, top, left + 224, top + 224]) / 256 * (width, height, width, height)
    return _whole_pixels(*edges)


def _resized_window(width: int, height: int, recipe: RecipeConfig, rng: np.random.Generator) -> Pixels:
    """Inception's crop: an area between `crop_area` and 1 of the picture, an aspect between 3:4 and 4:3."""
    for _ in range(10):
        area = width * height * rng.uniform(recipe.crop_area, 1.0)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return _whole_pixels(left, top, left + w, top + h)
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return _whole_pixels(left, top, left + side, top + side)


def _whole_pixels(left: float, top: float, right: float, bottom: float) -> Pixels:
    """The nearest window of whole pixels; one pixel where it would be none."""
    (x1, x2), (y1, y2) = _nearest(left, right), _nearest(top, bottom)
    return x1, y1, x2, y2


def _nearest(low: float, high: float) -> tuple[int, int]:
    return (round(low), round(high)) if round(low) < round(high) else (math.floor(low), math.floor(low) + 1)


def normalise(pixels_nchw: torch.Tensor) -> torch.Tensor:
    """uint8 (N,3,H,W) → float32 with ImageNet's mean and deviation, channels last, where the pixels are.

    A row of the picture at a time, three colours after each other: a channel at a time takes five times as long.
    """
    count, channels, height, width = pixels_nchw.shape
    mean, std = _colours_of_a_row(width, pixels_nchw.device)
    rows = pixels_nchw.permute(0, 2, 3, 1).reshape(count * height, width * channels)
    return rows.float().sub_(mean).div_(std).view(count, height, width, channels).permute(0, 3, 1, 2)


@lru_cache(maxsize=64)  # made anew, they would be moved to a GPU at every step, which waits for it
def _colours_of_a_row(width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """ImageNet's mean and deviation (width·3,) in levels of 0…255."""
    mean, std = (255 * torch.tensor(of, device=device).repeat(width) for of in (IMAGENET_MEAN, IMAGENET_STD))
    return mean, std
