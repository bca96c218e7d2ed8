"""The work without what macOS lacks: fork, the list of a process's cores, /proc and /dev/shm."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import evaluated, tiny_config

from cam_repro import cores
from cam_repro.config import Config
from cam_repro.data import loaders
from cam_repro.training.loop import train


def no_fork() -> int:
    raise AssertionError("a process was forked")


@pytest.fixture
def tiny(tiny_shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A training on such a machine."""
    monkeypatch.setattr(cores, "START_METHOD", "spawn")
    monkeypatch.setattr(os, "fork", no_fork)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(loaders, "SHARED_MEMORY", tmp_path / "shm")
    model = ("model=squeezenet_gap", "model.units=8", "model.input_size=32", "weights=none")
    return tiny_config(tmp_path, tiny_shapes, *model, "recipe.epochs=1", "data.workers=1")


def test_a_network_is_trained_and_evaluated(tiny: Config) -> None:
    folder = train(tiny)
    (epoch,) = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert epoch["step"] == 3 and epoch["skipped"] == 0
    tiny.weights = None  # what was trained
    (result,) = evaluated(tiny)
    assert result["images"] == 20
