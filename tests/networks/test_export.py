"""The published file of a trained network, made and used by the real scripts."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_script
from PIL import Image

from cam_repro.config import model_config
from cam_repro.networks import build_network

WNIDS = [f"n0000000{label}" for label in range(6)]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run's folder as `make train` leaves it, as far as its weights go, and the classes' names."""
    folder = tmp_path / "runs/shapes/squeezenet"
    folder.mkdir(parents=True)
    network = build_network("squeezenet", len(WNIDS)).state_dict()
    state = {"network": network, "model": asdict(model_config("squeezenet", input_size=64)), "wnids": WNIDS}
    torch.save(state, folder / "checkpoint.pt")
    (tmp_path / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} thing\n" for wnid in WNIDS))
    return folder


def test_an_exported_network_is_used_like_its_checkpoint(trained: Path, tmp_path: Path) -> None:
    done = run_script("export_weights", tmp_path, "model=squeezenet")
    published = trained / "squeezenet-shapes.safetensors"
    assert done.returncode == 0, done.stderr
    assert f"sha256 {hashlib.sha256(published.read_bytes()).hexdigest()}" in done.stdout
    assert f"use it with weights={published}" in done.stdout

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)).save(tmp_path / "a.jpg")
    options = ["model=squeezenet", f"image={tmp_path / 'a.jpg'}", f"data.root={tmp_path}", "device=cpu"]
    from_run, from_file = (run_script("predict", tmp_path, *options, *w) for w in ([], [f"weights={published}"]))
    assert from_run.returncode == 0, from_run.stderr
    assert from_run.stdout == from_file.stdout and from_run.stdout.count("box") == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=vgg_gap"], "vgg_gap is not trained on shapes"),
        (["model=vgg_gap", "weights={}"], "checkpoint.pt is a squeezenet, not a vgg_gap; type model=squeezenet"),
        (["model=squeezenet", "weights=IMAGENET1K_V1"], "squeezenet is not trained on shapes (IMAGENET1K_V1 is not"),
    ],
)
def test_only_what_was_trained_here_is_exported(
    trained: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run_script("export_weights", tmp_path, *(word.format(trained / "checkpoint.pt") for word in arguments))
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
