"""The device, and one process or many: the same code, started with `python` or with `torchrun`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from cam_repro import UserError

PATIENCE = timedelta(hours=2)  # with a process that works alone: the leader's index of 1.28 million files takes a while
T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among all: rank 0 writes, each computes its share."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, numbers: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, on the CPU, in float64 so that counts stay exact."""
        total = numbers.detach().to("cpu", torch.float64)
        if self.size > 1:
            dist.all_reduce(total)
        return total

    def gather(self, rows: list[Any]) -> list[Any]:
        """Every process's rows, in all processes."""
        if self.size == 1:
            return rows
        shares: list[list[Any]] = [[] for _ in range(self.size)]
        dist.all_gather_object(shares, rows)
        return [row for share in shares for row in share]

    def broadcast(self, value: T) -> T:
        """Rank 0's value, in all processes."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def barrier(self) -> None:
        self.gather([])


@contextmanager
def join_world(device: str, deterministic: bool = False) -> Iterator[World]:
    """Join the processes that torchrun started, or be alone.

    Where one process fails, the others end with a UserError that points at its message.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = _device(device)
    with _same_bits() if deterministic else nullcontext():
        if size == 1:
            yield World(0, 1, chosen)
            return
        dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
        try:
            yield World(dist.get_rank(), size, chosen)
        except RuntimeError as error:
            if not _lost_another(error):
                raise
            raise UserError("another process of this job failed, which ends it; its own message says why") from None
        dist.destroy_process_group()  # not after a failure: it could wait for processes that no longer answer


def _lost_another(error: RuntimeError) -> bool:
    """Whether a collective failed, and not the work between them; gloo has no type of its own for that."""
    return isinstance(error, dist.DistError) or "gloo/" in str(error) or "Connection closed by peer" in str(error)


@contextmanager
def _same_bits() -> Iterator[None]:
    """Only algorithms that give the same bits twice on one machine; one that cannot raises."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


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
