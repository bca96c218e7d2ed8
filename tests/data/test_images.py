"""Pixels from every kind of file that ILSVRC has."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cam_repro.data.images import read_image

ROWS, COLUMNS = np.mgrid[0:48, 0:64]
PICTURE = Image.fromarray(np.stack([ROWS * 5, COLUMNS * 3, ROWS + COLUMNS], axis=2).astype(np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_any_jpeg_becomes_rgb_of_its_stored_size(tmp_path: Path, mode: str) -> None:
    PICTURE.convert(mode).save(tmp_path / "x.JPEG", "JPEG")
    pixels = read_image(tmp_path / "x.JPEG")
    assert pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels - np.asarray(PICTURE.convert(mode).convert("RGB"), float)).mean() < 6


def test_a_jpeg_has_pillows_pixels(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "x.JPEG", "JPEG", quality=80)
    assert np.array_equal(read_image(tmp_path / "x.JPEG"), np.asarray(Image.open(tmp_path / "x.JPEG")))
