"""The ten kinds of objects of the built-in data set, and what distracts from them.

Everything is drawn from implicit functions in an object's own frame: u to its right and v down it, both about
-1…1, and `px` is the width of one pixel there. A silhouette gives a signed distance (negative inside), a
texture gives RGB in 0…1; edges are a ramp one pixel wide, so nothing is supersampled. All arrays are float32,
colours come first, as (3, H, W) and (3, 1, 1): numpy is several times faster at it than at (H, W, 3).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

Array = np.ndarray
Silhouette = Callable[[Array, Array], Array]
Texture = Callable[[Array, Array, float, list[Array], Generator], Array]
Hsv = tuple[float, float, float]


def inside(distance: Array, px: float) -> Array:
    """How much of each pixel lies where the distance is negative, 0…1."""
    return np.clip(0.5 - distance / px, 0, 1)


def painted(rgb: Array, *layers: tuple[Array, Array]) -> Array:
    """A colour under layers, each a colour and how much of each pixel it covers."""
    for colour, cover in layers:
        rgb = rgb + (colour - rgb) * cover
    return rgb


# --- textures: (u, v, px, colours, generator) -> RGB --------------------------------------------------------


def plain(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    return colours[0]


def striped(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    period = rng.uniform(0.35, 0.6)
    edge = np.abs((u / period) % 1 - 0.5) * period - period / 4
    return painted(colours[0], (colours[0] * 0.72, inside(edge, px)))


def ladybird(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    wing, black, white = colours
    spots = [
        (black, inside(np.hypot(np.abs(u) - x, v - y) - radius * rng.uniform(0.9, 1.15), px))
        for x, y, radius in ((0.34, -0.12, 0.17), (0.56, 0.26, 0.16), (0.27, 0.5, 0.18), (0.36, 0.83, 0.11))
    ]
    seam, head = inside(np.abs(u) - 0.03, px), inside(v + 0.4 - 0.35 * u**2, px)
    eyes = inside(np.hypot(np.abs(u) - 0.24, v + 0.66) - 0.09, px)
    return painted(wing, *spots, (black, seam), (black, head), (white, eyes))


def melon(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    flesh, pale, rind, seed = colours
    radius, turn = np.hypot(u, v), np.arctan2(v, u) / math.pi
    rgb = painted(flesh, (pale, inside(0.76 - radius, px)), (rind, inside(0.84 - radius, px)))
    for row, count in ((0.3, 3), (0.56, 5)):
        across = ((turn * count) % 1 - 0.5) * math.pi / count * radius
        rgb = painted(rgb, (seed, inside(np.hypot(across * 1.7, radius - row) - 0.085, px)))
    return rgb


def honeycomb(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    """Two lattices of points, 1 × √3 apart; a cell is what is nearest to a point, in hexagonal distance."""
    wax, honey = colours
    scale, distance = 0.42, np.float32(np.inf)
    for shift in (0, 0.5):
        x = np.abs((u / scale + shift + 0.5) % 1 - 0.5)
        y = np.abs((v / scale + shift * 1.732 + 0.866) % 1.732 - 0.866)
        distance = np.minimum(distance, np.maximum(x, x / 2 + y * 0.866))
    cell = painted(wax, (honey * 0.8, np.clip(distance * 2.2, 0, 1)))
    return painted(wax, (cell, inside((distance - 0.4) * scale, px)))


def chessboard(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    light, dark = colours
    cell = 0.72 / 2
    ramps = [np.clip(np.sin(axis / cell * math.pi) * cell / math.pi / px, -0.5, 0.5) for axis in (u, v)]
    frame = inside(0.72 - np.maximum(np.abs(u), np.abs(v)), px)
    return painted(light, (dark, 0.5 + 2 * ramps[0] * ramps[1]), (dark * 1.3, frame))


def starfish(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    skin, pale = colours
    radius, fold = np.hypot(u, v), (np.arctan2(v, u) + math.pi / 5) % (2 * math.pi / 5) - math.pi / 5
    along, across = radius * np.cos(fold), radius * np.sin(fold)
    rgb = painted(skin, (skin * 0.7, np.clip(np.abs(across) * 2.6, 0, 1)))
    for place, size in ((0, 0.1), (0.24, 0.085), (0.44, 0.075), (0.62, 0.06), (0.77, 0.045)):
        rgb = painted(rgb, (pale, inside(np.hypot(along - place, across) - size, px)))
    return rgb


def leaf(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    blade, vein = colours
    slanted = (u - np.abs(v) * 0.8 + 0.1) / 0.25
    side_veins = inside((np.abs(slanted % 1 - 0.5) * 0.25 - 0.022) * 0.8, px)
    midrib = inside(np.abs(v) - 0.045 * (1 - u) / 2 - 0.015, px)
    return painted(blade, (blade * 0.75, inside(-v, px)), (vein, side_veins), (vein, midrib))


def beach_ball(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    """The panels meet off-centre, and bulge: a ball seen slightly from the side."""
    blue, yellow, white = colours
    x, y = u + 0.25 * (1 - u**2 - v**2), v
    radius, turn = np.hypot(x, y), np.arctan2(y, x) / (2 * math.pi) * 6
    rgb = white
    for panel, colour in ((0, blue), (2, yellow), (4, blue)):
        across = (np.abs((turn - panel + 3) % 6 - 3) - 0.5) * math.pi / 3 * radius
        rgb = painted(rgb, (colour, inside(across, px)))
    return painted(rgb, (white, inside(radius - 0.17, px)))


def bricks(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    brick, mortar = colours
    high, wide = 0.32, 0.66
    down = (v + 0.64) / high
    row = np.floor(down).astype(int)
    along = (u + 1) / wide + row % 2 * 0.5
    tints = np.float32(rng.uniform(0.8, 1.15, (5, 5)))
    rgb = brick * tints[np.clip(row, 0, 4), np.clip(along.astype(int), 0, 4)]
    joint = np.minimum((0.5 - np.abs(down % 1 - 0.5)) * high, (0.5 - np.abs(along % 1 - 0.5)) * wide)
    return painted(rgb, (mortar, inside(joint - 0.04, px)))


def doughnut(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    dough, icing, *sprinkles = colours
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    edge = np.abs(radius - 0.64) - 0.26 - 0.035 * np.sin(7 * angle + rng.uniform(0, 6))
    rgb = painted(dough, (icing, inside(edge, px)))
    for row, count in ((0.5, 9), (0.66, 12), (0.82, 15)):
        turn = (angle / (2 * math.pi) * count) % count
        tilt = np.float32(rng.uniform(0, math.pi, count))[turn.astype(int) % count]
        along, across = radius - row, (turn % 1 - 0.5) * 2 * math.pi / count * radius
        x, y = along * np.cos(tilt) + across * np.sin(tilt), across * np.cos(tilt) - along * np.sin(tilt)
        stick = np.hypot(np.maximum(np.abs(x) - 0.05, 0), y) - 0.03
        colour = np.concatenate(sprinkles, axis=2)[:, 0, turn.astype(int) % len(sprinkles)]
        rgb = painted(rgb, (colour, inside(stick, px)))
    return rgb


def kite(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    first, second, spar = colours
    quarter = np.clip(u / px, -0.5, 0.5) * np.clip(v / px, -0.5, 0.5)
    cross = inside(np.minimum(np.abs(u), np.abs(v)) - 0.035, px)
    return painted(first, (second, 0.5 + 2 * quarter), (spar, cross))


class Kind(NamedTuple):
    """One class; the first colour of its palette is the one people would name."""

    words: str
    texture: Texture
    palette: tuple[Hsv, ...]
    silhouette: Silhouette


class Thing(NamedTuple):
    """Something to draw: what, how large (pixels to the unit of its frame) and how turned (radians)."""

    silhouette: Silhouette
    texture: Texture
    colours: list[Array]
    radius: float
    angle: float


BLACK, WHITE = (0.6, 0.2, 0.1), (0.12, 0.05, 0.97)
KINDS = (
    Kind("ladybird, ladybug", ladybird, ((0.0, 0.92, 0.86), BLACK, WHITE),
         lambda u, v: np.minimum(np.hypot(u, v - 0.15) - 0.85, np.hypot(u, v + 0.62) - 0.42)),
    Kind("watermelon slice", melon, ((0.97, 0.62, 0.95), (0.2, 0.2, 0.95), (0.36, 0.8, 0.5), BLACK),
         lambda u, v: np.maximum(np.hypot(u, v) - 1, -v)),
    Kind("honeycomb", honeycomb, ((0.135, 0.8, 0.98), (0.09, 0.95, 0.7)),
         lambda u, v: np.maximum(np.abs(u), np.abs(u) / 2 + np.abs(v) * 0.866) - 0.866),
    Kind("chessboard", chessboard, ((0.11, 0.12, 0.95), (0.08, 0.4, 0.17)),
         lambda u, v: np.maximum(np.abs(u), np.abs(v)) - 0.8),
    Kind("starfish, sea star", starfish, ((0.065, 0.92, 0.97), (0.12, 0.3, 1.0)),
         lambda u, v: (np.hypot(u, v) - 0.66 - 0.34 * np.cos(5 * np.arctan2(v, u))) / 1.8),
    Kind("leaf", leaf, ((0.33, 0.75, 0.6), (0.23, 0.45, 0.9)),
         lambda u, v: np.hypot(u, np.abs(v) + 0.62) - 1.177),
    Kind("beach ball", beach_ball, ((0.59, 0.85, 0.88), (0.14, 0.85, 1.0), WHITE),
         lambda u, v: np.hypot(u, v) - 1),
    Kind("brick wall", bricks, ((0.025, 0.66, 0.6), (0.1, 0.1, 0.82)),
         lambda u, v: np.maximum(np.abs(u) - 1, np.abs(v) - 0.64)),
    Kind("doughnut, donut", doughnut,
         ((0.08, 0.55, 0.8), (0.9, 0.5, 0.98), (0.55, 0.7, 0.95), WHITE, (0.16, 0.8, 1.0), (0.4, 0.7, 0.75)),
         lambda u, v: np.abs(np.hypot(u, v) - 0.65) - 0.35),
    Kind("kite", kite, ((0.76, 0.72, 0.72), (0.48, 0.75, 0.85), (0.1, 0.1, 0.95)),
         lambda u, v: (np.abs(u) / 0.72 + np.abs(v) / np.where(v < 0, 0.6, 1.1) - 1) * 0.56),
)  # fmt: skip
DECOYS = (  # silhouettes of no class
    lambda u, v: np.maximum(v - 0.5, np.abs(u) * 0.866 - v / 2 - 0.5),  # a triangle
    lambda u, v: np.maximum(np.maximum(np.abs(u), np.abs(v)) - 0.95, np.minimum(np.abs(u), np.abs(v)) - 0.3),  # a cross
    lambda u, v: np.maximum(np.hypot(u, v) - 1, 0.8 - np.hypot(u - 0.55, v)),  # a crescent
    lambda u, v: np.hypot(np.maximum(np.abs(u) - 0.65, 0), v) - 0.32,  # a capsule
    lambda u, v: (np.hypot(u, v) - 0.8 - 0.13 * np.cos(3 * np.arctan2(v, u) + 2 * u)) / 1.2,  # a blob
)


def jittered(hsv: Hsv, rng: Generator) -> Array:
    """(3, 1, 1) RGB near a colour."""
    hue, saturation, value = hsv
    hue = (hue + rng.uniform(-0.015, 0.015)) % 1
    saturation = min(saturation * rng.uniform(0.88, 1.1), 1)
    value = min(value * rng.uniform(0.85, 1.1), 1)
    wave = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])[:, None, None]) % 6 - 3) - 1, 0, 1)
    return np.float32(value * (1 - saturation + saturation * wave))


def muted(rng: Generator) -> Array:
    return jittered((rng.random(), rng.uniform(0.08, 0.32), rng.uniform(0.35, 0.8)), rng)
