"""Runs that are killed end as if nothing had happened."""

from __future__ import annotations

import os
import random
import re
import subprocess
import time
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest
from conftest import REPOSITORY, TINY
from harm import RUN, assert_same, begun, finish, result, signal_when, start

OPTIONS = (*TINY, "recipe.epochs=6", "recipe.batch_size=8", "model=squeezenet_gap", "model.units=8",
           "model.dropout=0.5")  # fmt: skip


def inode(path: Path) -> int:
    return path.stat().st_ino if path.exists() else 0


def test_a_run_killed_at_any_moment_ends_as_an_undisturbed_one(
    tiny_shapes: Path, tmp_path: Path
) -> None:
    """SIGKILL three times, then SIGTERM within an epoch and within a validation.

    Once it is killed while the checkpoint is written. Weights, metrics and curves agree.
    """
    options = (f"data.root={tiny_shapes}", *OPTIONS)
    undisturbed, disturbed = tmp_path / "one", tmp_path / "two"
    finish(undisturbed, start(undisturbed, *options))
    folder = disturbed / RUN
    saved = folder / "checkpoint.pt"
    delays = [random.uniform(0, 0.3) for _ in range(2)]
    print(f"killed after {delays} s")

    # The first time as soon as it has begun, perhaps before there is a checkpoint
    run = start(disturbed, *options, SAVE_EVERY="0.2", STEP_TAKES="0.05")
    before = inode(saved)
    first_moment = lambda: begun(folder) == 1 or inode(saved) != before  # noqa: E731
    assert signal_when(run, first_moment, SIGKILL, delays[0]) == -SIGKILL

    run = start(disturbed, *options, SAVE_EVERY="0.2", STEP_TAKES="0.05")
    before = inode(saved)
    assert signal_when(run, lambda: inode(saved) != before, SIGKILL, delays[1]) == -SIGKILL

    run = start(disturbed, *options, SAVE_EVERY="0.2", STEP_TAKES="0.05")
    writes = lambda: begun(folder) == 3 and any(folder.glob(".checkpoint.pt.*.tmp"))  # noqa: E731
    assert signal_when(run, writes, SIGKILL) == -SIGKILL

    run = start(disturbed, *options, STEP_TAKES="0.05")
    assert signal_when(run, lambda: begun(folder) == 4, SIGTERM, 0.2) == 1
    said = (disturbed / "err").read_text()
    assert "stopped and saved at step" in said and "run the same command to go on" in said
    assert start(disturbed, *options, STOP_IN_VALIDATION="1").wait(60) == 1
    assert "stopped and saved at step" in (disturbed / "err").read_text()
    finish(disturbed, start(disturbed, *options, SAVE_EVERY="0.2"))
    assert "resumes at step" in (disturbed / "out").read_text()
    assert not any(folder.glob(".*.tmp"))
    assert_same(result(disturbed), result(undisturbed))


# SLURM's commands as they behave: srun answers a TERM by killing its task, and scancel --signal
# reaches the task alone.
SLURM = {
    "srun": """echo "$@" > training
({task}) & task=$!
echo $task > task
trap 'kill -KILL $task; exit 143' TERM
wait $task""",
    "scancel": """signal=KILL
[ "$*" = "--signal=TERM 7.0" ] && signal=TERM
kill -$signal $(cat task)""",
    "scontrol": """[ "$1" = show ] && printf "first\\nsecond\\n" || echo "$@" > requeued""",
}


@pytest.mark.parametrize("stopped", [True, False])
def test_the_batch_job_is_requeued_when_it_was_stopped(tmp_path: Path, stopped: bool) -> None:
    """And what it trains is asked to save, not killed."""
    task = "exit 3"
    if stopped:
        task = "trap 'sleep 0.3; touch saved; exit 1' TERM; while :; do sleep 0.05; done"
    for name, does in SLURM.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{does.replace('{task}', task)}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_CPUS_PER_TASK": "32",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    command = ["bash", str(REPOSITORY / "docs/slurm/train.sbatch"), "model=vgg_gap"]
    job = subprocess.Popen(command, env={**os.environ, **slurm}, cwd=tmp_path)
    training = tmp_path / "training"
    while not ((tmp_path / "task").exists() and training.read_text()) and job.poll() is None:
        time.sleep(0.01)
    if stopped:
        time.sleep(0.1)
        job.send_signal(SIGTERM)
    assert job.wait(30) == (0 if stopped else 3)
    assert (tmp_path / "saved").exists() == (tmp_path / "requeued").exists() == stopped
    given = training.read_text()
    assert given.startswith("--cpus-per-task=32 .venv/bin/torchrun --nnodes=2 --nproc-per-node=4")
    assert "--rdzv-endpoint=first:10007 " in given and given.endswith(
        " scripts/train.py model=vgg_gap\n"
    )


def test_every_named_test_exists() -> None:
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", (REPOSITORY / "docs/guarantees.md").read_text())
    assert len(named) > 10
    for path, name in named:
        assert f"\ndef {name}(" in (REPOSITORY / path).read_text(), f"{path}::{name}"
