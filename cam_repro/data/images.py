"""From image files to pixels, whatever the files hold: CMYK, transparency, 16 bits, rotation.

A camera notes in an image's EXIF tags how it was held. One's own images are turned upright by them,
as every viewer shows them. ILSVRC's stay as they are stored, since its boxes were drawn on the
stored pixels.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, PngImagePlugin

from cam_repro import UserError
from cam_repro.files import read_bytes

# Damaged EXIF tags and palettes with transparency: the pixels are fine.
warnings.filterwarnings("ignore", module=r"PIL\.")

# Of Pillow's other formats some run programs (EPS), and some are recognized by so few bytes that
# noise is taken for an image (TGA).
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM")
SUFFIXES = (  # of files taken for images: every one that Pillow knows of these formats
    ".jpeg", ".jpg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".webp", ".tif",
    ".tiff", ".avif", ".avifs", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".ppm", ".pgm",
    ".pbm", ".pnm", ".pfm",
)  # fmt: skip
MAY_BE_DEEP = (  # suffixes of files that may have more than 8 bits
    b".png", b".apng", b".tif", b".tiff", b".jp2", b".j2k", b".j2c", b".jpc", b".jpf", b".jpx",
    b".pgm", b".pnm", b".pfm",
)  # fmt: skip
# In pixels: 179 million, beyond which Pillow too takes an image for a decompression bomb.
LARGEST_IMAGE = 2 * (Image.MAX_IMAGE_PIXELS or 0)
MUCH_TEXT = PngImagePlugin.MAX_TEXT_CHUNK  # bytes, beyond which Pillow would not read a PNG
# A workflow or a protocol in a PNG may have megabytes: one text may be as long as Pillow lets all
# of them be (64 MB).
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
ORIENTATION = 0x0112  # the EXIF tag
# The same with its type, its count of 1 and a value from 2 to 8, big-endian or little-endian.
TURNING_TAG = re.compile(
    rb"\x01\x12\x00[\x01\x03\x04]\x00\x00\x00\x01\x00*[\x02-\x08]"
    rb"|\x12\x01[\x01\x03\x04]\x00\x01\x00\x00\x00[\x02-\x08]"
)
TURNS = {  # how an image of an orientation is turned upright (EXIF 2.3, §4.6.4)
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class CorruptImage(Exception):
    """A file that is no readable image; its text names file and reason in one line."""


def read_image(path: Path, upright: bool = False, content: bytes | None = None) -> np.ndarray:
    """The image as stored, or upright by its EXIF tag: (H,W,3) uint8 RGB. Raises CorruptImage.

    What is transparent is laid on white, and values of more than 8 bits are scaled by their own
    range. content: the file's bytes where they lie in an archive; `path` then only names them.
    """
    with _refusing(path):
        return _decode(read_bytes(path) if content is None else content, upright)[0]


def read_upright(path: Path, largest_side: int) -> tuple[np.ndarray, tuple[int, int]]:
    """A photograph as people see it: turned by its EXIF tag, and small.

    Returns (H,W,3) uint8 RGB, and the (width, height) that it had. Raises CorruptImage.
    """
    with _refusing(path), _open(path) as image:
        width, height = image.size
        # A JPEG is decoded at half of its size or less where that is enough.
        image.draft("RGB", (largest_side, largest_side))
        shown = _rgb(_turned_upright(image))
        own_size = (width, height) if shown.size == image.size else (height, width)
        shown.thumbnail((largest_side, largest_side))
        return np.array(shown), own_size


def read_size(path: Path, upright: bool = False, content: bytes | None = None) -> tuple[int, int]:
    """Width and height of what read_image gives, from the header alone. Raises CorruptImage."""
    with _refusing(path), _open(_file(path, content)) as image:
        width, height = image.size
        is_turned_by_pillow = image.format == "TIFF"
        if upright and not is_turned_by_pillow and _orientation(image) >= 5:
            return height, width
        return width, height


def is_deep(path: Path, content: bytes | None = None) -> bool:
    """Whether read_image scales an image of more than 8 bits; false for an unreadable one."""
    file = _file(path, content)
    with suppress(CorruptImage), _refusing(path), _open(file) as image:
        return _has_deep_values(image)
    return False


def examine(
    path: Path, upright: bool = False, content: bytes | None = None
) -> tuple[tuple[int, int], dict[str, str]]:
    """(width, height) of what read_image gives, and what is odd about it. Raises CorruptImage."""
    with _refusing(path):
        data = read_bytes(path) if content is None else content
        pixels, doubt = _decode(data, upright)
        image = _open(io.BytesIO(data))
        orientation = _orientation(image)
        oddities = {}
        if doubt:
            oddities["doubtful JPEG data"] = doubt
        if image.mode != "RGB":
            oddities["not RGB"] = image.mode
        if image.format not in ("JPEG", "MPO"):
            oddities["not a JPEG"] = f"{image.format}"
        if orientation != 1:
            done = "turned upright" if upright else "ignored"
            oddities["EXIF rotation"] = f"orientation {orientation}, {done}"
        if image.has_transparency_data:
            oddities["transparency"] = f"{image.mode}, laid on white"
        if _has_deep_values(image):
            oddities["more than 8 bits"] = f"{image.mode}, scaled to 8 bits by its own range"
        text = sum(map(len, getattr(image, "text", {}).values()))
        if text > MUCH_TEXT:
            oddities["much text"] = f"{text / 1e6:.1f} MB"
        if getattr(image, "is_animated", False) and image.format != "MPO":
            oddities["several frames"] = f"the first of {image.n_frames}"
        height, width = pixels.shape[:2]
        return (width, height), oddities


def _decode(data: bytes, upright: bool) -> tuple[np.ndarray, str]:
    """(H,W,3) uint8 RGB, and libjpeg's complaint about a file that Pillow reads all the same."""
    doubt = ""
    if data[:2] == b"\xff\xd8" and not (upright and _may_be_turned(data)):
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
            if height * width <= LARGEST_IMAGE:
                return simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True), ""
        except ValueError as error:
            # Pillow reads it all the same, or says what is wrong with it.
            doubt = str(error).strip() or "damaged"
    image = _open(io.BytesIO(data))
    if upright:
        image = _turned_upright(image)
    return np.array(_rgb(image)), doubt


def _file(path: Path, content: bytes | None) -> Path | io.BytesIO:
    return path if content is None else io.BytesIO(content)


def _open(file: Path | io.BytesIO) -> Image.Image:
    return Image.open(file, formats=FORMATS)


def _may_be_turned(jpeg: bytes) -> bool:
    """False where a JPEG's tags leave it as it is, as most do.

    Pillow would take as long to read the tags as to decode a small JPEG.
    """
    # The first scan may be that of a thumbnail, which lies behind the tags of the image.
    first_scan = jpeg.find(b"\xff\xda")
    if jpeg.find(b"tiff:Orientation", 0, first_scan) >= 0:  # of XMP
        return True
    exif = jpeg.find(b"Exif\0\0", 0, first_scan)
    return exif >= 0 and TURNING_TAG.search(jpeg, exif, first_scan) is not None


def _turned_upright(image: Image.Image) -> Image.Image:
    # Loaded before its tags are read: loading turns a TIFF and removes its orientation.
    image.load()
    turn = TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF counts; 1, upright, where there is none."""
    with suppress(Exception):  # damaged tags, which are no damage to the pixels
        orientation = image.getexif().get(ORIENTATION, 1)
        if orientation in TURNS:
            return orientation
    return 1


def _rgb(image: Image.Image) -> Image.Image:
    """Three channels of 8 bits; what is transparent is laid on white."""
    if _has_deep_values(image):
        return _scaled(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _has_deep_values(image: Image.Image) -> bool:
    """Whether it is grey of 16 or 32 bits, which Pillow would cut off at 255.

    Pillow brings other modes to 8 bits as it reads them.
    """
    return image.mode[0] in "IF"


def _scaled(image: Image.Image) -> Image.Image:
    """8 bits of grey: the least value and what is no number are black, the greatest is white."""
    values = np.asarray(image).astype(np.float64)
    finite = values[np.isfinite(values)]
    least = finite.min() if finite.size else 0.0
    greatest = finite.max() if finite.size else 0.0
    extent = max(greatest - least, np.finfo(np.float32).tiny)
    share = (values - least) / extent
    levels = np.nan_to_num(255 * share, nan=0.0, posinf=255.0, neginf=0.0)
    return Image.fromarray(np.rint(levels).astype(np.uint8))


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Makes a CorruptImage of whatever Pillow raises on damaged data.

    A file that the system fails to read is not damaged: it stays a UserError.
    """
    try:
        yield
    except UserError as error:
        if not isinstance(error.__cause__, IsADirectoryError):
            raise
        raise CorruptImage(f"{path}: {error.__cause__.strerror}") from None
    except Exception as error:
        said = str(error).split("<_io")[0]
        reason = getattr(error, "strerror", None) or " ".join(said.split())
        raise CorruptImage(f"{path}: {reason or 'not an image'}") from None
