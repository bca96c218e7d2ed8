"""JPEG → pixels, with ILSVRC's oddities: CMYK, grey, PNGs named .JPEG, EXIF rotation (ignored, as its boxes do)."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

# Damaged EXIF tags and palettes with transparency: the pixels are fine.
warnings.filterwarnings("ignore", module=r"PIL\.")

SUFFIXES = (".jpeg", ".jpg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")  # of files taken for pictures
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")  # of Pillow's others some run programs (EPS)
LARGEST_PICTURE = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # pixels: where Pillow too takes it for a bomb, 179 million
ORIENTATION = 0x0112  # the EXIF tag


class CorruptImage(Exception):
    """A file that is no readable picture; its text names file and reason in one line."""


def read_image(path: Path) -> np.ndarray:
    """The picture as stored, (H,W,3) uint8 RGB. Raises CorruptImage."""
    with _refusing(path):
        return _decode(path.read_bytes())[0]


def read_upright(path: Path, largest_side: int) -> tuple[np.ndarray, float]:
    """A photograph as people see it, turned by its EXIF tag and made small: (H,W,3) uint8 RGB, and how many of its own
    pixels are in one of these. Raises CorruptImage."""
    with _refusing(path), _open(path) as image:
        own_side = max(image.size)
        image.draft("RGB", (largest_side, largest_side))  # a JPEG is decoded at half of its size, if that is enough
        upright = ImageOps.exif_transpose(image).convert("RGB")
        upright.thumbnail((largest_side, largest_side))
        return np.array(upright), own_side / max(upright.size)


def read_size(path: Path) -> tuple[int, int]:
    """Width and height of the picture as stored, from its header alone. Raises CorruptImage."""
    with _refusing(path), _open(path) as image:
        return image.size


def examine(path: Path) -> tuple[tuple[int, int], dict[str, str]]:
    """Size (width, height) as stored, and what is odd about a picture that read_image reads. Raises CorruptImage."""
    with _refusing(path):
        data = path.read_bytes()
        image, orientation = _open(io.BytesIO(data)), 1
        doubt = _decode(data)[1]
        with suppress(Exception):  # damaged tags, which are no damage to the pixels
            orientation = image.getexif().get(ORIENTATION, 1)
        oddities = {
            "doubtful JPEG data": doubt,
            "EXIF rotation": f"orientation {orientation}, ignored" if orientation in range(2, 9) else "",
            "not RGB": "" if image.mode == "RGB" else image.mode,
            "not a JPEG": "" if image.format in ("JPEG", "MPO") else f"{image.format}",
        }
        return image.size, {kind: what for kind, what in oddities.items() if what}


def _decode(data: bytes) -> tuple[np.ndarray, str]:
    """(H,W,3) uint8 RGB, and what libjpeg complained of where Pillow reads on."""
    doubt = ""
    if data[:2] == b"\xff\xd8":
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
            if height * width <= LARGEST_PICTURE:
                return simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True), ""
        except ValueError as error:  # Pillow reads it all the same, or names what is wrong with it
            doubt = str(error).strip() or "damaged"
    return np.array(_open(io.BytesIO(data)).convert("RGB")), doubt


def _open(file: Path | io.BytesIO) -> Image.Image:
    image = Image.open(file, formats=FORMATS)
    if image.mode[0] in "IF":  # 16 or 32 bits: Pillow would cut them off at 255
        raise ValueError(f"{image.mode} pixels, expected 8 bits a channel")
    return image


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Whatever is raised on damaged data is a CorruptImage: Pillow raises struct.error, IndexError, MemoryError …"""
    try:
        yield
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split("<_io")[0].split())
        raise CorruptImage(f"{path}: {reason or 'not a picture'}") from None
