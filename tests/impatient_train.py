"""scripts/train.py on the time scale of a test, which harms itself where it is told to.

The environment tells it:
SAVE_EVERY: seconds between saves within an epoch.
STEP_TAKES: seconds by which a step is slower.
FAIL_AT_STEP: the step of torchrun's first attempt, counted from 0, at which the last rank raises.
STOP_IN_VALIDATION: the validation of an attempt, counted from 0 (the one before the first step), in
which the last rank, and it alone, gets a SIGTERM.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cam_repro import UserError
from cam_repro.config import REPOSITORY
from cam_repro.training import loop, preemption

LAST = int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1
RESTARTED = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
loop.LOG_EVERY = 3
preemption.SAVE_EVERY = float(os.environ.get("SAVE_EVERY", "600"))
whole_step = loop.train_step
whole_validation = loop.validate
steps = count()
validations = count()


def asked(name: str, number: int) -> bool:
    return LAST and os.environ.get(name) == str(number)


def train_step(*arguments: Any) -> torch.Tensor:
    time.sleep(float(os.environ.get("STEP_TAKES", "0")))
    if asked("FAIL_AT_STEP", next(steps)) and not RESTARTED:
        raise UserError("this process fails, as asked")
    return whole_step(*arguments)


def validate(*arguments: Any, **options: Any) -> dict[str, float]:
    if asked("STOP_IN_VALIDATION", next(validations)):
        os.kill(os.getpid(), signal.SIGTERM)
    return whole_validation(*arguments, **options)


loop.train_step = train_step
loop.validate = validate
runpy.run_path(str(REPOSITORY / "scripts/train.py"), run_name="__main__")
