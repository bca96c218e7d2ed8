"""Connected components of many masks at once, from their runs: the pixels of a row between one gap and the next.

A mask of a smooth map has few runs, whatever its size. The runs of all masks lie in one line of pixels, row after
row and mask after mask, with a gap of one pixel before every row, and a row of gaps before every mask and at the
end. So one search finds the runs that touch in neighbouring rows of all masks, and one graph their components.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Runs:
    """R runs of masks of a shape (K, H, W): starts and ends (R,), rising indices in the line; ends are not inside."""

    starts: np.ndarray
    ends: np.ndarray
    shape: tuple[int, int, int]

    def background(self) -> "Runs":
        """What lies between the runs, gaps included: run i comes after background run i, before i + 1."""
        return Runs(np.append(0, self.ends), np.append(self.starts, np.prod(_line_shape(self.shape))), self.shape)

    def components(self, diagonal: bool) -> np.ndarray:
        """The component of each run (R,), numbered 0, 1, … by their first runs.

        diagonal: do pixels that share no more than a corner touch (8-connected) or not (4-connected)?
        """
        below, reach = self.shape[2] + 1, int(diagonal)
        # Each run touches the runs first … last − 1 in the next row.
        first = np.searchsorted(self.ends, self.starts + below - reach, side="right")
        last = np.searchsorted(self.starts, self.ends + below + reach, side="left")
        counts = np.maximum(last - first, 0)
        offsets = np.append(0, np.cumsum(counts))
        touched = np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], counts)
        graph = csr_array((np.ones(len(touched)), touched, offsets), shape=(len(first), len(first)))
        return connected_components(graph, directed=False)[1]  # scipy visits, and so numbers, the first runs first

    def boxes(self, components: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mask of each component (C,), and its box (C, 4): x1, y1, x2, y2, both corners inside."""
        height, width = self.shape[1] + 1, self.shape[2] + 1
        rows, left = np.divmod(self.starts, width)
        x1, y1, x2, y2 = boxes = np.zeros((4, components.max(initial=-1) + 1), dtype=np.int64)
        x1[:] = width
        np.minimum.at(x1, components, left)
        np.maximum.at(x2, components, self.ends - 1 - rows * width)
        y1[components[::-1]] = rows[::-1]  # of several, the last one stays
        y2[components] = rows
        masks = y1 // height
        boxes[1::2] -= masks * height
        return masks, boxes.T - 1  # a gap comes first in both axes


def runs(values: np.ndarray, above: np.ndarray | bool = False) -> Runs:
    """The runs of {values > above}, values (K, H, W); of the masks themselves if they are masks."""
    count, height, width = values.shape
    line = np.zeros(_line_shape(values.shape), dtype=bool)
    np.greater(values, above, out=line[:-1].reshape(count, height + 1, width + 1)[:, 1:, 1:])
    line = line.ravel()
    flips = np.flatnonzero(line[1:] != line[:-1]) + 1
    return Runs(flips[::2].copy(), flips[1::2].copy(), values.shape)


def _line_shape(shape: tuple[int, int, int]) -> tuple[int, int]:
    """The line's shape as rows of one width."""
    count, height, width = shape
    return count * (height + 1) + 1, width + 1
