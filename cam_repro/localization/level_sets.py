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

BUCKETS = 2**14


@dataclass(frozen=True)
class LevelSets:
    """The components of {level > t} for t = 0 … T − 1, of a map (H, W) with a frame of one pixel around it.

    A component is called after the basin with its highest peak, so all of them fit in tables of B basins × T.
    """

    levels: np.ndarray  # (H + 2, W + 2) int32, 0 … T, 0 in the frame
    basins: np.ndarray  # (H + 2, W + 2) int32, the basin of each pixel
    joins: list[tuple[int, int, int]]  # (basin kept, basin joined to it, level), highest level first
    alive: np.ndarray  # (B, T) bool: is there a component of this name at this level?

    @cached_property
    def _cells(self) -> np.ndarray:
        """Where each pixel is counted in a table (B, T + 1)."""
        cells = np.multiply(self.basins, self.alive.shape[1] + 1, dtype=np.int64)
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
        places = np.arange(height * width, dtype=np.int32)
        for row, coordinate in enumerate((places, np.tile(places[:width], height))):
            np.minimum.at(table[row], self._cells, coordinate)
            np.minimum.at(table[row + 2], self._cells, np.negative(coordinate, out=coordinate))
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

    heights (H, W) must be higher wherever levels are, and tell pixels of one level apart: the finer, the faster.
    diagonal: are pixels that share no more than a corner connected (8-connected) or not (4-connected)?
    """
    levels = np.pad(levels.astype(np.int32, copy=False), 1)
    heights = heights.astype(np.result_type(heights, np.float32), copy=False)
    basins, peaks = _basins(np.pad(heights, 1, constant_values=-np.inf), diagonal)
    peak_levels = levels.ravel()[peaks]
    joins = _joins(basins, levels, peak_levels, diagonal)
    joined_at = np.zeros(len(peaks), dtype=np.int64)
    for _, joined, level in joins:
        joined_at[joined] = level
    level = np.arange(count)
    alive = (level >= joined_at[:, None]) & (level < peak_levels[:, None])
    return LevelSets(levels, basins, joins, alive)


def _basins(heights: np.ndarray, diagonal: bool) -> tuple[np.ndarray, np.ndarray]:
    """The basin of each pixel, same shape as heights, and the raster index of each basin's peak (B,).

    The rows, in one line, are a chain of ridges: a rise, a top, a fall. One climbs to the top of one's ridge, and
    from there to a ridge in the next rows. Of equal heights the later in raster order counts as higher.
    """
    climbs = np.append(heights.ravel()[1:] >= heights.ravel()[:-1], False)
    turns = np.flatnonzero(climbs[1:] != climbs[:-1]) + 1
    tops, starts = turns[::2], np.append(0, turns[1::2])
    uphill = np.searchsorted(starts, _higher_in_next_rows(heights, tops, diagonal), side="right") - 1
    while not np.array_equal(further := uphill[uphill], uphill):
        uphill = further
    peaks, basins = np.unique(uphill, return_inverse=True)
    return np.repeat(basins.astype(np.int32), np.diff(starts, append=heights.size)).reshape(heights.shape), tops[peaks]


def _higher_in_next_rows(heights: np.ndarray, places: np.ndarray, diagonal: bool) -> np.ndarray:
    """The highest neighbour of each place (n,) in the rows above and below, or the place itself if none is higher."""
    heights, width = heights.ravel(), heights.shape[1]
    highest = places
    for step in (-width - 1, -width, 1 - width, width - 1, width, width + 1) if diagonal else (-width, width):
        neighbour = np.minimum(places + step, heights.size - 1)  # a top may lie in the frame's last row
        higher = heights[neighbour] >= heights[highest] if step > 0 else heights[neighbour] > heights[highest]
        highest = np.where(higher, neighbour, highest)
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
    level, basin = levels.ravel(), basins.ravel().astype(np.min_scalar_type(count))
    steps = (1, width - 1, width, width + 1) if diagonal else (1, width)
    borders = [np.flatnonzero(basin[:-step] != basin[step:]) for step in steps]
    here = np.concatenate(borders)
    there = here + np.repeat(steps, [len(border) for border in borders])
    one, other = basin[here], basin[there]
    found = np.minimum(one, other) * np.int64(count) + np.maximum(one, other)
    found <<= 32
    found -= np.minimum(level[here], level[there])
    found.sort()  # by pair, and of one pair the highest pass first
    level = -found & 0xFFFFFFFF
    pair = (found + level) >> 32
    highest = (level > 0) & np.diff(pair, prepend=-1).astype(bool)
    one, other = np.divmod(pair[highest], count)
    order = np.argsort(-level[highest], kind="stable")
    return np.stack([one, other, level[highest]], axis=1)[order].tolist()


def cuts_below(values: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """How many of the rising cuts (T,) are below each value (H, W): the levels for `level_sets`, int32.

    That is `np.searchsorted(cuts, values)`, which alone would cost as much as all the rest: here a table answers
    for every value in whose bucket there is no cut, and only the others are searched.
    """
    lowest, highest = values.min(), values.max()
    of_values, of_cuts = (_buckets(those, lowest, highest) for those in (values, np.clip(cuts, lowest, highest)))
    inside = np.bincount(of_cuts, minlength=BUCKETS + 1)
    levels = np.where(inside == 0, np.cumsum(inside), -1).astype(np.int32)[of_values]
    unsure = np.flatnonzero(levels < 0)
    levels.ravel()[unsure] = np.searchsorted(cuts, values.ravel()[unsure])
    return levels


def _buckets(values: np.ndarray, lowest: np.floating, highest: np.floating) -> np.ndarray:
    """0 … BUCKETS for each value, never falling where values rise; int64."""
    spread, kind = float(highest) - float(lowest), np.finfo(values.dtype)
    if not 2 * BUCKETS * kind.tiny < spread <= kind.max:  # the steps would not be numbers
        return np.zeros(values.shape, dtype=np.int64)
    return ((values - lowest) * values.dtype.type(BUCKETS / spread)).astype(np.int64)
