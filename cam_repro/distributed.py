"""The device, and one process or many: the same code, started with `python` or with `torchrun`."""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

import torch
import torch.distributed as dist
from tqdm import tqdm

from cam_repro import UserError

STEP_TIMEOUT = timedelta(minutes=15)  # for NCCL, which runs within a training step alone
# For a rank that works alone: rank 0's index of 1.28 million files takes a while
TIMEOUT = timedelta(hours=2)
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
WORLDS = count()  # of this process, one after the other


@dataclass(frozen=True)
class DistributedContext:
    """This process among all: rank 0 writes, each computes its share."""

    rank: int
    size: int
    device: torch.device
    group: dist.ProcessGroup | None = None  # gloo's, for all that is not within a training step

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def say(self, line: str) -> None:
        """Print a line, once for all processes."""
        if self.is_main:
            tqdm.write(line)

    def sum(self, numbers: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, on the CPU, in float64 so that counts stay exact."""
        # On the CPU first: Apple's GPUs have no float64
        total = numbers.detach().cpu().to(torch.float64, copy=True)
        if self.size > 1:
            dist.all_reduce(total, group=self.group)
        return total

    def gather(self, rows: list[Any]) -> list[Any]:
        """Every process's rows, in all processes."""
        if self.size == 1:
            return rows
        shares: list[Any] = [None] * self.size
        dist.all_gather_object(shares, rows, group=self.group)
        return [row for share in shares for row in share]

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, in all processes."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, group=self.group)
        return values[0]

    def barrier(self) -> None:
        self.gather([])


@contextmanager
def join_distributed(device: str, deterministic: bool = False) -> Iterator[DistributedContext]:
    """Join the processes that torchrun started, or be alone.

    Where one process fails, the others end with a UserError that points at its message.
    deterministic: only algorithms that give the same bits twice on one machine; an operation that
    has none raises.
    """
    chosen = _device(device)
    if chosen.type == "cpu":
        keep_freed_memory()
    benchmark = torch.backends.cudnn.benchmark
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True)
    try:
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            yield DistributedContext(0, 1, chosen)
            return
        store, rank, size = next(dist.rendezvous("env://", timeout=TIMEOUT))
        # torchrun's store outlives a restart and a world, and with it the addresses of processes
        # that died or left
        restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"restart {restart} world {next(WORLDS)}", store)
        backend, timeout = "gloo", TIMEOUT
        if chosen.type == "cuda":
            backend, timeout = "nccl", STEP_TIMEOUT
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
        yield DistributedContext(
            rank, size, chosen, dist.new_group(backend="gloo", timeout=TIMEOUT)
        )
        # Not after a failure: it could wait for processes that no longer answer
        dist.destroy_process_group()
    except RuntimeError as error:
        if _is_of_a_collective(error):
            raise UserError(
                "another process of this job failed, which ends it; its own message says why"
            ) from None
        raise
    finally:
        # Nothing asks where nobody did: the call imports torch's compiler, for a second and a half
        if deterministic:
            torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = benchmark


def keep_freed_memory() -> None:
    """Let this process keep the memory that tensors leave, for those of the next batch.

    glibc gives an array of 32 MB or more back to the system when it is freed, whatever it is told
    about smaller ones, and the next one comes as pages that have to be cleared: a third of an
    evaluation of EfficientNet-Lite0. The process then keeps what its largest batch took.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # macOS and musl have none
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _is_of_a_collective(error: RuntimeError) -> bool:
    """And not of the work between two of them. gloo has no type of its own for that."""
    said = str(error)
    is_gloos = "gloo/" in said or "Connection closed by peer" in said
    return is_gloos or isinstance(error, dist.DistError)


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 for training on a GPU that has it, not emulated; float32 elsewhere."""
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=native)


@contextmanager
def float32() -> Iterator[None]:
    """Products in whole float32: without CUDA's TF32, whose ten bits of precision move boxes."""
    matmul = torch.backends.cuda.matmul
    cudnn = torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = False
        cudnn.allow_tf32 = False
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _device(asked: str) -> torch.device:
    """The device of this process. Raises UserError for one that is not there.

    auto leaves Apple's GPUs (mps) alone: none of our maps or boxes was held against theirs.
    """
    if asked == "mps":
        if not torch.backends.mps.is_available():
            raise UserError(
                "device=mps: this machine, or this torch, has no GPU of Apple's; choose device=cpu"
            )
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise UserError(
                "device=mps serves one process: start it without torchrun, or choose device=cpu"
            )
        return torch.device("mps")
    # A driver that is there and does not serve this torch says why in a warning
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = f"this machine has {gpus} GPU(s)"
    if not gpus and not torch.version.cuda:
        found = "this torch was built without CUDA"
    if said and not gpus:
        found = str(said[0].message).partition(". ")[0]
        if asked == "auto" and os.environ.get("RANK", "0") == "0":
            print(f"device=auto is the CPU: {found}", flush=True)
    name = asked
    if asked == "auto":
        name = "cuda" if gpus else "cpu"
    device = torch.device(name)
    if device.type != "cuda":
        return device
    index = int(os.environ.get("LOCAL_RANK", device.index or 0))
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if max(index + 1, ranks) > gpus:
        raise UserError(
            f"device={asked} for {ranks} process(es): {found}; "
            "choose device=cpu, a lower number or fewer"
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)
