"""When a run stops or saves in the middle of an epoch: all of its processes after the same step."""

from __future__ import annotations

import signal
import time

import torch

from cam_repro.distributed import World

SAVE_EVERY = 600.0  # seconds of training that a SIGKILL or a power cut may cost


class Stop(Exception):
    """A process was asked to stop; raised in all of them after the same step."""


class Stopping:
    """SIGTERM and Ctrl-C, which are noted while a step is taken, and the time since the last save."""

    def __init__(self, world: World) -> None:
        self.world, self.asked, self.before = world, False, {}
        self.saved()

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

    def after_step(self) -> bool:
        """Whether to save. All processes must call it after each step; raises Stop in all of them.

        They tell each other on the host, where no step waits for the device.
        """
        due = self.world.is_main and time.monotonic() - self.saved_at >= SAVE_EVERY
        stop, save = self.world.sum(torch.tensor([self.asked, due])).tolist()
        if stop:
            raise Stop
        return bool(save)
