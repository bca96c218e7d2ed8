"""One process or many, on one device."""

from __future__ import annotations

import pytest
import torch

from cam_repro import UserError
from cam_repro.distributed import join_world


def test_deterministic_refuses_what_has_no_deterministic_algorithm() -> None:
    with join_world("cpu", deterministic=True):
        assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
        with pytest.raises(RuntimeError, match="deterministic"):
            torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("device", ["gpu", "cuda"])
def test_a_device_that_is_not_there_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"device={device}.*choose"), join_world(device):
        pass


def test_an_error_of_our_own_is_not_taken_for_a_lost_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(RuntimeError, match="shapes"), join_world("cpu"):
        raise RuntimeError("shapes do not agree")
