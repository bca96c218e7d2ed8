"""Which part of a picture the network sees, as uint8 pixels, and where in the picture its maps lie."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from cam_repro.config import RecipeConfig

Window = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the picture

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
cv2.setNumThreads(
    1
)  # boxes are drawn in a process a core; OpenCV's own threads would not survive the fork
cv2.ipp.setUseIPP(
    False
)  # Intel's bicubic takes five times as long as OpenCV's own, which every machine has
INTERPOLATIONS = {"bicubic": cv2.INTER_CUBIC, "bilinear": cv2.INTER_LINEAR}


@dataclass(frozen=True)
class View:
    """A part of the picture, or several, that an evaluation shows to the network, and the way back
    from there.

    crops: how many it takes of a picture. take(image (H,W,3), size, interpolation) ->
    (crops,size,size,3) uint8; interpolation is the filter that shrinks the image, "bilinear" or
    "bicubic"; not given: bilinear. place(a class's maps (crops,h,w) of crops of `size` pixels,
    (width, height), size, interpolation) -> (height,width); one class at a time, since larger
    arrays cost more to make than to fill.
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
    Pillow's, but for ±1 in 2 of 100. A bicubic filter overshoots at edges; what of that is cut off
    between its two passes depends on which is first. It is the one along the rows, here and in
    Pillow before 13; Pillow 13 shrinks the columns of a tall image first, and up to 5 of 100,000
    values differ by more (tests/data/test_views.py).
    """
    pixels = torch.from_numpy(image_hwc)[None].permute(
        0, 3, 1, 2
    )  # as they lie: else torch would turn them over
    shrunk = F.interpolate(pixels, (height, width), mode=interpolation, antialias=True)
    return shrunk[0].permute(1, 2, 0).numpy()


def resize_map(
    heatmap: np.ndarray, width: int, height: int, interpolation: str = "bicubic"
) -> np.ndarray:
    """(h,w) float32 -> (height,width), by OpenCV, as the WSOL benchmark does; torch gives the same
    values.
    """
    return cv2.resize(heatmap, (width, height), interpolation=INTERPOLATIONS[interpolation])


def squash(image_hwc: np.ndarray, size: int, interpolation: str = "bilinear") -> np.ndarray:
    """The whole picture warped to (size,size,3)."""
    return resize(image_hwc, size, size, interpolation)


def center_crop(image_hwc: np.ndarray, size: int, interpolation: str = "bilinear") -> np.ndarray:
    """The middle (size,size,3) of the picture whose short side is resized to size·256/224, as
    torchvision's recipe.
    """
    height, width = image_hwc.shape[:2]
    new_width, new_height, left, top = _center_crop_geometry(width, height, size)
    resized = resize(image_hwc, new_width, new_height, interpolation)
    return resized[top : top + size, left : left + size]


def _center_crop_geometry(width: int, height: int, size: int) -> tuple[int, int, int, int]:
    """Width and height of the resized picture, then left and top of the crop in it; rounded as
    torchvision does.
    """
    short = round(size * 256 / 224)
    long = int(short * max(width, height) / min(width, height))
    new_width, new_height = (short, long) if width <= height else (long, short)
    return new_width, new_height, round((new_width - size) / 2), round((new_height - size) / 2)


def _place_center_crop(
    maps: np.ndarray, picture: tuple[int, int], size: int, interpolation: str
) -> np.ndarray:
    """What lies outside the crop was not seen and is 0: not salient. The crop's edges go to whole
    pixels.
    """
    width, height = picture
    new_width, new_height, left, top = _center_crop_geometry(width, height, size)
    left, right = (round(x * width / new_width) for x in (left, left + size))
    top, bottom = (round(y * height / new_height) for y in (top, top + size))
    placed = np.zeros((height, width), maps.dtype)
    placed[top:bottom, left:right] = resize_map(maps[0], right - left, bottom - top, interpolation)
    return placed


def ten_crop(image_hwc: np.ndarray, size: int, interpolation: str = "bilinear") -> np.ndarray:
    """The release's ten crops (10,size,size,3) of the whole picture warped to a square: five
    places, then mirrored.
    """
    warped = squash(image_hwc, ten_crop_side(size), interpolation)
    crops = [warped[y : y + size, x : x + size] for x, y in ten_crop_places(size)]
    return np.stack(crops + [crop[:, ::-1] for crop in crops])


def ten_crop_side(size: int) -> int:
    """The warped square's side: 256 for crops of 224 (GoogLeNet, VGG) and of 227 (AlexNet), else in
    proportion.
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
        seen = seen[:, ::-1] if number >= 5 else seen
        merged[top : top + size, left : left + size] += np.abs(seen)
    return merged


def _over_the_picture(merge: Callable[[np.ndarray, int], np.ndarray]) -> Callable[..., np.ndarray]:
    """The way back where the crops show the whole picture: `merge` makes one map of theirs, which
    is enlarged.
    """
    return lambda maps, picture, size, interpolation: resize_map(
        merge(maps, size), *picture, interpolation
    )


def _average_ten_crops(maps: np.ndarray, size: int) -> np.ndarray:
    return sum_ten_crops(maps, size) / ten_crop_coverage(size)


def _one_crop(take: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """A view's `take`, of a function that takes a single crop (size,size,3)."""

    def take_one(image_hwc: np.ndarray, size: int, interpolation: str = "bilinear") -> np.ndarray:
        return take(image_hwc, size, interpolation)[None]

    return take_one


VIEWS = {
    "squash": View(1, _one_crop(squash), _over_the_picture(lambda maps, size: maps[0])),
    "center_crop": View(1, _one_crop(center_crop), _place_center_crop),
    "ten_crop": View(10, ten_crop, _over_the_picture(sum_ten_crops)),
    "ten_crop_averaged": View(10, ten_crop, _over_the_picture(_average_ten_crops)),
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
    crop = resize(image_hwc[top:bottom, left:right], size, size, interpolation)
    return torch.from_numpy(crop).flip(1).numpy() if recipe.mirror and rng.random() < 0.5 else crop


def random_window(
    width: int, height: int, recipe: RecipeConfig, rng: np.random.Generator, size: int = 224
) -> Window:
    """Of a `squash` crop the release's 224 of 256 pixels of the warped picture, 227 where AlexNet
    sees as many; of a `resized` one Inception's: an area between `crop_area` and 1 of the picture,
    an aspect between 3:4 and 4:3."""
    if recipe.crop == "squash":
        side = 227 if size == 227 else 224
        x, y = rng.integers(0, 257 - side, 2)
        return _whole_pixels(
            *np.array([x, y, x + side, y + side]) / 256 * (width, height, width, height)
        )
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


def _whole_pixels(left: float, top: float, right: float, bottom: float) -> Window:
    """The nearest window of whole pixels; one pixel where it would be none."""
    x1, y1, x2, y2 = map(round, (left, top, right, bottom))
    if x1 == x2:
        x1, x2 = math.floor(left), math.floor(left) + 1
    if y1 == y2:
        y1, y2 = math.floor(top), math.floor(top) + 1
    return x1, y1, x2, y2


def normalise(pixels_nchw: torch.Tensor) -> torch.Tensor:
    """uint8 (N,3,H,W) → float32 with ImageNet's mean and deviation, channels last, where the pixels
    are.

    A row of the picture at a time, three colours after each other: a channel at a time takes five
    times as long.
    """
    count, channels, height, width = pixels_nchw.shape
    mean, std = _colours_of_a_row(width, pixels_nchw.device)
    rows = pixels_nchw.permute(0, 2, 3, 1).reshape(count * height, width * channels)
    return (
        rows.float().sub_(mean).div_(std).view(count, height, width, channels).permute(0, 3, 1, 2)
    )


@lru_cache(maxsize=64)  # made anew, they would be moved to a GPU at every step, which waits for it
def _colours_of_a_row(width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """ImageNet's mean and deviation (width·3,) in levels of 0…255."""
    mean, std = (
        255 * torch.tensor(of, device=device).repeat(width) for of in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return mean, std
