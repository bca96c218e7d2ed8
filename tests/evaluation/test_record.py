"""A record: the name it goes by, what is written into it, and what is refused when it is read."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from result_files import Writer, writer

from cam_repro import UserError, provenance
from cam_repro.config import Config, DataConfig, ModelConfig, ProtocolConfig, written_protocols
from cam_repro.data.split import Split
from cam_repro.data.storage import Files
from cam_repro.distributed import DistributedContext
from cam_repro.evaluation import record
from cam_repro.evaluation.metrics import METRICS, ClassificationErrors, MaxBoxAcc, thresholds_chosen
from cam_repro.evaluation.record import file_name, protocol_name
from cam_repro.evaluation.spec import Evaluation, EvaluationSpec
from cam_repro.localization.intervals import percentages
from cam_repro.reporting.results import read_results

PAPER = written_protocols()["paper"]
RELEASE = written_protocols()["release"]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    return writer(tmp_path)


@pytest.mark.parametrize(
    ("protocol", "changes", "name"),
    [
        (PAPER, {}, "paper"),
        (PAPER, {"view": "center_crop", "size": 448}, "paper-viewcenter_crop-size448"),
        (RELEASE, {"thresholds": [20, 100], "jpeg": True}, "release-thresholds20_100-jpegtrue"),
        (PAPER, {"name": "mine", "threshold": None}, "mine"),
    ],
)
def test_another_setting_is_another_name(
    protocol: ProtocolConfig, changes: dict[str, Any], name: str
) -> None:
    assert protocol_name(replace(protocol, **changes)) == name


def test_another_protocol_is_another_file() -> None:
    assert file_name(None, "paper") == "classification.json"
    assert file_name(None, "paper-size448") == "classification-paper-size448.json"
    assert file_name("cam", "paper-threshold0.5") == "localization-cam-paper-threshold0.5.json"
    assert file_name(None, "paper", "test") == "classification-test.json"


@pytest.fixture
def evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    """Of four images, the third blacklisted, the fourth without a box, and no real network."""
    monkeypatch.setattr(record, "git_state", lambda: ("c0ffee", False))
    config = Config(data=DataConfig(name="shapes"), results=str(tmp_path))
    model = ModelConfig(name="alexnet_gap", input_size=64)
    weights = SimpleNamespace(sha256="77aa", training={"epochs_done": 3})
    trained = SimpleNamespace(name=model.name, model=model, weights=weights, wnids=[])
    words = [f"thing {label}" for label in range(10)]
    files = np.array([b"1.png", b"2.png", b"3.png", b"4.png"])
    labels = np.array([0, 1, 2, 9])
    boxes = np.array([[0, 0, 9, 9], [0, 0, 2, 2], [0, 0, 9, 9]])
    split = Split(Files(tmp_path, files), labels, boxes, np.array([0, 1, 2, 3, 3]), words, words)
    return Evaluation(
        config,
        trained,
        split,
        "d00d",
        DistributedContext(0, 1, torch.device("cpu")),
        frozenset({3}),
    )


def spec_of(protocol: ProtocolConfig, method: str | None = "cam") -> EvaluationSpec:
    metric = METRICS[protocol.metric](protocol, 64) if method else ClassificationErrors()
    return EvaluationSpec(protocol, method, metric, 64, "bilinear")


def rows_of_four() -> dict[str, np.ndarray]:
    """Classes 0 to 4 are guessed, each with the whole image of 10×10 pixels as its box."""
    rng = np.random.default_rng(0)
    return {
        "classes": np.tile(np.arange(5), (4, 1)),
        "sizes": np.full((4, 2), 10),
        "boxes": np.tile([0, 0, 9, 9], (4, 6, 2, 1)),
        "right": rng.integers(0, 256, (4, 4, 125), dtype=np.uint8),
    }


def written(evaluation: Evaluation, spec: EvaluationSpec) -> dict[str, Any]:
    scores = spec.metric.compute(rows_of_four(), evaluation.split, evaluation.blacklist)
    return record.write_record(evaluation, spec, scores, seconds=1.234)


def test_a_written_record_is_read_back(evaluation: Evaluation, tmp_path: Path) -> None:
    spec = spec_of(PAPER)
    found = written(evaluation, spec)
    (read,) = read_results(tmp_path / "shapes")
    path = record.record_path(evaluation, spec)
    assert json.loads(path.read_text()) == found
    assert (read.images, read.loc_images) == (4, 2)
    assert (read.input_size, read.interpolation) == (64, "bilinear")
    assert read.protocol["threshold"] == 0.2
    assert (read.metrics["cls_top1_error"], read.metrics["loc_top1_error"]) == (75.0, 50.0)
    assert read.provenance["weights"] == "77aa"
    assert read.provenance["training"] == {"epochs_done": 3}
    names = ["localization-cam-paper.json", "localization-cam-paper.npz", "predictions.txt"]
    assert sorted(file.name for file in path.parent.iterdir()) == names
    assert [*found["files"]] == names[1:]


def test_a_record_is_unchanged_until_something_changes(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(PAPER)
    found = written(evaluation, spec)
    path = record.record_path(evaluation, spec)
    assert record.unchanged(evaluation, spec) == found
    weights = SimpleNamespace(sha256="x", training=None)
    other = SimpleNamespace(**vars(evaluation.trained) | {"weights": weights})
    assert record.unchanged(replace(evaluation, trained=other), spec) is None
    assert record.unchanged(evaluation, replace(spec, size=224)) is None
    assert record.unchanged(evaluation, replace(spec, interpolation="bicubic")) is None
    forced = replace(evaluation, config=replace(evaluation.config, force=True))
    assert record.unchanged(forced, spec) is None
    monkeypatch.setattr(record, "git_state", lambda: ("c0ffee", True))
    assert record.unchanged(evaluation, spec) is None
    monkeypatch.setattr(record, "git_state", lambda: ("c0ffee", False))
    path.with_name("predictions.txt").unlink()
    assert record.unchanged(evaluation, spec) is None


def test_files_of_two_evaluations_are_never_joined(evaluation: Evaluation) -> None:
    """A kill may leave one evaluation's .npz beside another's JSON: neither is then whole."""
    spec = spec_of(PAPER)
    written(evaluation, spec)
    path = record.record_path(evaluation, spec)
    first = path.read_bytes()
    wrong = replace(evaluation, split=replace(evaluation.split, labels=np.array([4, 4, 4, 4])))
    written(wrong, spec)
    path.write_bytes(first)
    assert record.unchanged(evaluation, spec) is None
    with pytest.raises(UserError, match="localization-cam-paper.npz does not belong to"):
        record.read_correctness(path)


def test_nothing_is_replaced_before_everything_is_written(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(PAPER)
    written(evaluation, spec)
    folder = record.record_path(evaluation, spec).parent
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "write_predictions", full_disk)
    other = replace(evaluation, split=replace(evaluation.split, labels=np.array([4, 4, 4, 4])))
    with pytest.raises(UserError, match="cannot write .*No space left"):
        written(other, spec)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_every_kind_of_record_keeps_what_each_image_adds(evaluation: Evaluation) -> None:
    for spec in (spec_of(PAPER), spec_of(PAPER, None), spec_of(written_protocols()["wsol"])):
        found = written(evaluation, spec)
        shares = record.read_shares(record.record_path(evaluation, spec))
        for name, value in percentages(shares).items():
            assert found["metrics"][name] == pytest.approx(value, abs=1e-4)
            assert name in found["confidence"]
        assert shares


def test_records_of_other_data_are_not_overwritten(evaluation: Evaluation) -> None:
    written(evaluation, spec_of(PAPER))
    record.refuse_other_data(evaluation)
    other = replace(evaluation, fingerprint="0ther")
    with pytest.raises(UserError, match=r"is of other images or labels .* give data.name=another"):
        record.refuse_other_data(other)
    forced = replace(other, config=replace(evaluation.config, force=True))
    record.refuse_other_data(forced)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"schema": 2}, "schema is 2, expected 1"),
        (
            {"metrics": {"gt_known_loc": 100.5}, "confidence": {}},
            "metrics.gt_known_loc is 100.5, its interval []",
        ),
        ({"metrics": {"gt_known_loc": float("nan")}}, "metrics.gt_known_loc is nan"),
        (
            {"confidence": {"gt_known_loc": [10, 200]}},
            "its interval [10, 200], expected percentages",
        ),
        ({"protocol": {"name": "paper", "boxes": "paper"}}, "protocol.view is missing"),
        (
            {"data": "imagenette", "file": "../../shapes/vgg/localization-cam-paper.json"},
            "content of imagenette/vgg/",
        ),
        (
            {"file": "localization-backprop-paper.json"},
            "content of shapes/vgg/localization-cam-paper.json",
        ),
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


def test_results_of_two_splits_never_meet(tmp_path: Path, write: Writer) -> None:
    write("vgg_gap", split="test")
    assert [result.split for result in read_results(tmp_path / "shapes")] == ["test"]
    write("vgg_gap")
    assert [result.split for result in read_results(tmp_path / "shapes")] == ["val"]
    assert [result.split for result in read_results(tmp_path / "shapes", "test")] == ["test"]


@pytest.mark.parametrize("content", [b'{"schema": 1}', b"\xff\xfe", b"[]"])
def test_what_is_no_result_at_all_is_one_line(
    tmp_path: Path, write: Writer, content: bytes
) -> None:
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
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    ours = tmp_path / "ours"
    theirs = tmp_path / "theirs"
    for folder in (ours, theirs):
        (folder / "configs").mkdir(parents=True)
        (folder / "configs" / "a.yaml").write_text(folder.name)
        git(folder, "init", "-q")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", folder.name)
    commit = git(ours, "rev-parse", "HEAD")
    monkeypatch.setattr(provenance, "REPOSITORY", ours)
    monkeypatch.setenv("GIT_DIR", str(theirs / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(theirs))
    (ours / "notes.txt").write_text("not in use")
    assert provenance.git_state.__wrapped__() == (commit, False)
    (ours / "configs" / "mine.yaml").write_text("in use")
    assert provenance.git_state.__wrapped__() == (commit, True)
    # Within a repository, not one itself.
    monkeypatch.setattr(provenance, "REPOSITORY", ours / "configs")
    assert provenance.git_state.__wrapped__() == ("unknown", True)


def test_thresholds_of_another_split_are_taken_from_its_record(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    wsol = written_protocols()["wsol"]
    other_split = replace(evaluation, split=replace(evaluation.split, name="train"))
    chosen = written(other_split, spec_of(wsol))
    path = record.record_path(other_split, spec_of(wsol))
    thresholds = thresholds_chosen(path, "77aa", "cam")
    assert dict(thresholds) == chosen["thresholds"]
    protocol = replace(wsol, thresholds_from=str(path))
    spec = replace(spec_of(protocol), metric=MaxBoxAcc(protocol.resize, thresholds))
    found = written(evaluation, spec)
    assert found["thresholds"] == chosen["thresholds"] and found["split"] == "val"
    assert record.record_path(evaluation, spec).name == (
        "localization-cam-wsol-thresholds_fromlocalization-cam-wsol-train.json"
    )
    for weights, method in (("77ab", "cam"), ("77aa", "gradcam")):
        with pytest.raises(UserError, match="has the thresholds of other weights or of another"):
            thresholds_chosen(path, weights, method)
    with pytest.raises(UserError, match="is no record of MaxBoxAcc"):
        written(evaluation, spec_of(PAPER))
        thresholds_chosen(record.record_path(evaluation, spec_of(PAPER)), "77aa", "cam")


def test_an_image_counts_for_top1_and_top5_where_its_class_is_named_and_its_box_is_right(
    evaluation: Evaluation,
) -> None:
    """Labels 0, 1 and 9 are first, second and not named; the third image has no box counted."""
    split = replace(
        evaluation.split,
        labels=np.array([0, 1, 2, 9]),
        boxes=np.tile([0, 0, 9, 9], (4, 1)),
        box_starts=np.arange(5),
    )
    rows = rows_of_four() | {"right": np.full((4, 4, 125), 255, np.uint8)}
    metrics = MaxBoxAcc("bicubic").compute(rows, split, frozenset({3})).metrics
    assert metrics["max_box_acc_v1"] == 100
    assert metrics["max_box_acc_top1_loc"] == pytest.approx(100 / 3)
    assert metrics["max_box_acc_top5_loc"] == pytest.approx(200 / 3)
