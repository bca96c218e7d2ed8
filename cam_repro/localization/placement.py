"""From the maps of what the network saw back to the picture: each view's crops at their place in original pixels."""

from __future__ import annotations

import numpy as np
import torch

from cam_repro.data.views import Window, center_crop_window, ten_crop_places, ten_crop_side
from cam_repro.localization.maps import interpolation_matrix, resize_maps


def picture_heatmaps(
    maps: np.ndarray, view: str, size: tuple[int, int], crop: int, mode: str = "bicubic"
) -> np.ndarray:
    """A picture's maps in its own pixels: (M,H,W).

    maps (M,h,w), for a ten-crop view (10,M,h,w), as the network gave them for crops of `crop` pixels a side;
    size: the picture's width and height; mode: of the last resizing.
    """
    width, height = size
    if view == "center_crop":
        return heatmap_in_picture(maps, center_crop_window(width, height, crop), size, mode)
    if view.startswith("ten_crop"):
        maps = merge_ten_crops(torch.from_numpy(maps)[None], crop, average=view == "ten_crop_averaged")[0].numpy()
    return resize_maps(maps, (height, width), mode)


def heatmap_in_picture(heatmap: np.ndarray, window: Window, size: tuple[int, int], mode: str = "bicubic") -> np.ndarray:
    """The heatmap (…,h,w) of a window, resized to the window's pixels in a picture of (width, height): (…,H,W).

    What lies outside the window was not seen and is 0: not salient. The window's edges go to whole pixels.
    """
    width, height = size
    left, top, right, bottom = (round(edge) for edge in window)
    picture = np.zeros((*heatmap.shape[:-2], height, width), heatmap.dtype)
    picture[..., top:bottom, left:right] = resize_maps(heatmap, (bottom - top, right - left), mode)
    return picture


def merge_ten_crops(maps: torch.Tensor, crop: int = 224, *, average: bool = False) -> torch.Tensor:
    """The release's merge of `data.views.ten_crop`'s maps (N,10,M,h,w) into the warped square: (N,M,256,256).

    Each is resized to the crop if smaller (bicubic), un-mirrored, and its absolute value added at its place. The
    sum is not divided by how many crops see a pixel (10, 6, 4 or 2), unless `average`.
    """
    if maps.shape[1] != 10 or max(maps.shape[-2:]) > crop:
        raise ValueError(f"expected maps (N,10,M,h,w) of at most {crop}×{crop} (the crop), got {tuple(maps.shape)}")
    side = ten_crop_side(crop)
    merged = maps.new_zeros(maps.shape[0], maps.shape[2], side, side)
    for number, (left, top) in enumerate(2 * ten_crop_places(crop)):
        seen = _resized(maps[:, number], crop)
        seen = seen.flip(-1) if number >= 5 else seen
        merged[..., top : top + crop, left : left + crop] += seen.abs()
    return merged / ten_crop_coverage(crop).to(merged) if average else merged


def ten_crop_coverage(crop: int = 224) -> torch.Tensor:
    """(256,256): how many of the ten crops see each pixel of the warped square."""
    coverage = torch.zeros(ten_crop_side(crop), ten_crop_side(crop))
    for left, top in ten_crop_places(crop):
        coverage[top : top + crop, left : left + crop] += 2
    return coverage


def mean_softmax(logits: torch.Tensor) -> torch.Tensor:
    """(N,10,C) → (N,C): the mean over a picture's crops of their class probabilities, not of their logits."""
    return logits.softmax(-1).mean(1)


def _resized(maps: torch.Tensor, side: int) -> torch.Tensor:
    """(…,h,w) → (…,side,side), bicubic: `resize_maps` on the maps' own device."""
    rows, columns = (torch.from_numpy(interpolation_matrix(n, side, "bicubic")).to(maps) for n in maps.shape[-2:])
    return rows @ maps @ columns.T
