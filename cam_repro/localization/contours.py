"""Contours of a mask, as OpenCV's `findContours` sees them, on scipy alone.

A component is 8-connected; a hole is a 4-connected piece of background that does not reach the image's edge.
Checked against OpenCV 3.4.18 and 5.0 (both treat the outside of the image as background).
"""

import numpy as np
from scipy import ndimage

from cam_repro.localization.components import runs

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)
AROUND_A_HOLE = np.array((-2, -2, 2, 2))  # one pixel for the pad, one for the pixels around the hole


def contour_rectangles(mask: np.ndarray) -> np.ndarray:
    """Bounding rectangles (x, y, w, h) of all contours of a mask (H, W), outer borders and holes: (n, 4).

    The contour of a hole runs along the pixels around it: its rectangle is one pixel larger on each side.
    Order: that of `findContours(…, RETR_CCOMP)`: components by their first pixel in raster order, the last
    one first, each followed by its own holes, again the last one first.
    """
    components, outer = _labelled(mask, EIGHT_CONNECTED)
    background, pieces = _labelled(np.pad(~mask, 1, constant_values=True), None)
    holes_of = {component: [] for component in range(len(outer))}
    for hole, (rows, columns) in enumerate(pieces[1:], start=2):  # the first piece is the outside
        first = columns.start + np.argmax(background[rows.start, columns] == hole)
        # Left of a hole's first pixel lies the component around it; the pad shifts both indices by one.
        owner = components[rows.start - 1, first - 2] - 1
        holes_of[owner].append(_rectangle(rows, columns) + AROUND_A_HOLE)
    listed = [
        rectangle
        for component in reversed(range(len(outer)))
        for rectangle in (_rectangle(*outer[component]), *reversed(holes_of[component]))
    ]
    return np.array(listed, dtype=np.int64).reshape(-1, 4)


def contour_rectangles_of(masks: np.ndarray) -> list[np.ndarray]:
    """`contour_rectangles` of each of K masks (K, H, W), all at once."""
    inside = runs(masks)
    outside = inside.background()
    components, pieces = inside.components(diagonal=True), outside.components(diagonal=False)
    masks_of, outer = inside.boxes(components)
    holes = outside.boxes(pieces)[1][1:]  # the first piece is the outside
    holes += np.array((-1, -1, 1, 1))
    first_run = np.zeros(len(holes) + 1, dtype=np.int64)
    first_run[pieces[::-1]] = np.arange(len(pieces))[::-1]  # of several, the last one stays
    owners = components[first_run[1:] - 1]  # left of a hole's first pixel lies the component around it
    owner = np.append(np.arange(len(outer)), owners)
    place = np.append(np.full(len(outer), len(holes)), np.arange(len(holes)))
    listed = np.lexsort((-place, -owner, masks_of[owner]))
    rectangles = np.concatenate([outer, holes])
    rectangles[:, 2:] += 1 - rectangles[:, :2]
    ends = np.cumsum(np.bincount(masks_of[owner], minlength=len(masks)))
    return np.split(rectangles[listed], ends)[:-1]


def _labelled(mask: np.ndarray, structure: np.ndarray | None) -> tuple[np.ndarray, list[tuple[slice, slice]]]:
    labels, _ = ndimage.label(mask, structure=structure)
    return labels, ndimage.find_objects(labels)


def _rectangle(rows: slice, columns: slice) -> np.ndarray:
    return np.array((columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start))
