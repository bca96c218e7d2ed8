"""A run's folder: whole checkpoints, one writer, no silent change of settings."""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import resource
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from conftest import ALONE
from torch import nn

from cam_repro import UserError, files
from cam_repro.config import Config, DataConfig, DownloadConfig, model_config
from cam_repro.training import checkpoint
from cam_repro.training.state import Progress, restore, snapshot

NAMES = (checkpoint.CHECKPOINT, checkpoint.PREVIOUS)


def config(**changes: object) -> Config:
    return Config(model=model_config("squeezenet_gap"), data=DataConfig(name="shapes"), **changes)


def a_run(width: int = 50) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A network that has taken one step with momentum."""
    network = nn.Linear(width, 20)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    network(torch.ones(1, width)).sum().backward()
    optimizer.step()
    return network, optimizer


def state_at(step: int, width: int = 50) -> dict[str, Any]:
    return snapshot(*a_run(width), progress_at(step), ALONE)


def progress_at(step: int) -> Progress:
    return Progress(torch.zeros(2, 4, dtype=torch.float64), step=step)


def load(folder: Path) -> int:
    """The step of the checkpoint that a run goes on from."""
    progress = progress_at(0)
    checkpoint.load(folder, lambda state: restore(state, *a_run(), progress, ALONE, seed=0))
    return progress.step


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a checkpoint of step 2, and the one of step 1 before it."""
    for step in (1, 2):
        checkpoint.save(tmp_path, state_at(step))
    return tmp_path


class Harmful:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("harm",)


def one_bit_wrong(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096] ^= 1
    path.write_bytes(data)


def without_optimizer(path: Path) -> None:
    state = state_at(2)
    del state["optimizer"]
    torch.save(state, path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: os.truncate(path, 2000),
    "one bit of a weight": one_bit_wrong,
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"network": {}})),
    "a pickle that acts": lambda path: torch.save({"network": Harmful()}, path),
    "a tensor": lambda path: torch.save(torch.ones(3), path),
    "no optimizer": without_optimizer,
    "weights of other shapes": lambda path: torch.save(state_at(2, width=51), path),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, damage: Callable
) -> None:
    monkeypatch.chdir(folder)
    assert load(folder) == 2
    damage(folder / checkpoint.CHECKPOINT)
    assert load(folder) == 1
    said = capsys.readouterr().out
    assert "checkpoint.pt is damaged" in said and said.count("\n") == 1 and "falling back" in said
    assert not (folder / "harm").exists()


def test_after_a_fall_back_the_next_save_keeps_the_whole_one(folder: Path) -> None:
    DAMAGES["cut short"](folder / checkpoint.CHECKPOINT)
    assert load(folder) == 1
    checkpoint.save(folder, state_at(3))
    assert load(folder) == 3
    DAMAGES["cut short"](folder / checkpoint.CHECKPOINT)
    assert load(folder) == 1
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("names", [NAMES, NAMES[:1], NAMES[1:]])
def test_damaged_checkpoints_alone_are_refused_not_overwritten(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(UserError, match="every checkpoint in .* is damaged; train anew elsewhere"):
        load(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in names] == [b"nothing"] * len(names)


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, int, int], None]:
    """fails(call, name, number, times): the next calls for files of that name end in an error."""
    monkeypatch.setattr(files, "WAITS", (0.0, 0.0, 0.0))

    def fail(call: str, name: str, number: int, times: int) -> None:
        works = getattr(Path, call)
        left = iter(range(times))

        def at_first(path: Path, **options: Any) -> Any:
            if path.name == name and next(left, None) is not None:
                raise OSError(number, os.strerror(number), str(path))
            return works(path, **options)

        monkeypatch.setattr(Path, call, at_first)

    return fail


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


ERRORS = (errno.ESTALE, errno.EIO, errno.EACCES)


@pytest.mark.parametrize("number", ERRORS)
def test_a_read_error_that_passes_damages_nothing(
    folder: Path, fails: Callable, number: int, capsys: pytest.CaptureFixture
) -> None:
    before = contents(folder)
    fails("read_bytes", checkpoint.CHECKPOINT, number, times=3)
    assert load(folder) == 2 and not capsys.readouterr().out
    assert contents(folder) == before


@pytest.mark.parametrize("number", ERRORS)
def test_a_checkpoint_that_cannot_be_read_is_neither_damaged_nor_overwritten(
    folder: Path, fails: Callable, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither falls the run back, nor does the next save lose the newest."""
    before = contents(folder)
    fails("read_bytes", checkpoint.CHECKPOINT, number, times=1000)
    with pytest.raises(
        UserError, match=f"checkpoint.pt: {os.strerror(number)}; it is left as it is, run again"
    ):
        load(folder)
    monkeypatch.undo()
    assert contents(folder) == before and load(folder) == 2


def test_a_checkpoint_that_cannot_be_looked_at_is_not_absent(folder: Path, fails: Callable) -> None:
    """Or a training would begin anew over it."""
    assert checkpoint.exists(folder) and not checkpoint.exists(folder / "elsewhere")
    fails("stat", checkpoint.CHECKPOINT, errno.ESTALE, times=1000)
    for look in (checkpoint.exists, load):
        with pytest.raises(UserError, match="cannot read .*checkpoint.pt: Stale file handle"):
            look(folder)


@pytest.mark.parametrize(
    "error", [MemoryError("no more"), torch.OutOfMemoryError("CUDA out of memory")]
)
def test_a_checkpoint_that_does_not_fit_into_the_memory_is_not_damaged(
    folder: Path, error: Exception
) -> None:
    before = contents(folder)
    with pytest.raises(
        UserError, match=f"checkpoint.pt could not be put back: {type(error).__name__}"
    ):
        checkpoint.load(folder, mock.Mock(side_effect=error))
    assert contents(folder) == before


def dies(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_half_way(path: Path, data: memoryview) -> None:
    with path.open("wb") as file:
        file.write(data[: len(data) // 2])
    dies()


def dies_before_replacing(name: str) -> Callable[[Path, Path], object]:
    whole = Path.replace
    return lambda path, target: dies() if target.name == name else whole(path, target)


@pytest.mark.parametrize(
    ("owner", "call", "does"),
    [
        (Path, "write_bytes", dies_half_way),
        (os, "fsync", dies),
        (Path, "replace", dies_before_replacing(checkpoint.PREVIOUS)),
        (Path, "replace", dies_before_replacing(checkpoint.CHECKPOINT)),
    ],
)
def test_a_kill_while_it_is_written_leaves_a_whole_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, owner: object, call: str, does: Callable
) -> None:
    if not (child := os.fork()):
        monkeypatch.setattr(owner, call, does)
        checkpoint.save(folder, state_at(3))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert all((folder / name).exists() for name in NAMES)
    assert load(folder) == 2
    with checkpoint.only_writer(folder):
        assert not list(folder.glob(".*.tmp"))


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    checkpoint.save(tmp_path, state_at(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(
            UserError, match="cannot write .*checkpoint.pt: File too large; free space"
        ):
            checkpoint.save(tmp_path, state_at(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.CHECKPOINT]


def test_a_second_writer_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    """Killed as it may be, and though a process that it started lives on."""
    ready, writes = os.pipe()
    if not (first := os.fork()):
        with checkpoint.only_writer(tmp_path):
            helper = os.fork()
            if helper:
                os.write(writes, f"{helper}\n".encode())
            signal.pause()
    helper = int(os.read(ready, 20))
    try:
        with (
            pytest.raises(UserError, match="another process trains in"),
            checkpoint.only_writer(tmp_path),
        ):
            pass
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        with checkpoint.only_writer(tmp_path):
            pass
    finally:
        os.kill(helper, signal.SIGKILL)


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(fcntl, "lockf", mock.Mock(side_effect=OSError(37, "No locks available")))
    with checkpoint.only_writer(tmp_path):
        assert "cannot be locked (No locks available)" in capsys.readouterr().out


def test_resuming_under_other_settings_names_them(tmp_path: Path) -> None:
    before = checkpoint.settings_that_matter(config(seed=1))
    folder = tmp_path / "my runs"
    advice = (
        "set them back, or train another run, from its weights if you like: "
        f"name=another 'weights={folder}/chec"
    )
    changes = {
        "seed": 2,
        "weights": "a.pth",
        "recipe.lr": 0.5,
        "model.dropout": 0.5,
        "data.layout": "folder",
    }
    for key, value in changes.items():
        changed = config(seed=1)
        group, _, name = key.rpartition(".")
        setattr(getattr(changed, group) if group else changed, name, value)
        with pytest.raises(UserError, match=f"other settings: {key} .* → {value}; {advice}"):
            checkpoint.refuse_other_settings(folder, before, changed)


def test_settings_that_change_no_result_may_change(tmp_path: Path) -> None:
    free = {
        "device": "cpu",
        "runs": "elsewhere",
        "force": True,
        "predictions": "a.txt",
        "method": "gradcam",
    }
    now = config(seed=1, **free)
    now.data = replace(
        now.data, download=DownloadConfig(images="http://here", images_checksum="md5:0"), workers=3
    )
    now.protocol.name, now.recipe.compile = "release", not now.recipe.compile
    checkpoint.refuse_other_settings(tmp_path, checkpoint.settings_that_matter(config(seed=1)), now)
