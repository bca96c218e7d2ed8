"""When a run stops or saves in the middle of an epoch."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cam_repro.distributed import World

SAVE_EVERY = 600.0  # seconds of training that a SIGKILL or a power cut may cost
ASK_EVERY = 1.0  # seconds between the moments at which the processes agree whether to stop
LONGEST_WAIT = 100  # steps between such moments, if the first ones were misleadingly fast


class Stop(Exception):
    """A stop was asked for where nothing is lost by leaving at once."""


class Signals:
    """SIGTERM and Ctrl-C ask for a stop: noted while a step is taken, raised as Stop inside `at_once`."""

    def __init__(self) -> None:
        self.asked = False
        self._raises = False

    def __enter__(self) -> Signals:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, *_: object) -> None:
        self.asked = True
        if self._raises:
            self._raises = False
            raise Stop

    @contextmanager
    def at_once(self) -> Iterator[None]:
        self._raises = True
        try:
            if self.asked:
                raise Stop
            yield
        finally:
            self._raises = False


class Agreement:
    """Whether the processes stop or save after a step: all of them after the same one.

    A process alone looks after each step. Several ask each other about once a second, on the host, so that a step
    waits neither for the device nor for the other processes.
    """

    def __init__(self, world: World, signals: Signals) -> None:
        self.world, self.signals = world, signals
        self.saved_at = self.asked_at = time.monotonic()
        self.steps_between = self.steps_left = 1

    def saved(self) -> None:
        self.saved_at = time.monotonic()

    def after_step(self) -> tuple[bool, bool]:
        """(stop, save). With several processes, all must call it after each step."""
        self.steps_left -= 1
        if self.steps_left:
            return False, False
        now = time.monotonic()
        of_leader = [float(now - self.saved_at >= SAVE_EVERY), float(self._steps_to_next(now))]
        mine = torch.tensor([float(self.signals.asked), *(of_leader if self.world.is_main else (0.0, 0.0))])
        stop, save, steps = self.world.sum(mine).tolist()
        self.asked_at, self.steps_between = now, int(steps)
        self.steps_left = self.steps_between
        return bool(stop), bool(save)

    def _steps_to_next(self, now: float) -> int:
        if self.world.size == 1:
            return 1
        seconds_a_step = (now - self.asked_at) / self.steps_between
        return max(1, min(LONGEST_WAIT, int(ASK_EVERY / max(seconds_a_step, 1e-6))))
