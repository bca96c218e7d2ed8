"""Damaged and wrong files of weights: each ends in one line that says what to do, and none is ever run."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cam_repro import UserError
from cam_repro.config import model_config
from cam_repro.networks import Weights, build_network, read_weights
from cam_repro.networks.export import publish

NAME, CLASSES = "squeezenet", 3
TRAINED = build_network(NAME, CLASSES).state_dict()
WNIDS = ["n1", "n2", "n3"]
LAST = "trunk.classifier.1.bias"


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("evil-was-here",)


def checkpoint(**changes: Any) -> dict[str, Any]:
    return {"network": dict(TRAINED), "model": asdict(model_config(NAME)), "wnids": WNIDS, **changes}


def network_with(**changes: Any) -> dict[str, Any]:
    return checkpoint(network={**TRAINED, **changes})


def saved(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def trained(**changes: Any) -> Weights:
    return Weights({**TRAINED, **changes}, model_config(NAME), WNIDS, "a run", "")


def published(path: Path) -> None:
    publish(trained(), path, "shapes")


def written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def cut(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def write_and_cut(path: Path) -> None:
        write(path)
        path.write_bytes(path.read_bytes()[:100_000])

    return write_and_cut


without_last = {key: value for key, value in TRAINED.items() if key != LAST}
other_classes = checkpoint(network=build_network(NAME, 4).state_dict(), wnids=[*WNIDS, "n4"])
DAMAGED: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "a folder": ("w.pt", Path.mkdir, "is not a file; give a .pth state dict"),
    "empty": ("w.pt", written(b""), "cannot be read (EOFError): it is damaged, or neither a checkpoint of ours nor"),
    "text": ("w.pt", written(b"<!DOCTYPE html><html>not found</html>"), "cannot be read (UnpicklingError)"),
    "truncated": ("w.pt", cut(saved(checkpoint())), "cannot be read (RuntimeError): it is damaged"),
    "pickled code": ("w.pt", written(pickle.dumps(Evil())), "cannot be read (UnpicklingError)"),
    "code in an archive": ("w.pt", saved({"a": Evil()}), "cannot be read (UnpicklingError)"),
    "a list": ("w.pt", saved([1, 2]), "neither a checkpoint of ours nor a state dict of tensors alone; give a .pth"),
    "a wrapped state dict": ("w.pt", saved({"epoch": 3, "state_dict": TRAINED}), "is no state dict: something in it"),
    "numbers for keys": ("w.pt", saved({1: torch.zeros(1)}), "something in it is not a tensor with a name"),
    "no classes named": ("w.pt", saved(checkpoint(wnids=None)), "cannot be read (TypeError): it is damaged"),
    "of a later version": ("w.pt", saved(checkpoint(model={"name": "x", "backbone": "vit"})), "model.backbone=vit"),
    "no tensors": ("w.pt", saved(checkpoint(network=[1])), "is no state dict: something in it"),
    "layers missing": ("w.pt", saved(checkpoint(network=without_last)), f"1 layers differ, among them {LAST}"),
    "layers unknown": ("w.pt", saved(network_with(more=torch.zeros(1))), "1 layers differ, among them more"),
    "whole numbers": ("w.pt", saved(network_with(**{LAST: torch.ones(3).long()})), f"differ, among them {LAST}"),
    "other classes": ("w.pt", saved(other_classes), "was trained for 4 classes (n1, …), not 3"),
    "NaN": ("w.pt", saved(network_with(**{LAST: torch.full((3,), torch.nan)})), f"holds NaN or infinity in {LAST}"),
    "truncated safetensors": ("w.safetensors", cut(published), "cannot be read (SafetensorError): it is damaged"),
    "safetensors by another name": ("w.pt", published, "cannot be read ("),
    "metadata in part": ("w.safetensors", lambda path: save_file(TRAINED, path, {"cam_repro": "{}"}), "(KeyError): it"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.filterwarnings("error")
def test_a_damaged_or_wrong_file_is_refused_in_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, write, message = DAMAGED[kind]
    write(tmp_path / name)
    with pytest.raises(UserError) as refused:
        build_network(NAME, CLASSES, tmp_path / name)
    line = str(refused.value)
    assert f"weights={tmp_path / name}" in line and message in line and "\n" not in line
    assert not (tmp_path / "evil-was-here").exists()


def test_a_published_network_is_the_one_that_was_trained(tmp_path: Path) -> None:
    other_order = {
        key: value.to(memory_format=torch.channels_last) for key, value in TRAINED.items() if value.ndim == 4
    }
    sha256 = publish(trained(**other_order), tmp_path / "a.safetensors", "shapes")
    assert publish(trained(), tmp_path / "b.safetensors", "shapes") == sha256
    weights = read_weights(tmp_path / "a.safetensors", "")
    assert (weights.sha256, weights.model, weights.wnids) == (sha256, model_config(NAME), WNIDS)
    network = build_network(NAME, CLASSES, weights)
    assert all(torch.equal(ours, TRAINED[key]) for key, ours in network.state_dict().items())
    assert network.untrained == ""
    content = (tmp_path / "a.safetensors").read_bytes()
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    said = json.loads(metadata["cam_repro"])
    assert (said["model"], said["data"], said["wnids"]) == (asdict(model_config(NAME)), "shapes", WNIDS)


def test_safetensors_of_another_program_are_a_state_dict(tmp_path: Path) -> None:
    whole = build_network("resnet18", 1000)
    save_file(
        {k.replace("trunk.", "").replace("classifier.", "fc."): v for k, v in whole.state_dict().items()},
        tmp_path / "w.safetensors",
    )
    network = build_network("resnet18", 1000, tmp_path / "w.safetensors")
    assert network.untrained == "" and torch.equal(network.classifier_weight, whole.classifier_weight)
