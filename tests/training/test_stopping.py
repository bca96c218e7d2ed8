"""When a run stops or saves in the middle."""

from __future__ import annotations

import os
import signal

import pytest
from conftest import ALONE

from cam_repro.training import stopping
from cam_repro.training.stopping import Stop, Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_waits_for_the_end_of_the_step_in_hand(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Stopping(ALONE) as run:
        run.listen()
        assert not run.after_step()
        os.kill(os.getpid(), number)
        with pytest.raises(Stop):
            run.after_step()
    assert signal.getsignal(number) == before


def test_a_save_is_due_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stopping.SAVE_EVERY <= 600
    now = [0.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    run, due = Stopping(ALONE), []
    for now[0] in (1.0, 599.0, 600.0, 601.0):
        due.append(run.after_step())
        if due[-1]:
            run.saved()
    assert due == [False, False, True, False]
