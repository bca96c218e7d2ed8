"""A run's folder: one writer, whole checkpoints, and no other settings when it is resumed."""

from __future__ import annotations

import fcntl
import io
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data import Split
from cam_repro.data.manifest import Manifest, difference, manifest_of
from cam_repro.files import is_there, read_bytes, remove_leftovers, replacing

CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system releases however this process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}; choose another folder with runs="
        ) from None
    with lock:
        # Of this process alone: flock's would live on in the decoding processes of a killed run
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise UserError(
                f"another process trains in {folder}; wait for it, or train elsewhere with runs="
            ) from None
        except OSError as error:
            why = f"cannot be locked ({error.strerror})"
            print(f"{folder} {why}: let no second process train in it", flush=True)
        remove_leftovers(folder)
        yield


def save(folder: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint in one step; the one before it is kept."""
    newest = folder / CHECKPOINT
    buffer = io.BytesIO()  # torch's own writer hides a full disk behind a RuntimeError
    torch.save(state, buffer)
    with replacing(newest) as temporary:
        temporary.write_bytes(buffer.getbuffer())
        if is_there(newest):
            _name_too(newest, folder / PREVIOUS)


def _name_too(file: Path, other: Path) -> None:
    """Let `other` name the same content as `file`, in one step."""
    with replacing(other) as temporary:
        try:
            temporary.hardlink_to(file)
        except OSError:  # a file system without hard links
            shutil.copyfile(file, temporary)


def exists(folder: Path) -> bool:
    return any(is_there(folder / name) for name in (CHECKPOINT, PREVIOUS))


def load(folder: Path, restore: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The newest checkpoint that is whole and that `restore` takes.

    Damaged is only what was read to its end and is wrong. Raises UserError where the newest cannot
    be read at all, or does not fit into the memory, and where every one is damaged; all files then
    stay as they are.
    """
    newest = folder / CHECKPOINT
    paths = [path for path in (newest, folder / PREVIOUS) if is_there(path)]
    for path in paths:
        try:
            content = read_bytes(path)
        except FileNotFoundError as error:  # it was there a moment ago
            raise UserError(f"cannot read {path}: {error.strerror}; run again") from None
        try:
            state = _read(content)
            restore(state)
        except UserError:
            raise
        except (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError) as error:
            what = f"could not be put back: {_first_line(error)}"
            raise UserError(f"{path} {what}; run again with more memory") from error
        except Exception as error:  # a damaged file can fail anywhere in the reader, or not fit
            then = ": falling back to the one before it" if path != paths[-1] else ""
            print(f"{path} is damaged ({_first_line(error)}){then}", flush=True)
            continue
        if path != newest:
            _name_too(path, newest)  # before a save makes the damaged one the previous one
        return state
    raise UserError(
        f"every checkpoint in {folder} is damaged; train anew elsewhere with runs=, "
        "or move that folder"
    )


def _read(content: bytes) -> dict[str, Any]:
    """What `save` has written. Raises whatever fits where it is damaged."""
    with ZipFile(io.BytesIO(content)) as archive:
        # torch's reader passes over the checksums that its writer leaves
        broken = archive.testzip()
        if broken:
            raise BadZipFile(f"the checksum of {broken} is wrong")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def settings_that_matter(config: Config) -> dict[str, Any]:
    """Dotted key → value of the settings on which the result of a training depends."""
    whole = asdict(config)
    settings = {}
    for key in ("weights", "seed", "deterministic"):
        settings[key] = whole[key]
    for group in ("model", "recipe"):
        for key, value in whole[group].items():
            settings[f"{group}.{key}"] = value
    for key in ("name", "layout", "generate"):
        settings[f"data.{key}"] = whole["data"][key]
    del settings["recipe.compile"], settings["recipe.val_size"]
    return settings


def refuse_other_settings(folder: Path, before: dict[str, Any], config: Config) -> None:
    """A resumed run must be the run that was begun."""
    now = settings_that_matter(config)
    changed = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if old != new:
            changed.append(f"{key} {old} → {new}")
    if changed:
        raise UserError(
            f"{folder} was trained with other settings: {'; '.join(changed[:6])}; set them back, "
            "or train another run, from its weights if you like: "
            f"name=another {_typed_weights(folder)}"
        )


def _typed_weights(folder: Path) -> str:
    return shlex.quote(f"weights={folder / CHECKPOINT}")


def images_of(config: Config, train_split: Split, val_split: Split) -> dict[str, Any]:
    """What a checkpoint keeps of the data: where it was found, and the manifests of its images."""
    return {
        "root": str(Path(config.data.root).resolve()),
        "train": manifest_of(train_split).packed(),
        "val": manifest_of(val_split).packed(),
    }


def refuse_other_images(folder: Path, state: dict[str, Any], now: dict[str, Any]) -> None:
    """A resumed run must have the train images it was begun on; other val images are said.

    now: `images_of` the data at hand. A checkpoint from before there were manifests knows its
    classes and how many images there were.
    """
    train = Manifest.unpacked(now["train"])
    val = Manifest.unpacked(now["val"])
    before = state.get("trained_on")
    if before is not None:
        images = f"the images of {before['root']}"
        others = difference(Manifest.unpacked(before["train"]), train)
    else:
        images = f"{state['images']} images of {len(state['wnids'])} classes"
        others = ""
        if state["wnids"] != train.wnids.tolist() or state["images"] != len(train.files):
            others = f"{len(train.files)} images of {len(train.wnids)} classes"
    if others:
        raise UserError(
            f"{folder} was trained on {images}, and {now['root']} has others: {others}; give the "
            "same images back with data.root=, or train another run, from its weights if you like: "
            f"data.name=another {_typed_weights(folder)}"
        )
    if before is None:
        taken = f"taken for those of {now['root']}"
        print(f"{folder} does not say which images it was trained on: {taken}", flush=True)
        return
    other_val = difference(Manifest.unpacked(before["val"]), val)
    if other_val:
        print(f"the val errors from here on are of other images: {other_val}", flush=True)
