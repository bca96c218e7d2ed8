"""Runs to be harmed, and what must come out of them all the same."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from conftest import REPOSITORY, own, under
from processes import Program, settings
from tensorboard.backend.event_processing.event_accumulator import IMAGES, SCALARS, EventAccumulator
from torch.distributed import run as torchrun

OF_THE_CLOCK = "images_per_second"
RUN = Path("runs/shapes/squeezenet_gap")
IMPATIENT = REPOSITORY / "tests/impatient_train.py"


def start(folder: Path, *options: str, file: Path = IMPATIENT, **environment: str) -> Program:
    """Train in `folder` on the time scale of a test; output goes to files, for a pipe may fill."""
    rank = environment.get("RANK", "0").removeprefix("0")
    out = folder / f"out{rank}"
    err = folder / f"err{rank}"
    words = _words(folder, options, file)
    return Program(file, words, out, err, settings(**environment), REPOSITORY)


def start_two(folder: Path, *options: str, **more: Any) -> list[Program]:
    """The same by two processes, rank 0's output under the names of one process's."""
    return [start(folder, *options, **place, **more) for place in places()]


def start_torchrun(folder: Path, *options: str, **environment: str) -> Program:
    """The same by two processes that torchrun forks, and once again when one of them fails."""
    several = [
        "--standalone",
        "--nproc-per-node=2",
        "--max-restarts=1",
        "--run-path",
        "--start-method=fork",
    ]
    words = [*several, str(IMPATIENT), *_words(folder, options)]
    out = folder / "out"
    err = folder / "err"
    file = Path(torchrun.__file__)
    return Program(file, words, out, err, settings(**environment), REPOSITORY)


def places() -> list[dict[str, str]]:
    """What torchrun would tell each of two processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
    return [
        {**place, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank}
        for rank in "01"
    ]


def _words(folder: Path, options: Sequence[str], file: Path = IMPATIENT) -> list[str]:
    folder.mkdir(exist_ok=True)
    return own("train" if file == IMPATIENT else file.stem, [*under(folder), *options])


def finish(folder: Path, *runs: Program) -> None:
    codes = [run.wait(240) for run in runs]
    assert not any(codes), (folder / "out").read_text() + (folder / "err").read_text()


def signal_when(run: Program, moment: Callable[[], bool], number: int, delay: float = 0.0) -> int:
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
    metrics = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        record.pop(OF_THE_CLOCK)
        metrics.append(record)
    weights = torch.load(run / "checkpoint.pt", weights_only=True)["network"]
    return {"weights": weights, "metrics": metrics, "curves": curves(run)}


def curves(run: Path) -> dict[str, list[tuple]]:
    """Steps and values of each curve, as TensorBoard reads a run begun several times."""
    board = EventAccumulator(str(run), size_guidance={SCALARS: 0, IMAGES: 0}).Reload()
    found = {}
    for tag in board.Tags()[IMAGES]:
        found[tag] = [(event.step, event.encoded_image_string) for event in board.Images(tag)]
    for tag in board.Tags()[SCALARS]:
        found[tag] = []
        for event in board.Scalars(tag):
            value = None if tag == OF_THE_CLOCK else event.value
            found[tag].append((event.step, value))
    return found


def assert_same(disturbed: dict[str, Any], undisturbed: dict[str, Any]) -> None:
    assert disturbed["metrics"] == undisturbed["metrics"]
    assert disturbed["curves"] == undisturbed["curves"]
    one, two = disturbed["weights"], undisturbed["weights"]
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
