"""What a checkpoint holds."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from torch import nn

from cam_repro.distributed import World
from cam_repro.training.progress import Progress, Window
from cam_repro.training.state import restore, seed_process, snapshot

ALONE = World(0, 1, torch.device("cpu"))


def parts() -> tuple[nn.Module, torch.optim.Optimizer]:
    network = nn.Linear(2, 2)
    return network, torch.optim.SGD(network.parameters(), 0.1)


def test_random_numbers_go_on_where_they_were() -> None:
    state = snapshot(*parts(), Progress(step=3), Window(), ALONE)
    wanted = torch.rand(4)
    restore(state, *parts(), ALONE, seed=0)
    assert torch.equal(torch.rand(4), wanted)


def test_another_number_of_processes_draws_anew() -> None:
    """Each its own numbers, fixed by the seed: neither a state that was another's nor the same for all."""
    state = snapshot(*parts(), Progress(step=3), Window(), ALONE)
    goes_on, drawn = torch.rand(4), []
    for rank in (0, 1, 0):
        restore(state, *parts(), World(rank, 2, torch.device("cpu")), seed=0)
        drawn.append(torch.rand(4))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], goes_on)


def test_processes_draw_numbers_of_their_own() -> None:
    drawn = []
    for rank in (0, 1, 1):
        seed_process(7, rank)
        drawn.append(torch.rand(4))
    assert torch.equal(drawn[1], drawn[2]) and not torch.equal(drawn[0], drawn[1])


def test_a_window_cut_by_a_stop_has_the_rows_of_one_that_was_not() -> None:
    rows = [torch.tensor([0.1 * k, 1.0, 3.0, 0.0]) for k in range(7)]
    whole, first = Window(), Window()
    for row in rows:
        whole.add(row)
    for row in rows[:4]:
        first.add(row)
    rest = Window(snapshot(*parts(), Progress(), first, ALONE)["window"])
    for row in rows[4:]:
        rest.add(row)
    assert len(rest) == len(whole) == 7
    assert torch.equal(rest.rows(ALONE), whole.rows(ALONE))


def test_a_checkpoint_from_before_there_was_a_state_for_each_process_is_read() -> None:
    state = snapshot(*parts(), Progress(step=3), Window(), ALONE)
    old = {"network": state["network"], "optimizer": state["optimizer"], "progress": asdict(Progress(step=9))}
    progress, window = restore({**old, "rng": torch.get_rng_state()}, *parts(), ALONE, seed=0)
    assert progress.step == 9 and not len(window)


def test_moments_of_another_shape_are_refused() -> None:
    network, optimizer = nn.Linear(2, 2), torch.optim.AdamW
    trained = optimizer(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    trained.step()
    state = snapshot(network, trained, Progress(), Window(), ALONE)
    state["optimizer"]["state"][0]["exp_avg"] = torch.ones(3)
    with pytest.raises(ValueError, match="exp_avg of shape"):
        restore(state, network, optimizer(network.parameters()), ALONE, seed=0)
