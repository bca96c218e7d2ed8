"""Masks as COCO writes them: compressed run lengths (pycocotools' maskApi.c, rleToString)."""

import numpy as np


def run_lengths(mask: np.ndarray) -> str:
    """A mask (H,W) of bool as the `counts` of COCO's segmentation.

    Pixels are taken column by column, in runs of 0s and 1s by turns, the first of 0s. From the
    fourth run on, what is written is its difference to the run before the last.
    """
    pixels = mask.T.ravel()
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    counts = np.diff([0, *changes.tolist(), pixels.size]).tolist()
    if pixels[0]:
        counts.insert(0, 0)
    text = []
    for place, count in enumerate(counts):
        text.append(_characters(count if place <= 2 else count - counts[place - 2]))
    return "".join(text)


def _characters(number: int) -> str:
    """A whole number, five bits a character, the lowest first, as many as its sign needs."""
    characters = []
    more = True
    while more:
        bits = number & 0b11111
        number >>= 5
        more = number != (-1 if bits & 0b10000 else 0)
        characters.append(chr(48 + bits + (0b100000 if more else 0)))
    return "".join(characters)
