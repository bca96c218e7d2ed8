"""When a run stops or saves within an epoch, and what it says when it stands still.

All of its processes stop and save after the same step.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack
from multiprocessing import active_children

import torch

from cam_repro.cores import WRITE_STACKS
from cam_repro.distributed import DistributedContext

SAVE_EVERY = 600.0  # seconds of training that a SIGKILL or a power cut may cost
STANDSTILL = 600.0  # seconds without the end of a step after which a process says where it is
ONE_STOP = 1.0  # seconds within which signals are one: torchrun passes on what its processes had
STOPS = (signal.SIGTERM, signal.SIGINT)


class Preempted(Exception):
    """A process was asked to stop; raised in all of them after the same step."""


class Preemption:
    """SIGTERM and Ctrl-C, which are noted while a step is taken, and the time since the last save.

    A second one ends the process at once. Where no step ends for STANDSTILL seconds, the process
    writes to stderr where its threads and those of its workers are, and waits on. Threads of their
    own see to both, since the main one may wait in a library that no signal interrupts.
    """

    def __init__(self, world: DistributedContext) -> None:
        self.world = world
        self.asked = False
        self.undo = ExitStack()
        self.saved()

    def __enter__(self) -> Preemption:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo.close()

    def listen(self) -> None:
        """From here to the end of the `with` block the signals are noted."""
        reading, writing = socket.socketpair()
        self.undo.callback(writing.close)  # which ends the thread that reads
        threading.Thread(target=_end_at_the_second, args=(reading,), daemon=True).start()
        writing.setblocking(False)
        before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        self.undo.callback(signal.set_wakeup_fd, before)
        for number in STOPS:
            handler = signal.signal(number, self._ask)
            self.undo.callback(signal.signal, number, handler)

        self.step_ended_at = time.monotonic()
        ended = threading.Event()
        self.undo.callback(ended.set)
        threading.Thread(target=self._watch, args=(ended,), daemon=True).start()

    def _ask(self, *_: object) -> None:
        self.asked = True

    def saved(self) -> None:
        self.saved_at = time.monotonic()

    def after_step(self) -> bool:
        """Whether to save. All processes must call it after each step.

        Raises Preempted, in all of them, where one was asked to stop. They tell each other on the
        host, where no step waits for the device.
        """
        due = self.world.is_main and time.monotonic() - self.saved_at >= SAVE_EVERY
        stop, save = self.world.sum(torch.tensor([self.asked, due])).tolist()
        self.step_ended_at = time.monotonic()
        if stop:
            raise Preempted
        return bool(save)

    def _watch(self, ended: threading.Event) -> None:
        """Write all threads' stacks, the workers' too, whenever no step has ended for long."""
        while not ended.wait(self.step_ended_at + STANDSTILL - time.monotonic()):
            if time.monotonic() < self.step_ended_at + STANDSTILL:
                continue
            _complain(
                f"no step has ended for {STANDSTILL / 60:.0f} minutes; process {os.getpid()} "
                f"(rank {self.world.rank}) waits on, and its threads and its workers are here:"
            )
            faulthandler.dump_traceback(sys.stderr)
            for worker in active_children():
                os.kill(worker.pid, WRITE_STACKS)
            self.step_ended_at = time.monotonic()


def _end_at_the_second(arrivals: socket.socket) -> None:
    """End this process at the second signal that asks it to stop.

    arrivals: gives the number of each signal that arrives, as a byte.
    """
    first = None
    with arrivals:
        while number := arrivals.recv(1):
            if number[0] not in STOPS:
                continue
            if first is None:
                first = time.monotonic()
            if time.monotonic() - first > ONE_STOP:
                _complain("error: asked twice, so it ends at once; what was saved last counts")
                os._exit(128 + number[0])


def _complain(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
