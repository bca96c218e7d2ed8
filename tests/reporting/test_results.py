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
from result_files import Writer

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
        (PAPER, {"view": "center_crop", "size": 448}, "paper-viewcenter_crop-size448"),
        (RELEASE, {"thresholds": [20, 100], "jpeg": True}, "release-thresholds20_100-jpegtrue"),
        (PAPER, {"name": "mine", "threshold": None}, "mine"),
    ],
)
def test_another_setting_is_another_name(protocol: ProtocolConfig, changes: dict[str, Any], name: str) -> None:
    assert protocol_name(replace(protocol, **changes)) == name


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
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    words, truth = [f"thing {label}" for label in range(10)], [[[0, 0, 9, 9]], [[0, 0, 2, 2]], [[0, 0, 9, 9]], []]
    labels, nothing = np.array([0, 1, 2, 9]), np.zeros((0, 4), int)
    split = Split(tmp_path, np.array([b"a.png"] * 4), labels, nothing, np.zeros(5, int), words, words)
    evaluation = Evaluation(config, trained, split, "d00d", World(0, 1, torch.device("cpu")), frozenset({3}))
    guesses, boxes = np.tile(np.arange(5), (4, 1)), np.tile([0, 0, 9, 9], (4, 5, 1))
    sizes = np.full((4, 2), 10)
    scored = score_images(guesses, boxes, labels, truth, blacklist=[3], gt_known_boxes=boxes[:, 0], sizes=sizes)
    job, heatmaps = Job(PAPER, "cam", 64), {0: np.ones((10, 10))}
    outcome = Outcome(1.234, guesses[:, 0], scored, None, guesses, boxes, boxes[:, 0], heatmaps)

    written = results.write_outcome(evaluation, job, outcome)
    (read,) = read_results(tmp_path / "shapes")
    path = results.result_path(evaluation, job)
    assert json.loads(path.read_text()) == written
    assert (read.images, read.loc_images, read.input_size, read.protocol["threshold"]) == (4, 2, 64, 0.2)
    assert (read.metrics["cls_top1_error"], read.metrics["loc_top1_error"]) == (75.0, 50.0)
    assert read.provenance["weights"] == "77aa" and read.provenance["training"] == {"epochs_done": 3}
    of_result = [f"localization-cam-paper.{suffix}" for suffix in ("json", "npz", "png")]
    assert sorted(file.name for file in path.parent.iterdir()) == [*of_result, "predictions.txt"]

    assert results.unchanged(evaluation, job) == written
    other = SimpleNamespace(**vars(trained) | {"weights": SimpleNamespace(sha256="x", training=None)})
    assert results.unchanged(replace(evaluation, trained=other), job) is None
    assert results.unchanged(evaluation, replace(job, size=224)) is None
    assert results.unchanged(replace(evaluation, config=replace(config, force=True)), job) is None
    monkeypatch.setattr(results, "git_state", lambda: ("c0ffee", True))
    assert results.unchanged(evaluation, job) is None
    monkeypatch.setattr(results, "git_state", lambda: ("c0ffee", False))
    path.with_name("predictions.txt").unlink()
    assert results.unchanged(evaluation, job) is None


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
        ({"metrics": {"gt_known_loc": 100.5}, "confidence": {}}, "metrics.gt_known_loc is 100.5, its interval []"),
        ({"metrics": {"gt_known_loc": float("nan")}}, "metrics.gt_known_loc is nan"),
        ({"confidence": {"gt_known_loc": [10, 200]}}, "its interval [10, 200], expected percentages"),
        ({"protocol": {"name": "paper", "boxes": "paper"}}, "protocol.view is missing"),
        ({"data": "imagenette", "file": "../../shapes/vgg/localization-cam-paper.json"}, "content of imagenette/vgg/"),
        ({"file": "localization-backprop-paper.json"}, "content of shapes/vgg/localization-cam-paper.json"),
    ],
)
def test_an_impossible_or_foreign_result_is_one_line_with_file_and_key(
    tmp_path: Path, write: Writer, changes: dict[str, Any], fault: str
) -> None:
    (tmp_path / "shapes/vgg").mkdir(parents=True)
    write(**{"model": "vgg", "method": "cam"} | changes)
    with pytest.raises(UserError) as caught:
        read_results(tmp_path / "shapes")
    message = str(caught.value)
    assert fault in message and str(tmp_path / "shapes/vgg") in message and "\n" not in message
    assert message.endswith("remove it and evaluate again: make eval-localization")


@pytest.mark.parametrize("content", [b'{"schema": 1}', b"\xff\xfe", b"[]"])
def test_what_is_no_result_at_all_is_one_line(tmp_path: Path, write: Writer, content: bytes) -> None:
    path = write("vgg_gap")
    path.write_bytes(content)
    with pytest.raises(UserError, match="evaluate again: make eval-classification") as error:
        read_results(tmp_path / "shapes")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_the_commit_is_this_repositorys_and_a_new_config_counts_as_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(folder: Path, *arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        (folder / "configs").mkdir(parents=True)
        (folder / "configs" / "a.yaml").write_text(folder.name)
        git(folder, "init", "-q"), git(folder, "add", "."), git(folder, "commit", "-qm", folder.name)
    commit = git(ours, "rev-parse", "HEAD")
    monkeypatch.setattr(provenance, "REPOSITORY", ours)
    monkeypatch.setenv("GIT_DIR", str(theirs / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(theirs))
    (ours / "notes.txt").write_text("not in use")
    assert provenance.git_state.__wrapped__() == (commit, False)
    (ours / "configs" / "mine.yaml").write_text("in use")
    assert provenance.git_state.__wrapped__() == (commit, True)
    monkeypatch.setattr(provenance, "REPOSITORY", ours / "configs")  # within a repository, not one itself
    assert provenance.git_state.__wrapped__() == ("unknown", True)
