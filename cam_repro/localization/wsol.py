"""MaxBoxAcc, the box accuracy of the WSOL benchmark (Choe et al., CVPR 2020).

The threshold is swept and the best one for the whole data set kept, never the best for an image. Only 256 cuts of
an 8-bit map differ, so the components and holes of all of them come from three passes of `level_sets`.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from cam_repro.localization.boxes import checked_heatmap
from cam_repro.localization.iou import box_iou
from cam_repro.localization.level_sets import LevelSets, level_sets

THRESHOLDS = np.arange(0, 1, 0.001)
CUTS = 255  # "value > cut" on the 8-bit map, cut = 0 … 254
IOU_V1 = 0.5
IOUS_V2 = (0.3, 0.5, 0.7)
ONE_MORE = np.array((0, 0, 1, 1))  # the benchmark's box is (x, y, x + w, y + h)
# The contour of a hole runs along the pixels around it; the background's map is shifted by one pixel.
AROUND_A_HOLE = np.array((-2, -2, 0, 0))
VERSIONS = {"v1": slice(0, 1), "v2": slice(1, 4)}  # rows of `right_by_threshold`
AT_20 = int(np.argmin(np.abs(THRESHOLDS - 0.2)))
MAP_SIDE = 224  # pixels a side of the benchmark's maps
NO_CONTOUR = (0, 0, 0, 0)  # the benchmark's box where nothing is above the cut


def max_box_accuracy(heatmaps: Iterable[np.ndarray], true_boxes: Iterable[ArrayLike]) -> dict[str, object]:
    """Heatmaps (N, H, W), min-max normalised to [0, 1], of the true classes; N arrays (M, 4) of true boxes on them.

    Both may be any iterable; `boxes_on_map` brings boxes from the image to the map. An image without a true box
    is never right. Returns what `accuracies` says of them.
    """
    per_image = [right_by_threshold(heatmap, boxes) for heatmap, boxes in zip(heatmaps, true_boxes, strict=True)]
    return accuracies(np.stack(per_image))


def accuracies(right: np.ndarray) -> dict[str, object]:
    """From `right_by_threshold` of N images, (N, 4, 1000) bool; accuracies in percent:

    v1, v2 and the thresholds that reach them, threshold_v1, threshold_v2 (the lowest of equals);
    v1_at_20, v2_at_20: at the fixed 20 % of the maximum, the paper's;
    v2_threshold_per_iou: V2 as the benchmark's code prints it, each IoU at a best threshold of its own;
    thresholds, curve_v1, curve_v2 (1000,): the accuracy at each threshold;
    right_v1, right_v2, right_v1_at_20, right_v2_at_20 (N,): what each image adds there, 0…1, for a bootstrap.
    """
    curves = 100.0 * right.mean(axis=0)
    said: dict[str, object] = {"thresholds": THRESHOLDS}
    for name, rows in VERSIONS.items():
        curve = curves[rows].mean(axis=0)
        best = int(np.argmax(curve))
        said |= {name: float(curve[best]), f"threshold_{name}": float(THRESHOLDS[best]), f"curve_{name}": curve}
        said |= {f"right_{name}": right[:, rows, best].mean(axis=1), f"{name}_at_20": float(curve[AT_20])}
        said |= {f"right_{name}_at_20": right[:, rows, AT_20].mean(axis=1)}
    return said | {"v2_threshold_per_iou": float(curves[VERSIONS["v2"]].max(axis=1).mean())}


def floor_accuracies(boxes: np.ndarray, true_boxes: Iterable[ArrayLike]) -> tuple[float, float]:
    """MaxBoxAcc V1 and V2, in percent, of boxes (N, 4) that never look, each beside its image's true boxes (M, 4)."""
    truths = (np.asarray(of_image, dtype=np.float64).reshape(-1, 4) for of_image in true_boxes)
    best = np.array([_best_iou(box[None], truth)[0] for box, truth in zip(boxes, truths, strict=True)])
    v1, v2 = best >= IOU_V1, np.stack([best >= iou for iou in IOUS_V2])
    return 100.0 * float(v1.mean()), 100.0 * float(v2.mean())


def normalised(heatmap: np.ndarray) -> np.ndarray:
    """A heatmap (H, W) from its minimum, 0, to its maximum, 1; where nothing stands out, 0 everywhere."""
    heatmap = checked_heatmap(heatmap)
    low, high = heatmap.min(), heatmap.max()
    if low == high:
        return np.zeros_like(heatmap)
    return np.clip((heatmap - low) / (high - low), 0, 1)


def boxes_on_map(boxes: ArrayLike, image_size: tuple[int, int], map_size: tuple[int, int] = (224, 224)) -> np.ndarray:
    """Boxes (M, 4) of an image on its map, sizes as (width, height), cut to integers as the benchmark does."""
    scale = np.tile(np.asarray(map_size, dtype=np.float64), 2)
    return (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * scale / np.tile(image_size, 2)).astype(np.int64)


def right_by_threshold(heatmap: np.ndarray, true_boxes: ArrayLike) -> np.ndarray:
    """One image -> (4, thresholds) bool: right by V1, and by V2 at each of its IoUs."""
    stored = _stored(heatmap)
    truth = np.asarray(true_boxes, dtype=np.float64).reshape(-1, 4)
    nothing = _best_iou(np.array([NO_CONTOUR]), truth)
    background = _background(stored)
    largest, best = np.repeat(nothing, CUTS), np.repeat(nothing, CUTS)
    cuts, boxes = _largest_contours(stored, background)
    largest[cuts] = _best_iou(_drawn(boxes, stored.shape), truth)
    cuts, boxes = _every_contour(stored, background)
    best[cuts] = 0
    np.maximum.at(best, cuts, _best_iou(_drawn(boxes, stored.shape), truth))
    right = np.stack([largest >= IOU_V1, *(best >= iou for iou in IOUS_V2)])
    return right[:, (THRESHOLDS * stored.max()).astype(np.int64)]


def _stored(heatmap: np.ndarray) -> np.ndarray:
    """The benchmark's 8-bit map: cut to integers, not rounded; here as int64."""
    heatmap = checked_heatmap(heatmap)
    if heatmap.min() < 0 or heatmap.max() > 1:
        raise ValueError(f"expected a heatmap normalised to 0…1, got {heatmap.min():g}…{heatmap.max():g}")
    return (heatmap * 255).astype(np.int64)


def _best_iou(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) against true boxes (M, 4) -> (n,) the best IoU of each; 0 when there is no true box."""
    return box_iou(boxes[:, None], truth).max(axis=1, initial=0)


def _drawn(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The benchmark's boxes of contours, from their rectangles (n, 4): a pixel more, but inside the map."""
    height, width = shape
    return np.minimum(boxes + ONE_MORE, (width - 1, height - 1, width - 1, height - 1))


def _background(stored: np.ndarray) -> LevelSets:
    """The 4-connected components of {stored ≤ cut}, at level CUTS − 1 − cut, with one more pixel all around.

    That pixel belongs to the background at every cut: its component, the outside, comes last in raster order of
    the highest peaks and so keeps its name when others join; every other component is a hole.
    """
    depth = np.pad(CUTS - stored, 1, constant_values=CUTS)
    return level_sets(depth, CUTS, np.pad(CUTS - stored, 1, constant_values=CUTS + 1), diagonal=False)


def _outside(background: LevelSets) -> int:
    return int(background.basins[-2, -2])


def _every_contour(stored: np.ndarray, background: LevelSets) -> tuple[np.ndarray, np.ndarray]:
    """Outer borders and holes at all cuts -> cuts (n,), rectangles (n, 4) with both corners inside."""
    components = level_sets(stored, CUTS, stored)
    names, cuts = np.nonzero(components.alive)
    outer = components.extents()[:4, names, cuts].T
    is_hole = background.alive.copy()
    is_hole[_outside(background)] = False
    names, levels = np.nonzero(is_hole)
    holes = background.extents()[:4, names, levels].T + AROUND_A_HOLE
    return np.concatenate([cuts, CUTS - 1 - levels]), np.concatenate([outer, holes])


def _largest_contours(stored: np.ndarray, background: LevelSets) -> tuple[np.ndarray, np.ndarray]:
    """The contour that encloses the largest area, at all cuts that have one -> cuts (n,), rectangles (n, 4).

    A component encloses its holes and what lies in them, so the holes are filled first. Of equals the benchmark
    takes the contour that OpenCV lists first: the one whose first pixel is last in raster order.
    """
    filled = _filled(stored, background)
    components = level_sets(filled, CUTS, filled)
    *box, first = components.extents()
    rank = np.where(components.alive, _twice_areas(components) * components.levels.size + first, -1)
    cuts = np.flatnonzero(components.alive.any(axis=0))
    return cuts, np.stack(box, axis=-1)[np.argmax(rank, axis=0)[cuts], cuts]


def _filled(stored: np.ndarray, background: LevelSets) -> np.ndarray:
    """The map whose {filled > cut} is {stored > cut} with its holes filled, at every cut."""
    joins_the_outside = np.zeros(len(background.alive), dtype=np.int64)
    joins_the_outside[_outside(background)] = CUTS
    for kept, joined, level in reversed(background.joins):
        joins_the_outside[joined] = min(level, joins_the_outside[kept])
    return np.maximum(stored, CUTS - joins_the_outside[background.basins[2:-2, 2:-2]])


def _twice_areas(components: LevelSets) -> np.ndarray:
    """Twice the area of the polygon through each component's border pixels (OpenCV's `contourArea`) -> (B, T).

    Of four pixels in a square, all together enclose 1, any three ½, fewer nothing. A square gains its third pixel
    below its second lowest level and the fourth below its lowest: half a unit each time, for the component of its
    highest pixel.
    """
    keys = np.left_shift(components.levels, 32, dtype=np.int64) + components.basins
    squares = np.stack([keys[:-1, :-1], keys[:-1, 1:], keys[1:, :-1], keys[1:, 1:]], axis=-1)
    lowest, second, _, highest = np.moveaxis(np.sort(squares, axis=-1), -1, 0)
    basin = highest & 0xFFFFFFFF
    return components.count(np.stack([lowest >> 32, second >> 32]), np.stack([basin, basin]))
