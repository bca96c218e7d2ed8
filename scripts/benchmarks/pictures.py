"""A made-up tree of JPEGs of ILSVRC's sizes, in its layout: 500 × 375 pixels and 110 kB on average."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((500, 375), (500, 333), (375, 500), (500, 400), (640, 480), (400, 300), (500, 375), (480, 360))
CLASSES = 10
ANNOTATION = """<annotation><size><width>{w}</width><height>{h}</height><depth>3</depth></size><object>
<name>{wnid}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>
</annotation>
"""


def make_tree(root: Path, val: int, scale: int = 1) -> Path:
    """`val` validation pictures of ten classes, each with a box, and one training picture a class.

    scale: how many times smaller each side is than ILSVRC's.
    """
    rng = np.random.default_rng(0)
    pictures = [make_picture(rng, (width // scale, height // scale)) for width, height in SIZES]
    images, annotations = root / "ILSVRC/Data/CLS-LOC", root / "ILSVRC/Annotations/CLS-LOC/val"
    annotations.mkdir(parents=True)
    (images / "val").mkdir(parents=True)
    for label in range(CLASSES):
        folder = images / "train" / wnid(label)
        folder.mkdir(parents=True)
        save(pictures[label % len(pictures)], folder / f"{wnid(label)}_1.JPEG")
    for number in range(val):
        picture, name = pictures[number % len(pictures)], f"ILSVRC2012_val_{number + 1:08d}"
        height, width = picture.shape[:2]
        save(np.roll(picture, 7 * number, axis=1), images / "val" / f"{name}.JPEG")
        box = {"x1": width // 8, "y1": height // 8, "x2": width * 7 // 8, "y2": height * 7 // 8}
        text = ANNOTATION.format(w=width, h=height, wnid=wnid(number % CLASSES), **box)
        (annotations / f"{name}.xml").write_text(text)
    (root / "LOC_synset_mapping.txt").write_text("".join(f"{wnid(label)} class {label}\n" for label in range(CLASSES)))
    return root


def wnid(label: int) -> str:
    return f"n{label:08d}"


def make_picture(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Noise with a photograph's spectrum (amplitude 1/f), so that it compresses and decodes like one."""
    width, height = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    frequency[0, 0] = 1.0
    grey = np.fft.ifft2(np.fft.fft2(rng.standard_normal((height, width))) / frequency).real
    tints = [np.fft.ifft2(np.fft.fft2(rng.standard_normal((height, width))) / frequency**1.5).real for _ in range(3)]
    channels = [grey / grey.std() + 0.5 * tint / tint.std() for tint in tints]
    return np.clip(np.stack(channels, axis=-1) * 45 + 120, 0, 255).astype(np.uint8)


def save(picture: np.ndarray, path: Path) -> None:
    Image.fromarray(picture).save(path, quality=92)
