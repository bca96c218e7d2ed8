"""What a checkpoint holds: all that the next step depends on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from cam_repro import UserError
from cam_repro.distributed import DistributedContext

EPOCH = 0  # the rows of Progress.sums
SINCE_LOG = 1


@dataclass
class Progress:
    """How far a run is.

    sums: (2,4) on the device, of this process alone: summed loss, right answers, images and corrupt
    files, of the epoch's steps so far and of those since the last log. float64, but float32 on
    Apple's GPUs, which have no other: counts are exact there up to 16 million images an epoch.
    """

    sums: torch.Tensor
    epoch: int = 0  # whole epochs done, each with its validation
    step: int = 0
    written: int = -1  # the step up to which the curves are written

    @classmethod
    def none(cls, device: torch.device) -> Progress:
        widest = torch.float32 if device.type == "mps" else torch.float64
        return cls(torch.zeros(2, 4, dtype=widest, device=device))

    def add(self, sums_of_step: torch.Tensor) -> None:
        self.step += 1
        self.sums += sums_of_step

    def logged(self) -> None:
        self.written = self.step
        self.sums[SINCE_LOG] = 0

    def end_epoch(self) -> None:
        self.epoch += 1
        self.sums[EPOCH] = 0

    def loss_since_log(self, world: DistributedContext) -> float:
        """Mean over the images; all processes must call it.

        Raises UserError, in all of them, where it is not finite.
        """
        loss, _, images, _ = world.sum(self.sums[SINCE_LOG]).tolist()
        if not math.isfinite(loss):
            raise not_finite(self.step)
        return loss / max(images, 1)


def seed_process(seed: int, *place: int) -> None:
    """Give this process random numbers of its own (dropout), fixed by the seed and its place."""
    (own,) = np.random.SeedSequence((seed, *place)).generate_state(1, np.uint64)
    torch.manual_seed(int(own))


def not_finite(step: int) -> UserError:
    return UserError(
        f"the loss or a weight is not finite at step {step}; lower recipe.lr or set recipe.clip=1, "
        "and train another with name= (the last checkpoint here is whole: "
        "weights= may start from it)"
    )


def snapshot(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    world: DistributedContext,
) -> dict[str, Any]:
    """The run's state, with what each process has of its own; all processes must call it.

    Raises UserError, in all of them, for a loss or weight that is not finite.
    """
    broken = not progress.sums.isfinite().all()
    for values in network.state_dict().values():
        broken = broken or not values.isfinite().all()
    if world.sum(torch.tensor(float(broken))):
        raise not_finite(progress.step)
    own = {"sums": progress.sums.to("cpu", copy=True), "cpu": torch.get_rng_state()}
    kind = world.device.type
    if kind != "cpu":
        own[kind] = torch.get_device_module(kind).get_rng_state()
    return {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": {"epoch": progress.epoch, "step": progress.step, "written": progress.written},
        "processes": world.gather([own]),
    }


def restore(
    state: dict[str, Any],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    world: DistributedContext,
    seed: int,
) -> None:
    """Put a snapshot back. Raises whatever fits where it does not fit the run.

    Another number of processes than before has no random state to go on with and gets a new one.
    """
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    progress.epoch = state["progress"]["epoch"]
    progress.step = state["progress"]["step"]
    progress.written = state["progress"]["written"]
    processes = state["processes"]
    if len(processes) == world.size:
        own = processes[world.rank]
        progress.sums.copy_(own["sums"].to(progress.sums.dtype))
        torch.set_rng_state(own["cpu"])
        kind = world.device.type
        if kind != "cpu" and kind in own:
            torch.get_device_module(kind).set_rng_state(own[kind])
        return
    sums = torch.zeros(2, 4)
    if world.is_main:
        sums = sum(own["sums"] for own in processes)
    progress.sums.copy_(sums.to(progress.sums.dtype))
    seed_process(seed, world.size, world.rank, progress.step)
