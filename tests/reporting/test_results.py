"""A result file: the name it goes by, what is written into it, and what is refused when it is read."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from result_files import PROTOCOL, PROVENANCE, SWEEP, Writer

from cam_repro import UserError, provenance
from cam_repro.config import Config, DataConfig, ModelConfig, ProtocolConfig, written_protocols
from cam_repro.data.split import Split
from cam_repro.distributed import World
from cam_repro.evaluation.evaluate import Evaluation, Job, Outcome
from cam_repro.localization.errors import score_images
from cam_repro.reporting import results
from cam_repro.reporting.results import file_name, measured, protocol_name, read_results

PAPER, RELEASE = (written_protocols()[name] for name in ("paper", "release"))


@pytest.mark.parametrize(
    ("protocol", "changes", "name"),
    [
        (PAPER, {}, "paper"),
        (PAPER, {"threshold": 0.5}, "paper-threshold0.5"),
        (PAPER, {"view": "center_crop", "size": 448}, "paper-viewcenter_crop-size448"),
        (RELEASE, {"thresholds": [20, 100]}, "release-thresholds20_100"),
        (PAPER, {"threshold": None}, "paper-thresholdnone"),
        (RELEASE, {"jpeg": True}, "release-jpegtrue"),
        (PAPER, {"name": "mine"}, "mine-threshold0.2"),
    ],
)
def test_another_setting_is_another_name(protocol: ProtocolConfig, changes: dict[str, Any], name: str) -> None:
    assert protocol_name(ProtocolConfig(**vars(protocol) | changes)) == name


def test_another_protocol_is_another_file() -> None:
    assert file_name(None, "paper") == "classification.json"
    assert file_name(None, "paper-size448") == "classification-paper-size448.json"
    assert file_name("cam", "paper-threshold0.5") == "localization-cam-paper-threshold0.5.json"


def test_a_written_result_is_read_back_and_found_unchanged_until_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "git_state", lambda: ("c0ffee", False))
    config = Config(data=DataConfig(name="shapes"), results=str(tmp_path))
    model = ModelConfig(name="alexnet_gap", input_size=64)
    weights = SimpleNamespace(sha256="77aa", training={"epochs_done": 3})
    trained = SimpleNamespace(name=model.name, model=model, weights=weights, wnids=[])
    world = World(0, 1, torch.device("cpu"))
    split = small_split(tmp_path)
    evaluation = Evaluation(config, trained, split, "d00d", world, frozenset({3}))
    box, truth = [[[0, 0, 9, 9]] * 5] * 4, [[[0, 0, 9, 9]], [[0, 0, 2, 2]], [[0, 0, 9, 9]], []]
    scored = score_images([[0, 1, 2, 3, 4]] * 4, box, [0, 1, 2, 9], truth, blacklist=[3],
                          gt_known_boxes=np.array(box)[:, 0], sizes=[(10, 10)] * 4)  # fmt: skip
    labels, boxes = np.tile(np.arange(5), (4, 1)), np.array(box)
    job = Job(PAPER, "cam", 64)
    heatmaps = {0: np.ones((10, 10))}
    outcome = Outcome(1.234, labels[:, 0], scored, None, labels, boxes, boxes[:, 0], heatmaps)

    written = results.write_outcome(evaluation, job, outcome)
    (read,) = read_results(tmp_path / "shapes")
    path = results.result_path(evaluation, job)
    assert json.loads(path.read_text()) == written
    assert (read.images, read.loc_images, read.input_size, read.protocol["threshold"]) == (4, 2, 64, 0.2)
    assert (read.metrics["cls_top1_error"], read.metrics["loc_top1_error"]) == (75.0, 50.0)
    assert read.provenance["weights"] == "77aa" and read.provenance["training"] == {"epochs_done": 3}
    assert sorted(file.name for file in path.parent.iterdir()) == [
        f"localization-cam-paper.{suffix}" for suffix in ("json", "npz", "png")
    ] + ["predictions.txt"]

    other = replace(
        evaluation, trained=SimpleNamespace(**vars(trained) | {"weights": SimpleNamespace(sha256="x", training=None)})
    )
    assert results.unchanged(evaluation, job) == written
    assert results.unchanged(other, job) is None
    assert results.unchanged(evaluation, replace(job, size=224)) is None
    assert results.unchanged(replace(evaluation, config=replace(config, force=True)), job) is None
    path.with_name("predictions.txt").unlink()
    assert results.unchanged(evaluation, job) is None
    monkeypatch.setattr(results, "git_state", lambda: ("c0ffee", True))
    assert results.unchanged(evaluation, job) is None


def small_split(folder: Path) -> Split:
    Image.new("RGB", (10, 10)).save(folder / "a.png")
    words = [f"thing {label}" for label in range(10)]
    nothing = np.zeros((0, 4), int)
    return Split(folder, np.array([b"a.png"] * 4), np.array([0, 1, 2, 9]), nothing, np.zeros(5, int), words, words)


def test_what_cannot_be_measured_is_null() -> None:
    none = score_images([[0, 1, 2]], np.zeros((1, 3, 4)), [0], [[]])
    found = measured(Job(PAPER, "cam", 64), Outcome(1.0, np.zeros(1), none))
    assert found["metrics"]["cls_top1_error"] == 0.0 and found["loc_images"] == 0
    undefined = {"cls_top5_error", "loc_top1_error", "loc_top5_error", "loc_given_cls", "gt_known_loc"}
    assert undefined <= {name for name, value in found["metrics"].items() if value is None}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"schema": 2}, "schema is 2, expected 1"),
        ({"images": -5}, "images is -5, expected a whole number above 0"),
        ({"loc_images": 501}, "loc_images is 501, expected a whole number of the 500 images"),
        ({"metrics": {"gt_known_loc": 100.5}}, "metrics.gt_known_loc is 100.5, expected a percentage"),
        ({"metrics": {"gt_known_loc": float("nan")}}, "metrics.gt_known_loc is nan"),
        ({"metrics": {"loc_top5_error": 58.1}}, "metrics.loc_top5_error is 58.1, expected no more than the top-1"),
        ({"confidence": {"gt_known_loc": [10, 20]}}, "confidence.gt_known_loc is [10,20], expected an interval"),
        ({"confidence": {"gt_known_loc": 63.4}}, "confidence.gt_known_loc is 63.4"),
        ({"metrics": {"gt_known_loc": None}, "confidence": {"gt_known_loc": [1, 2]}}, "around null"),
        ({"protocol": {"name": "paper", "boxes": "paper"}}, "protocol.view is missing"),
        ({"provenance": PROVENANCE | {"weights": None}}, "provenance.weights is null, expected a text"),
        ({"data": "imagenette", "file": "../../shapes/vgg/localization-cam-paper.json"}, "data is imagenette"),
        ({"model": "nin", "file": "../vgg/localization-cam-paper.json"}, "model is nin, expected vgg, its folder"),
        ({"file": "localization-cam-release.json"}, "protocol.name is paper, expected the one of its file"),
        ({"file": "localization-backprop-paper.json"}, "this is the content of localization-cam-paper.json"),
        ({"protocol": SWEEP, "thresholds": {"v1": 0.3}}, "thresholds.v2 is missing, expected a fraction"),
        ({"protocol": SWEEP, "thresholds": {"v1": 1.3, "v2": 0.2}}, "thresholds.v1 is 1.3, expected a fraction"),
    ],
)
def test_an_impossible_or_foreign_result_is_one_line_with_file_and_key(
    tmp_path: Path, write: Writer, changes: dict[str, Any], fault: str
) -> None:
    (tmp_path / "shapes" / "vgg").mkdir(parents=True)
    changes = {"model": "vgg", "method": "cam", "protocol": PROTOCOL} | changes
    write(**changes)
    with pytest.raises(UserError) as caught:
        read_results(tmp_path / "shapes")
    message = str(caught.value)
    assert fault in message and str(tmp_path / "shapes" / "vgg") in message and "\n" not in message
    assert "evaluate it again: make eval-localization data=shapes model=vgg method=" in message


@pytest.mark.parametrize("content", [b"", b'{"schema": 1', b"\xff\xfe", b"[]", b"7"])
def test_what_is_no_result_at_all_is_one_line(tmp_path: Path, write: Writer, content: bytes) -> None:
    path = write("vgg_gap")
    path.write_bytes(content)
    with pytest.raises(
        UserError, match="evaluate it again: make eval-classification data=shapes model=vgg_gap"
    ) as error:
        read_results(tmp_path / "shapes")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_the_commit_is_this_repositorys_and_a_new_config_counts_as_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(folder: Path, *arguments: str) -> str:
        name = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *name, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout

    commits = {}
    for name in ("ours", "theirs"):
        (tmp_path / name / "configs").mkdir(parents=True)
        (tmp_path / name / "configs" / "a.yaml").write_text(name)
        git(tmp_path / name, "init", "-q")
        git(tmp_path / name, "add", ".")
        git(tmp_path / name, "commit", "-qm", name)
        commits[name] = git(tmp_path / name, "rev-parse", "HEAD").strip()
    monkeypatch.setattr(provenance, "REPOSITORY", tmp_path / "ours")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "theirs" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "theirs"))
    assert provenance.git_state.__wrapped__() == (commits["ours"], False)
    (tmp_path / "ours" / "notes.txt").write_text("not in use")
    assert provenance.git_state.__wrapped__() == (commits["ours"], False)
    (tmp_path / "ours" / "configs" / "mine.yaml").write_text("in use")
    assert provenance.git_state.__wrapped__() == (commits["ours"], True)
    monkeypatch.setattr(provenance, "REPOSITORY", tmp_path / "ours" / "configs")  # within a repository, not one itself
    assert provenance.git_state.__wrapped__() == ("unknown", True)
