"""A trained network through the evaluations that come after the first: all protocols, scoring."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, composed, evaluated, run_script
from PIL import Image
from test_scripts import says, succeeds

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.evaluation import maps
from cam_repro.evaluation.evaluate import Job, evaluate, evaluations
from cam_repro.evaluation.predictions import label_order
from cam_repro.evaluation.score import score
from cam_repro.localization import methods
from cam_repro.networks import build_network
from cam_repro.reporting import results

PROTOCOLS = {"paper", "release", "release_tight", "release_heuristics", "wsol"}
METHODS = {name for name, method in methods.METHODS.items() if method.in_all}


@pytest.fixture(scope="session")
def trained(tiny_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose runs/ holds AlexNet-GAP after an epoch on the tiny data set; tests must not change it."""
    folder = tmp_path_factory.mktemp("trained")
    options = (*TINY, f"data.root={tiny_shapes}", "model=alexnet_gap", "model.input_size=64", "recipe.epochs=1")
    succeeds(run_script("train", folder, *options))
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return tmp_path


def config_of(folder: Path, root: Path, *overrides: str) -> Config:
    where = [f"{key}={folder / key}" for key in ("runs", "results", "cache")]
    return composed([*where, *TINY, f"data.root={root}", "data.workers=0", "device=cpu", *overrides])


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if run from a clean commit, which is when results may be taken as they are."""
    monkeypatch.setattr(results, "git_state", lambda: ("c0ffee", False))


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of crops at each forward pass."""
    passes: list[int] = []
    predict = maps.predict

    def counted(network: object, images: object, *arguments: object, **options: object) -> object:
        passes.append(len(images))
        return predict(network, images, *arguments, **options)

    monkeypatch.setattr(maps, "predict", counted)
    return passes


def test_all_protocols_see_each_picture_once_a_view_and_nothing_is_done_twice(
    here: Path, tiny_shapes: Path, committed: None, forwards: list[int]
) -> None:
    records = evaluated(config_of(here, tiny_shapes, "protocol=all"))
    folder = here / "results/shapes/alexnet_gap"
    ways = {(record["method"], record["protocol"]["name"]) for record in records}
    assert ways == {(method, protocol) for method in METHODS for protocol in PROTOCOLS}
    files = {path.name for path in folder.glob("localization-*.json")}
    assert files == {f"localization-{method}-{protocol}.json" for method, protocol in ways}
    assert sum(forwards) == 20 + 10 * 20  # squash for paper and wsol, ten crops for the three of the release
    again = evaluated(config_of(here, tiny_shapes, "protocol=all"))
    assert sum(forwards) == 220 and len(again) == len(records)
    for record in records:
        assert record == json.loads(
            (folder / f"localization-{record['method']}-{record['protocol']['name']}.json").read_text()
        )


def test_another_rule_scores_the_kept_maps_without_the_network(
    here: Path, tiny_shapes: Path, committed: None, forwards: list[int]
) -> None:
    (first,) = evaluated(config_of(here, tiny_shapes))
    stricter, _ = evaluated(config_of(here, tiny_shapes, "protocol.threshold=0.5"))
    assert stricter["protocol"]["name"] == "paper-threshold0.5"
    folder = here / "results/shapes/alexnet_gap"
    boxes = [(folder / f"predictions{of}.txt").read_text() for of in ("", "-cam-paper-threshold0.5")]
    assert sum(forwards) == 20 and boxes[0] != boxes[1]
    _, again = evaluated(config_of(here, tiny_shapes, "force=true"))
    assert sum(forwards) == 40 and again["metrics"] == first["metrics"]


def test_beside_backprop_whose_maps_are_not_kept_the_others_are_read(
    here: Path, tiny_shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, predict = [], maps.predict

    def noted(*arguments: object, methods: list[str], **options: object) -> object:
        asked.append(tuple(methods))
        return predict(*arguments, methods=methods, **options)

    monkeypatch.setattr(maps, "predict", noted)
    (evaluation,) = evaluations(config_of(here, tiny_shapes))
    jobs = [Job(evaluation.config.protocol, method, 64) for method in ("cam", "backprop")]
    first, again = ([outcome.boxes for _, outcome in evaluate(evaluation, jobs)] for _ in range(2))
    assert list(dict.fromkeys(asked)) == [("cam", "backprop"), ("backprop",)]
    assert np.array_equal(first, again)


def test_changed_data_is_evaluated_anew(here: Path, tiny_shapes: Path, committed: None, forwards: list[int]) -> None:
    root = shutil.copytree(tiny_shapes, here / "tree")
    evaluated(config_of(here, root))
    picture = next(root.glob("**/val/*.JPEG"))
    Image.fromarray(np.zeros((90, 120, 3), np.uint8)).save(picture)
    evaluated(config_of(here, root))
    assert sum(forwards) == 40


def test_one_method_under_all_protocols(here: Path, tiny_shapes: Path) -> None:
    """The real script: Hydra is at work when the other protocols are read."""
    options = (*TINY, f"data.root={tiny_shapes}", "data.workers=0", "protocol=all", "method=gradcam")
    succeeds(run_script("eval_localization", here, *options))
    files = {path.name for path in here.glob("results/shapes/alexnet_gap/*.json")}
    assert files == {f"localization-gradcam-{protocol}.json" for protocol in PROTOCOLS}


def test_score_prints_the_errors_that_the_evaluation_printed(here: Path, tiny_shapes: Path) -> None:
    (record,) = evaluated(config_of(here, tiny_shapes))
    predictions = here / "results/shapes/alexnet_gap/predictions.txt"
    out = succeeds(run_script("score", here, *TINY, f"data.root={tiny_shapes}", f"predictions={predictions}"))
    for metric in ("cls_top1_error", "cls_top5_error", "loc_top1_error", "loc_top5_error", "floor_centre_box"):
        assert f"{metric:20} {record['metrics'][metric]:6.2f} %" in out
    lines = predictions.read_text().splitlines()
    predictions.write_text("\n".join([f"11 {lines[0].split(maxsplit=1)[1]}", *lines[1:]]) + "\n")
    refused = says(run_script("score", here, *TINY, f"data.root={tiny_shapes}", f"predictions={predictions}"), 1)
    assert "line 1" in refused and "11" in refused


def test_labels_may_count_the_devkits_classes(here: Path, tiny_shapes: Path) -> None:
    (record,) = evaluated(config_of(here, tiny_shapes))
    predictions, devkit = here / "results/shapes/alexnet_gap/predictions.txt", here / "devkit.txt"
    wnids = [line.split()[0] for line in (tiny_shapes / "LOC_synset_mapping.txt").read_text().splitlines()]
    table = ["n00000000", *reversed(wnids)]
    devkit.write_text("".join(f"{number} {wnid} some words\n" for number, wnid in enumerate(table, 1)))
    lines = [line.split() for line in predictions.read_text().splitlines()]
    for line in lines:
        line[::5] = [str(1 + table.index(wnids[int(label) - 1])) for label in line[::5]]
    predictions.write_text("".join(" ".join(line) + "\n" for line in lines))
    options = (f"predictions={predictions}", "predictions_labels=devkit")
    found = score(config_of(here, tiny_shapes, *options, f"devkit={devkit}"))
    assert found["loc_top5_error"] == pytest.approx(record["metrics"]["loc_top5_error"], abs=1e-3)
    devkit.write_text("1 n0\n3 n1\n")
    with pytest.raises(UserError, match="expected a line `ILSVRC2012_ID wnid …` for each id"):
        score(config_of(here, tiny_shapes, *options, f"devkit={devkit}"))
    with pytest.raises(UserError, match="needs the devkit's classes: devkit="):
        score(config_of(here, tiny_shapes, *options))
    order = label_order("imagenet", wnids)
    assert (len(order), order[0], order[-1]) == (1000, "n01440764", "n15075141")


def test_what_is_no_run_of_the_data_is_passed_over_and_what_people_read_is_not_parsed(
    here: Path, tiny_shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = here / "runs/shapes"
    shutil.copytree(runs / "alexnet_gap", runs / "alexnet_gap_old")
    shutil.copytree(runs / "alexnet_gap", runs / "damaged")
    (runs / "damaged/checkpoint.pt").write_bytes(b"nothing")
    state = torch.load(runs / "alexnet_gap/checkpoint.pt", weights_only=True)
    (runs / "of_other_data").mkdir()
    torch.save({**state, "wnids": [f"n{number}" for number in range(10)]}, runs / "of_other_data/checkpoint.pt")
    (runs / "alexnet_gap/metrics.jsonl").write_bytes(b"{\xff\n")
    (runs / "alexnet_gap/config.yaml").write_text("recipe: {}\n")
    records = evaluated(config_of(here, tiny_shapes))
    assert [record.get("name") for record in records] == [None, "alexnet_gap_old"]
    said = capsys.readouterr().out
    assert "damaged is passed over: " in said and "of_other_data is passed over: the network does not know" in said
    with pytest.raises(UserError, match="cannot be read"):
        evaluated(config_of(here, tiny_shapes, "name=damaged"))


def test_score_without_a_file_says_what_to_type(here: Path, tiny_shapes: Path) -> None:
    assert "make score predictions=" in says(run_script("score", here, *TINY, f"data.root={tiny_shapes}"), 1)


def test_the_curve_of_every_threshold_is_kept_and_drawn(here: Path, tiny_shapes: Path) -> None:
    (record,) = evaluated(config_of(here, tiny_shapes, "protocol=wsol"))
    path = here / "results/shapes/alexnet_gap/localization-cam-wsol.csv"
    thresholds, v1, v2 = np.loadtxt(path, delimiter=",", skiprows=1, unpack=True)
    assert len(thresholds) == 1000
    best, metrics = record["thresholds"], record["metrics"]
    assert v1.max() == pytest.approx(metrics["max_box_acc_v1"], abs=1e-3)
    assert thresholds[v1.argmax()] == pytest.approx(best["v1"])
    assert v2[200] == pytest.approx(metrics["max_box_acc_v2_at_20"], abs=1e-3)
    assert Image.open(path.with_suffix(".png")).size[0] > 300


def test_a_threshold_given_to_all_protocols_is_refused(here: Path, tiny_shapes: Path) -> None:
    options = (f"data.root={tiny_shapes}", "protocol=all", "protocol.threshold=0.3")
    assert "protocol=all runs each one as written" in says(run_script("eval_localization", here, *options), 2)


def test_of_all_trained_networks_those_without_class_maps_are_left_out(
    here: Path, tiny_shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(here, tiny_shapes, "model=alexnet", "model.input_size=64", "recipe.sizes=[64,64]")
    path = here / "runs/shapes/alexnet/checkpoint.pt"
    path.parent.mkdir()
    wnids = [line.split()[0] for line in (tiny_shapes / "LOC_synset_mapping.txt").read_text().splitlines()]
    network = build_network(config.model, len(wnids))
    torch.save({"network": network.state_dict(), "model": asdict(config.model), "wnids": wnids}, path)
    records = evaluated(config_of(here, tiny_shapes))
    assert [record["model"] for record in records] == ["alexnet_gap"]
    assert "alexnet is left out: method=cam cannot serve this network" in capsys.readouterr().out
