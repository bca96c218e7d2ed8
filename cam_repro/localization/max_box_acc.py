"""MaxBoxAcc, the box accuracy of the WSOL benchmark (Choe et al., CVPR 2020).

Every threshold is tried, and the best one for the whole data set is kept, never the best one for an
image. Boxes come from the calls of OpenCV that the benchmark makes; thresholds that cut its 8-bit
map at the same level share them.
"""

from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from cam_repro.localization.boxes import PAPER_THRESHOLD, Box, checked_heatmap
from cam_repro.localization.iou import best_iou

THRESHOLDS = np.arange(0, 1, 0.001)
IOU_V1 = 0.5
IOUS_V2 = (0.3, 0.5, 0.7)
CURVES = ("v1", "v2_iou30", "v2_iou50", "v2_iou70")  # the rows of `right_by_threshold`
AT_20 = int(np.argmin(np.abs(THRESHOLDS - PAPER_THRESHOLD)))  # the place of the paper's
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
    right = []
    for heatmap, of_image in zip(heatmaps, true_boxes, strict=True):
        right.append(right_by_threshold(heatmap, of_image))
    return accuracies(np.stack(right))


def accuracies(right: np.ndarray, chosen: Mapping[str, float] | None = None) -> dict[str, object]:
    """From `right_by_threshold` of N images, (N, 4, 1000) bool; accuracies in percent.

    chosen: thresholds that were found on other images, as `best` of their accuracies; without them
    each number takes the threshold that is best for it on these very images.

    v1: at IoU 0.5, at its best threshold. v2: the mean over IoU 0.3, 0.5 and 0.7, each at its own
    best threshold, as the benchmark's evaluator has it. v2_one_threshold: that mean where one
    threshold must serve all three, which is another and lower number.
    v1_at_20, v2_at_20: at 20 % of the maximum, the paper's threshold.
    best: the thresholds that were taken (of equals the lowest), under the keys of CURVES and
    "v2_one_threshold". thresholds (1000,) and curves, {key of CURVES: (1000,)}.
    per_image: {number's name: (N,)}, what each image adds to it, 0…1, for a bootstrap.
    """
    curves = 100.0 * right.mean(axis=0)
    best = curves.argmax(axis=1)
    best_for_all = int(curves[1:].mean(axis=0).argmax())
    if chosen is not None:
        best = np.array([place_of(chosen[name]) for name in CURVES])
        best_for_all = place_of(chosen["v2_one_threshold"])
    right_at_best = np.take_along_axis(right, best[None, :, None], axis=2)[:, :, 0]
    v1 = right[:, 0]
    v2 = right[:, 1:]
    per_image = {
        "v1": right_at_best[:, 0].astype(float),
        "v2": right_at_best[:, 1:].mean(axis=1),
        "v2_one_threshold": v2[:, :, best_for_all].mean(axis=1),
        "v1_at_20": v1[:, AT_20].astype(float),
        "v2_at_20": v2[:, :, AT_20].mean(axis=1),
    }
    found: dict[str, object] = {}
    for name, added in per_image.items():
        found[name] = 100.0 * float(added.mean())
    best_thresholds = THRESHOLDS[[*best, best_for_all]].round(3).tolist()
    found["best"] = dict(zip((*CURVES, "v2_one_threshold"), best_thresholds, strict=True))
    found["thresholds"] = THRESHOLDS
    found["curves"] = dict(zip(CURVES, curves, strict=True))
    found["per_image"] = per_image
    return found


def place_of(threshold: float) -> int:
    """Which of THRESHOLDS is the nearest."""
    return int(np.argmin(np.abs(THRESHOLDS - threshold)))


def box_accuracy(boxes: Sequence[ArrayLike], true_boxes: Sequence[ArrayLike]) -> dict[str, float]:
    """v1 and v2, in percent, of one box (4,) an image, as a baseline has it, at no threshold."""
    best = []
    for box, of_image in zip(boxes, true_boxes, strict=True):
        best.extend(best_iou([box], of_image))
    best = np.array(best)
    v1 = (best >= IOU_V1).mean()
    v2 = np.mean([best >= iou for iou in IOUS_V2])
    return {"v1": 100.0 * float(v1), "v2": 100.0 * float(v2)}


def normalised(heatmap: np.ndarray) -> np.ndarray:
    """A heatmap (H, W) from its minimum, 0, to its maximum, 1; 0 everywhere if it is constant."""
    heatmap = checked_heatmap(heatmap)
    low = heatmap.min()
    high = heatmap.max()
    if low == high:
        return np.zeros_like(heatmap)
    return np.clip((heatmap - low) / (high - low), 0, 1)


def boxes_on_map(boxes: ArrayLike, image_size: tuple[int, int]) -> np.ndarray:
    """Boxes (M, 4) of an image of (width, height), on its map; cut to integers, not rounded."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    on_map = boxes * MAP_SIDE / np.tile(image_size, 2)
    return on_map.astype(np.int64)


def right_by_threshold(heatmap: np.ndarray, true_boxes: ArrayLike) -> np.ndarray:
    """One image -> (4, 1000) bool: whether it is right by each of CURVES, at each threshold.

    Source: `compute_bboxes_from_scoremaps` of the benchmark's code. Of contours that enclose equal
    areas V1 takes the one that OpenCV lists first.
    """
    heatmap = checked_heatmap(heatmap)
    low = heatmap.min()
    high = heatmap.max()
    if low < 0 or high > 1:
        raise ValueError(f"expected a heatmap normalised to 0…1, got {low:g}…{high:g}")
    stored = (heatmap * 255).astype(np.uint8)  # cut to integers, not rounded
    levels = (THRESHOLDS * stored.max()).astype(np.int64)
    cuts, cut_of_threshold = np.unique(levels, return_inverse=True)
    boxes: list[Box] = []  # of every contour of every cut
    first_of_cut = []  # of each cut: the place of its first contour's box among them
    largest_of_cut = []  # and of its largest contour's
    for cut in cuts:
        found, largest = _contour_boxes(stored > cut)
        first_of_cut.append(len(boxes))
        largest_of_cut.append(len(boxes) + largest)
        boxes += found
    overlap = best_iou(boxes, true_boxes)
    best_of_cut = np.maximum.reduceat(overlap, first_of_cut)
    right = [overlap[largest_of_cut] >= IOU_V1]
    for iou in IOUS_V2:
        right.append(best_of_cut >= iou)
    return np.stack(right)[:, cut_of_threshold]


def _contour_boxes(mask: np.ndarray) -> tuple[list[Box], int]:
    """The box of each contour of a mask (H, W), and the place of the largest contour's."""
    mask = mask.view(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return [NO_CONTOUR], 0
    height, width = mask.shape
    boxes = []
    for contour in contours:
        x, y, w, h = cv2.boundingRect(contour)
        right = min(x + w, width - 1)  # a pixel more than the contour, as the benchmark has it
        bottom = min(y + h, height - 1)
        boxes.append((x, y, right, bottom))
    areas = [cv2.contourArea(contour) for contour in contours]
    return boxes, int(np.argmax(areas))
