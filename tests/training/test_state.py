"""What a checkpoint holds."""

from __future__ import annotations

import pytest
import torch
from conftest import ALONE
from torch import nn

from cam_repro import UserError
from cam_repro.distributed import DistributedContext
from cam_repro.training.state import Progress, restore, snapshot

CPU = ALONE.device


def parts() -> tuple[nn.Module, torch.optim.Optimizer]:
    network = nn.Linear(2, 2)
    return network, torch.optim.AdamW(network.parameters(), 0.1)


def test_another_number_of_processes_draws_anew() -> None:
    """Each its own numbers, fixed by the seed: not a state that was another's, nor one for all."""
    before = Progress.none(CPU)
    before.add(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    state = snapshot(*parts(), before, ALONE)
    goes_on, drawn, sums = torch.rand(4), [], torch.zeros(2, 4)
    for rank in (0, 1, 0):
        progress = Progress.none(CPU)
        restore(state, *parts(), progress, DistributedContext(rank, 2, CPU), seed=0)
        drawn.append(torch.rand(4))
        sums += progress.sums if len(drawn) < 3 else 0
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], goes_on)
    assert torch.equal(sums, before.sums.float())


@pytest.mark.parametrize("broken", ["weight", "loss"])
def test_what_is_not_finite_is_never_saved(broken: str) -> None:
    (network, optimizer), progress = parts(), Progress.none(CPU)
    progress.add(torch.tensor([torch.nan if broken == "loss" else 1.0, 0.0, 1.0, 0.0]))
    if broken == "weight":
        nn.init.constant_(network.weight, torch.inf)
    else:
        with pytest.raises(UserError, match="not finite at step 1"):
            progress.loss_since_log(ALONE)
    with pytest.raises(UserError, match="a weight is not finite at step 1; lower recipe.lr"):
        snapshot(network, optimizer, progress, ALONE)
