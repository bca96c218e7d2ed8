"""Two processes give what one gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, TINY


def run(script: str, folder: Path, processes: int, *arguments: str) -> None:
    where = [f"{key}={folder / key}" for key in ("runs", "results", "cache")]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*(torchrun if processes > 1 else [sys.executable]), f"scripts/{script}.py", *where, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


def epochs(folder: Path) -> list[dict]:
    path = folder / "runs/shapes/alexnet_gap/metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_two_processes_train_and_evaluate_like_one(tiny_shapes: Path, tmp_path: Path) -> None:
    options = [f"data.root={tiny_shapes}", *TINY, "model=alexnet_gap", "model.input_size=64"]
    one, two = tmp_path / "one", tmp_path / "two"
    run("train", one, 1, *options)
    run("train", two, 2, *options)
    for alone, together in zip(epochs(one), epochs(two), strict=True):
        assert together["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-3)
        assert together["val_loss"] == pytest.approx(alone["val_loss"], rel=1e-3)
    weights = f"weights={one}/runs/shapes/alexnet_gap/checkpoint.pt"
    evaluation = ("model=alexnet_gap", weights, "eval_batch_size=3", f"data.root={tiny_shapes}", *TINY)
    run("eval_localization", one, 1, *evaluation)
    run("eval_localization", two, 2, *evaluation)
    results = [
        json.loads((folder / "results/shapes/alexnet_gap/localization-cam-paper.json").read_text())
        for folder in (one, two)
    ]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["images"] == results[1]["images"] == 20
