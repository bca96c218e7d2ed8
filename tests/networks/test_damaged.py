"""Damaged and wrong files of weights.

Each ends in one line that says what to do, and none is ever run.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cam_repro import UserError
from cam_repro.config import model_config
from cam_repro.networks import build_network

NAME, CLASSES = "squeezenet", 3
TRAINED = build_network(NAME, CLASSES).state_dict()
WNIDS = ["n1", "n2", "n3"]
LAST = "trunk.classifier.1.bias"


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("evil-was-here",)


def checkpoint(**changes: Any) -> Callable[[Path], None]:
    """Writes a run's checkpoint with whole keys replaced."""
    whole = {"network": TRAINED, "model": asdict(model_config(NAME)), "wnids": WNIDS}
    return lambda path: torch.save(whole | changes, path)


def with_layers(**changes: torch.Tensor) -> Callable[[Path], None]:
    return checkpoint(network=TRAINED | changes)


def cut(write: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda path: (write(path), os.truncate(path, 100_000))


def saved(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


layer_missing = checkpoint(network={key: value for key, value in TRAINED.items() if key != LAST})
other_classes = checkpoint(network=build_network(NAME, 4).state_dict(), wnids=[*WNIDS, "n4"])
DAMAGED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a folder": (Path.mkdir, "is not a file; give a .pth state dict"),
    "a web page": (
        lambda path: path.write_text("<!DOCTYPE html>"),
        "cannot be read (UnpicklingError): it is damaged",
    ),
    "truncated": (cut(checkpoint()), "cannot be read (RuntimeError): it is damaged"),
    "pickled code": (
        lambda path: path.write_bytes(pickle.dumps(Evil())),
        "cannot be read (UnpicklingError)",
    ),
    "code in an archive": (saved({"a": Evil()}), "cannot be read (UnpicklingError)"),
    "a pickled network": (
        saved(nn.Linear(2, 2)),
        "more than tensors (torch.nn.modules.linear.Linear)",
    ),
    "only losses": (
        saved({"losses": [0.1]}),
        "'losses' in it is not the name of a tensor; give a .pth",
    ),
    "an empty wrapper": (
        saved({"state_dict": {}}),
        "'state_dict' in it is not the name of a tensor",
    ),
    "a list": (saved([torch.zeros(1)]), "it is no state dict but a list; give a .pth state dict"),
    "numbers for keys": (saved({1: torch.zeros(1)}), "1 in it is not the name of a tensor"),
    "other names": (
        saved({"a.weight": torch.zeros(1)}),
        "none of its layers (a.weight, …) has the name of",
    ),
    "no classes named": (checkpoint(wnids=None), "cannot be read (TypeError): it is damaged"),
    "of a later version": (
        checkpoint(model={"name": "x", "backbone": "vit"}),
        "model.backbone=vit",
    ),
    "a layer missing": (layer_missing, f"1 layers differ, among them {LAST}"),
    "a layer more": (with_layers(more=torch.zeros(1)), "1 layers differ, among them more"),
    "whole numbers": (with_layers(**{LAST: torch.ones(3).long()}), f"differ, among them {LAST}"),
    "other classes": (other_classes, "was trained for 4 classes (n1, …), not 3"),
    "NaN": (with_layers(**{LAST: torch.full((3,), torch.nan)}), f"holds NaN or infinity in {LAST}"),
    "truncated .safetensors": (
        cut(partial(save_file, TRAINED)),
        "cannot be read (SafetensorError): it is damaged",
    ),
    "metadata in part .safetensors": (
        lambda path: save_file(TRAINED, path, {"cam_repro": "{}"}),
        "(KeyError): it",
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.filterwarnings("error")
def test_a_damaged_or_wrong_file_is_refused_in_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write, message = DAMAGED[kind]
    file = tmp_path / ("w.safetensors" if kind.endswith(".safetensors") else "w.pt")
    write(file)
    with pytest.raises(UserError) as refused:
        build_network(NAME, CLASSES, file)
    line = str(refused.value)
    assert f"weights={file}" in line and message in line and "\n" not in line
    assert not (tmp_path / "evil-was-here").exists()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of TorchScript itself
def test_a_torchscript_archive_is_refused_by_its_name(tmp_path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.ones(2)).save(tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"holds more than tensors \(TorchScript\), whose code"):
        build_network(NAME, CLASSES, tmp_path / "w.pt")


def test_safetensors_of_another_program_are_a_state_dict(tmp_path: Path) -> None:
    whole = build_network("resnet18", 1000)
    theirs = {
        key.replace("trunk.", "").replace("classifier.", "fc."): of
        for key, of in whole.state_dict().items()
    }
    save_file(theirs, tmp_path / "w.safetensors")
    network = build_network("resnet18", 1000, tmp_path / "w.safetensors")
    assert network.untrained == "" and torch.equal(
        network.classifier_weight, whole.classifier_weight
    )
