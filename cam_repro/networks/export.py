"""From a run's checkpoint to the file that is published: tensors, and what they are of; nothing in it could run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch

from cam_repro import UserError
from cam_repro.files import replacing
from cam_repro.networks.weights import Weights, read_weights

LENGTH = 8  # bytes that say how long a safetensors file's header is; it is padded to a multiple of them


def export(source: Path, path: Path, model: str, data: str) -> Path:
    """The checkpoint at `source`, of the network `model`, as safetensors at `path`; prints its size and sha256.

    data: the name of the data set that it was trained on. Raises UserError for what is no such checkpoint.
    """
    if not source.is_file():
        raise UserError(
            f"{model} is not trained on {data} ({source} is not there); first: make train model={model} data={data}"
        )
    weights = read_weights(source, "")
    if weights.model is None:
        raise UserError(f"{weights.source} holds a backbone's weights, not a network trained here; nothing to export")
    if weights.model.name != model:
        raise UserError(f"{source} is a {weights.model.name}, not a {model}; type model={weights.model.name}")
    if broken := [key for key, tensor in weights.tensors.items() if not torch.isfinite(tensor).all()]:
        raise UserError(f"{source} holds NaN or infinity in {broken[0]}; nothing to export")
    sha256 = publish(weights, path, data)
    megabytes, classes = path.stat().st_size / 1e6, len(weights.wnids)
    print(f"{model}, {classes} classes of {data}, {megabytes:.1f} MB; use it with weights={path}")
    print(f"sha256 {sha256}  {path}")
    return path


def publish(weights: Weights, path: Path, data: str) -> str:
    """Write a network trained here to `path`; returns the file's sha256. The same weights give the same bytes.

    data: the name of the data set that it was trained on.
    """
    model = asdict(weights.model)
    metadata = {
        "format": "pt", "model": model["name"], "data": data, "input_size": str(model["input_size"]),
        "classes": str(len(weights.wnids)), "wnids": json.dumps(weights.wnids),
        "config": json.dumps(model, sort_keys=True), "training": json.dumps(weights.training, sort_keys=True),
    }  # fmt: skip
    saved = safetensors.torch.save({key: tensor.contiguous() for key, tensor in weights.tensors.items()})
    end = LENGTH + int.from_bytes(saved[:LENGTH], "little")
    # the library writes metadata in an order that changes from run to run
    header = json.dumps({"__metadata__": metadata, **json.loads(saved[LENGTH:end])}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % LENGTH)
    content = len(header).to_bytes(LENGTH, "little") + header + saved[end:]
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
