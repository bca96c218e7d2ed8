"""What a checkpoint holds: all that the next step depends on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from cam_repro.distributed import World
from cam_repro.training.progress import Progress, Window


def seed_process(seed: int, *place: int) -> None:
    """Give this process random numbers of its own (dropout), fixed by the seed and its place."""
    torch.manual_seed(int(np.random.SeedSequence((seed, *place)).generate_state(1, np.uint64)[0]))


def snapshot(
    network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, window: Window, world: World
) -> dict[str, Any]:
    """The run's state, with every process's random numbers; all processes must call it."""
    return {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": asdict(progress),
        "window": window.rows(world),
        "random": world.gather([_random_state(world.device)]),
    }


def restore(
    state: dict[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer, world: World, seed: int
) -> tuple[Progress, Window]:
    """Put a snapshot back. Raises whatever fits where it does not fit the run.

    Another number of processes than before has no random state to go on with and is given a new one.
    """
    if "rng" in state:  # written before there was a state for each process
        state = {**state, "random": [{"cpu": state["rng"]}], "window": torch.zeros(0, 4, dtype=torch.float64)}
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    _check_shapes(optimizer)
    progress, window = Progress(**state["progress"]), Window(state["window"])
    if len(state["random"]) == world.size:
        _set_random_state(state["random"][world.rank], world.device)
    else:
        seed_process(seed, world.size, world.rank, progress.step)
    return progress, window


def _check_shapes(optimizer: torch.optim.Optimizer) -> None:
    """The optimizer takes moments of any shape and fails at its first step."""
    for parameter, moments in optimizer.state.items():
        for name, moment in moments.items():
            if torch.is_tensor(moment) and moment.ndim and moment.shape != parameter.shape:
                raise ValueError(f"{name} of shape {tuple(moment.shape)} for a parameter of {tuple(parameter.shape)}")


def _random_state(device: torch.device) -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def _set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
