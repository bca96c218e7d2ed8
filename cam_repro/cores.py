"""The processor's cores that this process may use, and threads and processes for them."""

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import TypeVar

# A container's quota: "<microseconds> <of so many>", or "max <of so many>"
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
CHUNK = 64  # items a thread takes at a time: a million futures would take a gigabyte
START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
PRELOADED = "cam_repro.forkserver"  # the module that the server imports
WRITE_STACKS = signal.SIGUSR1  # asks a worker where each of its threads is
Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """How many cores this process may use, 1 to 24.

    Those it may run on, within the container's quota, divided by the machine's ranks.
    """
    cores = cores_of_this_process()
    try:
        quota, period = CPU_MAX.read_text().split()
        cores = min(cores, int(quota) // int(period))
    except (OSError, ValueError):  # no such file, or no limit
        pass
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(24, cores // ranks))


def cores_of_this_process() -> int:
    """Those it may run on, where the system says which (Linux), else the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """function(item) of every item, in order.

    For work that leaves Python's lock, as decoding and hashing do.
    """

    def of_chunk(start: int) -> list[Result]:
        return [function(item) for item in items[start : start + CHUNK]]

    pool = ThreadPoolExecutor(available_cores())
    try:
        for results in pool.map(of_chunk, range(0, len(items), CHUNK)):
            yield from results
    finally:
        pool.shutdown(cancel_futures=True)


def worker_context() -> BaseContext:
    """How every process of this project is started; each is to call `prepare_worker` first.

    None is a fork of this process, whose threads (gloo's, OpenMP's, TensorBoard's) may hold locks
    that nobody would release in the copy. On Linux workers are forked from a server, a process of
    one thread that has imported what they need. The server starts with the first call and takes
    two seconds beside whatever follows, so call this early. Elsewhere (macOS) each worker is a new
    Python. Either way what a worker is given is pickled: no lambdas and no functions in functions,
    and what a test has patched in this process is not patched in a worker.
    """
    if START_METHOD == "forkserver":
        forkserver.set_forkserver_preload([PRELOADED])
        forkserver.ensure_running()
    return multiprocessing.get_context(START_METHOD)


def prepare_worker(*_: object) -> None:
    """What every worker process does first; an initializer for a pool or a DataLoader.

    Ctrl-C and SIGTERM often reach a whole process group. A worker is in another one, so that it
    stays at work until its parent has ended its step and saved. It ends when the parent asks it to,
    and with a parent that was killed. To WRITE_STACKS its main thread answers on stderr.
    """
    os.setpgid(0, 0)
    if sys.stderr is not None:  # else it was closed
        # Of this thread alone: to read a running thread's stack can crash
        faulthandler.register(WRITE_STACKS, all_threads=False)
    parent = multiprocessing.parent_process()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, os.sched_getaffinity(parent.pid))  # the server's may be others

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
