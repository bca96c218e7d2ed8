"""MaxBoxAcc, the box accuracy of the WSOL benchmark (Choe et al., CVPR 2020).

The threshold is swept and the best one for the whole data set kept, never the best for an image. Boxes come from the
calls of OpenCV that the benchmark makes; thresholds that cut its 8-bit map at the same level share them.
"""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import ArrayLike

from cam_repro.localization.boxes import checked_heatmap
from cam_repro.localization.iou import best_iou

THRESHOLDS = np.arange(0, 1, 0.001)
IOU_V1 = 0.5
IOUS_V2 = (0.3, 0.5, 0.7)
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
    return said


def normalised(heatmap: np.ndarray) -> np.ndarray:
    """A heatmap (H, W) from its minimum, 0, to its maximum, 1; where nothing stands out, 0 everywhere."""
    heatmap = checked_heatmap(heatmap)
    low, high = heatmap.min(), heatmap.max()
    if low == high:
        return np.zeros_like(heatmap)
    return np.clip((heatmap - low) / (high - low), 0, 1)


def boxes_on_map(boxes: ArrayLike, image_size: tuple[int, int]) -> np.ndarray:
    """Boxes (M, 4) of an image of (width, height) on its map, cut to integers as the benchmark does."""
    return (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * MAP_SIDE / np.tile(image_size, 2)).astype(np.int64)


def right_by_threshold(heatmap: np.ndarray, true_boxes: ArrayLike) -> np.ndarray:
    """One image -> (4, thresholds) bool: right by V1, and by V2 at each of its IoUs.

    Source: `compute_bboxes_from_scoremaps` of the benchmark's code. Of contours that enclose equal areas V1 takes the
    one that OpenCV lists first.
    """
    heatmap = checked_heatmap(heatmap)
    if heatmap.min() < 0 or heatmap.max() > 1:
        raise ValueError(f"expected a heatmap normalised to 0…1, got {heatmap.min():g}…{heatmap.max():g}")
    stored = (heatmap * 255).astype(np.uint8)  # cut to integers, not rounded
    height, width = stored.shape
    cuts, cut_of_threshold = np.unique((THRESHOLDS * stored.max()).astype(np.int64), return_inverse=True)
    boxes, largest, first_of_cut = [], [], []
    for cut in cuts:
        mask = (stored > cut).astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        first_of_cut.append(len(boxes))
        largest.append(len(boxes) + (int(np.argmax([*map(cv2.contourArea, contours)])) if contours else 0))
        for x, y, w, h in map(cv2.boundingRect, contours):
            boxes.append((x, y, min(x + w, width - 1), min(y + h, height - 1)))
        if not contours:
            boxes.append(NO_CONTOUR)
    overlap = best_iou(np.array(boxes), true_boxes)
    of_largest, of_any = overlap[largest], np.maximum.reduceat(overlap, first_of_cut)
    right = np.stack([of_largest >= IOU_V1, *(of_any >= iou for iou in IOUS_V2)])
    return right[:, cut_of_threshold]
