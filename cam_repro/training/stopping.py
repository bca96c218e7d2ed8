"""When a run stops or saves in the middle of an epoch: all of its processes after the same step."""

from __future__ import annotations

import signal
import time

import torch

from cam_repro.distributed import World

SAVE_EVERY = 600.0  # seconds of training that a SIGKILL or a power cut may cost
ASK_EVERY = 1.0  # seconds between the moments at which the processes agree whether to stop
LONGEST_WAIT = 100  # steps between such moments, if the first ones were misleadingly fast


class Stop(Exception):
    """A process was asked to stop; raised in all of them after the same step."""


class Stopping:
    """SIGTERM and Ctrl-C, which are noted while a step is taken, and the time since the last save.

    A process alone looks after each step. Several ask each other about once a second, on the host, so that a step
    waits neither for the device nor for the other processes.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked, self.before = False, {}
        self.saved()
        self.begin()

    def __enter__(self) -> Stopping:
        return self

    def listen(self) -> None:
        """From here to the end of the `with` block the signals are noted instead of ending the process."""
        self.before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _ask(self, *_: object) -> None:
        self.asked = True

    def saved(self) -> None:
        self.saved_at = time.monotonic()

    def begin(self) -> None:
        """Steps of another length follow, of an epoch or of a validation: ask after the first."""
        self.asked_at, self.steps_between, self.steps_left = time.monotonic(), 1, 1

    def after_step(self) -> bool:
        """Whether to save. All processes must call it after each step; raises Stop in all of them."""
        self.steps_left -= 1
        if self.steps_left:
            return False
        now, steps = time.monotonic(), 1
        if self.world.size > 1:
            seconds_a_step = (now - self.asked_at) / self.steps_between
            steps = max(1, min(LONGEST_WAIT, int(ASK_EVERY / max(seconds_a_step, 1e-6))))
        of_main = [float(now - self.saved_at >= SAVE_EVERY), float(steps)] if self.world.is_main else [0.0, 0.0]
        stop, save, steps = map(int, self.world.sum(torch.tensor([float(self.asked), *of_main])).tolist())
        self.asked_at, self.steps_between, self.steps_left = now, steps, steps
        if stop:
            raise Stop
        return bool(save)
