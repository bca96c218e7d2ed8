"""Connected components of a map at every one of many levels, in one pass.

Labelling the map anew at each of T levels costs T labellings. Here it is cut once into basins, the pixels from
which one climbs to the same peak. A component at any level is a union of basins, and two of them are joined as
soon as the level sinks below the pass between them: count each basin's pixels by level, join basins from the
highest pass down (Kruskal's algorithm), and the components of all levels are there: the map's max-tree
(Salembier et al. 1998), as one table.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

HEIGHT_BITS = 20
BUCKET_BITS = 12


@dataclass(frozen=True)
class LevelSets:
    """The components of {level > t} for t = 0 … T − 1, of a map (H, W) with a frame of one pixel around it.

    A component is called after the basin with its highest peak, so all of them fit in tables of B basins × T.
    """

    levels: np.ndarray  # (H + 2, W + 2) int32, 0 … T, 0 in the frame
    basins: np.ndarray  # (H + 2, W + 2) int64, the basin of each pixel
    joins: list[tuple[int, int, int]]  # (basin kept, basin joined to it, level), highest level first
    alive: np.ndarray  # (B, T) bool: is there a component of this name at this level?

    @cached_property
    def _cells(self) -> np.ndarray:
        """Where each pixel is counted in a table (B, T + 1)."""
        cells = self.basins * (self.alive.shape[1] + 1)
        cells += self.levels
        return cells.ravel()

    def pixels(self) -> np.ndarray:
        """Pixels of each component -> (B, T) int64."""
        return self._totals(self._cells)

    def count(self, levels: np.ndarray, basins: np.ndarray) -> np.ndarray:
        """How many of some things each component has -> (B, T); a thing is in a basin, at all t < its level.

        levels, basins: one integer for each thing, same shapes. Without meaning where `alive` is false.
        """
        return self._totals((basins * (self.alive.shape[1] + 1) + levels).ravel())

    def extents(self) -> np.ndarray:
        """Box of each component and its first pixel -> (5, B, T) int32: x1, y1, x2, y2, raster index in the frame.

        Without meaning where `alive` is false.
        """
        names, count = self.alive.shape
        height, width = self.levels.shape
        table = np.full((4, names * (count + 1)), self.levels.size, dtype=np.int32)
        for row, coordinate in enumerate((np.arange(height * width), np.tile(np.arange(width), height))):
            smallest = coordinate.astype(np.int32)
            np.minimum.at(table[row], self._cells, smallest)
            np.minimum.at(table[row + 2], self._cells, np.negative(smallest, out=smallest))
        first, left, last, right = self._over_components(np.minimum, table.reshape(4, names, -1))
        return np.stack([left - 1, first // width - 1, -right - 1, -last // width - 1, first])

    def _totals(self, cells: np.ndarray) -> np.ndarray:
        names, count = self.alive.shape
        table = np.bincount(cells, minlength=names * (count + 1)).reshape(names, -1)
        return self._over_components(np.add, table)

    def _over_components(self, ufunc: np.ufunc, table: np.ndarray) -> np.ndarray:
        """What pixels of exactly a level say (…, B, T + 1) -> what components above each level say (…, B, T)."""
        above = ufunc.accumulate(table[..., ::-1], axis=-1)[..., -2::-1].copy()
        for kept, joined, level in self.joins:
            ufunc(above[..., kept, :level], above[..., joined, :level], out=above[..., kept, :level])
        return above


def level_sets(levels: np.ndarray, count: int, heights: np.ndarray, diagonal: bool = True) -> LevelSets:
    """Components of {levels > t} for t = 0 … count − 1: levels (H, W) of integers 0 … count -> LevelSets.

    heights (H, W) of integers ≥ 0 only orders pixels of one level: the finer, the fewer basins, the faster.
    diagonal: are pixels that share no more than a corner connected (8-connected) or not (4-connected)?
    """
    levels = np.pad(levels.astype(np.int32, copy=False), 1)
    basins, peaks = _basins(_climbing_keys(levels, heights), diagonal)
    peak_levels = levels.ravel()[peaks]
    joins = _joins(basins, levels, peak_levels, diagonal)
    joined_at = np.zeros(len(peaks), dtype=np.int64)
    for _, joined, level in joins:
        joined_at[joined] = level
    level = np.arange(count)
    alive = (level >= joined_at[:, None]) & (level < peak_levels[:, None])
    return LevelSets(levels, basins, joins, alive)


def _climbing_keys(levels: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """One integer a pixel, none twice: level first, then height, then place; (H + 2, W + 2) int64."""
    keys = np.left_shift(levels, int(heights.max()).bit_length(), dtype=np.int64)
    keys[1:-1, 1:-1] += heights
    keys <<= levels.size.bit_length()
    rows, columns = np.ogrid[: levels.shape[0], : levels.shape[1]]
    keys += rows * levels.shape[1]
    keys += columns
    return keys


def _basins(keys: np.ndarray, diagonal: bool) -> tuple[np.ndarray, np.ndarray]:
    """The basin of each pixel, same shape as keys, and the raster index of each basin's peak (B,).

    Fresh memory costs more than arithmetic here: the arrays are reused, that of the keys too.
    """
    uphill = _highest_neighbour(keys, diagonal).ravel()
    uphill &= (1 << keys.size.bit_length()) - 1
    further = keys.ravel()
    while not np.array_equal(np.take(uphill, uphill, out=further, mode="clip"), uphill):
        uphill, further = further, uphill
    is_peak = np.zeros(keys.size, dtype=bool)
    is_peak[uphill] = True
    number = np.cumsum(is_peak, out=further)
    number -= 1
    return number[uphill].reshape(keys.shape), np.flatnonzero(is_peak)


def _highest_neighbour(keys: np.ndarray, diagonal: bool) -> np.ndarray:
    """The highest key among a pixel and its neighbours; overwrites the keys."""
    highest = keys.copy()
    np.maximum(highest[:, 1:], keys[:, :-1], out=highest[:, 1:])
    np.maximum(highest[:, :-1], keys[:, 1:], out=highest[:, :-1])
    if diagonal:
        keys[...] = highest
    np.maximum(highest[1:], keys[:-1], out=highest[1:])
    np.maximum(highest[:-1], keys[1:], out=highest[:-1])
    return highest


def _joins(
    basins: np.ndarray, levels: np.ndarray, peak_levels: np.ndarray, diagonal: bool
) -> list[tuple[int, int, int]]:
    """Kruskal's algorithm: (kept, joined, level) from the highest pass down, the higher peak (or later) kept."""
    standing = list(range(len(peak_levels)))
    rank = np.argsort(np.argsort(peak_levels, kind="stable")).tolist()

    def name(basin: int) -> int:
        while standing[basin] != basin:
            standing[basin] = basin = standing[standing[basin]]
        return basin

    joins = []
    for one, other, level in _passes(basins, levels, len(peak_levels), diagonal):
        kept, joined = sorted((name(one), name(other)), key=rank.__getitem__, reverse=True)
        if kept != joined:
            standing[joined] = kept
            joins.append((kept, joined, level))
    return joins


def _passes(basins: np.ndarray, levels: np.ndarray, count: int, diagonal: bool) -> list[list[int]]:
    """[basin, basin, level] of the highest pass between any two neighbouring basins, highest first; none at 0."""
    width = basins.shape[1]
    basin, level = basins.ravel(), levels.ravel()
    found = []
    for step in (1, width - 1, width, width + 1) if diagonal else (1, width):
        here = np.flatnonzero(basin[:-step] != basin[step:])
        there = here + step
        pair = np.minimum(basin[here], basin[there]) * count + np.maximum(basin[here], basin[there])
        found.append((pair << 32) - np.minimum(level[here], level[there]))
    found = np.sort(np.concatenate(found))  # by pair, and of one pair the highest pass first
    level = -found & 0xFFFFFFFF
    pair = (found + level) >> 32
    highest = (level > 0) & np.diff(pair, prepend=-1).astype(bool)
    one, other = np.divmod(pair[highest], count)
    order = np.argsort(-level[highest], kind="stable")
    return np.stack([one, other, level[highest]], axis=1)[order].tolist()


def cuts_below(values: np.ndarray, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of the rising cuts (T,) are below each value (H, W) -> levels and heights for `level_sets`.

    That is `np.searchsorted(cuts, values)`, which alone would cost more than all the rest: here a table answers
    for every pixel whose coarse height has no cut in it, and only the others are searched.
    """
    lowest, highest = values.min(), values.max()
    heights = _heights(values, lowest, highest)
    buckets = heights >> (HEIGHT_BITS - BUCKET_BITS)
    of_cuts = _heights(np.clip(cuts, lowest, highest), lowest, highest) >> (HEIGHT_BITS - BUCKET_BITS)
    inside = np.bincount(of_cuts, minlength=2**BUCKET_BITS + 1)
    levels = (np.cumsum(inside) - inside).astype(np.int32)[buckets]
    unsure = np.nonzero(inside.astype(bool)[buckets])
    levels[unsure] = np.searchsorted(cuts, values[unsure])
    return levels, heights


def _heights(values: np.ndarray, lowest: np.floating, highest: np.floating) -> np.ndarray:
    """Values in integer steps, 0 … 2^HEIGHT_BITS, never falling where values rise; int32."""
    spread, kind = float(highest) - float(lowest), np.finfo(values.dtype)
    if not 2.0 ** (HEIGHT_BITS + 1) * kind.tiny < spread <= kind.max:  # the steps would not be numbers
        return np.zeros(values.shape, dtype=np.int32)
    return ((values - lowest) * values.dtype.type(2.0**HEIGHT_BITS / spread)).astype(np.int32)
