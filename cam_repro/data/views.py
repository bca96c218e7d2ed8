"""Which part of an image the network sees, as uint8 pixels, and where in the image its maps lie."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from cam_repro.config import RecipeConfig

Window = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LOG_ASPECTS = (math.log(3 / 4), math.log(4 / 3))  # of a `resized` crop
# Boxes are drawn by one process a core, whose fork OpenCV's own threads would not survive.
cv2.setNumThreads(1)
# Intel's bicubic filter takes five times as long as OpenCV's own, which every machine has.
cv2.ipp.setUseIPP(False)
INTERPOLATIONS = {"bicubic": cv2.INTER_CUBIC, "bilinear": cv2.INTER_LINEAR}


@dataclass(frozen=True)
class View:
    """The crops of an image that an evaluation shows to the network, and the way back to the image.

    crops: how many it takes of an image. take(image (H,W,3), size, interpolation) ->
    (crops,size,size,3) uint8; interpolation is the filter that shrinks the image, "bilinear" or
    "bicubic", and "bilinear" where it is not given. place(a class's maps (crops,h,w) of crops of
    `size` pixels, (width, height) of the image, size, interpolation) -> (height,width); one class
    at a time, since larger arrays cost more to make than to fill.
    """

    crops: int
    take: Callable[..., np.ndarray]
    place: Callable[[np.ndarray, tuple[int, int], int, str], np.ndarray]


def resize(
    image_hwc: np.ndarray,
    width: int,
    height: int,
    interpolation: str = "bilinear",
) -> np.ndarray:
    """An image, or a window of one, as (height,width,3) uint8, by a filter with antialiasing.

    torch's integer arithmetic, as torchvision resizes tensors. Of photographs the values are
    Pillow's, but for ±1 in 2 of 100. A bicubic filter overshoots at edges, and how much of that is
    cut off between its two passes depends on which pass is first. Here, and in Pillow before 13,
    it is the one along the rows; Pillow 13 shrinks the columns of a tall image first, and up to 5
    of 100,000 values differ by more (tests/data/test_views.py).
    """
    # Channels last, as the pixels lie in memory: otherwise torch would reorder them.
    pixels = torch.from_numpy(image_hwc)[None].permute(0, 3, 1, 2)
    shrunk = F.interpolate(pixels, (height, width), mode=interpolation, antialias=True)
    return shrunk[0].permute(1, 2, 0).numpy()


def resize_map(
    heatmap: np.ndarray, width: int, height: int, interpolation: str = "bicubic"
) -> np.ndarray:
    """(h,w) float32 -> (height,width), by OpenCV, as the WSOL benchmark does.

    torch gives the same values.
    """
    return cv2.resize(heatmap, (width, height), interpolation=INTERPOLATIONS[interpolation])


def squash(image_hwc: np.ndarray, size: int, interpolation: str = "bilinear") -> np.ndarray:
    """The whole image warped to (size,size,3)."""
    return resize(image_hwc, size, size, interpolation)


def center_crop(image_hwc: np.ndarray, size: int, interpolation: str = "bilinear") -> np.ndarray:
    """The middle (size,size,3) of the image resized to a short side of size·256/224.

    This is torchvision's recipe for evaluating on ImageNet.
    """
    height, width = image_hwc.shape[:2]
    new_width, new_height, left, top = _center_crop_geometry(width, height, size)
    resized = resize(image_hwc, new_width, new_height, interpolation)
    return resized[top : top + size, left : left + size]


def _center_crop_geometry(width: int, height: int, size: int) -> tuple[int, int, int, int]:
    """Width and height of the resized image, then left and top of the crop in it.

    They are rounded as torchvision rounds them.
    """
    short = round(size * 256 / 224)
    long = int(short * max(width, height) / min(width, height))
    new_width, new_height = (short, long) if width <= height else (long, short)
    left = round((new_width - size) / 2)
    top = round((new_height - size) / 2)
    return new_width, new_height, left, top


def _place_center_crop(
    maps: np.ndarray, image_size: tuple[int, int], size: int, interpolation: str
) -> np.ndarray:
    """The map over the crop, whose edges go to whole pixels; 0 outside, which was not seen."""
    width, height = image_size
    new_width, new_height, left, top = _center_crop_geometry(width, height, size)
    x1 = round(left * width / new_width)
    x2 = round((left + size) * width / new_width)
    y1 = round(top * height / new_height)
    y2 = round((top + size) * height / new_height)
    placed = np.zeros((height, width), maps.dtype)
    seen = resize_map(maps[0], x2 - x1, y2 - y1, interpolation)
    placed[y1:y2, x1:x2] = seen
    return placed


def ten_crop(image_hwc: np.ndarray, size: int, interpolation: str = "bilinear") -> np.ndarray:
    """The release's ten crops (10,size,size,3) of the whole image warped to a square.

    Five places, then the same five mirrored.
    """
    warped = squash(image_hwc, ten_crop_side(size), interpolation)
    crops = []
    for x, y in ten_crop_places(size):
        crops.append(warped[y : y + size, x : x + size])
    mirrored = [crop[:, ::-1] for crop in crops]
    return np.stack(crops + mirrored)


def ten_crop_side(size: int) -> int:
    """The warped square's side: 256 for crops of 224 and 227 pixels, else in proportion.

    GoogLeNet and VGG see 224 pixels, AlexNet 227.
    """
    return 256 if size in (224, 227) else round(size * 256 / 224)


def ten_crop_places(size: int) -> list[tuple[int, int]]:
    """(left, top) of the five crops in the warped square, in the release's order.

    The release counts from 1 and has the middle one at floor((far + 1) / 2) + 1: counted from 0
    that is 16 of 32, and 15 of 29.
    """
    far = ten_crop_side(size) - size
    middle = (far + 1) // 2
    return [(0, 0), (0, far), (far, 0), (far, far), (middle, middle)]


@lru_cache(maxsize=8)
def ten_crop_coverage(size: int) -> np.ndarray:
    """(256,256): how many of the ten crops see each pixel of the warped square."""
    return sum_ten_crops(np.ones((10, size, size), np.float32), size)


def sum_ten_crops(maps: np.ndarray, size: int) -> np.ndarray:
    """The release's merge of ten crops' maps of a class (10,h,w) in the warped square: (256,256).

    Each is resized to the crop if smaller (bicubic), un-mirrored, and its absolute value added at
    its place. The sum is not divided by how many crops see a pixel (10, 6, 4 or 2).
    """
    side = ten_crop_side(size)
    merged = np.zeros((side, side), np.float32)
    for number, (left, top) in enumerate(2 * ten_crop_places(size)):
        seen = resize_map(maps[number], size, size)
        if number >= 5:
            seen = seen[:, ::-1]
        merged[top : top + size, left : left + size] += np.abs(seen)
    return merged


def _over_the_image(merge: Callable[[np.ndarray, int], np.ndarray]) -> Callable[..., np.ndarray]:
    """A view's `place`, where the crops show the whole image: `merge` makes one map of theirs."""

    def place(
        maps: np.ndarray, image_size: tuple[int, int], size: int, interpolation: str
    ) -> np.ndarray:
        width, height = image_size
        return resize_map(merge(maps, size), width, height, interpolation)

    return place


def _average_ten_crops(maps: np.ndarray, size: int) -> np.ndarray:
    return sum_ten_crops(maps, size) / ten_crop_coverage(size)


def _one_crop(take: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """A view's `take`, of a function that takes a single crop (size,size,3)."""

    def take_one(image_hwc: np.ndarray, size: int, interpolation: str = "bilinear") -> np.ndarray:
        return take(image_hwc, size, interpolation)[None]

    return take_one


VIEWS = {
    "squash": View(1, _one_crop(squash), _over_the_image(lambda maps, size: maps[0])),
    "center_crop": View(1, _one_crop(center_crop), _place_center_crop),
    "ten_crop": View(10, ten_crop, _over_the_image(sum_ten_crops)),
    "ten_crop_averaged": View(10, ten_crop, _over_the_image(_average_ten_crops)),
}


def training_crop(
    image_hwc: np.ndarray,
    size: int,
    recipe: RecipeConfig,
    rng: np.random.Generator,
    interpolation: str = "bilinear",
) -> np.ndarray:
    """One random crop of the recipe's kind, (size,size,3), mirrored half of the time."""
    height, width = image_hwc.shape[:2]
    left, top, right, bottom = random_window(width, height, recipe, rng, size)
    window = image_hwc[top:bottom, left:right]
    crop = resize(window, size, size, interpolation)
    if recipe.mirror and rng.random() < 0.5:
        return torch.from_numpy(crop).flip(1).numpy()
    return crop


def random_window(
    width: int, height: int, recipe: RecipeConfig, rng: np.random.Generator, size: int = 224
) -> Window:
    """The part of an image that a random crop of the recipe's kind shows.

    squash: the release's 224 of 256 pixels of the warped image, 227 where AlexNet sees as many.
    resized: Inception's, an area between `crop_area` and 1 of the image, an aspect between 3:4 and
    4:3.
    """
    if recipe.crop == "squash":
        side = 227 if size == 227 else 224
        x, y = rng.integers(0, 257 - side, 2)
        left = x / 256 * width
        top = y / 256 * height
        right = (x + side) / 256 * width
        bottom = (y + side) / 256 * height
        return _whole_pixels(left, top, right, bottom)
    for _ in range(10):
        area = width * height * rng.uniform(recipe.crop_area, 1.0)
        aspect = math.exp(rng.uniform(*LOG_ASPECTS))
        w = math.sqrt(area * aspect)
        h = math.sqrt(area / aspect)
        if w <= width and h <= height:
            left = rng.uniform(0, width - w)
            top = rng.uniform(0, height - h)
            return _whole_pixels(left, top, left + w, top + h)
    side = min(width, height)
    left = (width - side) / 2
    top = (height - side) / 2
    return _whole_pixels(left, top, left + side, top + side)


def _whole_pixels(left: float, top: float, right: float, bottom: float) -> Window:
    """The nearest window of whole pixels, of one pixel at least."""
    x1, x2 = _whole_range(left, right)
    y1, y2 = _whole_range(top, bottom)
    return x1, y1, x2, y2


def _whole_range(start: float, end: float) -> tuple[int, int]:
    first = round(start)
    after = round(end)
    if first == after:
        first = math.floor(start)
        after = first + 1
    return first, after


def normalise(pixels_nchw: torch.Tensor) -> torch.Tensor:
    """uint8 (N,3,H,W) → float32 with ImageNet's mean and deviation, channels last.

    It works where the pixels are, on whole rows of an image, whose three colours lie side by side:
    a channel at a time takes five times as long.
    """
    count, channels, height, width = pixels_nchw.shape
    mean, std = _colours_of_a_row(width, pixels_nchw.device)
    rows = pixels_nchw.permute(0, 2, 3, 1).reshape(count * height, width * channels)
    rows = rows.float().sub_(mean).div_(std)
    return rows.view(count, height, width, channels).permute(0, 3, 1, 2)


@lru_cache(maxsize=64)  # made anew, they would be moved to a GPU at every step, which waits for it
def _colours_of_a_row(width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """ImageNet's mean and deviation (width·3,) in levels of 0…255."""
    mean = 255 * torch.tensor(IMAGENET_MEAN, device=device).repeat(width)
    std = 255 * torch.tensor(IMAGENET_STD, device=device).repeat(width)
    return mean, std
