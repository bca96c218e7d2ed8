"""The processor's cores that this process may use, and work for all of them."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # a container's quota: "<microseconds> <of so many>", or "max <of so many>"
CHUNK = 64  # items a thread takes at a time: a million futures would take a gigabyte
Item, Result = TypeVar("Item"), TypeVar("Result")


def available_cores() -> int:
    """Of this process: those it may run on, within the container's quota, shared among the machine's ranks; 1 to 24."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = CPU_MAX.read_text().split()
        cores = min(cores, int(quota) // int(period))
    except (OSError, ValueError):  # no such file, or no limit
        pass
    return max(1, min(24, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """function(item) of every item, in order: for work that leaves Python's lock, as decoding and hashing do."""
    pool = ThreadPoolExecutor(available_cores())
    try:
        starts = range(0, len(items), CHUNK)
        for results in pool.map(lambda start: [function(item) for item in items[start : start + CHUNK]], starts):
            yield from results
    finally:
        pool.shutdown(cancel_futures=True)
