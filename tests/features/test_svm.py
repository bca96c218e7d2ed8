"""`make features` and `make svm` from end to end, and what they leave."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Script, composed, says, succeeds, under
from random_networks import configured, random_network
from sklearn.svm import LinearSVC

from cam_repro import UserError
from cam_repro.data import open_split
from cam_repro.data.loaders import evaluation_batches
from cam_repro.data.split import load_arrays
from cam_repro.data.views import normalise, resize_map
from cam_repro.evaluation.record import check_files
from cam_repro.features.draws import Draw, score_draws
from cam_repro.features.record import draws_name, read_svm_record, said_c, svm_record_files
from cam_repro.features.svm import measure_svms
from cam_repro.localization import boxes, class_activation_maps
from cam_repro.localization.iou import best_iou


def test_both_scripts_leave_numbers_that_follow_from_the_kept_features(
    script: Script, tiny_shapes: Path, tmp_path: Path
) -> None:
    network = random_network(tmp_path, tiny_shapes)
    assert "first: make features model=squeezenet_gap" in says(script("svm", "name=one"))
    succeeds(script("features", "name=one"))
    out = succeeds(script("svm", "name=one", "svm.c=[0.01,1]"))
    liblinear, _, softmax = svm_record_files(tmp_path / "results/shapes")
    assert liblinear.name == "svm-liblinear-paper-none-official.json"
    record = read_svm_record(liblinear)
    check_files(liblinear, record)
    assert (record["train_images"], record["images"], record["draws"]) == (60, 20, 1)
    assert "softmax on one, shapes val, 60 training and 20 test images:" in out
    assert "LIBLINEAR primal (-s 2)" in out and "intercept of intercept_scaling 100" in out
    for name, value in read_svm_record(softmax)["metrics"].items():
        assert re.search(rf"{name} +{value:.2f} %", out)

    features = tmp_path / "runs/shapes/one"
    train = load_arrays(features / "features-squash-train.npz")
    val = load_arrays(features / "features-squash-val.npz")
    svm = LinearSVC(C=record["c"][0], dual=False, tol=1e-5).fit(train["features"], train["labels"])
    right = svm.predict(val["features"]) == val["labels"]
    assert record["metrics"]["accuracy"] == 100 * right.mean()
    assert load_arrays(liblinear.with_suffix(".npz"))["right"].tolist() == right.tolist()

    config = configured(tmp_path, tiny_shapes)
    split = open_split(config.data, "val", tmp_path / "cache")
    (batch,) = evaluation_batches(split, 48, 20, workers=0)
    with torch.inference_mode():
        _, maps = network.forward_with_maps(normalise(batch.pixels))
    weight = torch.from_numpy(svm.coef_)
    of_truth = class_activation_maps(maps, weight, batch.labels[:, None])[:, 0].numpy()
    assert record["metrics"]["negative_share"] == pytest.approx(
        100 * (of_truth < 0).mean(), abs=1e-3
    )
    known = []
    for image, (size, heatmap) in enumerate(zip(batch.sizes.tolist(), of_truth, strict=True)):
        box = boxes.paper_box(resize_map(heatmap, *size))
        known.append(best_iou([box], split.true_boxes(image))[0] >= 0.5)
    assert record["metrics"]["gt_known_loc"] == 100 * np.mean(known)
    assert 0 < record["metrics"]["baseline_centre_box"] < 100


def test_draws_are_counted_by_image_and_their_deviation_is_over_draws() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    draws = [
        Draw(np.array([0, 3]), np.array([1, 2, 4])),
        Draw(np.array([1, 3]), np.array([0, 2, 4])),
    ]
    answers = [np.array([0, 1, 1]), np.array([0, 0, 0])]
    measured, per_image = score_draws(labels, draws, answers)
    assert per_image["tested"].tolist() == [1, 1, 2, 0, 2]
    assert per_image["right"].tolist() == [1, 1, 1, 0, 1]
    assert per_image["right_of_draws"].tolist() == [[-1, 1, 0, -1, 1], [1, -1, 1, -1, 0]]
    assert measured["metrics"] == {"accuracy": 66.6667, "class_accuracy": 62.5}
    assert measured["deviation"] == {"accuracy": 0.0, "class_accuracy": 17.6777}
    assert measured["each_draw"]["class_accuracy"] == [75.0, 50.0]
    low, high = measured["confidence"]["accuracy"]
    assert low < 66.6 < high


def test_a_best_c_at_the_edge_of_the_grid_is_said() -> None:
    record = {"grid": [0.1, 1, 10], "folds": 3, "c": [1, 1]}
    assert said_c(record) == "1 by 3 folds of the training images, of [0.1, 1, 10]"
    edge = said_c(record | {"c": [1, 10, 10]})
    assert edge.startswith("1 in 1 draws, 10 in 2 draws by 3 folds")
    assert edge.endswith("10 lies at the grid's edge: give svm.c= values beyond it")
    assert said_c({"grid": [3.0], "folds": 3, "c": [3.0]}) == "3, as given"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], "official"),
        (["svm.per_class=100"], "100x10"),
        (["svm.per_class=30", "svm.test_per_class=29", "svm.draws=2"], "30+29x2"),
        (["svm.test_per_class=5"], "all+5x10"),
    ],
)
def test_a_records_name_says_what_was_drawn(options: list[str], name: str) -> None:
    svm = composed(options).svm
    assert draws_name(svm.per_class, svm.test_per_class, svm.draws) == name


def test_a_protocol_without_boxes_is_refused(tmp_path: Path, tiny_shapes: Path) -> None:
    config = composed([*under(tmp_path), f"data.root={tiny_shapes}", "protocol=wsol", "name=one"])
    with pytest.raises(UserError, match="protocol=wsol draws no single box"):
        next(measure_svms(config))


def test_a_record_that_is_damaged_or_of_another_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results/shapes/one/svm-softmax-paper-none-official.json"
    path.parent.mkdir(parents=True)
    for content, why in (
        ("{", "cannot be read as a record of make svm"),
        (json.dumps({"schema": 1, "model": "one"}), "data is missing"),
        (json.dumps({"schema": 7}), "schema is 7, expected 1"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=why):
            read_svm_record(path)
