"""From a heatmap to boxes: the rule in the paper's text, and the rule of the authors' release.

Boxes are (x1, y1, x2, y2) in pixels of the heatmap, both corners inside the box. A heatmap in which
nothing stands out (constant, or nowhere above zero) has the whole image as its box, in both rules;
one that is not 2-D, is empty, or holds NaN or infinity is a ValueError.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from cam_repro.config import ProtocolConfig

Box = tuple[int, int, int, int]
LOOSE, TIGHT = 0, 1  # the release's boxes of a map, by falling area


def paper_box(heatmap: np.ndarray, threshold: float = 0.2) -> Box:
    """The paper's box of a heatmap (H, W), from a class activation map (Zhou et al. 2016, §3.2).

    "Segment the regions of which the value is above 20% of the max value of the CAM", then "take
    the bounding box that covers the largest connected component": the one with the most pixels; of
    equals, the topmost, then the leftmost. When no pixel is kept, the box is the whole image.
    """
    heatmap = checked_heatmap(heatmap)
    kept = (heatmap > float(threshold) * heatmap.max()).view(np.uint8)
    if not kept.any():
        return whole_image_box(heatmap)
    _, labels = cv2.connectedComponents(kept, connectivity=8)
    pixels = np.bincount(labels.ravel())[1:]
    largest = 1 + np.flatnonzero(pixels == pixels.max())
    boxes = [cv2.boundingRect((labels == label).view(np.uint8)) for label in largest]
    x, y, w, h = min(boxes, key=lambda box: (box[1], box[0]))
    return x, y, x + w - 1, y + h - 1


def release_boxes(heatmap: np.ndarray, thresholds: Sequence[int] = (20, 100, 110)) -> list[Box]:
    """The release's boxes of an 8-bit heatmap (H, W), loose one first, then the tight one if there
    are two.

    Source: the release's `bboxgenerator/dt_box.cpp` and `dt.c`. Integers are taken as the stored
    8-bit map; a float heatmap goes through `eight_bit` first. Boxes of equal area keep the order in
    which they were found: thresholds as given, then contours as OpenCV lists them. The rule's
    clipping needs an image of at least 9 × 9 pixels: in a smaller one corners can be negative.
    """
    heatmap = eight_bit(heatmap)
    height, width = heatmap.shape
    found = []
    for threshold in thresholds:
        mask = _slightly_eroded((heatmap > threshold).astype(np.uint8))
        contours, _ = cv2.findContours(
            mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
        )  # outer borders and holes
        for x, y, w, h in map(cv2.boundingRect, contours):
            # Sizes go by the corner before it is clipped, as in the release, so they can be
            # negative.
            found.append(
                (
                    min(x, width - 5),
                    min(y, height - 5),
                    min(w, width - x - 5),
                    min(h, height - y - 5),
                )
            )
    if not found or heatmap.min() == heatmap.max():
        return [whole_image_box(heatmap)]
    found.sort(key=lambda rectangle: -rectangle[2] * rectangle[3])
    kept = _without_overlaps(np.array(found)).tolist()
    return [(min(x, x + w), min(y, y + h), max(x, x + w), max(y, y + h)) for x, y, w, h in kept]


def _slightly_eroded(mask: np.ndarray) -> np.ndarray:
    """Keep what is deeper than 10/255 of the deepest point: blobs much thinner than the thickest
    one go.
    """
    if mask.all() or not mask.any():
        return mask
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float64)
    rounded_half_up = np.floor(depth * (255.0 / depth.max()) + 0.5)
    return (rounded_half_up > 10).astype(np.uint8)


def _without_overlaps(rectangles: np.ndarray) -> np.ndarray:
    """Each of the rectangles (n, 4), the largest first, removes the smaller ones it overlaps by
    over half of its area.

    After a removal the release's loop steps past the rectangle that has moved into the gap: it is
    not compared.
    """
    i = 0
    while i < len(rectangles):
        x, y, w, h = rectangles[i]
        others_x, others_y, others_w, others_h = rectangles[i + 1 :].T
        across = np.minimum(x + w, others_x + others_w) - np.maximum(x, others_x)
        down = np.minimum(y + h, others_y + others_h) - np.maximum(y, others_y)
        removed: list[int] = []
        for j in np.flatnonzero(np.maximum(across, 0) * np.maximum(down, 0) > int(0.5 * w * h)):
            if not removed or j > removed[-1] + 1:
                removed.append(j)
        i += 1
        rectangles = np.delete(rectangles, [i + j for j in removed], axis=0)
    return rectangles


def eight_bit(heatmap: np.ndarray) -> np.ndarray:
    """As the release stores a heatmap (H, W): in units of its maximum / 255, rounded, no negatives:
    uint8.

    Integers are an 8-bit map already. A map that is nowhere positive becomes all 0.
    """
    heatmap = np.asarray(heatmap)
    if not np.issubdtype(heatmap.dtype, np.floating) and heatmap.ndim == 2 and heatmap.size:
        return heatmap
    heatmap = checked_heatmap(heatmap)
    maximum = heatmap.max()
    if maximum <= 0:
        return np.zeros(heatmap.shape, dtype=np.uint8)
    return np.floor(255.0 * np.maximum(heatmap / maximum, 0) + 0.5).astype(np.uint8)


def as_jpeg(heatmap: np.ndarray) -> np.ndarray:
    """An 8-bit heatmap (H, W) as a JPEG of quality 75 gives it back, in which the release kept its
    maps: uint8.
    """
    return cv2.imdecode(
        cv2.imencode(".jpg", heatmap, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_GRAYSCALE
    )


def checked_heatmap(heatmap: np.ndarray) -> np.ndarray:
    """The heatmap itself, in float32 or better; ValueError for what cannot have a box."""
    heatmap = np.asarray(heatmap)
    if heatmap.ndim != 2 or heatmap.size == 0:
        raise ValueError(f"a heatmap has the shape (height, width), got {heatmap.shape}")
    floating = np.issubdtype(heatmap.dtype, np.floating)
    heatmap = heatmap.astype(
        np.promote_types(heatmap.dtype, np.float32) if floating else np.float64, copy=False
    )
    if not (np.isfinite(heatmap.min()) and np.isfinite(heatmap.max())):
        raise ValueError("a heatmap has finite values, got NaN or infinity")
    return heatmap


def whole_image_box(heatmap: np.ndarray) -> Box:
    height, width = heatmap.shape
    return 0, 0, width - 1, height - 1


def resized_boxes(boxes: ArrayLike, size: tuple[int, int], new_size: tuple[int, int]) -> np.ndarray:
    """Boxes (…, 4) of an image of `size`, (width, height), in its pixels at `new_size`: int64.

    Both corners are inside the box, so that its area ends at x2 + 1, y2 + 1, and it is the area
    that is resized. The result is the smallest box that covers it: the whole image stays whole.
    """
    boxes = np.asarray(boxes, dtype=np.int64)
    old, new = np.array(size), np.array(new_size)
    first = boxes[..., :2] * new // old
    end = -(-(boxes[..., 2:] + 1) * new // old)  # rounded up
    corners = [np.clip(corner, 0, new - 1) for corner in (first, end - 1)]
    return np.concatenate(corners, axis=-1)


def loose_and_tight(heatmap: np.ndarray, protocol: ProtocolConfig) -> tuple[Box, Box]:
    """The loose and the tight box of a heatmap (H,W) by a protocol's rule; the same if it leaves
    but one.
    """
    boxes = BOX_RULES[protocol.boxes](heatmap, protocol)
    return boxes[LOOSE], boxes[min(TIGHT, len(boxes) - 1)]


# The rules of protocol.boxes=, by name: a heatmap (H, W) and the protocol's settings -> its boxes,
# loose one first.
BOX_RULES: dict[str, Callable[[np.ndarray, ProtocolConfig], list[Box]]] = {
    "paper": lambda heatmap, protocol: [paper_box(heatmap, protocol.threshold)],
    "release": lambda heatmap, protocol: release_boxes(
        as_jpeg(eight_bit(heatmap)) if protocol.jpeg else heatmap, protocol.thresholds
    ),
}
