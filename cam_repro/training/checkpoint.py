"""A run's folder: one writer, a checkpoint that is whole, and a refusal to go on with another configuration."""

from __future__ import annotations

import fcntl
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.files import replacing, write_text

CHECKPOINT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
SETTINGS, ENVIRONMENT, METRICS = "config.yaml", "environment.txt", "metrics.jsonl"
MAY_CHANGE = ("data.root", "data.get", "data.workers", "device", "runs", "results", "cache", "image",
              "eval_batch_size", "blacklist", "method", "protocol", "recipe.compile")  # fmt: skip


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system releases however this process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another folder with runs=") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process trains in {folder}; wait for it, or train elsewhere with runs=") from None
        yield


def save(folder: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint in one step; the one before it is kept."""
    newest = folder / CHECKPOINT
    buffer = io.BytesIO()  # torch's own writer hides a full disk behind a RuntimeError
    torch.save(state, buffer)
    with replacing(newest) as temporary:
        temporary.write_bytes(buffer.getbuffer())
        if newest.exists():
            previous = folder / PREVIOUS
            previous.unlink(missing_ok=True)
            previous.hardlink_to(newest)


def load(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, or None for a new run."""
    newest, previous = folder / CHECKPOINT, folder / PREVIOUS
    for path in (newest, previous):
        if not path.exists():
            continue
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file can fail anywhere in the reader
            print(f"{path} is damaged ({type(error).__name__}): falling back to the one before it", flush=True)
            continue
        return state
    if newest.exists():
        raise UserError(f"{newest} and its predecessor are damaged; remove {folder} to train from the start")
    return None


def settings_of(config: Config) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.structured(config))  # type: ignore[return-value]


def write_settings(folder: Path, config: Config) -> None:
    write_text(folder / SETTINGS, yaml.safe_dump(settings_of(config), sort_keys=False))


def refuse_other_settings(folder: Path, config: Config) -> None:
    """A resumed run must be the run that was begun."""
    before, now = _flat(yaml.safe_load((folder / SETTINGS).read_text())), _flat(settings_of(config))
    keys = [key for key in sorted(before.keys() | now.keys()) if not key.startswith(MAY_CHANGE)]
    changed = [f"{key} {before.get(key)} → {now.get(key)}" for key in keys if before.get(key) != now.get(key)]
    if changed:
        raise UserError(
            f"{folder} was trained with other settings: {'; '.join(changed[:6])}; set them back, remove the folder, "
            "or train elsewhere with runs="
        )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
