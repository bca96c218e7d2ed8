"""The pointing game, and how much of a map lies inside the boxes: two scores without a threshold.

Both take a heatmap (H,W) and true boxes (M,4), both corners inside, in the heatmap's pixels.
"""

import numpy as np
from numpy.typing import ArrayLike

from cam_repro.localization.boxes import checked_heatmap

ROUNDING = 1e-6  # of the largest value: enlarging a constant map in float32 leaves it so uneven


def pointing_game(heatmap: np.ndarray, boxes: ArrayLike, tolerance: float = 0) -> float:
    """Whether the map's maximum lies in any box, 1 or 0 (Zhang et al., ECCV 2016, §4.1).

    tolerance: pixels from a box within which the maximum still counts, by Euclidean distance; the
    paper's code has 15. Where several pixels have the maximum, it is the share of these that lie
    inside, what drawing one of them would give on average: of a constant map the boxes' share of
    the image. ValueError where there is no box.
    """
    heatmap = checked_heatmap(heatmap)
    least = heatmap.max() - ROUNDING * np.abs(heatmap).max()
    y, x = np.nonzero(heatmap >= least)
    inside = np.zeros(len(x), bool)
    for x1, y1, x2, y2 in _checked_boxes(boxes):
        left_or_right = np.maximum(np.maximum(x1 - x, x - x2), 0)
        above_or_below = np.maximum(np.maximum(y1 - y, y - y2), 0)
        inside |= np.hypot(left_or_right, above_or_below) <= tolerance
    return float(inside.mean())


def energy_inside(heatmap: np.ndarray, boxes: ArrayLike) -> float:
    """Share of the positive map's sum that lies in the boxes (Score-CAM, Wang et al. 2020, §4.3).

    What is below 0 counts as 0; boxes that overlap are one region. A map that is nowhere positive
    points nowhere, and counts as a constant one: the region's share of the image. ValueError where
    there is no box.
    """
    heatmap = checked_heatmap(heatmap)
    positive = np.maximum(heatmap, 0).astype(np.float64)
    if not positive.any():
        positive[:] = 1
    height, width = heatmap.shape
    y = np.arange(height)[:, None]
    x = np.arange(width)
    inside = np.zeros(heatmap.shape, bool)
    for x1, y1, x2, y2 in _checked_boxes(boxes):
        inside |= (x1 <= x) & (x <= x2) & (y1 <= y) & (y <= y2)
    return float(positive[inside].sum() / positive.sum())


def _checked_boxes(boxes: ArrayLike) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if len(boxes) == 0:
        raise ValueError("a map cannot be held against no box at all")
    return boxes
