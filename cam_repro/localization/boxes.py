"""From a heatmap to boxes: the rule in the paper's text, and the rule of the authors' release.

Boxes are (x1, y1, x2, y2) in pixels of the heatmap, both corners inside the box.
A heatmap in which nothing stands out (constant, or nowhere above zero) has the whole image as its box, in
both rules; one that is not 2-D, is empty, or holds NaN or infinity is a ValueError.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from cam_repro.localization.components import runs
from cam_repro.localization.contours import EIGHT_CONNECTED, contour_rectangles, contour_rectangles_of
from cam_repro.localization.erosion import slightly_eroded
from cam_repro.localization.level_sets import cuts_below, level_sets

Box = tuple[int, int, int, int]


def paper_box(heatmap: np.ndarray, threshold: float = 0.2) -> Box:
    """The paper's box of a heatmap (H, W), from a class activation map (Zhou et al. 2016, §3.2).

    "Segment the regions of which the value is above 20% of the max value of the CAM", then "take the bounding
    box that covers the largest connected component": the one with the most pixels; of equals, the first in
    raster order. When no pixel is kept, the box is the whole image.
    """
    heatmap = checked_heatmap(heatmap)
    kept = heatmap > float(threshold) * heatmap.max()
    if not kept.any():
        return whole_image_box(heatmap)
    components, _ = ndimage.label(kept, structure=EIGHT_CONNECTED)
    pixels = np.bincount(components.ravel())
    largest = 1 + np.argmax(pixels[1:])
    rows, columns = ndimage.find_objects(components, largest)[-1]
    return columns.start, rows.start, columns.stop - 1, rows.stop - 1


def paper_boxes(heatmaps: np.ndarray, threshold: float = 0.2) -> np.ndarray:
    """`paper_box` of each of M heatmaps (M, H, W), all at once: -> (M, 4) int64."""
    heatmaps = _floating(_of_shape(heatmaps, ("maps", "height", "width")))
    count, height, width = heatmaps.shape
    lowest, highest = (find(heatmaps.reshape(count, height * width), axis=1) for find in (np.min, np.max))
    _refuse_infinite(lowest, highest)
    inside = runs(heatmaps, above=float(threshold) * highest[:, None, None])
    if len(inside.starts) > heatmaps.size // 8:  # noise: its pixels are labelled faster than its runs
        return np.array([paper_box(heatmap, threshold) for heatmap in heatmaps])
    components = inside.components(diagonal=True)
    of_heatmap, boxes = inside.boxes(components)
    pixels = np.bincount(components, inside.ends - inside.starts)
    largest_last = np.argsort(-pixels, kind="stable")[::-1]  # of equals, the first in raster order last
    drawn = np.tile([0, 0, width - 1, height - 1], (count, 1))
    drawn[of_heatmap[largest_last]] = boxes[largest_last]
    return drawn


def release_boxes(heatmap: np.ndarray, thresholds: Sequence[int] = (20, 100, 110)) -> list[Box]:
    """The release's boxes of an 8-bit heatmap (H, W), loose one first, then the tight one if there are two.

    Source: the release's `bboxgenerator/dt_box.cpp` and `dt.c`. Integers are taken as the stored
    8-bit map; a float heatmap goes through `eight_bit` first. Boxes of equal area keep the order in which
    they were found: thresholds as given, then contours as OpenCV lists them.
    The rule's clipping needs an image of at least 9 × 9 pixels: in a smaller one corners can be negative.
    """
    heatmap = eight_bit(heatmap)
    masks = [_slightly_eroded(heatmap > threshold) for threshold in thresholds]
    return _loose_first(heatmap, [contour_rectangles(mask) for mask in masks])


def release_boxes_of(heatmaps: np.ndarray, thresholds: Sequence[int] = (20, 100, 110)) -> list[list[Box]]:
    """`release_boxes` of each of M heatmaps (M, H, W), the contours of all of them at once."""
    stored = [eight_bit(heatmap) for heatmap in heatmaps]
    masks = [slightly_eroded(np.stack([heatmap > threshold for threshold in thresholds])) for heatmap in stored]
    contours = iter(contour_rectangles_of(np.concatenate(masks)) if masks else ())
    return [_loose_first(heatmap, [next(contours) for _ in thresholds]) for heatmap in stored]


def threshold_sweep(heatmap: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """`paper_box` of a heatmap (H, W) at each of T thresholds (T,), in one pass: -> (T, 4) int64."""
    heatmap = checked_heatmap(heatmap)
    cuts = np.asarray(thresholds).astype(heatmap.dtype) * heatmap.max()
    rising = np.argsort(cuts)
    components = level_sets(cuts_below(heatmap, cuts[rising]), len(cuts), heatmap)
    *box, first = components.extents()
    # The most pixels; of equals, the first in raster order.
    rank = np.where(components.alive, components.pixels() * components.levels.size - first, -1)
    largest = np.argmax(rank, axis=0)
    boxes = np.empty((len(cuts), 4), dtype=np.int64)
    boxes[rising] = np.stack(box, axis=-1)[largest, np.arange(len(cuts))]
    boxes[heatmap.max() <= cuts] = whole_image_box(heatmap)
    return boxes


def eight_bit(heatmap: np.ndarray) -> np.ndarray:
    """As the release stores a heatmap (H, W): in units of its maximum / 255, rounded, no negatives: uint8.

    Integers are an 8-bit map already. A map that is nowhere positive becomes all 0.
    """
    heatmap = _of_shape(heatmap, ("height", "width"))
    if not np.issubdtype(heatmap.dtype, np.floating):
        return heatmap
    maximum = checked_heatmap(heatmap).max()
    if maximum <= 0:
        return np.zeros(heatmap.shape, dtype=np.uint8)
    return np.floor(255.0 * np.maximum(heatmap / maximum, 0) + 0.5).astype(np.uint8)


def whole_image_box(heatmap: np.ndarray) -> Box:
    height, width = heatmap.shape
    return 0, 0, width - 1, height - 1


def checked_heatmap(heatmap: np.ndarray) -> np.ndarray:
    """The heatmap itself, in float32 or better; ValueError for what cannot have a box."""
    heatmap = _floating(_of_shape(heatmap, ("height", "width")))
    _refuse_infinite(heatmap.min(), heatmap.max())
    return heatmap


def _of_shape(heatmap: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
    heatmap = np.asarray(heatmap)
    if heatmap.ndim != len(axes) or 0 in heatmap.shape[-2:]:
        raise ValueError(f"a heatmap has the shape ({', '.join(axes)}), got {heatmap.shape}")
    return heatmap


def _floating(heatmap: np.ndarray) -> np.ndarray:
    if not np.issubdtype(heatmap.dtype, np.floating):
        return heatmap.astype(np.float64)
    return heatmap.astype(np.promote_types(heatmap.dtype, np.float32), copy=False)


def _refuse_infinite(lowest: np.ndarray, highest: np.ndarray) -> None:
    if not (np.isfinite(lowest).all() and np.isfinite(highest).all()):
        raise ValueError("a heatmap has finite values, got NaN or infinity")


def _loose_first(heatmap: np.ndarray, contours: list[np.ndarray]) -> list[Box]:
    """The boxes left of a heatmap's contours (n, 4) at each threshold, x, y, w, h: clipped, ranked, compared."""
    rectangles = np.concatenate([_clipped(of_threshold, heatmap.shape) for of_threshold in contours])
    if len(rectangles) == 0 or heatmap.min() == heatmap.max():
        return [whole_image_box(heatmap)]
    by_area = np.argsort(-_area(rectangles), kind="stable")
    return [_corners(*rectangle) for rectangle in _without_overlaps(rectangles[by_area]).tolist()]


def _slightly_eroded(mask: np.ndarray) -> np.ndarray:
    """Keep what is deeper than 10/255 of the deepest point: blobs much thinner than the thickest one go."""
    if mask.all() or not mask.any():
        return mask
    depth = ndimage.distance_transform_edt(mask)
    rounded_half_up = np.floor(depth * (255.0 / depth.max()) + 0.5)
    return rounded_half_up > 10


def _clipped(rectangles: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """5 pixels off the far edges; the sizes go by the unclipped corner, so they can be negative."""
    size = np.array(shape[::-1])
    corner, extent = rectangles[:, :2], rectangles[:, 2:]
    return np.hstack([np.minimum(corner, size - 5), np.minimum(extent, size - corner - 5)])


def _without_overlaps(rectangles: np.ndarray) -> np.ndarray:
    """Each rectangle removes the smaller ones it overlaps too much, but for those the release's loop skips.

    rectangles (n, 4), the largest first. The loop steps on after a removal, past the rectangle that has just moved
    into the gap: of a run of rectangles that all overlap too much, every second one survives.
    """
    position = 0
    while position < len(rectangles):
        too_much = _overlaps_too_much(rectangles[position], rectangles[position + 1 :])
        position += 1
        if too_much.any():
            index = np.arange(len(too_much))
            place_in_run = index - np.maximum.accumulate(np.where(too_much, -1, index))  # 1, 2, 3 … within a run
            removed = too_much & (place_in_run % 2 == 1)
            rectangles = np.concatenate([rectangles[:position], rectangles[position:][~removed]])
    return rectangles


def _overlaps_too_much(largest: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Is the intersection more than half of the larger area, that half cut to an integer?"""
    first = np.maximum(largest[:2], others[:, :2])
    last = np.minimum(largest[:2] + largest[2:], others[:, :2] + others[:, 2:])
    across, down = np.maximum(last - first, 0).T
    return across * down > int(0.5 * _area(largest))


def _area(rectangles: np.ndarray) -> np.ndarray:
    return rectangles[..., 2] * rectangles[..., 3]


def _corners(x: int, y: int, w: int, h: int) -> Box:
    return min(x, x + w), min(y, y + h), max(x, x + w), max(y, y + h)
