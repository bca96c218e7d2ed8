"""Intersection over union by the devkit's rule: both corners belong to the box, its width is x2 − x1 + 1."""

import numpy as np
from numpy.typing import ArrayLike


def box_iou(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """IoU of boxes a (…, 4) with boxes b (…, 4), leading axes broadcast, as (x1, y1, x2, y2) in pixels.

    Source: the ILSVRC devkit's `compute_overlap`. 0 where boxes do not meet, or where one is reversed.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    corners_in = np.maximum(a[..., :2], b[..., :2])
    corners_out = np.minimum(a[..., 2:], b[..., 2:])
    intersection = _area(corners_in, corners_out)
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def _area(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Pixels between two inclusive corners (…, 2); 0 for reversed ones."""
    return np.prod(np.maximum(last - first + 1, 0), axis=-1)
