"""JPEG → pixels, with ILSVRC's oddities: CMYK, grey, PNGs named .JPEG, EXIF rotation (ignored, as its boxes do)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

try:
    import simplejpeg
except ImportError:  # optional: the same pixels, 1.4 times faster
    simplejpeg = None

# Damaged EXIF tags and palettes with transparency: the pixels are fine.
warnings.filterwarnings("ignore", module=r"PIL\.")

SUFFIXES = (".jpeg", ".jpg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")  # of files taken for pictures
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")  # of Pillow's others some run programs (EPS)
LARGEST_PICTURE = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # pixels: where Pillow too takes it for a bomb, 179 million
ORIENTATION = 0x0112  # the EXIF tag


class CorruptImage(Exception):
    """A file that is no readable picture; its text names file and reason in one line."""


@dataclass(frozen=True)
class Examination:
    """A readable picture: size (width, height) as stored, Pillow's name of its pixels (RGB, L, CMYK …) and format,
    EXIF orientation (1: upright), and what libjpeg complained of where it could still read on."""

    size: tuple[int, int]
    mode: str
    format: str
    orientation: int
    doubt: str


def decoder() -> str:
    """Which library decodes and which resizes, for a result's provenance."""
    name = "pillow" if simplejpeg is None else "simplejpeg"
    return f"{name} {version(name)}, resized by torch {version('torch')}"


def read_image(path: Path) -> np.ndarray:
    """The picture as stored, (H,W,3) uint8 RGB. Raises CorruptImage."""
    data = _read_file(path)
    if simplejpeg is not None and data[:2] == b"\xff\xd8":
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
            if height * width <= LARGEST_PICTURE:
                return simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
        except ValueError:
            pass  # CMYK, or damaged: Pillow reads the one and names what is wrong with the other
    with _pillow_image(path, data) as image:
        return np.array(image.convert("RGB"))


def read_upright(path: Path, largest_side: int) -> tuple[np.ndarray, float]:
    """A photograph as people see it, turned by its EXIF tag and made small: (H,W,3) uint8 RGB, and how many of its own
    pixels are in one of these. Raises CorruptImage."""
    with _pillow_image(path, _read_file(path)) as image:
        own_side = max(image.size)
        image.draft("RGB", (largest_side, largest_side))  # a JPEG is decoded at half of its size, if that is enough
        upright = ImageOps.exif_transpose(image).convert("RGB")
        upright.thumbnail((largest_side, largest_side))
        return np.array(upright), own_side / max(upright.size)


def read_size(path: Path) -> tuple[int, int]:
    """Width and height of the picture as stored, from its header alone. Raises CorruptImage."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptImage(f"{path}: {getattr(error, 'strerror', None) or 'not a picture'}") from None


def examine(path: Path) -> Examination:
    """Every byte of the picture decoded, as read_image would. Raises CorruptImage where read_image does.

    An eighth of the pixels a side is enough: Huffman decoding finds the damage, the rest of the work is left out.
    """
    data = _read_file(path)
    with _pillow_image(path, data) as image:
        plain_jpeg = image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L")
        doubt = _libjpeg_complaint(data) if simplejpeg is not None and plain_jpeg else ""
        if doubt or simplejpeg is None or not plain_jpeg:
            image.convert("RGB")
        return Examination(image.size, image.mode, image.format or "", _orientation(image), doubt)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION)
    except Exception:  # damaged tags, which are no damage to the pixels
        return 1
    return value if value in range(2, 9) else 1


def _libjpeg_complaint(data: bytes) -> str:
    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", min_factor=8, min_height=1, min_width=1, strict=True)
    except ValueError as error:
        return str(error).strip() or "damaged"
    return ""


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorruptImage(f"{path}: {error.strerror}") from None


@contextmanager
def _pillow_image(path: Path, data: bytes) -> Iterator[Image.Image]:
    """The opened picture; whatever Pillow raises in the block is a CorruptImage."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.mode[0] in "IF":  # 16 or 32 bits: Pillow would cut them off at 255
                raise ValueError(f"{image.mode} pixels, expected 8 bits a channel")
            yield image
    except Exception as error:  # on damaged data Pillow raises anything: struct.error, IndexError, MemoryError …
        reason = str(error).replace(str(io.BytesIO), "the file").split("<_io")[0].strip()
        raise CorruptImage(f"{path}: {' '.join(reason.split()) or 'not a picture'} ({len(data)} bytes)") from None
