"""Five guesses an image: the release's result sets, and the devkit's and Kaggle's formats on disk.

`predictions.txt`, the devkit's submission, has one line an image, in the data set's order: `label
x1 y1 x2 y2` for each guess, the best first. By the devkit's readme, and its program, lines may have
different numbers of guesses, of which the first five count; zeros fill what a line has less than
others. Labels are 1-based. What they count is, as predictions_labels= says, `mapping`: the lines of
the data set's `LOC_synset_mapping.txt` or, without one, its sorted classes; `imagenet`: ILSVRC's
1000 classes in the usual order, as a network with published weights numbers them; `devkit`: the
ILSVRC2012_ID of the devkit's own `meta.mat`, given as a file of `ILSVRC2012_ID wnid …` lines,
devkit=. Corners are pixels of the original image counted from 0, both inside the box.

Kaggle's CSV has the columns ImageId, the image's file name without its ending, and
PredictionString, the same guesses with a wnid, or when it is read a number too, for the label; its
rows may stand in any order.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from cam_repro import UserError
from cam_repro.data import imagenet_classes
from cam_repro.files import read_text, replacing
from cam_repro.localization.boxes import LOOSE, TIGHT
from cam_repro.option_errors import shown

GUESSES_AN_IMAGE = 5
NUMBERS_A_GUESS = 5  # label x1 y1 x2 y2
NO_GUESS = -1  # in the place of a 0-based label
KAGGLE = ("ImageId", "PredictionString")

# Five guesses as (place of the class among the best five, which of its boxes).
RESULT_SETS = {
    "loose": ((0, LOOSE), (1, LOOSE), (2, LOOSE), (3, LOOSE), (4, LOOSE)),
    "tight": ((0, TIGHT), (1, TIGHT), (2, TIGHT), (3, TIGHT), (4, TIGHT)),
    "heuristics": ((0, LOOSE), (0, TIGHT), (1, LOOSE), (1, TIGHT), (2, LOOSE)),
}


def guesses_of(
    classes: np.ndarray, boxes: np.ndarray, result_set: str
) -> tuple[np.ndarray, np.ndarray]:
    """The guesses of N images, labels (N, K) and boxes (N, K, 4), K ≤ 5.

    classes (N, G): the best ones, G ≤ 5; boxes (N, G, B, 4): theirs. Guesses of classes that a data
    set of fewer than five does not have are left out. Source: the release's
    `ILSVRC_evaluate_bbox.m`: `loose`, `tight`, or `heuristics` (Table 3).
    """
    labels = []
    guessed_boxes = []
    for place, which in RESULT_SETS[result_set]:
        if place < classes.shape[1]:
            labels.append(classes[:, place])
            guessed_boxes.append(boxes[:, place, which])
    return np.stack(labels, axis=1), np.stack(guessed_boxes, axis=1)


def label_order(labels: str, wnids: Sequence[str], devkit: str | None = None) -> list[str]:
    """The wnids that labels 1, 2, … mean, as predictions_labels= says: `labels`, with its devkit=.

    wnids: those of the data. Raises UserError for a table that is not there or not complete.
    """
    if labels == "mapping":
        return list(wnids)
    if labels == "imagenet":
        imagenet_wnids, _ = imagenet_classes()
        return imagenet_wnids
    if devkit is None:
        needed = "devkit=<a file of ILSVRC2012_ID wnid …>"
        raise UserError(f"predictions_labels=devkit needs the devkit's classes: {needed}")
    expected = "expected a line `ILSVRC2012_ID wnid …` for each id from 1 on, each once"
    wnid_of: dict[int, str] = {}
    for line in read_text(Path(devkit)).splitlines():
        words = line.split()
        if not words:
            continue
        if len(words) == 1 or not words[0].isdecimal() or int(words[0]) in wnid_of:
            raise UserError(f"devkit={devkit}: {expected}")
        wnid_of[int(words[0])] = words[1]
    ids = sorted(wnid_of)
    if not ids or ids != list(range(1, len(ids) + 1)):
        raise UserError(f"devkit={devkit}: {expected}")
    return [wnid_of[number] for number in ids]


def write_predictions(path: str | Path, labels: ArrayLike, boxes: ArrayLike) -> None:
    """Write a submission, whole or not at all: 0-based labels (N, K), boxes (N, K, 4), K ≤ 5."""
    numbers = np.asarray(labels)[..., None] + 1
    guesses = np.concatenate([numbers, boxes], axis=-1)
    lines = guesses.reshape(len(guesses), -1)
    with replacing(Path(path)) as temporary:
        np.savetxt(temporary, lines, "%.10g")


def write_kaggle_predictions(
    path: str | Path,
    image_ids: Sequence[str],
    wnids: Sequence[str],
    labels: ArrayLike,
    boxes: ArrayLike,
) -> None:
    """Write guesses as Kaggle's CSV, whole or not at all; NO_GUESS among the labels is left out.

    image_ids: of the N images, their file names without the ending, each once; wnids (C,);
    labels (N, K), indices of wnids; boxes (N, K, 4).
    """
    _refuse_equal_ids(Path(path), image_ids)
    rows = [KAGGLE]
    for image_id, of_image, boxes_of_image in zip(image_ids, labels, boxes, strict=True):
        words: list[str] = []
        for label, box in zip(of_image, boxes_of_image, strict=True):
            if label != NO_GUESS:
                words.append(wnids[label])
                words.extend(f"{corner:.10g}" for corner in box)
        rows.append((image_id, " ".join(words)))
    with replacing(Path(path)) as temporary, temporary.open("w", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def read_predictions(
    path: str | Path,
    wnids: Sequence[str],
    image_ids: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """A submission, or Kaggle's CSV, of N images: labels (N, K), 0-based, boxes (N, K, 4), K ≤ 5.

    wnids (C,): what labels 1…C mean. image_ids (N,): the images' file names without the ending.
    K is the most guesses that a line has. Where an image has fewer, or a guess has the label 0,
    there is NO_GUESS with a box of zeros; what stands behind the fifth guess is ignored.
    Raises UserError naming file, line and reason: wrong counts, unknown labels, reversed boxes.
    """
    path = Path(path)
    lines = read_text(path).splitlines()
    first_column = lines[0].split(",")[0].strip('" ') if lines else ""
    if first_column == KAGGLE[0]:
        placed = _lines_of_csv(path, lines, wnids, image_ids)
    else:
        placed = _lines_of_text(path, lines, len(image_ids))
    guesses = [_guesses_of_line(where, words, len(wnids)) for where, words in placed]
    most = max(1, max(map(len, guesses), default=1))
    labels = np.full((len(image_ids), most), NO_GUESS)
    boxes = np.zeros((len(image_ids), most, 4))
    for image, of_image in enumerate(guesses):
        for place, (number, *box) in enumerate(of_image):
            if number != 0:
                labels[image, place] = int(number) - 1
                boxes[image, place] = box
    return labels, boxes


def check_inside(
    path: str | Path,
    image_ids: Sequence[str],
    labels: np.ndarray,
    boxes: np.ndarray,
    sizes: ArrayLike,
) -> None:
    """UserError for the first guess, of what was read from `path`, whose box leaves its image.

    sizes (N, 2): the images' (width, height) in pixels.
    """
    last_pixels = np.asarray(sizes) - 1
    begins_inside = (boxes[..., :2] >= 0).all(axis=-1)
    ends_inside = (boxes[..., 2:] <= last_pixels[:, None]).all(axis=-1)
    wrong = ~(begins_inside & ends_inside) & (labels != NO_GUESS)
    if not wrong.any():
        return
    image, guess = np.argwhere(wrong)[0]
    where = f"{path}, image {image_ids[image]}, guess {guess + 1}"
    box = _shown_box(boxes[image, guess])
    x, y = last_pixels[image]
    raise UserError(f"{where}: box {box} leaves the image, whose last pixel is {x} {y}")


def _lines_of_text(path: Path, lines: list[str], images: int) -> list[tuple[str, list[str]]]:
    """(where it stands, its words) of each image's line."""
    while len(lines) > images and not lines[-1].strip():
        lines = lines[:-1]
    if len(lines) != images:
        where = f"{path}, line {min(len(lines), images) + 1}"
        expected = f"expected {images}, one an image"
        raise UserError(f"{where}: the file has {len(lines)} lines, {expected}")
    placed = []
    for number, line in enumerate(lines, start=1):
        placed.append((f"{path}, line {number}", line.split()))
    return placed


def _lines_of_csv(
    path: Path, lines: list[str], wnids: Sequence[str], image_ids: Sequence[str]
) -> list[tuple[str, list[str]]]:
    """The same of Kaggle's rows, in the images' order and with numbers for the wnids."""
    _refuse_equal_ids(path, image_ids)
    reader = csv.DictReader(lines)
    try:
        rows = [(f"{path}, line {reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise UserError(f"{path} is no CSV: {error}") from None
    number_of = {wnid: str(number) for number, wnid in enumerate(wnids, start=1)}
    wanted = set(image_ids)
    placed: dict[str, tuple[str, list[str]]] = {}
    for where, row in rows:
        image_id, guesses = map(row.get, KAGGLE)
        if image_id is None or guesses is None:
            raise UserError(f"{where}: expected the columns {','.join(KAGGLE)}")
        if image_id in placed:
            raise UserError(f"{where}: {shown(image_id)} has a row above; expected one an image")
        if image_id not in wanted:
            found = f"{where}: {shown(image_id)}"
            raise UserError(f"{found} is none of the data's {len(wanted)} images")
        words = guesses.split()
        for place in range(0, len(words), NUMBERS_A_GUESS):
            words[place] = number_of.get(words[place], words[place])
        placed[image_id] = (where, words)
    missing = [image_id for image_id in image_ids if image_id not in placed]
    if missing:
        found = f"{path} has no row for {len(missing)} of {len(image_ids)} images"
        raise UserError(f"{found}, {missing[0]} among them")
    return [placed[image_id] for image_id in image_ids]


def _refuse_equal_ids(path: Path, image_ids: Sequence[str]) -> None:
    """UserError where images of several folders have one name, all that the CSV says of them."""
    name, times = Counter(image_ids).most_common(1)[0]
    if times > 1:
        found = f"{path}: {times} images are called {name}"
        raise UserError(f"{found}, which Kaggle's CSV cannot tell apart")


def _guesses_of_line(where: str, words: list[str], classes: int) -> list[list[float]]:
    """The first five guesses of a line as [label, x1, y1, x2, y2], zeros where the label is 0."""
    if len(words) % NUMBERS_A_GUESS:
        raise UserError(f"{where}: {len(words)} words, expected `label x1 y1 x2 y2` for each guess")
    found = []
    for start in range(0, len(words), NUMBERS_A_GUESS)[:GUESSES_AN_IMAGE]:
        of_guess = words[start : start + NUMBERS_A_GUESS]
        where_guess = f"{where}, guess {len(found) + 1}"
        try:
            label, *box = map(float, of_guess)
        except ValueError:
            expected = "`label x1 y1 x2 y2`, the label a number or in a CSV a wnid of the data"
            raise UserError(f"{where_guess}: {' '.join(of_guess)}, expected {expected}") from None
        if label == 0:
            found.append([0.0] * NUMBERS_A_GUESS)
            continue
        if not (1 <= label <= classes and label.is_integer()):
            expected = f"1…{classes}, or 0 for none"
            raise UserError(f"{where_guess}: label {label:g}, expected {expected}")
        if not (box[0] <= box[2] and box[1] <= box[3]):
            reason = "is reversed; expected x1 ≤ x2 and y1 ≤ y2"
            raise UserError(f"{where_guess}: box {_shown_box(box)} {reason}")
        found.append([label, *box])
    return found


def _shown_box(box: Sequence[float]) -> str:
    return " ".join(f"{corner:g}" for corner in box)
