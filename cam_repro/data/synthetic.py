"""Draws the images of the built-in data set: one or two objects before a cluttered background."""

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from cam_repro.data.annotations import TrueBox

SIDE = 256  # pixels of the square on which an object is drawn, before it is turned and made small
LONG_SIDES = (240, 272)  # pixels of the image's longer side
RATIOS = (0.62, 1.66)  # the image's width / its height
SIZES = (0.34, 0.73)  # the longer side of an object's box / the image's shorter side
PAIR_SIZES = (0.34, 0.48)  # the same where the image shows two objects
PAIRS = 0.1  # of the images show two objects
MARGIN = 2  # pixels between an object and the image's edge or the other object
BLACK = "#241f26"
WHITE = "#f7f4ee"
CLEAR = (0, 0, 0, 0)
Sketch = Callable[[ImageDraw.ImageDraw], object]  # draws a thing on SIDE × SIDE pixels


def point_at(x: float, y: float, radius: float, angle: float) -> tuple[float, float]:
    """The point at this distance from (x, y); the angle in radians, clockwise from the right."""
    return x + radius * math.cos(angle), y + radius * math.sin(angle)


def ladybird(draw: ImageDraw.ImageDraw) -> None:
    draw.circle((128, 62), 46, BLACK)
    draw.circle((128, 146), 100, "#db1f1f")
    draw.line((128, 46, 128, 246), BLACK, 7)
    spots = ((84, 112), (172, 112), (62, 160), (194, 160), (96, 204), (160, 204))
    for spot in spots:
        draw.circle(spot, 17, BLACK)
    for x in (106, 150):
        draw.circle((x, 40), 9, WHITE)


def melon(draw: ImageDraw.ImageDraw) -> None:
    for radius, colour in ((122, "#1f8a35"), (104, "#eef2c3"), (94, "#f0405f")):
        square = (128 - radius, 64 - radius, 128 + radius, 64 + radius)
        draw.pieslice(square, 0, 180, colour)
    seeds = ((25, 70), (65, 70), (115, 70), (155, 70), (45, 38), (90, 40), (135, 38))
    for degrees, radius in seeds:
        x, y = point_at(128, 64, radius, math.radians(degrees))
        draw.ellipse((x - 5, y - 9, x + 5, y + 9), BLACK)


def honeycomb(draw: ImageDraw.ImageDraw) -> None:
    draw.regular_polygon((128, 128, 122), 6, fill="#b57a10")
    for row in range(-2, 3):
        for column in range(abs(row) - 4, 5 - abs(row), 2):
            cell = (128 + 22 * column, 128 + 38 * row, 23)
            draw.regular_polygon(cell, 6, 30, "#fbc72b")


def chessboard(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((28, 28, 228, 228), "#5a3a1e")
    for row in range(4):
        for column in range(4):
            x = 36 + 46 * column
            y = 36 + 46 * row
            colour = "#f3ead6" if (row + column) % 2 else "#3b2614"
            draw.rectangle((x, y, x + 45, y + 45), colour)


def starfish(draw: ImageDraw.ImageDraw) -> None:
    corners = []
    for number, radius in enumerate((124, 52) * 5):
        angle = math.pi * number / 5
        corners.append((128 + radius * math.sin(angle), 128 - radius * math.cos(angle)))
    draw.polygon(corners, "#f5761f")
    for arm in range(5):
        angle = 2 * math.pi * arm / 5
        for radius, size in ((28, 8), (52, 7), (74, 6), (94, 4)):
            x = 128 + radius * math.sin(angle)
            y = 128 - radius * math.cos(angle)
            draw.circle((x, y), size, "#ffe3b8")


def leaf(draw: ImageDraw.ImageDraw) -> None:
    edge = []  # x, and how far the edge is from the midrib there
    for step in range(11):
        half_width = 62 * math.sin(math.pi * step / 10) ** 0.8
        edge.append((8 + 24 * step, half_width))
    above = [(x, 128 - half_width) for x, half_width in edge]
    below = [(x, 128 + half_width) for x, half_width in edge]
    draw.polygon(above + below[::-1], "#3f9a34")
    draw.line((8, 128, 248, 128), "#cfe88a", 6)
    for x, half_width in edge[2:9]:
        for sign in (-1, 1):
            tip = 128 + sign * 0.85 * half_width
            draw.line((x - 20, 128, x + 8, tip), "#cfe88a", 4)


def beach_ball(draw: ImageDraw.ImageDraw) -> None:
    for panel, colour in enumerate(("#2267c9", WHITE, "#fbd22f") * 2):
        start = 60 * panel
        draw.pieslice((6, 6, 250, 250), start, start + 60, colour)
    draw.circle((128, 128), 22, WHITE)


def brick_wall(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((8, 48, 248, 208), "#d8cfc0")
    for row in range(4):
        top = 50 + 40 * row
        for x in range(10 - 30 * (row % 2), 248, 60):
            left = max(x, 10)
            right = min(x + 54, 246)
            draw.rectangle((left, top, right, top + 34), "#a5412c")


def doughnut(draw: ImageDraw.ImageDraw) -> None:
    draw.circle((128, 128), 122, "#d29a55")
    draw.circle((128, 128), 104, "#f589c4")
    for number, colour in enumerate((WHITE, "#30b6d8", "#ffd23b", "#6a4fc0") * 6):
        radius = 62 + number % 4 * 10
        start = point_at(128, 128, radius, 2.4 * number)
        end = point_at(*start, 15, number)
        draw.line((*start, *end), colour, 6)
    draw.circle((128, 128), 44, CLEAR)


def kite(draw: ImageDraw.ImageDraw) -> None:
    corners = (128, 6), (214, 96), (128, 250), (42, 96)
    for place, colour in enumerate(("#7b35c4", "#37c8de") * 2):
        next_corner = corners[(place + 1) % 4]
        draw.polygon((corners[place], next_corner, (128, 96)), colour)
    draw.line((128, 6, 128, 250), BLACK, 5)
    draw.line((42, 96, 214, 96), BLACK, 5)


def triangle(draw: ImageDraw.ImageDraw) -> None:
    draw.regular_polygon((128, 128, 124), 3, fill=BLACK)


def cross(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((88, 8, 168, 248), BLACK)
    draw.rectangle((8, 88, 248, 168), BLACK)


def crescent(draw: ImageDraw.ImageDraw) -> None:
    draw.circle((128, 128), 120, BLACK)
    draw.circle((186, 128), 96, CLEAR)


def bar(draw: ImageDraw.ImageDraw) -> None:
    draw.rounded_rectangle((8, 84, 248, 172), 44, BLACK)


SKETCHES: dict[str, Sketch] = {  # a class's words, and what draws it
    "ladybird, ladybug": ladybird,
    "watermelon slice": melon,
    "honeycomb": honeycomb,
    "chessboard": chessboard,
    "starfish, sea star": starfish,
    "leaf": leaf,
    "beach ball": beach_ball,
    "brick wall": brick_wall,
    "doughnut, donut": doughnut,
    "kite": kite,
}
DECOYS: tuple[Sketch, ...] = (triangle, cross, crescent, bar)  # outlines of no class


def draw_image(label: int, rng: Generator) -> tuple[np.ndarray, list[TrueBox]]:
    """An image of class `label`: (H,W,3) uint8 RGB, and the boxes of its one or two objects."""
    low, high = np.log(RATIOS)
    ratio = np.exp(rng.uniform(low, high))
    longer_side = rng.uniform(*LONG_SIDES)
    width = int(longer_side * min(1, ratio))
    height = int(longer_side * min(1, 1 / ratio))
    image = background(width, height, rng)
    for _ in range(rng.integers(2, 6)):
        share = rng.uniform(0.16, 0.44)
        thing = distractor(share * min(width, height), rng)
        x, y = rng.uniform((0, 0), (width, height))
        left = int(x) - thing.width // 2
        top = int(y) - thing.height // 2
        paste(image, thing, left, top)
    sketch = list(SKETCHES.values())[label]
    boxes = []
    for thing, left, top in place_objects(sketch, width, height, rng):
        paste(image, thing, left, top)
        x1, y1, x2, y2 = opaque_box(thing)
        boxes.append((left + x1, top + y1, left + x2 - 1, top + y2 - 1))
    return np.asarray(image), boxes


def background(width: int, height: int, rng: Generator) -> Image.Image:
    """Two muted colours flowing into each other, cloudy, with noise."""
    clouds = []
    for cells in (3, 12):
        cloud = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
        cloud = cloud.resize((width, height), Image.Resampling.BICUBIC)
        clouds.append(np.asarray(cloud)[..., None])
    flow, shade = clouds
    pixels = muted(rng) * flow + muted(rng) * (1 - flow)
    pixels += 60 * (shade - 0.5)
    pixels += rng.normal(0, 5, (height, width, 1))
    return Image.fromarray(np.uint8(np.clip(pixels, 0, 255)))


def muted(rng: Generator) -> np.ndarray:
    """(3,) a greyish colour."""
    return rng.uniform(80, 190) + rng.uniform(-30, 30, 3)


def distractor(longer_side: float, rng: Generator) -> Image.Image:
    """A class's outline in a muted colour or a decoy in any colour, never a class's own pattern."""
    is_of_class = rng.random() < 0.5
    sketches = list(SKETCHES.values()) if is_of_class else DECOYS
    thing = turned(rng.choice(sketches), longer_side, rng)
    colour = muted(rng) if is_of_class else rng.uniform(30, 240, 3)
    plain = Image.new("RGB", thing.size, tuple(map(int, colour)))
    plain.putalpha(thing.getchannel("A"))
    return plain


def turned(sketch: Sketch, longer_side: float, rng: Generator) -> Image.Image:
    """A thing as RGBA, turned at random, its opaque part `longer_side` pixels long."""
    square = Image.new("RGBA", (SIDE, SIDE))
    sketch(ImageDraw.Draw(square))
    thing = square.rotate(rng.uniform(0, 360), Image.Resampling.BILINEAR, expand=True)
    thing = thing.crop(opaque_box(thing))
    scale = longer_side / max(thing.size)
    size = [max(1, round(side * scale)) for side in thing.size]
    return thing.resize(size, Image.Resampling.LANCZOS)


def opaque_box(thing: Image.Image) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is at least half opaque; right and bottom exclusive."""
    alpha = thing.getchannel("A")
    return alpha.point(lambda level: 255 * (level >= 128)).getbbox()


def place_objects(
    sketch: Sketch, width: int, height: int, rng: Generator
) -> list[tuple[Image.Image, int, int]]:
    """The objects of an image: each with its left and its top.

    There is one, or in PAIRS of the images two, wholly in the image and often near its edges.
    """
    count = 2 if rng.random() < PAIRS else 1
    low, high = SIZES if count == 1 else PAIR_SIZES
    shares = high - (high - low) * rng.random(count) ** 2
    things = []
    for longer_side in min(width, height) * shares:
        thing = turned(sketch, longer_side, rng)
        things.append(tinted(thing, rng))

    sides = np.array([thing.size for thing in things])
    room = np.array([width, height]) - 2 * MARGIN - sides
    corners = MARGIN + rng.beta(0.5, 0.5, (count, 2)) * room
    # Along the image's longer side the objects share the room that is left, so that no two of them
    # overlap.
    axis = int(height > width)
    steps = sides[:, axis] + MARGIN
    free = max(width, height) - MARGIN - steps.sum()
    offsets = np.sort(rng.beta(0.5, 0.5, count)) * free
    corners[:, axis] = MARGIN + offsets + np.cumsum(steps) - steps
    return [(thing, int(x), int(y)) for thing, (x, y) in zip(things, corners, strict=True)]


def tinted(thing: Image.Image, rng: Generator) -> Image.Image:
    """The thing in colours of its own, and lit from the upper left."""
    pixels = np.array(thing, np.float32)
    across = np.linspace(-1, 1, thing.width)
    down = np.linspace(-1, 1, thing.height)
    light = 1 - 0.16 * (across + down[:, None])
    pixels[..., :3] *= rng.uniform(0.88, 1.1, 3) * light[..., None]
    return Image.fromarray(np.uint8(np.clip(pixels, 0, 255)))


def paste(image: Image.Image, thing: Image.Image, left: int, top: int) -> None:
    """A thing over its own shadow."""
    alpha = thing.getchannel("A")
    shadow = alpha.point(lambda level: level * 2 // 5)
    image.paste(BLACK, (left + 5, top + 6), shadow)
    image.paste(thing, (left, top), alpha)
