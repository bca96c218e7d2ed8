"""The release's erosion of many masks at once: keep what is deeper than 10/255 of the deepest point.

A pixel's depth is its distance to the nearest background pixel. The whole distance transform would be most of a
box's cost, and says far more than is asked: about how deep the deepest pixel is (a search in ever smaller squares),
and which pixels lie within some small distance of the background.
"""

from math import isqrt

import numpy as np

SHARE = (10.5 / 255) ** 2  # of the largest squared depth; up to there a depth rounds to 10/255 or less, and goes
COARSEST = 32  # pixels, the side of the squares in which the search for the deepest pixel starts
QUARTERS = np.array([(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)])


def slightly_eroded(masks: np.ndarray) -> np.ndarray:
    """Masks (K, H, W) -> (K, H, W): blobs much thinner than the mask's thickest one go, whatever its size."""
    gaps = np.stack([_vertical_gaps(mask) for mask in masks])
    goes = _largest_to_go(_deepest(gaps))
    return np.stack([_without_shallow(*of_mask) for of_mask in zip(masks, gaps, goes.tolist(), strict=True)])


def _vertical_gaps(mask: np.ndarray) -> np.ndarray:
    """From each pixel (H, W) to the next background pixel in its column; H + W or more where the column has none."""
    height, width = mask.shape
    small = np.promote_types(np.int16, np.min_scalar_type(-3 * (height + width)))
    gaps = np.multiply(mask, height + width, dtype=small)
    step = 1
    while step < height and step <= gaps.max():  # gaps below the step are right already
        stepped = gaps + small.type(step)
        np.minimum(gaps[step:], stepped[:-step], out=gaps[step:])
        np.minimum(gaps[:-step], stepped[step:], out=gaps[:-step])
        step *= 2
    return gaps


def _deepest(gaps: np.ndarray) -> np.ndarray:
    """The squared depth of the deepest pixel of each mask (K,), as exact as `_largest_to_go` needs it.

    Branch and bound. Depth changes by no more than the way one goes: a square where not even the pixel farthest
    from the centre can be deep enough to matter is given up, the others are cut into four.
    """
    count, height, width = gaps.shape
    has_background = np.flatnonzero((gaps == 0).any(axis=(1, 2)))
    side = COARSEST
    corners = np.meshgrid(has_background, np.arange(0, height, side), np.arange(0, width, side))
    squares = np.stack(corners, axis=-1).reshape(-1, 3)  # mask, top, left
    deepest = np.zeros(count, dtype=np.int64)
    while side:
        half = side // 2
        masks, y, x = np.minimum(squares + np.array((0, half, half)), np.array(gaps.shape) - 1).T
        across = x.astype(np.int32)[:, None] - np.arange(width, dtype=np.int32)
        squared = (np.square(gaps[masks, y], dtype=np.int32) + across * across).min(axis=1)
        np.maximum.at(deepest, masks, squared)
        at_most = (np.sqrt(squared) + side * np.sqrt(0.5)) ** 2
        matters = np.floor(at_most * SHARE + 1e-6) > np.floor(deepest[masks] * SHARE - 1e-6)
        squares = (squares[matters, None] + half * QUARTERS).reshape(-1, 3)
        squares = squares[(squares[:, 1] < height) & (squares[:, 2] < width)]
        side = half
    return deepest


def _largest_to_go(deepest: np.ndarray) -> np.ndarray:
    """Largest squared depths (K,) -> the largest of those that round to 10/255 of it or less (K,), 0 if none."""
    squared = np.arange(1, int(deepest.max(initial=0) * SHARE) + 3)
    per_pixel = 255.0 / np.sqrt(np.maximum(deepest, 1))
    rounded_half_up = np.floor(np.sqrt(squared) * per_pixel[:, None] + 0.5)
    return np.count_nonzero(rounded_half_up <= 10, axis=1)


def _without_shallow(mask: np.ndarray, gaps: np.ndarray, squared: int) -> np.ndarray:
    """The mask (H, W) but for what lies within a squared distance of its background."""
    mask, width = mask.copy(), mask.shape[1]
    for across in range(isqrt(squared) + 1 if squared else 0):
        far = gaps > isqrt(squared - across**2)
        mask[:, across:] &= far[:, : width - across]
        mask[:, : width - across] &= far[:, across:]
    return mask
