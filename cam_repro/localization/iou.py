"""Intersection over union by the devkit's rule: both corners of a box belong to it.

A box (x1, y1, x2, y2) is x2 − x1 + 1 pixels wide.
"""

import numpy as np
from numpy.typing import ArrayLike

IOU_OF_A_RIGHT_BOX = 0.5


def box_iou(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """IoU of boxes a (…, 4) with boxes b (…, 4) in pixels; leading axes are broadcast.

    Source: the ILSVRC devkit's `compute_overlap`. 0 where boxes do not meet, or where one is
    reversed.
    """
    common = intersection(a, b)
    union = area(a) + area(b) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def best_iou(boxes: ArrayLike, true_boxes: ArrayLike) -> np.ndarray:
    """The best IoU of each of n boxes (n, 4) with any of an image's true boxes (M, 4): (n,).

    0 where the image has no true box.
    """
    boxes = np.asarray(boxes)
    true_boxes = np.reshape(true_boxes, (-1, 4))
    of_pairs = box_iou(boxes[:, None], true_boxes)
    return of_pairs.max(axis=1, initial=0)


def intersection(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Pixels in both of a (…, 4) and b (…, 4)."""
    first_of_a, last_of_a = _corners(a)
    first_of_b, last_of_b = _corners(b)
    first = np.maximum(first_of_a, first_of_b)
    last = np.minimum(last_of_a, last_of_b)
    return _pixels(first, last)


def area(box: ArrayLike) -> np.ndarray:
    """Pixels of boxes (…, 4); 0 for reversed ones."""
    first, last = _corners(box)
    return _pixels(first, last)


def _corners(boxes: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last corner (…, 2) of boxes (…, 4), in float64."""
    boxes = np.asarray(boxes, dtype=np.float64)
    return boxes[..., :2], boxes[..., 2:]


def _pixels(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Pixels from corners first (…, 2) to corners last (…, 2), both inside."""
    sides = np.maximum(last - first + 1, 0)
    return sides.prod(axis=-1)
