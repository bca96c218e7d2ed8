"""The ten kinds of objects of the built-in data set, and what distracts from them.

Everything is drawn from implicit functions in an object's own frame: u to its right and v down it, both about
-1…1, and `px` is the width of one pixel there. A silhouette gives a signed distance (negative inside), a
texture gives RGB in 0…1; edges are a ramp one pixel wide, so nothing is supersampled. All arrays are float32,
colours come first, as (3, H, W) and (3, 1, 1): numpy is several times faster at it than at (H, W, 3).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

Array = np.ndarray
Silhouette = Callable[[Array, Array], Array]
Texture = Callable[[Array, Array, float, list[Array], Generator], Array]


# --- silhouettes: (u, v) -> signed distance -----------------------------------------------------------------


def disc(u: Array, v: Array) -> Array:
    return np.hypot(u, v) - 1


def beetle(u: Array, v: Array) -> Array:
    return np.minimum(np.hypot(u, v - 0.15) - 0.85, np.hypot(u, v + 0.62) - 0.42)


def half_disc(u: Array, v: Array) -> Array:
    return np.maximum(np.hypot(u, v) - 1, -v)


def hexagon(u: Array, v: Array) -> Array:
    return np.maximum(np.abs(u), np.abs(u) / 2 + np.abs(v) * 0.866) - 0.866


def square(u: Array, v: Array) -> Array:
    return np.maximum(np.abs(u), np.abs(v)) - 0.8


def wall(u: Array, v: Array) -> Array:
    return np.maximum(np.abs(u) - 1, np.abs(v) - 0.64)


def star(u: Array, v: Array) -> Array:
    return (np.hypot(u, v) - 0.66 - 0.34 * np.cos(5 * np.arctan2(v, u))) / 1.8


def lens(u: Array, v: Array) -> Array:
    return np.hypot(u, np.abs(v) + 0.62) - 1.177


def ring(u: Array, v: Array) -> Array:
    return np.abs(np.hypot(u, v) - 0.65) - 0.35


def kite_sail(u: Array, v: Array) -> Array:
    return (np.abs(u) / 0.72 + np.abs(v) / np.where(v < 0, 0.6, 1.1) - 1) * 0.56


def triangle(u: Array, v: Array) -> Array:
    return np.maximum(v - 0.5, np.abs(u) * 0.866 - v / 2 - 0.5)


def cross(u: Array, v: Array) -> Array:
    long, short = np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v))
    return np.maximum(long - 0.95, short - 0.3)


def crescent(u: Array, v: Array) -> Array:
    return np.maximum(np.hypot(u, v) - 1, 0.8 - np.hypot(u - 0.55, v))


def capsule(u: Array, v: Array) -> Array:
    return np.hypot(np.maximum(np.abs(u) - 0.65, 0), v) - 0.32


def blob(u: Array, v: Array) -> Array:
    return (np.hypot(u, v) - 0.8 - 0.13 * np.cos(3 * np.arctan2(v, u) + 2 * u)) / 1.2


# --- textures: (u, v, px, colours, generator) -> RGB --------------------------------------------------------


def inside(distance: Array, px: float) -> Array:
    """How much of each pixel lies where the distance is negative, 0…1."""
    return np.clip(0.5 - distance / px, 0, 1)


def over(rgb: Array, colour: Array, cover: Array) -> Array:
    return rgb + (colour - rgb) * cover


def plain(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    return np.broadcast_to(colours[0], (3, *u.shape))


def striped(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    period = rng.uniform(0.35, 0.6)
    edge = np.abs((u / period) % 1 - 0.5) * period - period / 4
    return over(plain(u, v, px, colours, rng), colours[0] * 0.72, inside(edge, px))


def ladybird(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    wing, black, white = colours
    rgb = plain(u, v, px, [wing], rng)
    spots = [(0.34, -0.12, 0.17), (0.56, 0.26, 0.16), (0.27, 0.5, 0.18), (0.36, 0.83, 0.11)]
    for x, y, radius in spots:
        rgb = over(rgb, black, inside(np.hypot(np.abs(u) - x, v - y) - radius * rng.uniform(0.9, 1.15), px))
    rgb = over(rgb, black, inside(np.abs(u) - 0.03, px))
    rgb = over(rgb, black, inside(v + 0.4 - 0.35 * u**2, px))
    return over(rgb, white, inside(np.hypot(np.abs(u) - 0.24, v + 0.66) - 0.09, px))


def melon(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    flesh, pale, rind, seed = colours
    radius, turn = np.hypot(u, v), np.arctan2(v, u) / math.pi
    rgb = plain(u, v, px, [flesh], rng)
    rgb = over(rgb, pale, inside(0.76 - radius, px))
    rgb = over(rgb, rind, inside(0.84 - radius, px))
    for row, count in ((0.3, 3), (0.56, 5)):
        across = ((turn * count) % 1 - 0.5) * math.pi / count * radius
        rgb = over(rgb, seed, inside(np.hypot(across * 1.7, radius - row) - 0.085, px))
    return rgb


def honeycomb(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    wax, honey = colours
    scale = 0.42
    distance = np.minimum(*(_hexagon_lattice(u / scale + shift, v / scale + shift * 1.732) for shift in (0, 0.5)))
    rgb = plain(u, v, px, [wax], rng)
    cell = over(rgb, honey * 0.8, np.clip(distance * 2.2, 0, 1))
    return over(rgb, cell, inside((distance - 0.4) * scale, px))


def _hexagon_lattice(x: Array, y: Array) -> Array:
    """Hexagonal distance to the nearest point of a 1 × √3 lattice; two such lattices make a honeycomb."""
    x, y = np.abs((x + 0.5) % 1 - 0.5), np.abs((y + 0.866) % 1.732 - 0.866)
    return np.maximum(x, x / 2 + y * 0.866)


def chessboard(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    light, dark = colours
    cell = 0.72 / 2
    ramps = [np.clip(np.sin(axis / cell * math.pi) * cell / math.pi / px, -0.5, 0.5) for axis in (u, v)]
    rgb = over(plain(u, v, px, [light], rng), dark, 0.5 + 2 * ramps[0] * ramps[1])
    return over(rgb, dark * 1.3, inside(0.72 - np.maximum(np.abs(u), np.abs(v)), px))


def starfish(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    skin, pale = colours
    radius, fold = np.hypot(u, v), (np.arctan2(v, u) + math.pi / 5) % (2 * math.pi / 5) - math.pi / 5
    along, across = radius * np.cos(fold), radius * np.sin(fold)
    rgb = over(plain(u, v, px, [skin], rng), skin * 0.7, np.clip(np.abs(across) * 2.6, 0, 1))
    for place, size in ((0, 0.1), (0.24, 0.085), (0.44, 0.075), (0.62, 0.06), (0.77, 0.045)):
        rgb = over(rgb, pale, inside(np.hypot(along - place, across) - size, px))
    return rgb


def leaf(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    blade, vein = colours
    rgb = over(plain(u, v, px, [blade], rng), blade * 0.75, inside(-v, px))
    slanted = (u - np.abs(v) * 0.8 + 0.1) / 0.25
    rgb = over(rgb, vein, inside((np.abs(slanted % 1 - 0.5) * 0.25 - 0.022) * 0.8, px))
    return over(rgb, vein, inside(np.abs(v) - 0.045 * (1 - u) / 2 - 0.015, px))


def beach_ball(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    blue, yellow, white = colours
    # The panels meet off-centre, and bulge: a ball seen slightly from the side.
    x, y = u + 0.25 * (1 - u**2 - v**2), v
    radius, turn = np.hypot(x, y), np.arctan2(y, x) / (2 * math.pi) * 6
    rgb = plain(u, v, px, [white], rng)
    for panel, colour in ((0, blue), (2, yellow), (4, blue)):
        across = (np.abs((turn - panel + 3) % 6 - 3) - 0.5) * math.pi / 3 * radius
        rgb = over(rgb, colour, inside(across, px))
    return over(rgb, white, inside(radius - 0.17, px))


def bricks(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    brick, mortar = colours
    high, wide = 0.32, 0.66
    row = np.floor((v + 0.64) / high).astype(int)
    along = (u + 1) / wide + row % 2 * 0.5
    tints = np.float32(rng.uniform(0.8, 1.15, (5, 5)))
    rgb = brick * tints[np.clip(row, 0, 4), np.clip(along.astype(int), 0, 4)]
    joint = np.minimum(_to_joint((v + 0.64) / high) * high, _to_joint(along) * wide)
    return over(rgb, mortar, inside(joint - 0.04, px))


def _to_joint(x: Array) -> Array:
    return 0.5 - np.abs(x % 1 - 0.5)


def doughnut(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    dough, icing, *sprinkles = colours
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    rgb = plain(u, v, px, [dough], rng)
    edge = np.abs(radius - 0.64) - 0.26 - 0.035 * np.sin(7 * angle + rng.uniform(0, 6))
    rgb = over(rgb, icing, inside(edge, px))
    for row, count in ((0.5, 9), (0.66, 12), (0.82, 15)):
        turn = (angle / (2 * math.pi) * count) % count
        tilt = np.float32(rng.uniform(0, math.pi, count))[turn.astype(int) % count]
        along, across = radius - row, (turn % 1 - 0.5) * 2 * math.pi / count * radius
        x, y = along * np.cos(tilt) + across * np.sin(tilt), across * np.cos(tilt) - along * np.sin(tilt)
        stick = np.hypot(np.maximum(np.abs(x) - 0.05, 0), y) - 0.03
        colour = np.concatenate(sprinkles, axis=2)[:, 0, turn.astype(int) % len(sprinkles)]
        rgb = over(rgb, colour, inside(stick, px))
    return rgb


def kite(u: Array, v: Array, px: float, colours: list[Array], rng: Generator) -> Array:
    first, second, spar = colours
    quarter = np.clip(u / px, -0.5, 0.5) * np.clip(v / px, -0.5, 0.5)
    rgb = over(plain(u, v, px, [first], rng), second, 0.5 + 2 * quarter)
    return over(rgb, spar, inside(np.minimum(np.abs(u), np.abs(v)) - 0.035, px))


# --- the ten classes ----------------------------------------------------------------------------------------

Hsv = tuple[float, float, float]


@dataclass(frozen=True)
class Kind:
    words: str
    silhouette: Silhouette
    texture: Texture
    palette: tuple[Hsv, ...]  # the first is the colour one would name


BLACK, WHITE = (0.6, 0.2, 0.1), (0.12, 0.05, 0.97)
KINDS = (
    Kind("ladybird, ladybug", beetle, ladybird, ((0.0, 0.92, 0.86), BLACK, WHITE)),
    Kind("watermelon slice", half_disc, melon, ((0.97, 0.62, 0.95), (0.2, 0.2, 0.95), (0.36, 0.8, 0.5), BLACK)),
    Kind("honeycomb", hexagon, honeycomb, ((0.135, 0.8, 0.98), (0.09, 0.95, 0.7))),
    Kind("chessboard", square, chessboard, ((0.11, 0.12, 0.95), (0.08, 0.4, 0.17))),
    Kind("starfish, sea star", star, starfish, ((0.065, 0.92, 0.97), (0.12, 0.3, 1.0))),
    Kind("leaf", lens, leaf, ((0.33, 0.75, 0.6), (0.23, 0.45, 0.9))),
    Kind("beach ball", disc, beach_ball, ((0.59, 0.85, 0.88), (0.14, 0.85, 1.0), WHITE)),
    Kind("brick wall", wall, bricks, ((0.025, 0.66, 0.6), (0.1, 0.1, 0.82))),
    Kind(
        "doughnut, donut",
        ring,
        doughnut,
        ((0.08, 0.55, 0.8), (0.9, 0.5, 0.98), (0.55, 0.7, 0.95), WHITE, (0.16, 0.8, 1.0), (0.4, 0.7, 0.75)),
    ),
    Kind("kite", kite_sail, kite, ((0.76, 0.72, 0.72), (0.48, 0.75, 0.85), (0.1, 0.1, 0.95))),
)
ODD_SILHOUETTES = (triangle, cross, crescent, capsule, blob)


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
