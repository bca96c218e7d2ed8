"""Batches: the same whoever decodes them, each image once, corrupt files counted or refused."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from cam_repro import UserError
from cam_repro.config import DataConfig, RecipeConfig
from cam_repro.cores import available_cores
from cam_repro.data import open_split
from cam_repro.data.loaders import (
    Batch,
    BatchRequest,
    Decoders,
    epoch_order,
    evaluation_batches,
    training_batches,
)
from cam_repro.data.split import Split

RECIPE = RecipeConfig(batch_size=8, crop="resized")


@pytest.fixture
def val(tiny_shapes: Path, tmp_path: Path) -> Split:
    return open_split(DataConfig(name="shapes", root=str(tiny_shapes)), "val", tmp_path)


def trained(val: Split, epoch: int = 0, workers: int = 0, **options: Any) -> list[Batch]:
    return list(training_batches(val, RECIPE, 32, seed=1, epoch=epoch, workers=workers, **options))


def pixels_of(batches: list[Batch]) -> torch.Tensor:
    return torch.cat([batch.pixels for batch in batches])


def images_of(batches: Iterable[Batch]) -> list[list[int]]:
    return [batch.images.tolist() for batch in batches]


def test_crops_depend_on_seed_epoch_and_image_alone(val: Split) -> None:
    one = pixels_of(trained(val))
    assert torch.equal(one, pixels_of(trained(val, workers=2)))
    assert not torch.equal(one, pixels_of(trained(val, epoch=1)))


def test_the_same_processes_decode_a_whole_run_also_after_a_pass_that_was_left(val: Split) -> None:
    seen = []
    with Decoders(workers=2) as decoders:
        for epoch in (0, 1):
            together = pixels_of(trained(val, epoch=epoch, decoders=decoders))
            assert torch.equal(together, pixels_of(trained(val, epoch=epoch)))
            shown = images_of(evaluation_batches(val, 32, 7, decoders=decoders))
            assert list(chain(*shown)) == list(range(len(val)))
            next(evaluation_batches(val, 32, 1, decoders=decoders))  # and no more of it
            seen.append({worker.pid for worker in active_children()})
    assert len(seen[0]) == 2 and seen[1] == seen[0]
    assert not seen[0] & {worker.pid for worker in active_children()}


def test_resuming_in_an_epoch_continues_its_batches(val: Split) -> None:
    assert images_of(trained(val, first_step=1)) == images_of(trained(val))[1:]


def test_processes_share_each_global_batch(val: Split) -> None:
    shares = [images_of(trained(val, rank=rank, world_size=2)) for rank in (0, 1)]
    for whole, first, second in zip(images_of(trained(val)), *shares, strict=True):
        assert sorted(whole) == sorted(first + second)


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 5))
def test_an_epoch_shows_no_image_twice(images: int, batch_size: int, epoch: int) -> None:
    shown = np.concatenate(epoch_order(images, batch_size, 0, epoch))
    assert (
        len(set(shown.tolist()))
        == len(shown)
        == max(batch_size * (images // batch_size), min(images, batch_size))
    )


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_counts_each_image_once_whatever_the_remainder(val: Split, world: int) -> None:
    shares = [
        evaluation_batches(val, 32, 7, rank=rank, world_size=world, workers=0)
        for rank in range(world)
    ]
    assert sorted(chain(*images_of(chain(*shares)))) == list(range(len(val)))


def test_sizes_are_those_of_the_stored_images(val: Split) -> None:
    batch = next(iter(evaluation_batches(val, 32, 20, workers=0)))
    assert len({tuple(size) for size in batch.sizes.tolist()}) > 5
    assert batch.pixels.shape == (20, 3, 32, 32) and batch.pixels.is_contiguous(
        memory_format=torch.channels_last
    )


def test_the_loader_pins_what_goes_to_a_gpu(val: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.data._utils.pin_memory import pin_memory

    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    batch = next(iter(evaluation_batches(val, 32, 7, workers=0)))
    assert torch.equal(pin_memory(batch).pixels, batch.pixels)
    assert [tensor.shape for tensor in pinned] == [batch.pixels.shape, batch.labels.shape]


def test_a_corrupt_file_is_skipped_in_training_and_refused_in_evaluation(
    tiny_shapes: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(tiny_shapes, tmp_path / "tree")
    split = open_split(DataConfig(name="shapes", root=str(root)), "val", tmp_path)
    split.path(3).write_bytes(b"\xff\xd8 not an image")
    batches = list(training_batches(split, RECIPE, 32, seed=0, epoch=0, workers=0))
    assert 3 not in chain(*images_of(batches))
    assert all(split.path(3).name in line for batch in batches for line in batch.corrupt)
    with pytest.raises(UserError, match=f"corrupt image .*{split.path(3).name}"):
        list(evaluation_batches(split, 32, 8, workers=0))


DECODES = """
import os, signal, sys
from multiprocessing import active_children
from pathlib import Path
from cam_repro.config import DataConfig
from cam_repro.cores import WRITE_STACKS
from cam_repro.data import open_split
from cam_repro.data.loaders import evaluation_batches
split = open_split(DataConfig(name="shapes", root=sys.argv[1]), "val", Path(sys.argv[2]))
batches = evaluation_batches(split, 32, 2, workers=2)
next(batches)  # of one worker
next(batches)  # of the other: both of them stand
print(*(worker.pid for worker in active_children()), flush=True)
"""
SIGNALLED = """
for worker in active_children():
    os.kill(worker.pid, WRITE_STACKS)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)  # as a training that notes it and finishes its step
    os.killpg(0, number)
print(2 + len(list(batches)))
"""
KILLED = """
worker = active_children()[0]
print(Path(f"/proc/{worker.pid}/stat").read_text().split()[3], flush=True)  # its parent: the server
os.kill(os.getpid(), signal.SIGKILL)
"""


def decode(program: str, *arguments: Path) -> tuple[subprocess.CompletedProcess[str], list[Path]]:
    """The program in a process group of its own, and its workers' folders in /proc, some gone."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=REPOSITORY, timeout=60, start_new_session=True
    )
    return done, [Path("/proc", pid) for pid in done.stdout.splitlines()[0].split()]


def test_a_program_that_ends_in_an_error_does_not_wait_for_its_workers(
    tiny_shapes: Path, tmp_path: Path
) -> None:
    done, workers = decode(DECODES + 'raise RuntimeError("in the middle")', tiny_shapes, tmp_path)
    assert done.returncode == 1 and done.stderr.endswith("RuntimeError: in the middle\n")
    assert len(workers) == 2 and not any(worker.exists() for worker in workers)


def test_workers_leave_a_signal_to_the_whole_group_to_their_parent(
    tiny_shapes: Path, tmp_path: Path
) -> None:
    done, workers = decode(DECODES + SIGNALLED, tiny_shapes, tmp_path)
    assert done.stdout.splitlines()[1:] == ["10"], done.stderr
    assert not any(worker.exists() for worker in workers)
    assert (
        done.stderr.count("Stack (most recent call first)") >= 2
    )  # they said where they were, and went on


def test_workers_and_their_server_end_with_a_killed_parent(
    tiny_shapes: Path, tmp_path: Path
) -> None:
    done, workers = decode(DECODES + KILLED, tiny_shapes, tmp_path)
    assert done.returncode == -signal.SIGKILL
    theirs = [*workers, Path("/proc", done.stdout.splitlines()[1])]
    deadline = time.monotonic() + 30
    while any(process.exists() for process in theirs) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [process for process in theirs if process.exists()]


@dataclass(frozen=True)
class OutOfMemory:
    """Crops that find too little shared memory: libc says so, or the kernel."""

    size: int
    killed: bool

    def take(self, *_: object) -> np.ndarray:
        if self.killed:
            os.kill(os.getpid(), signal.SIGBUS)
        raise RuntimeError("unable to write to file </torch_12_34_0>: No space left on device (28)")


@pytest.mark.parametrize("killed", [False, True])
def test_too_little_shared_memory_is_one_line_that_says_what_to_type(
    val: Split, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        _MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,)
    )  # seconds to notice it
    request = BatchRequest.of(val, np.arange(10), OutOfMemory(224, killed))
    with (
        Decoders(workers=2) as decoders,
        pytest.raises(UserError, match="a decoding process failed") as caught,
    ):
        list(decoders.batches([request, request]))
    text = str(caught.value)
    assert "\n" not in text and "2 of them share images in /dev/shm" in text
    assert "--ipc=host" in text and text.endswith("data.workers=1")


@pytest.mark.parametrize(
    ("quota", "ranks", "cores"),
    [("max 100000", "1", 24), ("600000 100000", "2", 3), ("50000 100000", "1", 1)],
)
def test_cores_are_those_of_the_process_its_quota_and_its_share_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, ranks: str, cores: int
) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr("cam_repro.cores.CPU_MAX", tmp_path / "cpu.max")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(40))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert available_cores() == cores
