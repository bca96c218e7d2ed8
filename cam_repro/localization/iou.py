"""Intersection over union by the devkit's rule: both corners belong to the box, its width is x2 −
x1 + 1.
"""

import numpy as np
from numpy.typing import ArrayLike

IOU_OF_A_RIGHT_BOX = 0.5


def box_iou(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """IoU of boxes a (…, 4) with boxes b (…, 4), leading axes broadcast, as (x1, y1, x2, y2) in
    pixels.

    Source: the ILSVRC devkit's `compute_overlap`. 0 where boxes do not meet, or where one is
    reversed.
    """
    common = intersection(a, b)
    union = area(a) + area(b) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def best_iou(boxes: ArrayLike, true_boxes: ArrayLike) -> np.ndarray:
    """Boxes (n, 4) held against an image's true boxes (M, 4) -> (n,) the best IoU of each; 0
    without a true box.
    """
    truth = np.asarray(true_boxes, dtype=np.float64).reshape(-1, 4)
    return box_iou(np.asarray(boxes)[:, None], truth).max(axis=1, initial=0)


def intersection(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Pixels in both of a (…, 4) and b (…, 4)."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    corners = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    return area(np.concatenate(corners, axis=-1))


def area(box: ArrayLike) -> np.ndarray:
    """Pixels of boxes (…, 4) with inclusive corners; 0 for reversed ones."""
    box = np.asarray(box, dtype=np.float64)
    return np.prod(np.maximum(box[..., 2:] - box[..., :2] + 1, 0), axis=-1)
