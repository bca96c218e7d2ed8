"""What a run leaves to read, over several starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import ALONE
from harm import curves
from tensorboard.summary.writer import event_file_writer

from cam_repro.training import journal
from cam_repro.training.journal import Journal
from cam_repro.training.state import Progress


def progress(**values: int) -> Progress:
    return Progress(torch.zeros(2, 4, dtype=torch.float64), **values)


@pytest.mark.parametrize("written", [-1, 0, 3, 5, 6])
def test_curves_written_beyond_the_checkpoint_do_not_show_twice(
    tmp_path: Path, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Readers take a run's files by name: second, machine, process, then this process's count of
    # files, from 0 as here.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    lost = Journal(tmp_path, progress(), 8, ALONE)
    for lost.progress.step in (0, 3, 6, 9):
        lost.write({"loss": 1.0})
    lost.flush()
    torn = next(tmp_path.glob("events.*"))
    torn.write_bytes(torn.read_bytes()[:-5])  # killed while writing
    again = Journal(tmp_path, progress(step=max(written, 0), written=written), 8, ALONE)
    again.progress.step = 12
    again.write({"loss": 2.0})
    again.flush()
    assert curves(tmp_path)["loss"] == [
        *((step, 1.0) for step in (0, 3, 6) if step <= written),
        (12, 2.0),
    ]


def test_a_half_written_line_of_metrics_is_taken_back(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"epoch": 1, "step": 3}\n{"epoch": 2, "step": 6}\n{"epoch": 3, "st')
    Journal(tmp_path, progress(epoch=1, step=5), 8, ALONE)
    assert metrics.read_text() == '{"epoch": 1, "step": 3}\n'


@pytest.mark.parametrize(
    ("top5", "said"),
    [(12.5, "val error top-1 50.0 % top-5 12.5 %  "), (None, "val error top-1 50.0 %  ")],
)
def test_an_epochs_line_and_curves_have_a_top_5_error_where_there_is_one(
    tmp_path: Path, top5: float | None, said: str, capsys: pytest.CaptureFixture
) -> None:
    log = Journal(tmp_path, progress(), 8, ALONE)
    log.title = "epoch 1/1"
    record = {"epoch": 1, "train_loss": 1.0, "train_top1_error": 60.0, "images_per_second": 9.0}
    record["val_gt_known_loc"] = None
    log.end_epoch(record | {"val_top1_error": 50.0, "val_top5_error": top5}, {"loss": 1.0})
    log.flush()
    assert said in capsys.readouterr().out
    assert json.loads(log.metrics.read_text())["val_top5_error"] == top5
    assert curves(tmp_path).get("val_top5_error") == (None if top5 is None else [(0, 12.5)])


def test_without_a_terminal_a_line_every_few_minutes_says_the_loss_and_the_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: now[0])
    log, said = Journal(tmp_path, progress(), 8, ALONE), []
    for _ in log.watch(iter([]), "epoch 1/1", 0, 50):
        pass
    for step in range(1, 51):
        now[0] += 60
        log.progress.add(torch.tensor([4.0, 0.0, 8.0, 0.0]))
        if step % 5 == 0:
            assert log.curves(lr=0.1) == {
                "loss": 0.5,
                "lr": 0.1,
                "images_per_second": pytest.approx(8 / 60),
            }
            log.progress.logged()
            said.append(capsys.readouterr().out)
    assert said[0] == "epoch 1/1  step 5  loss 0.500  0 images/s\n" and said.count("") == 0
