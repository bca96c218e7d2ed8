"""A run's folder: whole checkpoints, one writer, no silent change of settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cam_repro import UserError
from cam_repro.config import Config, DataConfig, model_config
from cam_repro.training import checkpoint


def config(**changes: object) -> Config:
    return Config(model=model_config("alexnet_gap"), data=DataConfig(name="shapes"), **changes)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    checkpoint.save(tmp_path, {"step": 1, "x": torch.ones(1000)})
    checkpoint.save(tmp_path, {"step": 2, "x": torch.ones(1000)})
    assert checkpoint.load(tmp_path)["step"] == 2
    newest = tmp_path / checkpoint.CHECKPOINT
    newest.write_bytes(newest.read_bytes()[:2000])
    assert checkpoint.load(tmp_path)["step"] == 1
    assert "is damaged" in capsys.readouterr().out


def test_two_damaged_checkpoints_are_refused_not_overwritten(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"step": 1})
    checkpoint.save(tmp_path, {"step": 2})
    for name in (checkpoint.CHECKPOINT, checkpoint.PREVIOUS):
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged; remove"):
        checkpoint.load(tmp_path)


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, {"step": 1})

    def full_disk(path: Path, data: bytes) -> None:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(UserError, match="cannot write .*No space left on device"):
        checkpoint.save(tmp_path, {"step": 2})
    assert checkpoint.load(tmp_path)["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.CHECKPOINT]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    second = checkpoint.only_writer(tmp_path)
    with checkpoint.only_writer(tmp_path), pytest.raises(UserError, match="another process trains in"):
        second.__enter__()
    with checkpoint.only_writer(tmp_path):
        pass


def test_resuming_under_other_settings_names_them(tmp_path: Path) -> None:
    checkpoint.write_settings(tmp_path, config(seed=1))
    checkpoint.refuse_other_settings(tmp_path, config(seed=1, device="cpu", runs="elsewhere"))
    with pytest.raises(UserError, match="other settings: seed 1 → 2"):
        checkpoint.refuse_other_settings(tmp_path, config(seed=2))
