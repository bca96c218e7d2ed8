"""When a run stops or saves in the middle."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from cam_repro.distributed import World
from cam_repro.training import stopping
from cam_repro.training.stopping import Agreement, Signals, Stop

ALONE = World(0, 1, torch.device("cpu"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_during_a_step_waits_for_its_end(number: signal.Signals) -> None:
    with Signals() as signals:
        agreement = Agreement(ALONE, signals)
        assert agreement.after_step() == (False, False)
        os.kill(os.getpid(), number)
        assert agreement.after_step() == (True, False)


def test_a_stop_during_validation_raises_at_once() -> None:
    with Signals() as signals:
        with pytest.raises(Stop), signals.at_once():
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("went on")
        with pytest.raises(Stop), signals.at_once():  # asked for before
            raise AssertionError("began")
        os.kill(os.getpid(), signal.SIGTERM)  # outside, noted only


def test_signals_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_save_is_due_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stopping.SAVE_EVERY <= 600
    now = [0.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    agreement = Agreement(ALONE, Signals())
    due = []
    for now[0] in (1.0, 599.0, 600.0, 601.0):
        due.append(agreement.after_step()[1])
        if due[-1]:
            agreement.saved()
    assert due == [False, False, True, False]


def test_processes_ask_each_other_about_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at each step, which would make all wait for the slowest."""
    now, asked = [0.0], []
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(World, "sum", lambda _, numbers: asked.append(now[0]) or numbers)
    agreement = Agreement(World(0, 2, torch.device("cpu")), Signals())
    for step in range(1, 101):
        now[0] = 0.1 * step
        agreement.after_step()
    assert 9 <= len(asked) <= 12
