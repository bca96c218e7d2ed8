"""A trained network as one safetensors file: tensors, and what they are of; nothing in it could run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save

from cam_repro.files import replacing

SUFFIX = ".safetensors"
LENGTH = 8  # bytes that say how long the header is; it is padded to a multiple of them


def read_published(path: Path) -> dict[str, Any]:
    """A file of `publish` as the checkpoint it was made from; another program's as a bare state dict.

    Raises SafetensorError for a damaged file, ValueError or KeyError for metadata that is not `publish`'s.
    """
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dict)
        metadata = file.metadata() or {}
    if "config" not in metadata:
        return tensors
    return {"network": tensors, "model": json.loads(metadata["config"]), "wnids": json.loads(metadata["wnids"])}


def publish(checkpoint: Mapping[str, Any], path: Path, data: str) -> str:
    """Write a checkpoint's network to `path`; returns the file's sha256. The same weights give the same bytes.

    data: the name of the data set that it was trained on.
    """
    network, model, wnids = (checkpoint[key] for key in ("network", "model", "wnids"))
    metadata = {
        "format": "pt", "model": model["name"], "data": data, "input_size": str(model["input_size"]),
        "classes": str(len(wnids)), "wnids": json.dumps(wnids), "config": json.dumps(model, sort_keys=True),
        "epochs": str(checkpoint.get("progress", {}).get("epoch", "")),
    }  # fmt: skip
    content = _with_metadata(save({key: tensor.contiguous() for key, tensor in network.items()}), metadata)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _with_metadata(content: bytes, metadata: dict[str, str]) -> bytes:
    """The metadata into the header of a safetensors file, in one order: the library's own changes from run to run."""
    end = LENGTH + int.from_bytes(content[:LENGTH], "little")
    header = json.dumps({"__metadata__": metadata, **json.loads(content[LENGTH:end])}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % LENGTH)
    return len(header).to_bytes(LENGTH, "little") + header + content[end:]
