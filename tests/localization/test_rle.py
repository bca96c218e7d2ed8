"""COCO's compressed masks, beside what pycocotools 2.0.11 encoded of the same ones."""

import numpy as np
import pytest

from cam_repro.localization.rle import run_lengths

RECTANGLES = np.zeros((300, 200), bool)
RECTANGLES[50:250, 20:150] = True
RECTANGLES[:10] = True
HOLE = np.zeros((5, 9), bool)
HOLE[1:4, 2:8] = True
HOLE[2, 4] = False
OF_PYCOCOTOOLS = [
    (np.ones((3, 50), bool), "0f4"),
    (np.zeros((3, 50), bool), "f4"),
    (HOLE, ";3200NO01200004"),
]


@pytest.mark.parametrize(("mask", "counts"), OF_PYCOCOTOOLS)
def test_the_counts_are_those_of_pycocotools(mask: np.ndarray, counts: str) -> None:
    assert run_lengths(mask) == counts


def test_long_runs_and_falling_ones_are_read_back() -> None:
    assert np.array_equal(decoded(run_lengths(RECTANGLES), RECTANGLES.shape), RECTANGLES)


def decoded(text: str, shape: tuple[int, int]) -> np.ndarray:
    """As pycocotools' rleFrString reads it."""
    counts = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(shape[::-1]).T
