"""Crops by boxes: what is inside of them, and the SVM that is trained anew on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_networks import configured, random_network

from cam_repro.data.split import load_arrays
from cam_repro.features.crops import (
    CropsOfBoxes,
    features_inside,
    gain_over,
    largest_true_boxes,
    measure_crops,
)
from cam_repro.features.draws import Draw
from cam_repro.features.extract import extract, open_networks
from cam_repro.features.heads import train_head
from cam_repro.features.record import read_svm_record, svm_record_files
from cam_repro.localization.iou import area, best_iou


def test_a_crop_is_what_is_inside_of_the_box_with_both_corners() -> None:
    picture = np.zeros((6, 8, 3), np.uint8)
    picture[2:4, 3:7] = 200
    crops = CropsOfBoxes(np.array([[0, 0, 7, 5], [3, 2, 6, 3]]), "squash", 4, "bilinear")
    assert (crops.take(picture, 1) == 200).all()
    assert crops.take(picture, 1).shape == (1, 4, 4, 3)
    assert (crops.take(picture, 0) < 200).any()


def test_the_svm_is_trained_anew_inside_of_cams_boxes_and_of_the_true_ones(
    tiny_shapes: Path, tmp_path: Path
) -> None:
    random_network(tmp_path, tiny_shapes)
    config = configured(tmp_path, tiny_shapes, "name=one", "svm.c=[0.1]", "svm.crop_class=truth")
    (evaluations,) = open_networks(config)
    val = evaluations[1]
    features = extract(val)
    everything = np.arange(20)
    sizes = [val.split.read(image).shape[1::-1] for image in everything]
    whole = np.array([(0, 0, width - 1, height - 1) for width, height in sizes])
    assert np.allclose(features_inside(val, everything, whole), features, atol=1e-5)

    boxes = largest_true_boxes(val, everything)
    for image, box in enumerate(boxes):
        of_image = val.split.true_boxes(image)
        assert best_iou([box], of_image)[0] == 1 and area(box) == area(of_image).max()

    draw = Draw(everything[:14], everything[14:])
    labels = val.split.labels
    classifier = train_head("liblinear", features[draw.train], labels[draw.train], config.svm, 0)
    seen = classifier.decisions(features).argmax(axis=1)
    measure_crops(val, val, draw, classifier, seen[:14], seen[14:])
    cam, true_boxes = map(read_svm_record, svm_record_files(tmp_path / "results/shapes"))
    assert cam["crop"] == "cam_of_true_class" and true_boxes["crop"] == "true_boxes"
    assert true_boxes["metrics"]["box_right"] == 100 and cam["metrics"]["box_right"] < 100
    inside = features_inside(val, everything, boxes)
    anew = train_head("liblinear", inside[:14], labels[:14], config.svm, 0)
    right = anew.decisions(inside[14:]).argmax(axis=1) == labels[14:]
    assert true_boxes["metrics"]["accuracy"] == round(100 * right.mean(), 4)

    right_of_full = seen[14:] == labels[14:]
    gain, low, high = true_boxes["gain"]
    assert gain == pytest.approx(100 * (right.mean() - right_of_full.mean()))
    assert low <= gain <= high
    (_, path) = svm_record_files(tmp_path / "results/shapes")
    kept = load_arrays(path.with_suffix(".npz"))
    assert kept["right_of_full"][14:].tolist() == right_of_full.tolist()


def test_a_gain_is_paired_so_that_images_that_both_get_right_leave_no_doubt() -> None:
    right = np.zeros(12, np.int32)
    right[2:] = 1
    images = np.arange(2, 12)
    assert gain_over(right, np.ones(10, bool), images) == [0, 0, 0]
    half = np.arange(10) < 5
    gain, low, high = gain_over(right, half, images)
    assert gain == 50 and 10 <= low < 50 < high <= 90


def test_without_true_boxes_only_cams_are_measured(
    tiny_shapes: Path, tmp_path: Path, capsys
) -> None:
    random_network(tmp_path, tiny_shapes)
    (evaluations,) = open_networks(configured(tmp_path, tiny_shapes, "name=one", "svm.c=[0.1]"))
    split = evaluations[1].split
    bare = replace(split, boxes=split.boxes[:0], box_starts=np.zeros_like(split.box_starts))
    val = replace(evaluations[1], split=bare)
    draw = Draw(np.arange(14), np.arange(14, 20))
    features = extract(val)
    classifier = train_head("liblinear", features[:14], split.labels[:14], val.config.svm, 0)
    measure_crops(val, val, draw, classifier, split.labels[:14], split.labels[14:])
    assert "crops by true boxes are left out" in capsys.readouterr().out
    (record,) = map(read_svm_record, svm_record_files(tmp_path / "results/shapes"))
    assert record["crop"] == "cam" and "box_right" not in record["metrics"]


def test_a_crop_of_a_box_with_fractions_or_at_the_very_edge_has_pixels() -> None:
    pixels = np.arange(30 * 40 * 3, dtype=np.uint8).reshape(30, 40, 3)
    boxes = np.array([[3.4, 2.0, 10.6, 9.5], [40, 5, 40, 9]])
    crops = CropsOfBoxes(boxes, "squash", 16, "bilinear")
    whole = CropsOfBoxes(np.array([[3, 2, 11, 10]]), "squash", 16, "bilinear")
    assert np.array_equal(crops.take(pixels, 0), whole.take(pixels, 0))
    assert crops.take(pixels, 1).shape == (1, 16, 16, 3)
