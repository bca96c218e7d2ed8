"""Draws the pictures of the built-in data set: a textured object before a cluttered background.

Colours come first, as (3, H, W), as in `objects`.
"""

import math

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image

from cam_repro.data.annotations import Box
from cam_repro.data.objects import DECOYS, KINDS, Array, Kind, Thing, inside, jittered, muted, painted, plain, striped

LONG_SIDES = (240, 272)  # pixels
RATIOS = (0.62, 1.66)  # width / height
SIZES = (0.34, 0.73)  # the longer side of an object's box / the shorter side of the picture
PAIR_SIZES = (0.34, 0.48)
PAIRS = 0.1  # of the pictures show two objects
MARGIN = 2  # pixels between an object and the picture's edge or the other object


def draw_picture(label: int, rng: Generator) -> tuple[Array, list[Box]]:
    """A picture of class `label`: (H, W, 3) uint8 RGB, and the boxes of its one or two objects."""
    ratio, long = np.exp(rng.uniform(*np.log(RATIOS))), rng.uniform(*LONG_SIDES)
    width, height = (int(long * min(1, r)) for r in (ratio, 1 / ratio))
    canvas = background(width, height, rng)
    for _ in range(rng.integers(2, 6)):
        draw(canvas, *distractor(width, height, rng), rng)
    boxes = [draw(canvas, *placed, rng) for placed in place_objects(KINDS[label], width, height, rng)]
    return np.uint8(canvas.transpose(1, 2, 0) * 255 + 0.5), boxes


def background(width: int, height: int, rng: Generator) -> Array:
    """(3, H, W): two muted colours flowing into each other, cloudy, sometimes with soft stripes."""

    def clouds(cells: int) -> Array:
        """(H, W) smooth noise about 0 of deviation about 0.7, its hills about 1 / cells of the picture wide."""
        coarse = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
        return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))

    x, y = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in (width, height)))
    angle = rng.uniform(0, 2 * math.pi)
    flow = (x * math.cos(angle) + y * math.sin(angle)) / 2 + 0.5 + 0.3 * clouds(3)
    shade = 0.06 * clouds(4) + 0.04 * clouds(12)
    if rng.random() < 0.4:
        across = x * math.sin(angle) - y * math.cos(angle)
        shade += rng.uniform(0.02, 0.05) * np.sin(across * rng.uniform(8, 25))
    return np.clip(painted(muted(rng), (muted(rng), np.clip(flow, 0, 1))) + shade, 0, 1)


def distractor(width: int, height: int, rng: Generator) -> tuple[Thing, float, float]:
    """A class's silhouette in a muted colour or another one in a class's colour; never a class's texture."""
    kind = KINDS[rng.integers(len(KINDS))]
    silhouette, colour = kind.silhouette, muted(rng)
    if rng.random() < 0.6:
        silhouette = DECOYS[rng.integers(len(DECOYS))]
        colour = jittered(kind.palette[0], rng)
    texture = plain if rng.random() < 0.6 else striped
    radius = rng.uniform(0.08, 0.22) * min(width, height)
    thing = Thing(silhouette, texture, [colour], radius, rng.uniform(0, 2 * math.pi))
    return thing, rng.uniform(0, width), rng.uniform(0, height)


def place_objects(kind: Kind, width: int, height: int, rng: Generator) -> list[tuple[Thing, float, float]]:
    """One object of the class or (in PAIRS of the pictures) two, wholly in the picture, more often near its edges."""
    count = 2 if rng.random() < PAIRS else 1
    (low, high), short = SIZES if count == 1 else PAIR_SIZES, min(width, height)
    things = [object_of(kind, (high - (high - low) * rng.random() ** 2) * short, rng) for _ in range(count)]
    # Along the picture's longer side the objects share what room is left, so that no two of them overlap.
    long = int(height > width)
    sides = np.array([extent[2:] - extent[:2] for _, extent in things])
    room = np.array([width, height]) - 2 * MARGIN - sides
    corners = rng.beta(0.5, 0.5, (count, 2)) * room + MARGIN
    steps = sides[:, long] + MARGIN
    free = max(width, height) - MARGIN - steps.sum()
    corners[:, long] = MARGIN + np.sort(rng.beta(0.5, 0.5, count)) * free + np.cumsum(steps) - steps
    centres = (corners - [extent[:2] for _, extent in things]).tolist()
    return [(thing, *centre) for (thing, _), centre in zip(things, centres, strict=True)]


def object_of(kind: Kind, longer_side: float, rng: Generator) -> tuple[Thing, Array]:
    """An instance of a class, and its (left, top, right, bottom) about its centre in pixels."""
    colours = [jittered(hsv, rng) for hsv in kind.palette]
    angle, grid = rng.uniform(0, 2 * math.pi), np.linspace(-1.3, 1.3, 131)
    extent = np.array(box_of(kind.silhouette(*turned(*np.meshgrid(grid, grid), angle)) <= 0)) * 0.02 - 1.3
    radius = longer_side / float((extent[2:] - extent[:2]).max())
    return Thing(kind.silhouette, kind.texture, colours, radius, angle), extent * radius


def turned(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    """(u, v) in the frame of a thing that is turned by `angle`, of points x, y about its centre."""
    cos, sin = math.cos(angle), math.sin(angle)
    return x * cos + y * sin, y * cos - x * sin


def draw(canvas: Array, thing: Thing, x: float, y: float, rng: Generator) -> Box:
    """Draws a thing centred at pixel (x, y) of the (3, H, W) canvas, over a soft shadow; returns its box."""
    reach = int(1.4 * thing.radius) + 2
    left, top = max(int(x) - reach, 0), max(int(y) - reach, 0)
    window = canvas[:, top : int(y) + reach, left : int(x) + reach]
    rows, columns = np.indices(window.shape[1:], dtype=np.float32)
    dx, dy = (columns + left - x) / thing.radius, (rows + top - y) / thing.radius
    shadow = thing.silhouette(*turned(dx - 0.06, dy - 0.08, thing.angle))
    window *= 1 - 0.4 * np.clip(0.5 - shadow / 0.16, 0, 1)
    u, v = turned(dx, dy, thing.angle)
    distance, px = thing.silhouette(u, v), 1 / thing.radius
    # Light from the upper left: a bright side, a highlight, and a dark rim, so that every edge shows.
    light = 1 - 0.16 * (dx + dy) - 0.4 * np.exp(np.minimum(distance, 0) / 0.07)
    gloss = 0.22 * np.exp(-((dx + 0.35) ** 2 + (dy + 0.4) ** 2) / 0.08)
    rgb = np.clip(thing.texture(u, v, px, thing.colours, rng) * light + gloss, 0, 1)
    cover = inside(distance, px)
    window += (rgb - window) * cover
    x1, y1, x2, y2 = box_of(cover >= 0.5)
    return x1 + left, y1 + top, x2 + left, y2 + top


def box_of(mask: Array) -> Box:
    """The tight box of a mask; of an empty one (a distractor beyond the picture's edge) an empty box."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return x, y, x + width - 1, y + height - 1
