"""The published file of a trained network, as the scripts make and use it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import composed
from PIL import Image

from cam_repro import UserError
from cam_repro.config import Config, model_config
from cam_repro.networks import build_network
from cam_repro.reporting.pictures import show_pictures
from scripts.export_weights import main as export_weights

WNIDS = [f"n0000000{label}" for label in range(6)]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run's folder as `make train` leaves it, as far as its weights go, the classes' names, and a picture."""
    folder = tmp_path / "runs/shapes/squeezenet"
    folder.mkdir(parents=True)
    network = build_network("squeezenet", len(WNIDS)).state_dict()
    state = {"network": network, "model": asdict(model_config("squeezenet", input_size=64)), "wnids": WNIDS}
    torch.save(state, folder / "checkpoint.pt")
    (tmp_path / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} thing\n" for wnid in WNIDS))
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)).save(tmp_path / "a.jpg")
    return folder


def does(work: Callable[[Config], object], folder: Path, *options: str) -> None:
    config = composed([f"runs={folder / 'runs'}", f"data.root={folder}", "device=cpu", *options])
    work(config)


def test_an_exported_network_is_used_like_its_checkpoint(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    does(export_weights, tmp_path, "model=squeezenet")
    published, said = trained / "squeezenet-shapes.safetensors", capsys.readouterr().out
    assert f"sha256 {hashlib.sha256(published.read_bytes()).hexdigest()}" in said
    assert f"use it with weights={published}" in said

    answers = []
    for weights in ([], [f"weights={published}"]):
        does(show_pictures, tmp_path, "model=squeezenet", f"image={tmp_path / 'a.jpg'}", *weights)
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1] and answers[0].count("box") == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["model=vgg_gap"], "vgg_gap is not trained on shapes"),
        (["model=vgg_gap", "weights={}"], "checkpoint.pt is a squeezenet, not a vgg_gap; type model=squeezenet"),
        (["model=squeezenet", "weights=IMAGENET1K_V1"], "not trained on shapes: no IMAGENET1K_V1; make train"),
    ],
)
def test_only_what_was_trained_here_is_exported(trained: Path, tmp_path: Path, options: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        does(export_weights, tmp_path, *(option.format(trained / "checkpoint.pt") for option in options))
