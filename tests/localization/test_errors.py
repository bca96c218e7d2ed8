"""Scoring by the devkit's rules, on guesses few enough to count by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cam_repro import UserError
from cam_repro.localization.errors import (
    bootstrap_intervals,
    box_iou,
    centred_boxes,
    localization_errors,
    read_blacklist,
    score_images,
    summarise,
)
from cam_repro.localization.intervals import differences, percentages

A, B = [0, 0, 9, 9], [50, 50, 69, 79]
ELSEWHERE = [90, 90, 95, 95]
UNHURRIED = settings(deadline=None)  # a loaded machine is not a failure


def guesses(*per_image: list[tuple[int, list[int]]]) -> tuple[np.ndarray, np.ndarray]:
    """Up to five (label, box) guesses an image, filled up with classes that nothing is."""
    fillers = [(99 - place, ELSEWHERE) for place in range(5)]
    full = []
    for image in per_image:
        full += [*image, *fillers[len(image) :]]
    labels, boxes = zip(*full, strict=True)
    return np.array(labels).reshape(-1, 5), np.array(boxes).reshape(-1, 5, 4)


# --- intersection over union


def test_iou_counts_both_corners_as_inside() -> None:
    assert box_iou([0, 0, 0, 0], [0, 0, 0, 0]) == 1.0
    assert box_iou([0, 0, 9, 9], [0, 0, 9, 4]) == 0.5  # 50 of 100 pixels; without the + 1: 36 of 81
    assert box_iou([0, 0, 1, 1], [1, 1, 2, 2]) == pytest.approx(1 / 7)
    assert box_iou([0, 0, 1, 1], [2, 0, 3, 1]) == 0.0


def test_iou_of_a_reversed_box_is_zero() -> None:
    assert box_iou([5, 5, 2, 2], [[0, 0, 9, 9], [5, 5, 2, 2]]).tolist() == [0, 0]


@UNHURRIED
@given(st.lists(st.integers(0, 40), min_size=8, max_size=8))
def test_iou_is_the_share_of_pixels_in_common(numbers: list[int]) -> None:
    painted = []
    for x1, y1, w, h in (numbers[:4], numbers[4:]):
        canvas = np.zeros((100, 100), dtype=bool)
        canvas[y1 : y1 + h + 1, x1 : x1 + w + 1] = True
        painted.append((canvas, (x1, y1, x1 + w, y1 + h)))
    (first, a), (second, b) = painted
    assert box_iou(a, b) == (first & second).sum() / (first | second).sum() == box_iou(b, a)


# --- errors


def test_a_guess_needs_the_right_label_and_a_right_box_in_the_same_guess() -> None:
    labels, boxes = guesses([(1, B), (2, A)], [(2, B), (1, A)], [(3, A), (2, A)])
    errors = localization_errors(labels, boxes, [1, 1, 1], [[A], [A], [A]])
    assert errors["cls_top1_error"] == pytest.approx(200 / 3)
    assert errors["cls_top2_error"] == errors["cls_top5_error"] == pytest.approx(100 / 3)
    assert errors["loc_top1_error"] == 100
    assert errors["loc_top2_error"] == errors["loc_top5_error"] == pytest.approx(200 / 3)


def test_any_true_box_makes_a_guess_right_and_images_may_have_any_number_of_them() -> None:
    labels, boxes = guesses([(1, B)], [(1, B)], [(1, B)])
    truth = [np.array([A, ELSEWHERE, B]), np.array([B]), np.array([A, A])]
    errors = localization_errors(labels, boxes, [1, 1, 1], truth)
    assert errors["loc_top1_error"] == pytest.approx(100 / 3)


def test_an_overlap_of_exactly_one_half_is_right() -> None:
    labels, boxes = guesses([(1, [0, 0, 9, 4])], [(1, [0, 0, 9, 3])])
    assert localization_errors(labels, boxes, [1, 1], [[A], [A]])["loc_top1_error"] == 50


def test_with_perfect_boxes_the_localization_error_is_the_classification_error() -> None:
    rng = np.random.default_rng(0)
    labels = np.stack([rng.permutation(8)[:5] for _ in range(200)])
    truth = rng.integers(0, 8, 200)
    corner = rng.integers(0, 50, (200, 2))
    true_boxes = np.concatenate([corner, corner + rng.integers(0, 50, (200, 2))], axis=1)[:, None]
    errors = localization_errors(labels, np.repeat(true_boxes, 5, axis=1), truth, list(true_boxes))
    assert 0 < errors["cls_top5_error"] < errors["cls_top1_error"] < 100
    for k in range(1, 6):
        assert errors[f"loc_top{k}_error"] == errors[f"cls_top{k}_error"]
    assert errors["loc_given_cls"] == 100


def test_box_right_given_class_right_looks_only_at_images_whose_class_is_right() -> None:
    labels, boxes = guesses([(1, A)], [(1, B)], [(2, A)], [(1, A)])
    errors = localization_errors(labels, boxes, [1] * 4, [[A]] * 4)
    assert errors["loc_given_cls"] == pytest.approx(200 / 3)


def test_gt_known_and_the_baselines_need_no_right_label() -> None:
    labels, boxes = guesses([(2, A)], [(2, A)])
    truth = [[[0, 0, 79, 99]], [[10, 15, 84, 89]]]
    drawn = [[0, 0, 70, 99], A]
    sizes = [(100, 100), (100, 120)]
    errors = localization_errors(labels, boxes, [1, 1], truth, gt_known_boxes=drawn, sizes=sizes)
    assert errors["loc_top5_error"] == 100
    assert errors["gt_known_loc"] == 50
    assert errors["baseline_whole_image"] == 50  # 80 and 46.9 % of the image
    assert errors["baseline_centre_box"] == 100


def test_baselines_are_boxes_with_inclusive_corners() -> None:
    assert centred_boxes([(200, 100)], 1.0).tolist() == [[0, 0, 199, 99]]
    assert centred_boxes([(200, 100)], 0.75).tolist() == [[25, 12.5, 174, 86.5]]  # 150 × 75


def test_blacklisted_images_and_those_without_a_true_box_count_for_classification_only() -> None:
    labels, boxes = guesses([(1, A)], [(2, A)], [(1, B)], [(1, A)], [(1, A)])
    scored = score_images(
        labels, boxes, [1] * 5, [[A], [A], [A], [A], np.empty((0, 4))], blacklist={2, 3, 1762}
    )
    errors = summarise(scored)
    assert errors["cls_top1_error"] == 20  # of 5
    assert errors["loc_top1_error"] == 0  # of 2
    counts = scored.counts()
    assert (counts["images"], counts["loc_images"]) == (5, 2)
    assert (counts["blacklisted"], counts["without_true_box"]) == (2, 1)


def test_the_blacklist_speaks_of_image_numbers_when_only_some_images_are_scored() -> None:
    labels, boxes = guesses([(1, A)], [(1, B)])
    errors = localization_errors(
        labels, boxes, [1, 1], [[A], [A]], blacklist=[2, 300], image_numbers=[2, 17]
    )
    assert errors["loc_top1_error"] == 100


def test_a_metric_with_nothing_to_measure_is_left_out() -> None:
    labels, boxes = guesses([(2, A)])
    assert "loc_given_cls" not in localization_errors(labels, boxes, [1], [[A]])
    assert "loc_top1_error" not in localization_errors(labels, boxes, [1], [[]])
    errors = localization_errors(labels, boxes, [1], [[A]])
    assert not {"gt_known_loc", "baseline_whole_image"} & set(errors)


def test_a_top_k_error_is_one_of_k_classes() -> None:
    """The release's heuristics name three classes in five guesses, zeros of a padded line none."""
    heuristics = [(1, A), (1, B), (2, A), (2, B), (3, A)]
    labels, boxes = guesses(heuristics, [(1, A), (2, A), (3, A), (4, A), (5, A)])
    errors = localization_errors(labels, boxes, [3, 5], [[A], [A]])
    assert errors["cls_top1_error"] == 100 and errors["loc_top5_error"] == 0
    assert not {f"cls_top{k}_error" for k in (2, 3, 4, 5)} & set(errors)
    padded = np.where(labels == 1, -1, labels)
    assert localization_errors(padded[1:], boxes[1:], [5], [[A]])["cls_top5_error"] == 0


def test_without_boxes_there_is_a_classification_alone() -> None:
    labels, boxes = guesses([(1, A), (2, A)], [(3, A), (2, A)])
    correctness = score_images(labels, None, [2, 1], [[A], []])
    assert correctness.counts() == {"images": 2}
    errors = localization_errors(labels, boxes, [2, 1], [[A], []])
    of_classes = {name: value for name, value in errors.items() if "cls_top" in name}
    assert summarise(correctness) == of_classes


def test_arrays_of_different_images_are_refused() -> None:
    labels, boxes = guesses([(1, A)], [(1, A)])
    with pytest.raises(ValueError, match="3 images"):
        score_images(labels, boxes, [1, 1, 1], [[A]] * 3)
    with pytest.raises(ValueError, match="true boxes of 2 images"):
        score_images(labels, boxes, [1, 1], [[A]])


def test_the_blacklist_file_is_one_number_a_line(tmp_path: Path) -> None:
    path = tmp_path / "blacklist.txt"
    path.write_text("36\n50\n56\n")
    assert read_blacklist(path) == {36, 50, 56}
    path.write_text("36\nfifty\n")
    with pytest.raises(UserError, match="fifty"):
        read_blacklist(path)
    with pytest.raises(UserError, match="nowhere"):
        read_blacklist(tmp_path / "nowhere")


# --- intervals


def test_bootstrap_intervals_are_those_of_drawing_images_one_by_one() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, (300, 5))
    truth = rng.integers(0, 3, 300)
    boxes = np.where(rng.random((300, 5, 1)) < 0.6, A, B)
    scored = score_images(labels, boxes, truth, [[A]] * 250 + [[]] * 50, gt_known_boxes=boxes[:, 0])
    intervals = bootstrap_intervals(scored, samples=2000)
    assert list(intervals) == list(summarise(scored))
    draws = rng.integers(0, 300, (2000, 300))
    for name, (part, whole) in scored.shares().items():
        expected = np.percentile(100 * part[draws].sum(1) / whole[draws].sum(1), (2.5, 97.5))
        assert intervals[name] == pytest.approx(expected, abs=1.5)
        assert intervals[name][0] <= summarise(scored)[name] <= intervals[name][1]
    assert bootstrap_intervals(scored, seed=3) == bootstrap_intervals(scored, seed=3) != intervals


def test_the_interval_of_a_difference_redraws_both_sides_together() -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 3, 400)
    labels = np.where(rng.random((2, 400, 1)) < [[[0.5]], [[0.6]]], truth[:, None], 9)
    labels[1, :200] = labels[0, :200]  # half of the images are judged alike
    boxes = np.where(rng.random((400, 1, 1)) < 0.6, A, B)
    true_boxes = [[A]] * 300 + [[]] * 100
    one = score_images(labels[0], boxes, truth, true_boxes).shares()
    two = score_images(labels[1], boxes, truth, true_boxes).shares()
    value_of_one = percentages(one)
    value_of_two = percentages(two)
    found = differences([one], [two], samples=2000)
    draws = rng.integers(0, 400, (2000, 400))
    assert list(found) == list(value_of_one)
    for name, (difference, low, high) in found.items():
        assert difference == pytest.approx(value_of_two[name] - value_of_one[name])
        drawn = []
        for part, whole in (one[name], two[name]):
            drawn.append(100 * part[draws].sum(1) / whole[draws].sum(1))
        expected = np.percentile(drawn[1] - drawn[0], (2.5, 97.5))
        assert [low, high] == pytest.approx(expected, abs=1)
    assert set(differences([one], [one]).values()) == {(0.0, 0.0, 0.0)}
    # Of two seeds, `one` and `two`, which are redrawn as well: in a quarter both are `two`.
    name = "cls_top1_error"
    value, low, high = differences([one, two], [two])[name]
    assert value == pytest.approx((value_of_two[name] - value_of_one[name]) / 2)
    assert found[name][1] < low < value < high == 0
    with pytest.raises(ValueError, match="same images"):
        differences([one], [score_images(labels[0], boxes, truth, [[A]] * 400).shares()])
