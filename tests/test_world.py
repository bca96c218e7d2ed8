"""One process or many, on one device."""

from __future__ import annotations

import warnings

import pytest
import torch

from cam_repro import UserError
from cam_repro.distributed import autocast, float32, join_distributed


def test_deterministic_refuses_what_has_no_deterministic_algorithm() -> None:
    with join_distributed("cpu", deterministic=True):
        assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
        with pytest.raises(RuntimeError, match="deterministic"):
            torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("device", "gpus", "ranks", "message"),
    [
        ("cuda", 0, 1, "device=cuda for 1 process.*: .*; choose device=cpu"),
        ("auto", 2, 3, r"for 3 process\(es\): this machine has 2 GPU\(s\); choose .*fewer"),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    device: str, gpus: int, ranks: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    with pytest.raises(UserError, match=message), join_distributed(device):
        pass


def test_a_cpu_in_the_place_of_a_gpu_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """With the warning that torch gives where its driver is too old for it."""

    reason = (
        "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040)"
    )

    def is_available() -> bool:
        warnings.warn(f"{reason}. Please update your GPU driver", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    with join_distributed("auto") as world:
        assert world.device.type == "cpu"
    assert capsys.readouterr().out == f"device=auto is the CPU: {reason}\n"
    with join_distributed("cpu"):
        assert capsys.readouterr().out == ""


def test_apples_gpus_serve_one_process_that_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with (
        pytest.raises(UserError, match="device=mps: .* no GPU of Apple's; choose device=cpu"),
        join_distributed("mps"),
    ):
        pass
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with join_distributed("mps") as world:
        assert world.device.type == "mps"
        with autocast(world.device):
            assert not torch.is_autocast_enabled("mps")
    with join_distributed("auto") as world:
        assert world.device.type == "cpu"
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(UserError, match="device=mps serves one process: start it without torchrun"),
        join_distributed("mps"),
    ):
        pass


def test_an_emulated_bfloat16_is_not_trained_in(monkeypatch: pytest.MonkeyPatch) -> None:
    emulates = lambda including_emulation=True: including_emulation  # noqa: E731
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", emulates)
    monkeypatch.setattr(torch, "autocast", lambda device, dtype, enabled: enabled)
    assert autocast(torch.device("cuda")) is False


def test_tf32_is_off_inside_of_float32_and_as_before_after_it() -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with pytest.raises(ValueError, match="inside"), float32():
        assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
        raise ValueError("inside")
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
