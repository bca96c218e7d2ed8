"""Several processes give what one gives, and end together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from signal import SIGTERM

import pytest
from conftest import REPOSITORY, TINY
from harm import RUN, assert_same, begun, finish, result, signal_when, start

from cam_repro.data.loaders import epoch_order
from cam_repro.data.shapes import make_shapes

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
SEVERAL = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def run(script: str, folder: Path, processes: int, *arguments: str) -> None:
    where = [f"{key}={folder / key}" for key in ("runs", "results", "cache")]
    command = [*(SEVERAL if processes > 1 else [sys.executable]), f"scripts/{script}.py", *where, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=REPOSITORY, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


def epochs(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / RUN / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """13 train pictures, fewer than a batch, of which one process's whole share is corrupt; 7 val pictures."""
    root = make_shapes(tmp_path_factory.mktemp("uneven") / "shapes", seed=0, train=13, val=7)
    pictures = sorted((root / "ILSVRC/Data/CLS-LOC/train").glob("*/*.JPEG"))
    (shown,) = epoch_order(13, 16, seed=0, epoch=0)
    lists = (root / "ILSVRC/ImageSets/CLS-LOC/train_cls.txt").read_text().splitlines()
    by_stem = {picture.stem: picture for picture in pictures}
    for image in shown[1::2]:
        by_stem[Path(lists[image].split()[0]).name].write_bytes(b"\xff\xd8")
    sizes = ("data.generate.train=13", "data.generate.val=7")
    return root, (f"data.root={root}", *TINY, *sizes, "model=alexnet_gap", "model.input_size=64")


def test_two_processes_train_and_evaluate_like_one(uneven: tuple[Path, tuple[str, ...]], tmp_path: Path) -> None:
    """Though no number divides by two, and one process has no picture at all to learn from in the first step."""
    _, options = uneven
    one, two = tmp_path / "one", tmp_path / "two"
    run("train", one, 1, *options)
    run("train", two, 2, *options)
    for alone, together in zip(epochs(one), epochs(two), strict=True):
        assert together["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-3)
        assert together["val_loss"] == pytest.approx(alone["val_loss"], rel=1e-3)
        assert together["skipped"] == alone["skipped"] == 6
    weights = f"weights={one / RUN}/checkpoint.pt"
    run("eval_localization", one, 1, *options, weights, "eval_batch_size=3")
    run("eval_localization", two, 2, *options, weights, "eval_batch_size=3")
    results = [
        json.loads((folder / "results/shapes/alexnet_gap/localization-cam-paper.json").read_text())
        for folder in (one, two)
    ]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["images"] == results[1]["images"] == 7


def test_a_process_without_pictures_neither_waits_nor_miscounts(tiny_shapes: Path, tmp_path: Path) -> None:
    command = [*SEVERAL, str(REPOSITORY / "tests/two_processes.py"), str(tiny_shapes), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 0 and "all agree" in done.stdout, done.stderr


def test_two_processes_that_fail_or_stop_end_as_undisturbed_ones(tiny_shapes: Path, tmp_path: Path) -> None:
    """With dropout in each process and deterministic=true, which so gives the same bits twice.

    A process fails, torchrun starts both again, one of them alone is stopped within a validation, then both within an
    epoch.
    """
    options = (f"data.root={tiny_shapes}", *TINY, "recipe.epochs=3", "recipe.batch_size=8", "deterministic=true",
               "model=alexnet_gap", "model.units=8", "model.dropout=0.5")  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start(one, *options, processes=2), one)
    assert "2 process(es) × 4 on cpu" in (one / "out").read_text()

    harmed = start(two, *options, processes=2, SAVE_EVERY="0", FAIL_AT_STEP="4", STOP_IN_VALIDATION="1")
    assert harmed.wait(120) == 1
    said, told = (two / "err").read_text(), (two / "out").read_text()
    assert said.count("error: this process fails, as asked") == 1
    assert "onnection closed" not in said
    assert "resumes at step" in told and "epoch 1/3" not in told
    assert said.count("stopped and saved at step 7") == 2

    job = start(two, *options, processes=2)
    assert signal_when(job, lambda: begun(two / RUN) == 3, SIGTERM) != 0
    assert "stopped and saved at step" in (two / "err").read_text()

    finish(start(two, *options, processes=2), two)
    assert "resumes at step" in (two / "out").read_text()
    assert_same(result(two), result(one))
