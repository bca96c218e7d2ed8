"""Why a first guess fails: its box held against the true ones, by rules on IoU, on coverage and on
counts.

With I the pixels that the box shares with a true one, I / true box is how much of the object is
covered, and I / box how much of the box lies on it. Of several true boxes the one of the highest
IoU is meant, but for `several`.
"""

import numpy as np
from numpy.typing import ArrayLike

from cam_repro.localization.iou import IOU_OF_A_RIGHT_BOX, area, box_iou, intersection

KINDS = {  # in the order in which the rules are tried: the first that holds
    "right": "right",  # class right, IoU ≥ 0.5 with a true box
    "wrong_class": "wrong class, right box",
    "wrong_both": "both wrong",
    "several": "several objects in one",  # class right from here on: half of each of two or more true boxes is covered
    "part": "too small (a part)",  # half of the box lies on the object, and less than half of the object is covered
    "too_large": "too large",  # half of the object is covered, and less than half of the box lies on it
    "elsewhere": "elsewhere",  # beside the object, or across its border
}


def kind_of_guess(box: ArrayLike, class_right: bool, true_boxes: ArrayLike) -> str:
    """The key of KINDS of a guess with box (4,) at an image with true_boxes (M, 4), M ≥ 1."""
    truth = np.asarray(true_boxes, dtype=np.float64).reshape(-1, 4)
    overlap, common = box_iou(box, truth), intersection(box, truth)
    if overlap.max() >= IOU_OF_A_RIGHT_BOX:
        return "right" if class_right else "wrong_class"
    if not class_right:
        return "wrong_both"
    covered, on_it, best = common / area(truth), common / area(box), overlap.argmax()
    if (covered >= 0.5).sum() > 1:
        return "several"
    if on_it[best] >= 0.5 > covered[best]:
        return "part"
    return "too_large" if covered[best] >= 0.5 > on_it[best] else "elsewhere"
