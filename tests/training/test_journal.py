"""What a run leaves to read, over several starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from harm import curves
from tensorboard.summary.writer import event_file_writer

from cam_repro.training import checkpoint
from cam_repro.training.journal import Journal
from cam_repro.training.progress import Progress


@pytest.mark.parametrize(
    ("goes_on_from", "kept"),
    [
        (Progress(), []),  # killed before the first checkpoint
        (Progress(step=3, step_in_epoch=3), []),  # within an epoch: saved before the step's curves
        (Progress(epoch=1, step=3), [3]),  # at its end: saved after them
        (Progress(epoch=1, step=4, step_in_epoch=1), [3]),
    ],
)
def test_curves_written_beyond_the_checkpoint_do_not_show_twice(
    tmp_path: Path, goes_on_from: Progress, kept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Readers take a run's files by name: second, machine, process, then this process's count of files, from 0 as here.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    lost = Journal(tmp_path, Progress())
    for step in (3, 6, 9):
        lost.scalars(step, {"loss": 1.0})
    lost.flush()
    torn = next(tmp_path.glob("events.*"))
    torn.write_bytes(torn.read_bytes()[:-5])  # killed while writing
    again = Journal(tmp_path, goes_on_from)
    again.scalars(12, {"loss": 2.0})
    again.close()
    assert curves(tmp_path)["loss"] == [*((step, 1.0) for step in kept), (12, 2.0)]


def test_a_half_written_line_of_metrics_is_taken_back(tmp_path: Path) -> None:
    metrics = tmp_path / checkpoint.METRICS
    metrics.write_text('{"epoch": 1, "step": 3}\n{"epoch": 2, "step": 6}\n{"epoch": 3, "st')
    Journal(tmp_path, Progress(epoch=1, step=5, step_in_epoch=2)).close()
    assert metrics.read_text() == '{"epoch": 1, "step": 3}\n'
