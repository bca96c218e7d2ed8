"""JPEG → pixels, with ILSVRC's oddities: CMYK, grey, PNGs named .JPEG, EXIF rotation (ignored, as its boxes do)."""

from __future__ import annotations

import io
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

try:
    import simplejpeg
except ImportError:  # optional: the same pixels, 1.4 times faster
    simplejpeg = None


class CorruptImage(Exception):
    """A file that is no readable picture; its text names file and reason in one line."""


def decoder() -> str:
    """Which library decodes, for a result's provenance."""
    name = "pillow" if simplejpeg is None else "simplejpeg"
    return f"{name} {version(name)}"


def read_image(path: Path) -> np.ndarray:
    """The picture as stored, (H,W,3) uint8 RGB. Raises CorruptImage."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorruptImage(f"{path}: {error.strerror}") from None
    if simplejpeg is not None and data[:2] == b"\xff\xd8":
        try:
            return simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
        except ValueError:
            pass  # CMYK, or damaged: Pillow reads the one and names what is wrong with the other
    return _read_with_pillow(path, data)


def read_size(path: Path) -> tuple[int, int]:
    """Width and height of the picture as stored, from its header alone. Raises CorruptImage."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptImage(f"{path}: {getattr(error, 'strerror', None) or 'not a picture'}") from None


def _read_with_pillow(path: Path, data: bytes) -> np.ndarray:
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore")  # damaged EXIF tags and palettes with transparency: the pixels are fine
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error).replace(str(io.BytesIO), "the file").split("<_io")[0].strip()
        raise CorruptImage(f"{path}: {reason or 'not a picture'} ({len(data)} bytes)") from None
