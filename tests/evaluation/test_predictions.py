"""Five guesses an image: the release's result sets, and the formats of the devkit and of Kaggle."""

from pathlib import Path

import numpy as np
import pytest

from cam_repro import UserError
from cam_repro.evaluation.predictions import (
    check_inside,
    guesses_of,
    read_predictions,
    write_kaggle_predictions,
    write_predictions,
)
from cam_repro.localization.errors import localization_errors

LABELS = np.array([[0, 1, 2, 3, 4], [9, 8, 7, 6, 5]])
BOXES = np.tile(np.array([3, 4, 30, 40]), (2, 5, 1))
SIZES = [(31, 41), (100, 100)]
IDS = ["one", "two"]
WNIDS = [f"n{number}" for number in range(1, 11)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_predictions(tmp_path / "predictions.txt", LABELS, BOXES)
    return tmp_path / "predictions.txt"


def test_result_sets_are_the_releases() -> None:
    loose = [(10 * c, 0, 10 * c + 9, 9) for c in range(5)]
    tight = [(10 * c, 2, 10 * c + 5, 5) for c in range(5)]
    boxes = np.stack([loose, tight], axis=1)[None]
    classes = [7, 3, 5, 1, 0]

    def guessed(result_set: str) -> list[tuple[int, tuple[int, ...]]]:
        labels, corners = guesses_of(np.array([classes]), boxes, result_set)
        return list(zip(labels[0].tolist(), map(tuple, corners[0].tolist()), strict=True))

    assert guessed("loose") == list(zip(classes, loose, strict=True))
    assert guessed("tight") == list(zip(classes, tight, strict=True))
    first_two = [(7, loose[0]), (7, tight[0]), (3, loose[1]), (3, tight[1])]
    assert guessed("heuristics") == [*first_two, (5, loose[2])]


def test_fewer_than_five_classes_leave_out_the_guesses_they_do_not_have(path: Path) -> None:
    two_boxes_each = np.stack([BOXES, BOXES + 1], axis=2)
    labels, boxes = guesses_of(LABELS[:, :2], two_boxes_each[:, :2], "heuristics")
    assert labels.tolist() == [[0, 0, 1, 1], [9, 9, 8, 8]] and boxes.shape == (2, 4, 4)
    write_predictions(path, labels, boxes)
    assert np.array_equal(read_predictions(path, WNIDS, IDS)[0], labels)


def test_predictions_are_written_one_image_a_line_with_labels_from_1(path: Path) -> None:
    first, second = path.read_text().splitlines()
    assert first.startswith("1 3 4 30 40 2 3 4 30 40 3 ")
    assert second.startswith("10 3 4 30 40 9 ")
    assert [file.name for file in path.parent.iterdir()] == ["predictions.txt"]


def test_predictions_are_read_back_as_they_were_written_fractions_of_a_pixel_too(
    path: Path,
) -> None:
    for written in (BOXES, BOXES - 0.25):
        write_predictions(path, LABELS, written)
        labels, boxes = read_predictions(path, WNIDS, IDS)
        assert np.array_equal(labels, LABELS) and np.array_equal(boxes, written)


def test_guesses_may_vary_be_padded_and_be_more_than_five(path: Path) -> None:
    """As the devkit's readme has it. A label 0 is no guess wherever it stands, and what follows
    keeps its place."""
    six = "3 0 0 9 9 4 1 1 9 9 5 2 2 9 9 6 3 3 9 9 7 4 4 9 9 99 nonsense 5 9 9"
    padded = "2 1 2 3 4 0 0 0 0 0 0 0 0 0 0"
    path.write_text(f"2 1 2 3 4\n{padded}\n0 7 7 7 7 2 1 2 3 4\n\n{six}\n\n")
    labels, boxes = read_predictions(path, WNIDS, ["a", "b", "c", "d", "e"])
    assert labels.tolist() == [
        [1, -1, -1, -1, -1],
        [1, -1, -1, -1, -1],
        [-1, 1, -1, -1, -1],
        [-1, -1, -1, -1, -1],
        [2, 3, 4, 5, 6],
    ]
    assert boxes[0, 0].tolist() == boxes[2, 1].tolist() == [1, 2, 3, 4]
    assert boxes[4, 4].tolist() == [4, 4, 9, 9] and not boxes[labels == -1].any()


def test_no_guess_is_never_right_and_the_places_of_the_others_count(path: Path) -> None:
    """By hand: two images of class 2 at 1 2 3 4; the first names it first, the second second."""
    path.write_text("2 1 2 3 4\n0 0 0 0 0 2 1 2 3 4 9 0 0 0 0\n")
    labels, boxes = read_predictions(path, WNIDS, IDS)
    found = localization_errors(labels, boxes, [1, 1], [[[1, 2, 3, 4]]] * 2)
    assert [found[f"loc_top{k}_error"] for k in (1, 2, 3)] == [50, 0, 0]
    assert found["cls_top1_error"] == 50


def test_a_file_without_any_guess_is_read_as_one_place_of_none(path: Path) -> None:
    path.write_text("\n\n")
    labels, boxes = read_predictions(path, WNIDS, IDS)
    assert labels.tolist() == [[-1], [-1]] and boxes.shape == (2, 1, 4)


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("1 3 4 30 40 2 ", "1 3 4 30 40 ", 1, "24 words, expected `label x1 y1 x2 y2` for each"),
        ("10 3 ", "ten 3 ", 2, "ten"),
        ("1 3 4", "-1 3 4", 1, "guess 1: label -1, expected 1…10, or 0 for none"),
        ("10 3 4", "11 3 4", 2, "guess 1: label 11, expected 1…10"),
        ("10 3 4", "9.5 3 4", 2, "label 9.5"),
        ("10 3 4", "nan 3 4", 2, "label nan"),
        ("2 3 4 30 40", "2 30 4 3 40", 1, "guess 2: box 30 4 3 40 is reversed"),
        ("2 3 4 30 40", "2 nan 4 30 40", 1, "guess 2: box nan 4 30 40 is reversed"),
    ],
)
def test_a_wrong_line_is_refused_by_name_and_reason(
    path: Path, old: str, new: str, line: int, reason: str
) -> None:
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError) as refusal:
        read_predictions(path, WNIDS, IDS)
    message = str(refusal.value)
    assert message.startswith(f"{path}, line {line}") and reason in message and "\n" not in message


@pytest.mark.parametrize("box", ["3 -1 30 40", "3 4 31 40", "3 4 inf 40"])
def test_a_box_that_leaves_its_image_is_refused(path: Path, box: str) -> None:
    path.write_text(path.read_text().replace("2 3 4 30 40", f"2 {box}", 1))
    labels, boxes = read_predictions(path, WNIDS, IDS)
    line = f"image one, guess 2: box {box} leaves the image, whose last pixel is 30 40"
    with pytest.raises(UserError, match=line):
        check_inside(path, IDS, labels, boxes, SIZES)


def test_of_no_guess_no_box_is_checked(path: Path) -> None:
    path.write_text("0 9 9 1 1\n0 0 0 999 999\n")
    labels, boxes = read_predictions(path, WNIDS, IDS)
    check_inside(path, IDS, labels, boxes, SIZES)


@pytest.mark.parametrize(("images", "line"), [(1, 2), (3, 3)])
def test_a_file_for_another_number_of_images_is_refused(path: Path, images: int, line: int) -> None:
    with pytest.raises(UserError, match=f"line {line}: the file has 2 lines, expected {images}"):
        read_predictions(path, WNIDS, images * ["any"])


def test_a_missing_file_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        read_predictions(tmp_path / "nowhere.txt", WNIDS, IDS)


# --- Kaggle's CSV


def test_kaggles_csv_has_a_row_an_image_and_leaves_out_what_is_no_guess(tmp_path: Path) -> None:
    labels = np.array([[1, 0], [2, -1]])
    boxes = np.array([[[1, 2, 3, 4], [0.5, 0, 9, 9]], [[5, 6, 7, 8], [0, 0, 0, 0]]])
    write_kaggle_predictions(tmp_path / "k.csv", IDS, WNIDS, labels, boxes)
    written = "ImageId,PredictionString\none,n2 1 2 3 4 n1 0.5 0 9 9\ntwo,n3 5 6 7 8\n"
    assert (tmp_path / "k.csv").read_text() == written
    again = read_predictions(tmp_path / "k.csv", WNIDS, IDS)
    assert np.array_equal(again[0], labels) and np.array_equal(again[1], boxes)


def test_kaggles_rows_go_by_their_image_and_may_have_numbers_for_wnids(tmp_path: Path) -> None:
    """As in Kaggle's own sample; a row may be empty, and six guesses are five."""
    six = " ".join(f"{label} 0 0 9 9" for label in ("n6", "5", "n4", "3", "n2", "n1"))
    rows = f"three,\ntwo,{six}\none,10 1 2 3 4 \n"
    (tmp_path / "k.csv").write_text(f'"ImageId","PredictionString"\n{rows}')
    labels, boxes = read_predictions(tmp_path / "k.csv", WNIDS, [*IDS, "three"])
    assert labels.tolist() == [[9, -1, -1, -1, -1], [5, 4, 3, 2, 1], [-1] * 5]
    assert boxes[0, 0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("one,n1 0 0 9 9", " has no row for 1 of 2 images, two among them"),
        ("one,\none,", ", line 3: one has a row above"),
        ("one,\nother,", ", line 3: other is none of the data's 2 images"),
        ("one", ", line 2: expected the columns ImageId,PredictionString"),
        ("two,\none,n1 0 0 9", ", line 3: 4 words, expected `label x1 y1 x2 y2`"),
        ("two,\none,n11 0 0 9 9", ", line 3, guess 1: n11 0 0 9 9, expected `label x1 y1 x2 y2`"),
    ],
)
def test_a_wrong_row_is_refused_by_name_and_reason(tmp_path: Path, rows: str, reason: str) -> None:
    path = tmp_path / "k.csv"
    path.write_text(f"ImageId,PredictionString\n{rows}\n")
    with pytest.raises(UserError) as refusal:
        read_predictions(path, WNIDS, IDS)
    assert str(refusal.value).startswith(f"{path}{reason}")


def test_images_of_one_name_cannot_be_told_apart_by_kaggles_csv(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 images are called one, which Kaggle's CSV cannot tell"):
        write_kaggle_predictions(tmp_path / "k.csv", ["one", "one"], WNIDS, LABELS, BOXES)
    assert not list(tmp_path.iterdir())
