"""Five guesses an image: the result sets of the release, and the devkit's submission format on disk.

`predictions.txt` has one line an image, in the data set's order: `label x1 y1 x2 y2` five times, best guess first, or
fewer times, the same in all lines.
Labels are 1-based. What they count is, as predictions_labels= says, `mapping`: the lines of the data set's
`LOC_synset_mapping.txt` or, without one, its sorted classes; `imagenet`: ILSVRC's 1000 classes in the usual order, as a
network with published weights numbers them; `devkit`: the ILSVRC2012_ID of the devkit's own `meta.mat`, given as a file
of `ILSVRC2012_ID wnid …` lines, devkit=. Corners are pixels of the original image counted from 0, both inside the box.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from cam_repro import UserError
from cam_repro.data import imagenet_classes
from cam_repro.files import read_text, replacing
from cam_repro.localization.boxes import LOOSE, TIGHT

GUESSES = 5
NUMBERS_A_GUESS = 5  # label x1 y1 x2 y2

RESULT_SETS = {  # five guesses as (place of the class among the top 5, which of its boxes)
    "loose": tuple((place, LOOSE) for place in range(GUESSES)),
    "tight": tuple((place, TIGHT) for place in range(GUESSES)),
    "heuristics": ((0, LOOSE), (0, TIGHT), (1, LOOSE), (1, TIGHT), (2, LOOSE)),
}


def guesses_of(classes: np.ndarray, boxes: np.ndarray, result_set: str) -> tuple[np.ndarray, np.ndarray]:
    """The guesses of N images: best classes (N, G), G ≤ 5, with their boxes (N, G, B, 4) -> (N, K), (N, K, 4), K ≤ 5.

    Source: the release's `ILSVRC_evaluate_bbox.m`: `loose`, `tight`, or `heuristics` (Table 3). Guesses of classes that
    a data set of fewer than five does not have are left out.
    """
    places, which = np.array([guess for guess in RESULT_SETS[result_set] if guess[0] < classes.shape[1]]).T
    return classes[:, places], boxes[:, places, which]


def label_order(labels: str, wnids: Sequence[str], devkit: str | None = None) -> list[str]:
    """The wnids that labels 1, 2, … mean: `wnids` of the data, ILSVRC's, or those of the devkit's table.

    Raises UserError for a table that is not there or not complete.
    """
    if labels != "devkit":
        return imagenet_classes()[0] if labels == "imagenet" else [*wnids]
    if devkit is None:
        raise UserError("predictions_labels=devkit needs the devkit's classes: devkit=<a file of ILSVRC2012_ID wnid …>")
    rows = [line.split() for line in read_text(Path(devkit)).splitlines() if line.strip()]
    wnid_of = {int(row[0]): row[1] for row in rows if len(row) > 1 and row[0].isdecimal()}
    if not rows or len(wnid_of) != len(rows) or sorted(wnid_of) != [*range(1, len(rows) + 1)]:
        raise UserError(f"devkit={devkit}: expected a line `ILSVRC2012_ID wnid …` for each id from 1 on, each once")
    return [wnid_of[number] for number in sorted(wnid_of)]


def write_predictions(path: str | Path, labels: ArrayLike, boxes: ArrayLike) -> None:
    """Write labels (N, K), 0-based class indices, and boxes (N, K, 4), K ≤ 5, as a submission, whole or not at all."""
    rows = np.concatenate([np.asarray(labels)[..., None] + 1, boxes], axis=-1).reshape(len(labels), -1)
    with replacing(Path(path)) as temporary:
        np.savetxt(temporary, rows, "%.10g")


def read_predictions(path: str | Path, classes: int, sizes: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Read and check a submission for N images: -> labels (N, K), 0-based, and boxes (N, K, 4), K ≤ 5.

    classes: how many there are. sizes (N, 2): the images' (width, height) in pixels.
    UserError naming file, line and reason: wrong counts, labels out of range, reversed or out-of-image boxes.
    """
    path, sizes = Path(path), np.asarray(sizes)
    lines, images = read_text(path).splitlines(), len(sizes)
    if len(lines) != images:
        where = f"{path}, line {min(len(lines), images) + 1}"
        raise UserError(f"{where}: the file has {len(lines)} lines, expected {images}, one an image")
    guesses = min(GUESSES, -(-len(lines[0].split()) // NUMBERS_A_GUESS)) if lines else GUESSES
    numbers = np.array([_parsed(path, number, line, guesses) for number, line in enumerate(lines, start=1)])
    guesses = numbers.reshape(images, guesses, NUMBERS_A_GUESS)
    labels, boxes = guesses[..., 0], guesses[..., 1:]
    _refuse_odd_guess(path, labels, boxes, classes, sizes)
    return labels.astype(np.int64) - 1, boxes


def _parsed(path: Path, line_number: int, line: str, guesses: int) -> list[float]:
    words = line.split()
    if len(words) != guesses * NUMBERS_A_GUESS:
        expected = f"expected {guesses * NUMBERS_A_GUESS}: `label x1 y1 x2 y2`, {guesses} times in every line"
        raise UserError(f"{path}, line {line_number}: {len(words)} numbers, {expected}")
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise UserError(f"{path}, line {line_number}: {error}") from None


def _refuse_odd_guess(path: Path, labels: np.ndarray, boxes: np.ndarray, classes: int, sizes: np.ndarray) -> None:
    """UserError for the first guess that has no such label, or no such box in its image."""
    wrong_label = ~((labels >= 1) & (labels <= classes) & (labels == np.floor(labels)))
    last = sizes - 1
    first_corner, last_corner = boxes[..., :2], boxes[..., 2:]
    reversed_box = ~(first_corner <= last_corner).all(-1)
    outside = ~((first_corner >= 0) & (last_corner <= last[:, None])).all(-1)
    for image, guess in np.argwhere(wrong_label | reversed_box | outside)[:1]:
        where = f"{path}, line {image + 1}, guess {guess + 1}"
        if wrong_label[image, guess]:
            raise UserError(f"{where}: label {labels[image, guess]:g}, expected 1…{classes}")
        box = " ".join(f"{number:g}" for number in boxes[image, guess])
        edge = "leaves the image, whose last pixel is {} {}".format(*last[image])
        reason = "is reversed" if reversed_box[image, guess] else edge
        raise UserError(f"{where}: box {box} {reason}; expected x1 ≤ x2 and y1 ≤ y2 inside it")
