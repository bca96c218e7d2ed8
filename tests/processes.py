"""The real programs in processes of their own, forked from one that has imported torch.

That takes five seconds less for each.
"""

from __future__ import annotations

import atexit
import os
import runpy
import sys
from multiprocessing import forkserver, get_context
from pathlib import Path

from cam_repro.cores import PRELOADED

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when the server imports torch
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [PRELOADED, "torchvision", "cam_repro.training.loop", "cam_repro.evaluation.evaluate"]
)


def settings(**changes: str) -> dict[str, str]:
    """Of a program under test: ours, on one thread of the processor, with these changes."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **changes}


class Program:
    """A Python file as a process, with as much of `Popen` as the tests need.

    What it prints goes to files.
    """

    def __init__(
        self,
        file: Path,
        arguments: list[str],
        out: Path,
        err: Path,
        settings: dict[str, str],
        cwd: Path,
    ):
        self.process = CONTEXT.Process(
            target=_run, args=(str(file), arguments, out, err, settings, cwd)
        )
        for path in (out, err):
            path.write_text("")
        self.process.start()

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"not at its end after {timeout} s")
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


def _run(
    file: str, arguments: list[str], out: Path, err: Path, settings: dict[str, str], cwd: Path
) -> None:
    os.environ.clear()
    os.environ.update(settings)
    os.chdir(cwd)
    # Its workers come from the tests' server as it does: one of its own would take seconds to
    # start.
    forkserver.ensure_running = forkserver._forkserver.ensure_running = lambda: None
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream.fileno())
    sys.argv, sys.path[0] = [file, *arguments], str(Path(file).parent)
    try:
        runpy.run_path(file, run_name="__main__")
    finally:
        atexit._run_exitfuncs()
