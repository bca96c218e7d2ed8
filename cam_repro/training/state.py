"""What a checkpoint holds: all that the next step depends on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from cam_repro.devices import Team
from cam_repro.training.progress import Progress, Window


def seed_process(seed: int, *place: int) -> None:
    """Give this process random numbers of its own (dropout), fixed by the seed and its place."""
    torch.manual_seed(int(np.random.SeedSequence((seed, *place)).generate_state(1, np.uint64)[0]))


def snapshot(
    network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, window: Window, us: Team
) -> dict[str, Any]:
    """The run's state, with every process's random numbers; all processes must call it."""
    return {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": asdict(progress),
        "window": window.rows(us),
        "random": us.gather([_random_state(us.device)]),
    }


def restore(
    state: dict[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer, us: Team, seed: int
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
    if len(state["random"]) == us.world:
        _set_random_state(state["random"][us.rank], us.device)
    else:
        seed_process(seed, us.world, us.rank, progress.step)
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
