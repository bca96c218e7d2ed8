"""Why a first guess fails: its box against the true ones, by rules on IoU, coverage and counts.

With I the pixels that the box shares with a true one, I / true box is how much of the object is
covered, and I / box how much of the box lies on it. Of several true boxes the one of the highest
IoU is meant, but for `several`.
"""

import numpy as np
from numpy.typing import ArrayLike

from cam_repro.localization.iou import IOU_OF_A_RIGHT_BOX, area, box_iou, intersection

HALF = 0.5

# In the order in which the rules are tried: the first that holds. From `several` on the class is
# right.
KINDS = {
    # class right, IoU ≥ 0.5 with a true box
    "right": "right",
    "wrong_class": "wrong class, right box",
    "wrong_both": "both wrong",
    # half of each of two or more true boxes is covered
    "several": "several objects in one",
    # half of the box lies on the object, and less than half of the object is covered
    "part": "too small (a part)",
    # half of the object is covered, and less than half of the box lies on it
    "too_large": "too large",
    # beside the object, or across its border
    "elsewhere": "elsewhere",
}


def kind_of_guess(box: ArrayLike, class_right: bool, true_boxes: ArrayLike) -> str:
    """The key of KINDS of a guess with box (4,) at an image with true_boxes (M, 4), M ≥ 1."""
    true_boxes = np.reshape(true_boxes, (-1, 4))
    overlap = box_iou(box, true_boxes)
    if overlap.max() >= IOU_OF_A_RIGHT_BOX:
        return "right" if class_right else "wrong_class"
    if not class_right:
        return "wrong_both"

    common = intersection(box, true_boxes)
    covered = common / area(true_boxes)
    if (covered >= HALF).sum() > 1:
        return "several"
    best = overlap.argmax()
    object_is_covered = covered[best] >= HALF
    box_is_on_it = (common / area(box))[best] >= HALF
    if box_is_on_it and not object_is_covered:
        return "part"
    if object_is_covered and not box_is_on_it:
        return "too_large"
    return "elsewhere"
