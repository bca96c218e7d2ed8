"""When a run stops or saves in the middle, and what it says when it stands still."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import pytest
from conftest import ALONE
from processes import CONTEXT

from cam_repro.cores import prepare_worker, worker_context
from cam_repro.training import preemption
from cam_repro.training.preemption import Preempted, Preemption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_waits_for_the_end_of_the_step_in_hand(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Preemption(ALONE) as run:
        run.listen()
        assert not run.after_step()
        os.kill(os.getpid(), number)
        with pytest.raises(Preempted):
            run.after_step()
    assert signal.getsignal(number) == before


def never_end_a_step(saying: Callable[[], None]) -> None:
    """A run that waits in a library which no signal interrupts."""
    preemption.ONE_STOP = 0.1
    with Preemption(ALONE) as run:
        run.listen()
        signal.pthread_sigmask(signal.SIG_BLOCK, preemption.STOPS)  # but not in the thread
        saying()
        time.sleep(60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_process_at_once(number: signal.Signals) -> None:
    """But not one right after the first: torchrun passes on what its processes had themselves."""
    ready = CONTEXT.Event()
    run = CONTEXT.Process(target=never_end_a_step, args=(ready.set,))
    run.start()
    assert ready.wait(60)
    for _ in range(2):
        os.kill(run.pid, number)
    run.join(0.5)
    assert run.is_alive()
    os.kill(run.pid, number)
    run.join(30)
    assert run.exitcode == 128 + number


def test_a_run_that_stands_still_says_where_it_and_its_workers_are(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(preemption, "STANDSTILL", 0.3)
    with ProcessPoolExecutor(1, worker_context(), prepare_worker) as pool, Preemption(ALONE) as run:
        pool.submit(os.getpid).result(60)
        run.listen()
        time.sleep(0.5)
        said = capfd.readouterr().err
        assert (
            "no step has ended for" in said
            and "(rank 0) waits on, and its threads and its workers are here" in said
        )
        assert "in test_a_run_that_stands_still_says_where_it_and_its_workers_are" in said
        assert not run.after_step()
        time.sleep(0.1)
        assert "no step" not in capfd.readouterr().err


def test_a_save_is_due_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert preemption.SAVE_EVERY <= 600
    now = [0.0]
    monkeypatch.setattr(preemption.time, "monotonic", lambda: now[0])
    run, due = Preemption(ALONE), []
    for now[0] in (1.0, 599.0, 600.0, 601.0):
        due.append(run.after_step())
        if due[-1]:
            run.saved()
    assert due == [False, False, True, False]
