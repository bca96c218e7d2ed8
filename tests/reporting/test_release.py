"""make release: which networks leave as files, what their cards say, and torch.hub reads them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY, composed, write_checkpoint
from result_files import MAX_BOX_ACC, PROVENANCE, Writer

import hubconf
from cam_repro import UserError
from cam_repro.config import model_config, names_in
from cam_repro.networks import build_network
from cam_repro.reporting.release import make_release

TRAINING = {"name": "scratch", "epochs": 2, "epochs_done": 2, "seed": 1, "commit": "c0ffee"}


@pytest.fixture
def train(tmp_path: Path, write: Writer):
    """A run with its checkpoint and what was measured of its weights."""

    def trained(
        name: str, gt_known: float, epochs_done: int = 2, model: str = "squeezenet_gap"
    ) -> Path:
        model = model_config(model, units=8, input_size=64)
        training = TRAINING | {"epochs_done": epochs_done}
        path = write_checkpoint(
            tmp_path / f"runs/shapes/{name}/checkpoint.pt",
            model,
            build_network(model, 3),
            ["n1", "n2", "n3"],
            training=training,
        )
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        known = {"name": name, "provenance": PROVENANCE | {"weights": sha256, "training": training}}
        write(model.name, "cam", metrics={"gt_known_loc": gt_known}, **known)
        write(model.name, "cam", protocol=MAX_BOX_ACC, **known)
        return path

    return trained


def _release(tmp_path: Path, *more: str) -> list[Path]:
    folders = [f"{name}={tmp_path / name}" for name in ("runs", "release")]
    return make_release(composed(["data=shapes", f"results={tmp_path}", *folders, *more]))


def test_the_best_run_of_each_network_leaves_with_its_card(
    train, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    best = train("mine", 70.0)
    train("mine-seed1", 60.0)
    train("unfinished", 90.0, epochs_done=1)
    file, card = _release(tmp_path)
    assert file.name == "squeezenet_gap-shapes.safetensors"
    text = card.read_text()
    assert hashlib.sha256(file.read_bytes()).hexdigest() in text
    numbers = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    assert ["", "GT-known ↑", "70.0 ± 1.0", "–", ""] in numbers
    assert ["", "MaxBoxAcc V1 ↑", "–", "66.0 ± 1.0", ""] in numbers
    assert "epochs 2" in text and "`c0ffee`" in text and "random weights" in text
    assert "non-commercial" in text
    assert "unfinished is left out: 1 of 2 epochs" in capsys.readouterr().out

    network = torch.hub.load(str(REPOSITORY), "squeezenet_gap", weights=str(file), source="local")
    images = torch.rand(1, 3, 64, 64)
    trained = build_network("squeezenet_gap", weights=best).eval()
    assert not network.training
    assert torch.equal(network(images), trained(images))


def test_networks_are_ranked_by_their_best_runs(train, tmp_path: Path) -> None:
    train("a", 10.0)
    train("b", 50.0, model="alexnet_gap")
    train("c", 90.0)
    files = _release(tmp_path, "best=1")
    assert [file.stem for file in files] == ["squeezenet_gap-shapes"] * 2


def test_what_is_too_large_is_left_out_and_said(
    train, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("mine", 70.0)
    monkeypatch.setattr("cam_repro.reporting.release.LARGEST", 1e6)
    with pytest.raises(UserError, match="no network of shapes can be released"):
        _release(tmp_path)
    assert "mine is left out: 3 MB are more than 1" in capsys.readouterr().out


def test_without_an_evaluated_training_it_says_what_to_type(train, tmp_path: Path) -> None:
    train("mine", 70.0).write_bytes(b"trained on")
    with pytest.raises(UserError, match="first: make train model=alexnet_gap data=shapes"):
        _release(tmp_path)


def test_every_network_is_an_entry_of_torch_hub() -> None:
    entries = [name for name, value in vars(hubconf).items() if callable(value) and name[0] != "_"]
    assert sorted(entries) == names_in("model")
