"""The device, and one process or many: the same code, started with `python` or with `torchrun`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from cam_repro import UserError


@dataclass(frozen=True)
class Team:
    """This process among all: rank 0 writes, each computes its share."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def sum(self, numbers: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in float64 so that counts stay exact."""
        total = numbers.to(self.device, torch.float64)
        if self.world > 1:
            dist.all_reduce(total)
        return total

    def any(self, flag: bool) -> bool:
        return flag if self.world == 1 else bool(self.sum(torch.tensor([float(flag)])).item())

    def gather(self, rows: list[Any]) -> list[Any]:
        """Every process's rows, in all processes."""
        if self.world == 1:
            return rows
        shares: list[list[Any]] = [[] for _ in range(self.world)]
        dist.all_gather_object(shares, rows)
        return [row for share in shares for row in share]

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()


@contextmanager
def team(device: str) -> Iterator[Team]:
    """Join the processes that torchrun started, or be alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = _device(device)
    if world == 1:
        yield Team(0, 1, chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Team(dist.get_rank(), world, chosen)
    finally:
        dist.destroy_process_group()


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 on CUDA; float32 elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def _device(asked: str) -> torch.device:
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise UserError(f"device={asked} is unknown; choose auto, cpu or cuda") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device={asked}, but no CUDA device is there; choose device=cpu")
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", device.index or 0)))
        torch.cuda.set_device(device)
    return device
