"""Connected components of a map at every one of many levels, in one pass.

Labelling the map anew at each level costs T labellings. Here the map is cut once into basins, the pixels that
lie uphill to the same peak: a component at any level is a union of basins, two of them joined as soon as the
level sinks below the saddle between them. So the components of all levels follow from counting each basin's
pixels by level and joining basins, highest saddle first (Kruskal's algorithm; the tree of components is the
"max-tree" of Salembier et al. 1998).
"""

from dataclasses import dataclass

import numpy as np

FOUR_CONNECTED = ((0, 1), (1, 0))  # steps (down, right) to the neighbours after a pixel in raster order
EIGHT_CONNECTED = ((0, 1), (1, -1), (1, 0), (1, 1))

Steps = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class LevelSets:
    """Components of the sets "level > t", t = 0 … T − 1. Row b holds, at each t, the component named after basin
    b, if there is one: a component bears the name of one of its basins. All arrays are (B, T)."""

    pixels: np.ndarray  # how many; 0: no component of that name at that level
    first: np.ndarray  # raster index of its first pixel
    x1: np.ndarray  # its box, both corners inside
    y1: np.ndarray
    x2: np.ndarray
    y2: np.ndarray
