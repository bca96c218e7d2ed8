"""Where a number comes from: commit, versions, machine."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cam_repro.config import REPOSITORY

PACKAGES = (  # whose versions may move a number
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "simplejpeg",
    "pillow",
    "opencv-python-headless",
    "hydra-core",
)
# A new file in these folders takes part, whether git knows it or not
SOURCES = ("cam_repro", "configs", "scripts")


@cache  # the code at work is that of the program's start, whatever is committed while it runs
def git_state() -> tuple[str, bool]:
    """The commit of this repository, and whether its files differ from it.

    ("unknown", True) outside git.
    """
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return "unknown", True
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":!results")
    new = _git("status", "--porcelain", "--untracked-files=all", "--", *SOURCES)
    return commit, bool(changed or new)


def _git(*arguments: str) -> str:
    """What git says of this very repository, whichever one the environment names."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", f"--git-dir={REPOSITORY / '.git'}", f"--work-tree={REPOSITORY}", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=REPOSITORY, env=environment
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


@cache
def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        found[package] = version(package)
    return found


def unfinished(training: dict[str, Any] | None) -> str:
    """How far a training is that has not ended, as "2 of 8 epochs"; else empty.

    training: a record's or a checkpoint's. One that does not say how far it is has ended.
    """
    if not training or "epochs" not in training or "epochs_done" not in training:
        return ""
    epochs = training["epochs"]
    done = training["epochs_done"]
    return f"{done} of {epochs} epochs" if done < epochs else ""


def device_name(device: str) -> str:
    """The accelerator's name, or the processor's."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"{device} ({platform.machine()})"


def code_of(places: Iterable[str]) -> str:
    """sha256 of the package's sources in these files and folders."""
    package = Path(__file__).resolve().parent
    sources = []
    for place in places:
        path = package / place
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        sources += [file.read_bytes() for file in files]
    return hashlib.sha256(b"\0".join(sources)).hexdigest()
