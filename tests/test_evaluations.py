"""A trained network through the evaluations that come after the first: all protocols, scoring."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import (
    TINY,
    Settings,
    evaluated,
    own,
    run_script,
    succeeds,
    tiny_config,
    write_checkpoint,
)
from PIL import Image

from cam_repro import UserError
from cam_repro.data.shapes import make_shapes
from cam_repro.evaluation import maps, record
from cam_repro.evaluation.evaluate import evaluate
from cam_repro.evaluation.predictions import label_order
from cam_repro.evaluation.score import score
from cam_repro.evaluation.spec import localization_specs, open_evaluations
from cam_repro.localization.methods import METHODS
from cam_repro.networks import build_network
from cam_repro.training.loop import train

PROTOCOLS = {"paper", "pointing", "release", "release_tight", "release_heuristics", "wsol"}


@pytest.fixture(scope="session")
def trained(tiny_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with SqueezeNet-GAP after an epoch on the tiny data; tests must not change it."""
    folder = tmp_path_factory.mktemp("trained")
    train(
        tiny_config(
            folder, tiny_shapes, "model=squeezenet_gap", "model.input_size=64", "recipe.epochs=1"
        )
    )
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return tmp_path


@pytest.fixture
def config(here: Path, tiny_shapes: Path) -> Settings:
    """config("protocol=all", …) of an evaluation of that training."""
    return partial(tiny_config, here, tiny_shapes)


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """The forward pass, watched.

    The commit is a clean one, so that results may be taken as they are.
    """
    monkeypatch.setattr(record, "git_state", lambda: ("c0ffee", False))
    monkeypatch.setattr(maps, "predict", watched := mock.Mock(wraps=maps.predict))
    return watched


def crops_seen(predict: mock.Mock) -> int:
    return sum(len(call.args[1]) for call in predict.call_args_list)


def test_all_protocols_see_each_image_once_a_view_and_nothing_is_done_twice(
    config: Settings, here: Path, predict: mock.Mock
) -> None:
    few = ["data.generate.val=6", f"data.root={make_shapes(here / 'few', train=60, val=6)}"]
    records = evaluated(config("protocol=all", *few))
    folder = here / "results/shapes/squeezenet_gap"
    ways = {(record["method"], record["protocol"]["name"]) for record in records}
    in_all = [name for name, method in METHODS.items() if method.in_all]
    assert ways == {(method, protocol) for method in in_all for protocol in PROTOCOLS}
    files = [
        folder / f"localization-{record['method']}-{record['protocol']['name']}.json"
        for record in records
    ]
    assert sorted(folder.glob("localization-*.json")) == sorted(files)
    # squash for paper and wsol, ten crops for the three of the release
    assert crops_seen(predict) == 6 + 10 * 6
    again = evaluated(config("protocol=all", *few))
    assert crops_seen(predict) == 66 and again == records == [
        json.loads(file.read_text()) for file in files
    ]


def test_another_rule_scores_the_kept_maps_without_the_network(
    config: Settings, here: Path, predict: mock.Mock
) -> None:
    (first,) = evaluated(config())
    stricter, _ = evaluated(config("protocol.threshold=0.5"))
    assert stricter["protocol"]["name"] == "paper-threshold0.5"
    folder = here / "results/shapes/squeezenet_gap"
    boxes = [
        (folder / f"predictions{of}.txt").read_text() for of in ("", "-cam-paper-threshold0.5")
    ]
    assert crops_seen(predict) == 20 and boxes[0] != boxes[1]
    _, again = evaluated(config("force=true"))
    assert crops_seen(predict) == 40 and again["metrics"] == first["metrics"]


def test_after_a_classification_a_localization_needs_no_network_nor_the_other_way_round(
    config: Settings, predict: mock.Mock
) -> None:
    (classes,) = evaluated(config(), "classification")
    (boxes,) = evaluated(config())
    assert crops_seen(predict) == 20
    evaluated(config("force=true"))
    (again,) = evaluated(config("seed=1"), "classification")
    assert crops_seen(predict) == 40
    for name in ("cls_top1_error", "cls_top5_error"):
        assert classes["metrics"][name] == boxes["metrics"][name] == again["metrics"][name]


def boxes_of(config: Settings, *methods: str, options: tuple[str, ...] = ()) -> list[np.ndarray]:
    """The boxes (N,5,4) that each method predicts under the paper's protocol."""
    (evaluation,) = open_evaluations(config(*options))
    by_method = [
        replace(evaluation, config=replace(evaluation.config, method=method)) for method in methods
    ]
    specs = [spec for each in by_method for spec in localization_specs(each)]
    return [result.scores.guesses[1] for result in evaluate(evaluation, specs)]


def test_the_second_evaluation_asks_the_network_for_nothing_also_by_backprop(
    config: Settings, predict: mock.Mock
) -> None:
    first = boxes_of(config, "cam", "backprop")
    again = boxes_of(config, "cam", "backprop")
    asked = [tuple(call.kwargs["methods"]) for call in predict.call_args_list]
    assert set(asked) == {("cam", "backprop")}
    assert np.array_equal(first, again)


def test_maps_kept_in_batches_of_other_lengths_are_read_together(
    config: Settings, predict: mock.Mock
) -> None:
    (cam,) = boxes_of(config, "cam")  # 20 images at once
    gradcam, _ = boxes_of(config, "gradcam", "backprop")  # 8 at a time
    passes = predict.call_count
    assert np.array_equal(boxes_of(config, "cam", "gradcam"), [cam, gradcam])
    assert predict.call_count == passes


@pytest.mark.parametrize("methods", [("cam",), ("backprop",), ("cam", "backprop")])
def test_an_evaluation_that_was_killed_goes_on_to_the_same_numbers(
    config: Settings, here: Path, predict: mock.Mock, methods: tuple[str, ...]
) -> None:
    """At any batch: what was computed is read, and the rest is cut into the same batches."""
    small = ("eval_batch_size=3",)
    undisturbed = boxes_of(config, *methods, options=small)
    batches = predict.call_count
    shutil.rmtree(here / "cache/maps")
    predict.reset_mock()

    def die(*arguments: object, **options: object) -> object:
        if predict.call_count > batches // 2:
            raise KeyboardInterrupt
        return mock.DEFAULT

    predict.side_effect = die
    with pytest.raises(KeyboardInterrupt):
        boxes_of(config, *methods, options=small)
    predict.side_effect = None
    predict.reset_mock()
    for file in (here / "cache/maps").iterdir():  # the kill tore the last batch
        file.write_bytes(file.read_bytes()[:-7])
    assert np.array_equal(boxes_of(config, *methods, options=small), undisturbed)
    assert 0 < predict.call_count < len(methods) * batches


def test_changed_data_is_evaluated_anew(
    config: Settings, here: Path, tiny_shapes: Path, predict: mock.Mock
) -> None:
    root = shutil.copytree(tiny_shapes, here / "tree")
    evaluated(tiny_config(here, root))
    image = next(root.glob("**/val/*.JPEG"))
    width, height = Image.open(image).size
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(image)
    with pytest.raises(UserError, match="is of other images or labels than data=shapes"):
        evaluated(tiny_config(here, root))
    evaluated(tiny_config(here, root, "force=true"))
    assert crops_seen(predict) == 40


def test_one_method_under_all_protocols(config: Settings) -> None:
    (evaluation,) = open_evaluations(config("protocol=all", "method=gradcam"))
    specs = localization_specs(evaluation)
    assert {(spec.method, spec.protocol.name) for spec in specs} == {
        ("gradcam", protocol) for protocol in PROTOCOLS
    }


def test_score_prints_the_errors_that_the_evaluation_printed(
    config: Settings, here: Path, tiny_shapes: Path
) -> None:
    (record,) = evaluated(config())
    predictions = here / "results/shapes/squeezenet_gap/predictions.txt"
    options = (*own("score", TINY), f"data.root={tiny_shapes}", f"predictions={predictions}")
    out = succeeds(run_script("score", here, *options))
    for metric in (
        "cls_top1_error",
        "cls_top5_error",
        "loc_top1_error",
        "loc_top5_error",
        "baseline_centre_box",
    ):
        assert f"{metric:28} {record['metrics'][metric]:6.2f} %" in out
    predictions.write_text("11 " + predictions.read_text().partition(" ")[2])
    with pytest.raises(UserError, match="line 1, guess 1: label 11, expected 1…10"):
        score(config(f"predictions={predictions}"))


def test_labels_may_count_the_devkits_classes(
    config: Settings, here: Path, tiny_shapes: Path
) -> None:
    (record,) = evaluated(config())
    predictions, devkit = (
        here / "results/shapes/squeezenet_gap/predictions.txt",
        here / "devkit.txt",
    )
    wnids = [
        line.split()[0]
        for line in (tiny_shapes / "LOC_synset_mapping.txt").read_text().splitlines()
    ]
    table = ["n00000000", *reversed(wnids)]
    devkit.write_text(
        "".join(f"{number} {wnid} some words\n" for number, wnid in enumerate(table, 1))
    )
    lines = [line.split() for line in predictions.read_text().splitlines()]
    for line in lines:
        line[::5] = [str(1 + table.index(wnids[int(label) - 1])) for label in line[::5]]
    predictions.write_text("".join(" ".join(line) + "\n" for line in lines))
    options = (f"predictions={predictions}", "predictions_labels=devkit")
    found = score(config(*options, f"devkit={devkit}"))
    assert found["loc_top5_error"] == pytest.approx(record["metrics"]["loc_top5_error"], abs=1e-3)
    devkit.write_text("1 n0\n3 n1\n")
    with pytest.raises(UserError, match="expected a line `ILSVRC2012_ID wnid …` for each id"):
        score(config(*options, f"devkit={devkit}"))
    with pytest.raises(UserError, match="needs the devkit's classes: devkit="):
        score(config(*options))
    with pytest.raises(UserError, match="make score predictions="):
        score(config())
    order = label_order("imagenet", wnids)
    assert (len(order), order[0], order[-1]) == (1000, "n01440764", "n15075141")


def test_what_is_no_run_of_the_data_is_passed_over_and_what_people_read_is_not_parsed(
    config: Settings, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = here / "runs/shapes"
    shutil.copytree(runs / "squeezenet_gap", runs / "squeezenet_gap_old")
    shutil.copytree(runs / "squeezenet_gap", runs / "damaged")
    (runs / "damaged/checkpoint.pt").write_bytes(b"nothing")
    state = torch.load(runs / "squeezenet_gap/checkpoint.pt", weights_only=True)
    (runs / "of_other_data").mkdir()
    torch.save(
        {**state, "wnids": [f"n{number}" for number in range(10)]},
        runs / "of_other_data/checkpoint.pt",
    )
    (runs / "squeezenet_gap/metrics.jsonl").write_bytes(b"{\xff\n")
    (runs / "squeezenet_gap/config.yaml").write_text("recipe: {}\n")
    records = evaluated(config())
    assert [record.get("name") for record in records] == [None, "squeezenet_gap_old"]
    said = capsys.readouterr().out
    assert (
        "damaged is passed over: " in said
        and "of_other_data is passed over: the network does not know" in said
    )
    with pytest.raises(UserError, match="cannot be read"):
        evaluated(config("name=damaged"))


def test_the_curve_of_every_threshold_is_kept_and_drawn(config: Settings, here: Path) -> None:
    (record,) = evaluated(config("protocol=wsol"))
    path = here / "results/shapes/squeezenet_gap/localization-cam-wsol.csv"
    thresholds, v1, *v2 = np.loadtxt(path, delimiter=",", skiprows=1, unpack=True)
    assert len(thresholds) == 1000
    best, metrics = record["thresholds"], record["metrics"]
    assert v1.max() == pytest.approx(metrics["max_box_acc_v1"], abs=1e-3)
    assert thresholds[v1.argmax()] == pytest.approx(best["v1"])
    assert np.mean([curve[200] for curve in v2]) == pytest.approx(
        metrics["max_box_acc_v2_at_20"], abs=1e-3
    )
    assert np.mean([curve.max() for curve in v2]) == pytest.approx(
        metrics["max_box_acc_v2"], abs=1e-3
    )
    assert Image.open(path.with_suffix(".png")).size[0] > 300


def test_of_all_trained_networks_those_without_class_maps_are_left_out(
    config: Settings, here: Path, tiny_shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config("model=alexnet", "model.input_size=64", "recipe.sizes=[64,64]")
    wnids = [
        line.split()[0]
        for line in (tiny_shapes / "LOC_synset_mapping.txt").read_text().splitlines()
    ]
    network = build_network(settings.model, len(wnids))
    write_checkpoint(here / "runs/shapes/alexnet/checkpoint.pt", settings.model, network, wnids)
    records = evaluated(config())
    assert [record["model"] for record in records] == ["squeezenet_gap"]
    assert "alexnet is left out: method=cam cannot serve this network" in capsys.readouterr().out
