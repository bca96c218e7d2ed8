"""From a heatmap to boxes: the rule in the paper's text, and the rule of the authors' release.

Boxes are (x1, y1, x2, y2) in pixels of the heatmap, both corners inside the box. A heatmap in which
nothing stands out (constant, or nowhere above zero) has the whole image as its box, in both rules;
one that is not 2-D, is empty, or holds NaN or infinity is a ValueError.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

from cam_repro.config import ProtocolConfig

Box = tuple[int, int, int, int]
LOOSE, TIGHT = 0, 1  # the release's boxes of a map, by falling area
PAPER_THRESHOLD = 0.2  # of the map's maximum (Zhou et al. 2016, §3.2)
RELEASE_THRESHOLDS = (20, 100, 110)  # of 255
LEAST_DEPTH = 10.5 / 255  # of the deepest point: what the release keeps rounds to more than 10
MARGIN = 5  # pixels at the right and at the foot of an image that the release clips boxes to


def paper_box(heatmap: np.ndarray, threshold: float = PAPER_THRESHOLD) -> Box:
    """The paper's box of a heatmap (H, W), from a class activation map (Zhou et al. 2016, §3.2).

    "Segment the regions of which the value is above 20% of the max value of the CAM", then "take
    the bounding box that covers the largest connected component": the one with the most pixels; of
    equals, the topmost, then the leftmost. When no pixel is above, the box is the whole image.
    """
    return paper_regions(heatmap, threshold, largest=True)[0].box


@dataclass(frozen=True)
class Region:
    """A connected region of a heatmap's pixels above a threshold.

    share: of the heatmap's pixels; mask (y2-y1+1, x2-x1+1) of bool: what of the box is the region.
    """

    box: Box
    share: float
    mask: np.ndarray


def paper_regions(
    heatmap: np.ndarray, threshold: float = PAPER_THRESHOLD, *, largest: bool = False
) -> list[Region]:
    """Every region of which `paper_box` takes the first, by falling size.

    Of equals the topmost is first, then the leftmost. When no pixel is above the threshold there is
    one, the whole image. largest: those alone that are as large as the largest.
    """
    heatmap = checked_heatmap(heatmap)
    above = (heatmap > float(threshold) * heatmap.max()).view(np.uint8)
    left, top, width, height = cv2.boundingRect(above)
    if width == 0:
        return [Region(whole_image_box(heatmap), 1.0, np.ones(heatmap.shape, bool))]
    above = above[top : top + height, left : left + width]
    count, labels = cv2.connectedComponents(above, connectivity=8)
    if count == 2:  # the background and one region, as in most class activation maps
        box = (left, top, left + width - 1, top + height - 1)
        return [Region(box, cv2.countNonZero(above) / heatmap.size, above.view(bool))]
    pixels = np.bincount(labels.ravel())
    pixels[0] = 0  # the background's
    wanted = pixels == pixels.max() if largest else pixels > 0
    regions = []
    for label in np.flatnonzero(wanted):
        of_label = labels == label
        x, y, w, h = cv2.boundingRect(of_label.view(np.uint8))
        box = (left + x, top + y, left + x + w - 1, top + y + h - 1)
        mask = of_label[y : y + h, x : x + w]
        regions.append(Region(box, float(pixels[label] / heatmap.size), mask))
    regions.sort(key=lambda region: (-region.share, region.box[1], region.box[0]))
    return regions


def release_boxes(heatmap: np.ndarray, thresholds: Sequence[int] = RELEASE_THRESHOLDS) -> list[Box]:
    """The release's boxes of an 8-bit heatmap (H, W): the loose one, then the tight ones, if any.

    Source: the release's `bboxgenerator/dt_box.cpp` and `dt.c`. Integers are taken as the stored
    8-bit map; a float heatmap goes through `eight_bit` first. Boxes of equal area keep the order in
    which they were found: thresholds as given, then contours as OpenCV lists them. The rule's
    clipping needs an image of at least 9 × 9 pixels: in a smaller one corners can be negative.
    """
    heatmap = eight_bit(heatmap)
    if heatmap.min() == heatmap.max():
        return [whole_image_box(heatmap)]
    height, width = heatmap.shape
    rectangles = []
    for threshold in thresholds:
        mask = (heatmap > threshold).view(np.uint8)
        for contour in _contours_of_the_deep_part(mask):
            x, y, w, h = cv2.boundingRect(contour)
            # As in the release, sizes go by the corner before it is clipped: they can be negative.
            w = min(w, width - x - MARGIN)
            h = min(h, height - y - MARGIN)
            x = min(x, width - MARGIN)
            y = min(y, height - MARGIN)
            rectangles.append((x, y, w, h))
    if not rectangles:
        return [whole_image_box(heatmap)]
    rectangles.sort(key=lambda rectangle: -rectangle[2] * rectangle[3])
    kept = _without_overlaps(np.array(rectangles))
    boxes = []
    for x, y, w, h in kept.tolist():
        left, right = sorted((x, x + w))
        top, bottom = sorted((y, y + h))
        boxes.append((left, top, right, bottom))
    return boxes


def _contours_of_the_deep_part(mask: np.ndarray) -> Sequence[np.ndarray]:
    """Outer borders and holes of a mask (H, W) without the blobs much thinner than the thickest.

    A pixel's depth is its distance to the background. One pixel of background round the mask is
    all that depths and contours depend on, so the rest of the image is left out.
    """
    x, y, w, h = cv2.boundingRect(mask)
    left = max(x - 1, 0)
    top = max(y - 1, 0)
    mask = mask[top : y + h + 1, left : x + w + 1]
    if not mask.all():  # else there is no background, and no depth
        depth = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        least = LEAST_DEPTH * np.float64(depth.max())  # float32 would round some depths to it
        mask = (depth >= least).view(np.uint8)
    offset = (left, top)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=offset)
    return contours


def _without_overlaps(rectangles: np.ndarray) -> np.ndarray:
    """Rectangles (n, 4), largest first, less those of which a larger one covers over half.

    The half is that of the larger one. After a removal the release's loop steps past the rectangle
    that has moved into the gap: it is not compared.
    """
    first = rectangles[:, :2]
    end = first + rectangles[:, 2:]
    area = rectangles[:, 2] * rectangles[:, 3]
    places = np.arange(len(rectangles))  # of those that are left
    i = 0
    while i < len(places):
        larger = places[i]
        i += 1
        smaller = places[i:]
        common_first = np.maximum(first[larger], first[smaller])
        common_end = np.minimum(end[larger], end[smaller])
        shared = np.maximum(common_end - common_first, 0).prod(axis=1)
        removed: list[int] = []
        for j in np.flatnonzero(shared > int(0.5 * area[larger])):
            if not removed or j > removed[-1] + 1:
                removed.append(j)
        places = np.delete(places, i + np.array(removed, int))
    return rectangles[places]


def eight_bit(heatmap: np.ndarray) -> np.ndarray:
    """A heatmap (H, W) as the release stores it: uint8, 255 at the maximum, 0 for negatives.

    Values are rounded. Integers are an 8-bit map already. A map that is nowhere positive becomes
    all 0.
    """
    heatmap = np.asarray(heatmap)
    is_integer = not np.issubdtype(heatmap.dtype, np.floating)
    if is_integer and heatmap.ndim == 2 and heatmap.size:
        return heatmap
    heatmap = checked_heatmap(heatmap)
    maximum = heatmap.max()
    if maximum <= 0:
        return np.zeros(heatmap.shape, dtype=np.uint8)
    share_of_maximum = np.maximum(heatmap / maximum, 0)
    return (255.0 * share_of_maximum + 0.5).astype(np.uint8)


def as_jpeg(heatmap: np.ndarray) -> np.ndarray:
    """An 8-bit heatmap (H, W) as the release's JPEG of quality 75 gives it back: uint8."""
    _, encoded = cv2.imencode(".jpg", heatmap, [cv2.IMWRITE_JPEG_QUALITY, 75])
    return cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)


def checked_heatmap(heatmap: np.ndarray) -> np.ndarray:
    """The heatmap itself, in float32 or better; ValueError for what cannot have a box."""
    heatmap = np.asarray(heatmap)
    if heatmap.ndim != 2 or heatmap.size == 0:
        raise ValueError(f"a heatmap has the shape (height, width), got {heatmap.shape}")
    precision = np.float64
    if np.issubdtype(heatmap.dtype, np.floating):
        precision = np.promote_types(heatmap.dtype, np.float32)
    heatmap = heatmap.astype(precision, copy=False)
    if not np.isfinite([heatmap.min(), heatmap.max()]).all():
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
    old = np.array(size)
    new = np.array(new_size)
    first = boxes[..., :2] * new // old
    end = -(-(boxes[..., 2:] + 1) * new // old)  # rounded up
    first = np.clip(first, 0, new - 1)
    last = np.clip(end - 1, 0, new - 1)
    return np.concatenate([first, last], axis=-1)


def loose_and_tight(heatmap: np.ndarray, protocol: ProtocolConfig) -> tuple[Box, Box]:
    """A heatmap's (H,W) loose and tight box by a protocol's rule; the same if there is but one."""
    boxes = BOX_RULES[protocol.boxes](heatmap, protocol)
    if len(boxes) == 1:
        return boxes[0], boxes[0]
    return boxes[LOOSE], boxes[TIGHT]


def _paper_rule(heatmap: np.ndarray, protocol: ProtocolConfig) -> list[Box]:
    return [paper_box(heatmap, protocol.threshold)]


def _release_rule(heatmap: np.ndarray, protocol: ProtocolConfig) -> list[Box]:
    if protocol.jpeg:
        heatmap = as_jpeg(eight_bit(heatmap))
    return release_boxes(heatmap, protocol.thresholds)


# The rules of protocol.boxes=, by name: a heatmap (H, W) and the protocol's settings -> its boxes,
# loose one first.
BOX_RULES: dict[str, Callable[[np.ndarray, ProtocolConfig], list[Box]]] = {
    "paper": _paper_rule,
    "release": _release_rule,
}
