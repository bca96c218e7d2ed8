"""From a run's checkpoint to the file that is published."""

from __future__ import annotations

from pathlib import Path

import torch

from cam_repro import UserError
from cam_repro.networks.published import publish
from cam_repro.networks.weights import read_state


def export(source: Path, path: Path, model: str, data: str) -> Path:
    """The checkpoint at `source`, of the network `model`, as safetensors at `path`; prints its size and sha256.

    data: the name of the data set that it was trained on. Raises UserError for what is no such checkpoint.
    """
    if not source.is_file():
        raise UserError(
            f"{model} is not trained on {data} ({source} is not there); first: make train model={model} data={data}"
        )
    checkpoint = read_state(source)
    if "network" not in checkpoint:
        raise UserError(f"weights={source} holds a backbone's weights, not a network trained here; nothing to export")
    found, wnids = checkpoint["model"]["name"], checkpoint["wnids"]
    if found != model:
        raise UserError(f"{source} is a {found}, not a {model}; type model={found}")
    if broken := [key for key, tensor in checkpoint["network"].items() if not torch.isfinite(tensor).all()]:
        raise UserError(f"{source} holds NaN or infinity in {broken[0]}; nothing to export")
    sha256 = publish(checkpoint, path, data)
    print(f"{model}, {len(wnids)} classes of {data}, {path.stat().st_size / 1e6:.1f} MB; use it with weights={path}")
    print(f"sha256 {sha256}  {path}")
    return path
