"""scripts/train.py on the time scale of a test, with a harm to itself where the environment names one.

SAVE_EVERY: seconds between saves within an epoch. STEP_TAKES: seconds by which a step is slower. FAIL_AT_STEP: the
step at which the process FAIL_RANK raises.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cam_repro import UserError
from cam_repro.config import REPOSITORY
from cam_repro.training import loop, stopping

loop.LOG_EVERY = 3
stopping.SAVE_EVERY = float(os.environ.get("SAVE_EVERY", "600"))
FAILS = int(os.environ.get("FAIL_RANK", "-1")), int(os.environ.get("FAIL_AT_STEP", "-1"))
stopping.ASK_EVERY = 0.1


whole = loop.Run._step


def step(run: loop.Run, *arguments: object) -> torch.Tensor:
    time.sleep(float(os.environ.get("STEP_TAKES", "0")))
    if (run.world.rank, run.progress.step) == FAILS:
        raise UserError("this process fails, as asked")
    return whole(run, *arguments)


loop.Run._step = step
runpy.run_path(str(REPOSITORY / "scripts/train.py"), run_name="__main__")
