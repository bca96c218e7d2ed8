"""Runs to be harmed, and what must come out of them all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from conftest import REPOSITORY
from processes import Program
from tensorboard.backend.event_processing.event_accumulator import IMAGES, SCALARS, EventAccumulator

OF_THE_CLOCK = "images_per_second"
RUN = Path("runs/shapes/alexnet_gap")
Running = Program | subprocess.Popen


def start(folder: Path, *options: str, processes: int = 1, **environment: str) -> Running:
    """Train in `folder` on the time scale of a test; output goes to files there, since a pipe may fill up."""
    folder.mkdir(exist_ok=True)
    where = [f"{key}={folder / key}" for key in ("runs", "results", "cache")]
    file, words = REPOSITORY / "tests/impatient_train.py", [*where, *options]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment}
    if processes == 1:
        return Program(file, words, folder / "out", folder / "err", settings, REPOSITORY)
    several = ["--standalone", f"--nproc-per-node={processes}", "--max-restarts=1"]
    command = [sys.executable, "-m", "torch.distributed.run", *several, str(file), *words]
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        return subprocess.Popen(command, stdout=out, stderr=err, text=True, env=settings, cwd=REPOSITORY)


def finish(run: Running, folder: Path) -> None:
    assert run.wait(200) == 0, (folder / "out").read_text() + (folder / "err").read_text()


def signal_when(run: Running, moment: Callable[[], bool], number: int, delay: float = 0.0) -> int:
    """Harm a run at a moment, if it has not ended before; its exit code."""
    deadline = time.monotonic() + 120
    while not moment() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(delay)
    assert run.poll() is None, "it ended before it could be harmed"
    run.send_signal(number)
    return run.wait(60)


def begun(folder: Path) -> int:
    """How many times a run has come as far as training."""
    return len(list(folder.glob("events.*")))


def result(folder: Path) -> dict[str, Any]:
    """All of a run that must not depend on what happened to it: weights, metrics and curves."""
    run = folder / RUN
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "weights": torch.load(run / "checkpoint.pt", weights_only=True)["network"],
        "metrics": [{key: value for key, value in record.items() if key != OF_THE_CLOCK} for record in records],
        "curves": curves(run),
    }


def curves(run: Path) -> dict[str, list[tuple]]:
    """Steps and values of each curve, as TensorBoard reads a run begun several times."""
    board = EventAccumulator(str(run), size_guidance={SCALARS: 0, IMAGES: 0}).Reload()
    found = {tag: [(e.step, e.encoded_image_string) for e in board.Images(tag)] for tag in board.Tags()[IMAGES]}
    for tag in board.Tags()[SCALARS]:
        found[tag] = [(e.step, None if tag == OF_THE_CLOCK else e.value) for e in board.Scalars(tag)]
    return found


def assert_same(disturbed: dict[str, Any], undisturbed: dict[str, Any]) -> None:
    assert disturbed["metrics"] == undisturbed["metrics"]
    assert disturbed["curves"] == undisturbed["curves"]
    one, two = disturbed["weights"], undisturbed["weights"]
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
