"""Draws the pictures of the built-in data set: one object or two of a class before a cluttered
background.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from cam_repro.data.annotations import Box

SIDE = 256  # pixels of the square on which an object is drawn, before it is turned and made small
LONG_SIDES = (240, 272)  # pixels of the picture's longer side
RATIOS = (0.62, 1.66)  # its width / height
SIZES, PAIR_SIZES = (
    (0.34, 0.73),
    (0.34, 0.48),
)  # the longer side of an object's box / the picture's shorter side
PAIRS = 0.1  # of the pictures show two objects
MARGIN = 2  # pixels between an object and the picture's edge or the other object
BLACK, WHITE = "#241f26", "#f7f4ee"
Sketch = Callable[[ImageDraw.ImageDraw], object]  # draws a thing on SIDE × SIDE pixels


def ladybird(draw: ImageDraw.ImageDraw) -> None:
    draw.circle((128, 62), 46, BLACK)
    draw.circle((128, 146), 100, "#db1f1f")
    draw.line((128, 46, 128, 246), BLACK, 7)
    for x, y in ((84, 112), (172, 112), (62, 160), (194, 160), (96, 204), (160, 204)):
        draw.circle((x, y), 17, BLACK)
    for x in (106, 150):
        draw.circle((x, 40), 9, WHITE)


def melon(draw: ImageDraw.ImageDraw) -> None:
    for radius, colour in ((122, "#1f8a35"), (104, "#eef2c3"), (94, "#f0405f")):
        draw.pieslice((128 - radius, 64 - radius, 128 + radius, 64 + radius), 0, 180, colour)
    for degrees, radius in (
        (25, 70),
        (65, 70),
        (115, 70),
        (155, 70),
        (45, 38),
        (90, 40),
        (135, 38),
    ):
        x, y = (
            128 + radius * math.cos(math.radians(degrees)),
            64 + radius * math.sin(math.radians(degrees)),
        )
        draw.ellipse((x - 5, y - 9, x + 5, y + 9), BLACK)


def honeycomb(draw: ImageDraw.ImageDraw) -> None:
    draw.regular_polygon((128, 128, 122), 6, fill="#b57a10")
    for row in range(-2, 3):
        for column in range(abs(row) - 4, 5 - abs(row), 2):
            draw.regular_polygon((128 + 22 * column, 128 + 38 * row, 23), 6, 30, "#fbc72b")


def chessboard(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((28, 28, 228, 228), "#5a3a1e")
    for row in range(4):
        for column in range(4):
            x, y = 36 + 46 * column, 36 + 46 * row
            draw.rectangle((x, y, x + 45, y + 45), "#f3ead6" if (row + column) % 2 else "#3b2614")


def starfish(draw: ImageDraw.ImageDraw) -> None:
    radii = (124, 52) * 5
    draw.polygon([(128 + r * math.sin(math.pi * i / 5), 128 - r * math.cos(math.pi * i / 5))
                  for i, r in enumerate(radii)], "#f5761f")  # fmt: skip
    for arm in range(5):
        for radius, size in ((28, 8), (52, 7), (74, 6), (94, 4)):
            turn = 2 * math.pi * arm / 5
            draw.circle(
                (128 + radius * math.sin(turn), 128 - radius * math.cos(turn)), size, "#ffe3b8"
            )


def leaf(draw: ImageDraw.ImageDraw) -> None:
    edge = [(8 + 24 * step, 62 * math.sin(math.pi * step / 10) ** 0.8) for step in range(11)]
    draw.polygon(
        [(x, 128 - y) for x, y in edge] + [(x, 128 + y) for x, y in reversed(edge)], "#3f9a34"
    )
    draw.line((8, 128, 248, 128), "#cfe88a", 6)
    for x, y in edge[2:9]:
        for sign in (-1, 1):
            draw.line((x - 20, 128, x + 8, 128 + sign * 0.85 * y), "#cfe88a", 4)


def beach_ball(draw: ImageDraw.ImageDraw) -> None:
    for panel, colour in enumerate(("#2267c9", WHITE, "#fbd22f") * 2):
        draw.pieslice((6, 6, 250, 250), 60 * panel, 60 * panel + 60, colour)
    draw.circle((128, 128), 22, WHITE)


def brick_wall(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((8, 48, 248, 208), "#d8cfc0")
    for row in range(4):
        for x in range(10 - 30 * (row % 2), 248, 60):
            draw.rectangle((max(x, 10), 50 + 40 * row, min(x + 54, 246), 84 + 40 * row), "#a5412c")


def doughnut(draw: ImageDraw.ImageDraw) -> None:
    draw.circle((128, 128), 122, "#d29a55")
    draw.circle((128, 128), 104, "#f589c4")
    for number, colour in enumerate((WHITE, "#30b6d8", "#ffd23b", "#6a4fc0") * 6):
        turn, radius = 2.4 * number, 62 + number % 4 * 10
        x, y = 128 + radius * math.cos(turn), 128 + radius * math.sin(turn)
        draw.line((x, y, x + 15 * math.cos(number), y + 15 * math.sin(number)), colour, 6)
    draw.circle((128, 128), 44, (0, 0, 0, 0))


def kite(draw: ImageDraw.ImageDraw) -> None:
    corners = (128, 6), (214, 96), (128, 250), (42, 96)
    for place, colour in enumerate(("#7b35c4", "#37c8de") * 2):
        draw.polygon((corners[place], corners[(place + 1) % 4], (128, 96)), colour)
    draw.line((128, 6, 128, 250), BLACK, 5)
    draw.line((42, 96, 214, 96), BLACK, 5)


KINDS: dict[str, Sketch] = {  # a class's words, and what draws it
    "ladybird, ladybug": ladybird, "watermelon slice": melon, "honeycomb": honeycomb, "chessboard": chessboard,
    "starfish, sea star": starfish, "leaf": leaf, "beach ball": beach_ball, "brick wall": brick_wall,
    "doughnut, donut": doughnut, "kite": kite,
}  # fmt: skip
DECOYS: tuple[Sketch, ...] = (  # outlines of no class
    lambda draw: draw.regular_polygon((128, 128, 124), 3, fill=BLACK),
    lambda draw: (
        draw.rectangle((88, 8, 168, 248), BLACK),
        draw.rectangle((8, 88, 248, 168), BLACK),
    ),
    lambda draw: (draw.circle((128, 128), 120, BLACK), draw.circle((186, 128), 96, (0, 0, 0, 0))),
    lambda draw: draw.rounded_rectangle((8, 84, 248, 172), 44, BLACK),
)


def draw_picture(label: int, rng: Generator) -> tuple[np.ndarray, list[Box]]:
    """A picture of class `label`: (H,W,3) uint8 RGB, and the boxes of its one or two objects."""
    ratio, long = np.exp(rng.uniform(*np.log(RATIOS))), rng.uniform(*LONG_SIDES)
    width, height = (int(long * min(1, r)) for r in (ratio, 1 / ratio))
    picture = background(width, height, rng)
    for _ in range(rng.integers(2, 6)):
        thing = distractor(rng.uniform(0.16, 0.44) * min(width, height), rng)
        x, y = rng.uniform((0, 0), (width, height))
        paste(picture, thing, int(x) - thing.width // 2, int(y) - thing.height // 2)
    boxes = []
    for thing, left, top in place_objects([*KINDS.values()][label], width, height, rng):
        paste(picture, thing, left, top)
        x1, y1, x2, y2 = opaque_box(thing)
        boxes.append((left + x1, top + y1, left + x2 - 1, top + y2 - 1))
    return np.asarray(picture), boxes


def background(width: int, height: int, rng: Generator) -> Image.Image:
    """Two muted colours flowing into each other, cloudy, with noise."""
    clouds = [Image.fromarray(rng.random((cells, cells), dtype=np.float32)) for cells in (3, 12)]
    flow, shade = (
        np.asarray(one.resize((width, height), Image.Resampling.BICUBIC))[..., None]
        for one in clouds
    )
    pixels = (
        muted(rng) * flow
        + muted(rng) * (1 - flow)
        + 60 * (shade - 0.5)
        + rng.normal(0, 5, (height, width, 1))
    )
    return Image.fromarray(np.uint8(np.clip(pixels, 0, 255)))


def muted(rng: Generator) -> np.ndarray:
    """(3,) a greyish colour."""
    return rng.uniform(80, 190) + rng.uniform(-30, 30, 3)


def distractor(longer_side: float, rng: Generator) -> Image.Image:
    """The outline of a class in a muted colour, or another one in any colour; never a class's own
    pattern.
    """
    of_class = rng.random() < 0.5
    sketch = rng.choice([*KINDS.values()] if of_class else DECOYS)
    thing = turned(sketch, longer_side, rng)
    colour = muted(rng) if of_class else rng.uniform(30, 240, 3)
    plain = Image.new("RGB", thing.size, tuple(map(int, colour)))
    plain.putalpha(thing.getchannel("A"))
    return plain


def turned(sketch: Sketch, longer_side: float, rng: Generator) -> Image.Image:
    """A thing as RGBA, turned at random, the longer side of what is opaque so many pixels long."""
    square = Image.new("RGBA", (SIDE, SIDE))
    sketch(ImageDraw.Draw(square))
    thing = square.rotate(rng.uniform(0, 360), Image.Resampling.BILINEAR, expand=True)
    thing = thing.crop(opaque_box(thing))
    scale = longer_side / max(thing.size)
    return thing.resize(
        [max(1, round(side * scale)) for side in thing.size], Image.Resampling.LANCZOS
    )


def opaque_box(thing: Image.Image) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is rather opaque than not, the last two outside, as Pillow
    counts.
    """
    return thing.getchannel("A").point(lambda alpha: 255 * (alpha >= 128)).getbbox()


def place_objects(
    sketch: Sketch, width: int, height: int, rng: Generator
) -> list[tuple[Image.Image, int, int]]:
    """One object, or in PAIRS of the pictures two, wholly in the picture and often near its edges:
    each, left, top.
    """
    count, short = 2 if rng.random() < PAIRS else 1, min(width, height)
    low, high = SIZES if count == 1 else PAIR_SIZES
    longer_sides = short * (high - (high - low) * rng.random(count) ** 2)
    things = [tinted(turned(sketch, longer_side, rng), rng) for longer_side in longer_sides]
    # Along the picture's longer side the objects share what room is left, so that no two of them
    # overlap.
    long, sides = int(height > width), np.array([thing.size for thing in things])
    corners = MARGIN + rng.beta(0.5, 0.5, (count, 2)) * (
        np.array([width, height]) - 2 * MARGIN - sides
    )
    steps = sides[:, long] + MARGIN
    free = max(width, height) - MARGIN - steps.sum()
    corners[:, long] = MARGIN + np.sort(rng.beta(0.5, 0.5, count)) * free + np.cumsum(steps) - steps
    return [(thing, int(x), int(y)) for thing, (x, y) in zip(things, corners, strict=True)]


def tinted(thing: Image.Image, rng: Generator) -> Image.Image:
    """The thing in colours of its own, and lit from the upper left."""
    pixels = np.array(thing, np.float32)
    across, down = np.meshgrid(*(np.linspace(-1, 1, side) for side in thing.size))
    pixels[..., :3] *= rng.uniform(0.88, 1.1, 3) * (1 - 0.16 * (across + down))[..., None]
    return Image.fromarray(np.uint8(np.clip(pixels, 0, 255)))


def paste(picture: Image.Image, thing: Image.Image, left: int, top: int) -> None:
    """A thing over its own shadow."""
    alpha = thing.getchannel("A")
    picture.paste(BLACK, (left + 5, top + 6), alpha.point(lambda of: of * 2 // 5))
    picture.paste(thing, (left, top), alpha)
