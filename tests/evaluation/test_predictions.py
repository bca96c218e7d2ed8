"""Five guesses an image: the release's result sets, and the devkit's submission format."""

from pathlib import Path

import numpy as np
import pytest

from cam_repro import UserError
from cam_repro.evaluation.predictions import guesses_of, read_predictions, write_predictions

LABELS = np.array([[0, 1, 2, 3, 4], [9, 8, 7, 6, 5]])
BOXES = np.tile(np.array([3, 4, 30, 40]), (2, 5, 1))
SIZES = [(31, 41), (100, 100)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_predictions(tmp_path / "predictions.txt", LABELS, BOXES)
    return tmp_path / "predictions.txt"


def test_result_sets_are_the_releases() -> None:
    loose, tight = [(10 * c, 0, 10 * c + 9, 9) for c in range(5)], [(10 * c, 2, 10 * c + 5, 5) for c in range(5)]
    boxes = np.array([[[loose[c], tight[c]] for c in range(5)]])
    classes = [7, 3, 5, 1, 0]

    def guessed(result_set: str) -> list[tuple[int, tuple[int, ...]]]:
        labels, corners = guesses_of(np.array([classes]), boxes, result_set)
        return list(zip(labels[0].tolist(), map(tuple, corners[0].tolist()), strict=True))

    assert guessed("loose") == list(zip(classes, loose, strict=True))
    assert guessed("tight") == list(zip(classes, tight, strict=True))
    assert guessed("heuristics") == [(7, loose[0]), (7, tight[0]), (3, loose[1]), (3, tight[1]), (5, loose[2])]


def test_fewer_than_five_classes_leave_out_the_guesses_they_do_not_have(path: Path) -> None:
    labels, boxes = guesses_of(LABELS[:, :2], np.stack([BOXES, BOXES + 1], axis=2)[:, :2], "heuristics")
    assert labels.tolist() == [[0, 0, 1, 1], [9, 9, 8, 8]] and boxes.shape == (2, 4, 4)
    write_predictions(path, labels, boxes)
    assert np.array_equal(read_predictions(path, 10, [(100, 100)] * 2)[0], labels)


def test_predictions_are_written_one_image_a_line_with_labels_from_1(path: Path) -> None:
    first, second = path.read_text().splitlines()
    assert first.startswith("1 3 4 30 40 2 3 4 30 40 3 ")
    assert second.startswith("10 3 4 30 40 9 ")
    assert [file.name for file in path.parent.iterdir()] == ["predictions.txt"]


def test_predictions_are_read_back_as_they_were_written_fractions_of_a_pixel_too(path: Path) -> None:
    for written in (BOXES, BOXES - 0.25):
        write_predictions(path, LABELS, written)
        labels, boxes = read_predictions(path, classes=10, sizes=SIZES)
        assert np.array_equal(labels, LABELS) and np.array_equal(boxes, written)


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("1 3 4 30 40 2 ", "1 3 4 30 40 ", 1, "24 numbers, expected 25"),
        ("10 3 ", "ten 3 ", 2, "ten"),
        ("1 3 4", "0 3 4", 1, "guess 1: label 0, expected 1…10"),
        ("10 3 4", "11 3 4", 2, "guess 1: label 11, expected 1…10"),
        ("10 3 4", "9.5 3 4", 2, "label 9.5"),
        ("2 3 4 30 40", "2 30 4 3 40", 1, "guess 2: box 30 4 3 40 is reversed"),
        ("2 3 4 30 40", "2 3 -1 30 40", 1, "guess 2: box 3 -1 30 40 leaves the image"),
        ("2 3 4 30 40", "2 3 4 31 40", 1, "guess 2: box 3 4 31 40 leaves the image, whose last pixel is 30 40"),
        ("2 3 4 30 40", "2 3 4 inf 40", 1, "guess 2: box 3 4 inf 40 leaves the image"),
    ],
)
def test_a_wrong_line_is_refused_by_name_and_reason(path: Path, old: str, new: str, line: int, reason: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError) as refusal:
        read_predictions(path, classes=10, sizes=SIZES)
    message = str(refusal.value)
    assert message.startswith(f"{path}, line {line}") and reason in message and "\n" not in message


@pytest.mark.parametrize(("images", "line"), [(1, 2), (3, 3)])
def test_a_file_for_another_number_of_images_is_refused(path: Path, images: int, line: int) -> None:
    with pytest.raises(UserError, match=f"line {line}: the file has 2 lines, expected {images}"):
        read_predictions(path, classes=10, sizes=images * SIZES[:1])


def test_a_missing_file_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        read_predictions(tmp_path / "nowhere.txt", 10, SIZES)
