"""Pixels from every kind of file that ILSVRC and one's own folders have."""

import errno
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from cam_repro import UserError, files
from cam_repro.data.images import (
    FORMATS,
    MUCH_TEXT,
    ORIENTATION,
    SUFFIXES,
    CorruptImage,
    examine,
    is_deep,
    read_image,
    read_size,
    read_upright,
)

ROWS, COLUMNS = np.mgrid[0:48, 0:64]
IMAGE = Image.fromarray(np.stack([ROWS * 5, COLUMNS * 3, ROWS + COLUMNS], axis=2).astype(np.uint8))
GREY_MODES = {".pgm": "L", ".pbm": "1", ".pfm": "F"}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_any_jpeg_becomes_rgb_of_its_stored_size(tmp_path: Path, mode: str) -> None:
    IMAGE.convert(mode).save(tmp_path / "x.JPEG", "JPEG")
    pixels = read_image(tmp_path / "x.JPEG")
    assert pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels - np.asarray(IMAGE.convert(mode).convert("RGB"), float)).mean() < 6


def test_a_jpeg_has_pillows_pixels(tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "x.JPEG", "JPEG", quality=80)
    assert np.array_equal(
        read_image(tmp_path / "x.JPEG"), np.asarray(Image.open(tmp_path / "x.JPEG"))
    )


def test_the_suffixes_are_all_that_pillow_knows_of_the_formats() -> None:
    known = Image.registered_extensions()
    assert {*SUFFIXES} == {suffix for suffix, kind in known.items() if kind in (*FORMATS, "MPO")}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_is_written_by_pillow_and_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    grey = suffix in GREY_MODES
    image = IMAGE.convert(GREY_MODES[suffix]) if grey else IMAGE
    image.save(path)
    pixels = read_image(path)
    assert pixels.shape == (48, 64, 3)
    if not grey and suffix != ".gif":
        assert np.abs(pixels - np.asarray(IMAGE, float)).mean() < 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_exif_rotation_is_ignored_as_stored_and_heeded_upright(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    path = tmp_path / "x"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    IMAGE.save(path, kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    upright = read_image(path, upright=True)
    assert np.array_equal(upright, expected)
    assert upright.shape == ((64, 48, 3) if orientation > 4 else (48, 64, 3))
    assert np.array_equal(read_upright(path, 64)[0], expected)
    assert read_size(path, upright=True) == examine(path, upright=True)[0] == upright.shape[1::-1]
    if kind != "TIFF":  # which Pillow itself turns
        assert read_image(path).shape == (48, 64, 3) and read_size(path) == (64, 48)


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_in_either_byte_order_is_pillows(
    tmp_path: Path, byte_order: str, orientation: int
) -> None:
    path = tmp_path / "x.jpg"
    exif = Image.Exif()
    exif.endian = byte_order
    exif[ORIENTATION] = orientation
    IMAGE.save(path, exif=exif)
    assert (b"II*\0" in path.read_bytes()) == (byte_order == "<")
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    assert np.array_equal(read_image(path, upright=True), expected)


def test_a_turned_corner_is_where_a_viewer_shows_it(tmp_path: Path) -> None:
    """By EXIF's orientation 6 the stored image's lower left corner is upper left when upright."""
    stored = np.zeros((16, 32, 3), np.uint8)
    exif = Image.Exif()
    stored[8:, :8] = 255
    exif[ORIENTATION] = 6
    Image.fromarray(stored).save(tmp_path / "x.jpg", exif=exif, quality=95)
    upright = read_image(tmp_path / "x.jpg", upright=True)
    assert upright.shape == (32, 16, 3)
    assert upright[:8, :8].mean() > 250 and upright[8:].mean() < 5


@pytest.mark.parametrize("tags", [b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0nonsense"])
def test_damaged_tags_leave_the_pixels_as_they_are(tmp_path: Path, tags: bytes) -> None:
    IMAGE.save(tmp_path / "x.jpg", exif=tags)
    assert np.array_equal(
        read_image(tmp_path / "x.jpg", upright=True), read_image(tmp_path / "x.jpg")
    )


def test_a_rotation_that_only_xmp_tells_is_heeded_too(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    IMAGE.save(tmp_path / "x.jpg", xmp=xmp)
    assert read_image(tmp_path / "x.jpg", upright=True).shape == (64, 48, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_what_is_transparent_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    """The left half is opaque grey 100; the right half hides black behind full transparency."""
    path = tmp_path / ("x.tif" if mode == "PA" else "x.png")
    alpha = Image.fromarray(np.where(COLUMNS < 32, 255, 0).astype(np.uint8))
    grey = Image.fromarray(np.where(COLUMNS < 32, 100, 0).astype(np.uint8))
    palette = Image.fromarray(np.where(COLUMNS < 32, 1, 0).astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 100, 100, 100])
    image = palette if mode in ("P", "PA") else grey.convert(mode)
    if mode == "P":
        image.save(path, transparency=0)
    else:
        image.putalpha(alpha)
        assert image.mode == mode
        image.save(path)
    pixels = read_image(path)
    assert (pixels[:, :32] == 100).all() and (pixels[:, 32:] == 255).all()
    assert np.array_equal(read_upright(path, 64)[0], pixels)
    assert "laid on white" in examine(path)[1]["transparency"]


def test_half_transparent_pixels_are_mixed_with_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 200, 51)).save(tmp_path / "x.png")  # a fifth of it shows
    assert (read_image(tmp_path / "x.png") == (204, 204, 244)).all()


DEEP = {
    "I;16": (np.array([[1000, 2000], [3000, 61000]], np.uint16), [[0, 4], [8, 255]]),
    "I;16 of a narrow range": (
        np.array([[1000, 1001], [1002, 1003]], np.uint16),
        [[0, 85], [170, 255]],
    ),
    "I": (np.array([[-500, 0], [0, 500]], np.int32), [[0, 128], [128, 255]]),
    "F": (np.array([[0.25, 0.5], [np.nan, np.inf]], np.float32), [[0, 255], [0, 255]]),
    "of one value": (np.full((2, 2), 7000, np.uint16), [[0, 0], [0, 0]]),
}


@pytest.mark.parametrize("kind", DEEP)
def test_grey_of_more_than_8_bits_is_scaled_by_its_own_range(tmp_path: Path, kind: str) -> None:
    values, levels = DEEP[kind]
    path = tmp_path / "x.tif"
    Image.fromarray(values).save(path)
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and pixels[..., 0].tolist() == levels
    assert (pixels == pixels[..., :1]).all()
    assert is_deep(path) and "scaled to 8 bits" in examine(path)[1]["more than 8 bits"]


def test_a_deep_png_is_scaled_and_an_ordinary_one_is_not_deep(tmp_path: Path) -> None:
    Image.fromarray(DEEP["I;16"][0]).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png")[..., 1].tolist() == [[0, 4], [8, 255]]
    IMAGE.convert("L").save(tmp_path / "flat.png")
    (tmp_path / "broken.png").write_bytes(b"")
    assert is_deep(tmp_path / "deep.png")
    assert not is_deep(tmp_path / "flat.png")
    assert not is_deep(tmp_path / "broken.png")


def test_a_png_with_much_text_is_read_and_a_bomb_of_text_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * (3 * MUCH_TEXT), zip=True)
    IMAGE.save(path, pnginfo=info)
    assert np.array_equal(read_image(path), np.asarray(IMAGE))
    assert examine(path)[1]["much text"] == "3.1 MB"
    text = b"bomb\0\0" + zlib.compress(bytes(PngImagePlugin.MAX_TEXT_MEMORY + 1))
    length = struct.pack(">I", len(text))
    checksum = struct.pack(">I", zlib.crc32(b"zTXt" + text))
    chunk = length + b"zTXt" + text + checksum
    data = path.read_bytes()
    path.write_bytes(data[:33] + chunk + data[33:])  # after the signature and IHDR
    with pytest.raises(CorruptImage, match="MAX_TEXT_CHUNK"):
        read_image(path)


def test_only_the_first_frame_of_several_is_read_and_that_is_noted(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.png", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / "x.png") == (255, 0, 0)).all()
    assert examine(tmp_path / "x.png")[1]["several frames"] == "the first of 2"


def test_a_file_that_the_system_fails_to_read_is_not_a_corrupt_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Path) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(files, "WAITS", ())
    monkeypatch.setattr(Path, "read_bytes", fails)
    message = "cannot read .*a.jpg: Stale file handle; it is left as it is"
    with pytest.raises(UserError, match=message):
        read_image(tmp_path / "a.jpg")
