"""What a command does not pay for: imports that it does not need."""

from __future__ import annotations

import subprocess
import sys

from conftest import REPOSITORY


def _modules_after(imported: str) -> set[str]:
    code = f"import sys, {imported}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_workers_import_nothing_that_is_as_slow_as_torch() -> None:
    """Each would take as long as torch, in every worker that is given a metric."""
    modules = _modules_after("cam_repro.forkserver")
    assert "cam_repro.evaluation.metrics" in modules
    assert not modules & {"torchvision", "timm", "sklearn", "torch._dynamo"}


def test_a_mistake_on_the_command_line_is_found_without_torch() -> None:
    assert "torch" not in _modules_after("cam_repro.command")
