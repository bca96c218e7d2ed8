"""MaxBoxAcc, the box accuracy of the WSOL benchmark (Choe et al., CVPR 2020).

Every threshold is tried, and the best one for the whole data set is kept, never the best one for an
image. Boxes come from the calls of OpenCV that the benchmark makes; thresholds that cut its 8-bit
map at the same level share them.
"""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from cam_repro.localization.boxes import checked_heatmap
from cam_repro.localization.iou import best_iou

THRESHOLDS = np.arange(0, 1, 0.001)
IOU_V1 = 0.5
IOUS_V2 = (0.3, 0.5, 0.7)
CURVES = ("v1", "v2_iou30", "v2_iou50", "v2_iou70")  # the rows of `right_by_threshold`
AT_20 = int(np.argmin(np.abs(THRESHOLDS - 0.2)))  # the paper's threshold
MAP_SIDE = 224  # pixels a side of the benchmark's maps
NO_CONTOUR = (0, 0, 0, 0)  # the benchmark's box where nothing is above the cut


def max_box_accuracy(
    heatmaps: Iterable[np.ndarray], true_boxes: Iterable[ArrayLike]
) -> dict[str, object]:
    """Heatmaps (N, H, W), min-max normalised to [0, 1], of the true classes, against their boxes.

    true_boxes: N arrays (M, 4) on those maps (`boxes_on_map` brings boxes from the image to the
    map). Both may be any iterable. An image without a true box is never right.
    Returns what `accuracies` says of them.
    """
    pairs = zip(heatmaps, true_boxes, strict=True)
    per_image = [right_by_threshold(heatmap, boxes) for heatmap, boxes in pairs]
    return accuracies(np.stack(per_image))


def accuracies(right: np.ndarray) -> dict[str, object]:
    """From `right_by_threshold` of N images, (N, 4, 1000) bool; accuracies in percent.

    v1: at IoU 0.5, at its best threshold. v2: the mean over IoU 0.3, 0.5 and 0.7, each at its own
    best threshold, as the benchmark's evaluator has it. v2_one_threshold: that mean where one
    threshold must serve all three, which is another and lower number.
    v1_at_20, v2_at_20: at 20 % of the maximum, the paper's threshold.
    best: the thresholds that reach them (the lowest of equals), under the keys of CURVES and
    "v2_one_threshold". thresholds (1000,) and curves, {key of CURVES: (1000,)}.
    per_image: {number's name: (N,)}, what each image adds to it, 0…1, for a bootstrap.
    """
    curves = 100.0 * right.mean(axis=0)
    best = curves.argmax(axis=1)
    best_for_all = int(curves[1:].mean(axis=0).argmax())
    v2_at_best = np.stack([right[:, row, best[row]] for row in (1, 2, 3)], axis=1)
    per_image = {
        "v1": right[:, 0, best[0]].astype(float),
        "v2": v2_at_best.mean(axis=1),
        "v2_one_threshold": right[:, 1:, best_for_all].mean(axis=1),
        "v1_at_20": right[:, 0, AT_20].astype(float),
        "v2_at_20": right[:, 1:, AT_20].mean(axis=1),
    }
    best_places = dict(zip(CURVES, best, strict=True)) | {"v2_one_threshold": best_for_all}
    return {
        **{name: 100.0 * float(added.mean()) for name, added in per_image.items()},
        "best": {name: round(float(THRESHOLDS[place]), 3) for name, place in best_places.items()},
        "thresholds": THRESHOLDS,
        "curves": dict(zip(CURVES, curves, strict=True)),
        "per_image": per_image,
    }


def box_accuracy(boxes: Sequence[ArrayLike], true_boxes: Sequence[ArrayLike]) -> dict[str, float]:
    """v1 and v2, in percent, of one box (4,) an image, as a baseline has it; without a threshold."""
    pairs = zip(boxes, true_boxes, strict=True)
    best = np.array([best_iou([box], of_image)[0] for box, of_image in pairs])
    return {
        "v1": 100.0 * float((best >= IOU_V1).mean()),
        "v2": 100.0 * float(np.mean([best >= iou for iou in IOUS_V2])),
    }


def normalised(heatmap: np.ndarray) -> np.ndarray:
    """A heatmap (H, W) from its minimum, 0, to its maximum, 1; 0 everywhere if it is constant."""
    heatmap = checked_heatmap(heatmap)
    low = heatmap.min()
    high = heatmap.max()
    if low == high:
        return np.zeros_like(heatmap)
    return np.clip((heatmap - low) / (high - low), 0, 1)


def boxes_on_map(boxes: ArrayLike, image_size: tuple[int, int]) -> np.ndarray:
    """Boxes (M, 4) of an image of (width, height) on its map, cut to integers as the benchmark
    does.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return (boxes * MAP_SIDE / np.tile(image_size, 2)).astype(np.int64)


def right_by_threshold(heatmap: np.ndarray, true_boxes: ArrayLike) -> np.ndarray:
    """One image -> (4, 1000) bool: whether it is right by each of CURVES, at each threshold.

    Source: `compute_bboxes_from_scoremaps` of the benchmark's code. Of contours that enclose equal
    areas V1 takes the one that OpenCV lists first.
    """
    heatmap = checked_heatmap(heatmap)
    if heatmap.min() < 0 or heatmap.max() > 1:
        found = f"{heatmap.min():g}…{heatmap.max():g}"
        raise ValueError(f"expected a heatmap normalised to 0…1, got {found}")
    stored = (heatmap * 255).astype(np.uint8)  # cut to integers, not rounded
    height, width = stored.shape
    levels = (THRESHOLDS * stored.max()).astype(np.int64)
    cuts, cut_of_threshold = np.unique(levels, return_inverse=True)
    boxes = []
    largest = []  # of each cut: the place of its largest contour's box
    first_of_cut = []
    for cut in cuts:
        mask = (stored > cut).astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        first_of_cut.append(len(boxes))
        if not contours:
            largest.append(len(boxes))
            boxes.append(NO_CONTOUR)
            continue
        areas = [cv2.contourArea(contour) for contour in contours]
        largest.append(len(boxes) + int(np.argmax(areas)))
        for contour in contours:
            x, y, w, h = cv2.boundingRect(contour)
            boxes.append((x, y, min(x + w, width - 1), min(y + h, height - 1)))
    overlap = best_iou(np.array(boxes), true_boxes)
    of_largest = overlap[largest]
    of_any = np.maximum.reduceat(overlap, first_of_cut)
    right = np.stack([of_largest >= IOU_V1, *(of_any >= iou for iou in IOUS_V2)])
    return right[:, cut_of_threshold]
