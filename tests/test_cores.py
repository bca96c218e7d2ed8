"""The processes that this project starts."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import parent_process

import pytest

from cam_repro import cores
from cam_repro.cores import cores_of_this_process, prepare_worker, worker_context


def place_of_a_worker() -> tuple[int, int, bool, bool]:
    """Whom it works for; its group; whether that is its parent; whether all was imported."""
    imported = cores.PRELOADED in sys.modules
    return parent_process().pid, os.getpgrp(), os.getppid() == parent_process().pid, imported


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_workers_come_from_a_server_or_are_new_and_leave_signals_to_their_parent(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "START_METHOD", method)
    with ProcessPoolExecutor(1, worker_context(), prepare_worker) as pool:
        works_for, group, is_a_child, imported = pool.submit(place_of_a_worker).result(60)
    assert works_for == os.getpid()
    assert group != os.getpgrp()
    assert (is_a_child, imported) == ((False, True) if method == "forkserver" else (True, False))


def test_without_a_word_of_the_system_a_process_may_use_all_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert cores_of_this_process() == 10
