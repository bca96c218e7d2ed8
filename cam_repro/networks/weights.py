"""Weights: published ones by name, a state dict on disk, or one of our own checkpoints, as trained or as exported."""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from cam_repro import UserError
from cam_repro.config import ModelConfig, stored_model
from cam_repro.mistakes import did_you_mean, shown
from cam_repro.networks.network import CamNetwork, last_layer
from cam_repro.networks.pixels import Pixels
from cam_repro.networks.published import is_published
from cam_repro.networks.trunks import backbone

KINDS = "give a .pth state dict, a .safetensors, a checkpoint.pt, or DEFAULT (the published ones)"


@dataclass(frozen=True)
class Weights:
    """What one file of weights holds: a backbone's state dict, or a whole network that was trained here."""

    tensors: dict[str, torch.Tensor]
    model: ModelConfig | None  # of a network trained here
    wnids: list[str] | None  # its classes, in its order
    source: str  # the file, or the published name and of what
    sha256: str  # of the very bytes that were read
    pixels: Pixels | None = None  # that it was trained on, where they are not the backbone's
    training: dict[str, Any] | None = None  # of a network trained here: its recipe, how far, from what, by which commit
    path: Path | None = None  # the file that was read


def published(backbone_name: str) -> tuple[str, ...]:
    """The names of a backbone's published weights, that of weights=DEFAULT first; empty: there are none."""
    return tuple(backbone(backbone_name).published())


def read_weights(weights: str | Path, backbone_name: str) -> Weights:
    """Published weights of a backbone by name, or a file, whatever it is of; nothing but tensors is ever loaded.

    Raises UserError for what is not there, damaged, or no weights.
    """
    if not is_published(str(weights)):
        return _read(Path(weights), f"weights={weights}")
    known = backbone(backbone_name).published()
    if not known:
        raise UserError(f"weights={weights}: there are no published weights of {backbone_name}; give a file, or none")
    name = next(iter(known)) if weights == "DEFAULT" else str(weights)
    if name not in known:
        raise UserError(
            f"weights={shown(name)} is neither a file nor weights of {backbone_name}; {did_you_mean(name, known)}"
            f"choose one of: {', '.join(known)}"
        )
    try:
        path = known[name].file()
    except (OSError, RuntimeError, ImportError) as error:
        raise UserError(
            f"weights={name} of {backbone_name} could not be fetched ({str(error).splitlines()[0]}); give a downloaded "
            "file: weights=<path>"
        ) from None
    read = _read(path, f"weights={name} of {backbone_name} ({path.name})")
    tensors = _renamed(read, backbone_name) if known[name].own_names else read.tensors
    return replace(read, tensors=tensors, pixels=known[name].pixels)


def _renamed(read: Weights, backbone_name: str) -> dict[str, torch.Tensor]:
    """A file's tensors under the backbone's names, by their order, each checked to have the shape of its layer."""
    with torch.device("meta"):
        wanted = backbone(backbone_name).build().state_dict()
    if [value.shape for value in read.tensors.values()] != [value.shape for value in wanted.values()]:
        raise UserError(f"{read.source} does not have the layers of {backbone_name}; install the package anew")
    return dict(zip(wanted, read.tensors.values(), strict=True))


def _read(path: Path, source: str) -> Weights:
    if not path.is_file():
        raise UserError(f"{source} is not a file; {KINDS}")
    try:
        content = path.read_bytes()
        state = _safetensors(content) if path.suffix == ".safetensors" else _pickled(content)
    except Exception as error:  # a damaged file can fail anywhere in the reader
        raise UserError(f"{source} cannot be read ({type(error).__name__}): {_trouble(error)}") from None
    if not isinstance(state, dict) or not state:
        raise UserError(f"{source} holds a {type(state).__name__}, not a state dict or a checkpoint of ours")
    model, wnids = _network_of(state, source) if "network" in state else (None, None)
    tensors = state.get("network", state)
    if not isinstance(tensors, dict):
        raise UserError(f"{source} holds a {type(tensors).__name__} for a network's state dict")
    for key, value in tensors.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise UserError(
                f"{source} holds a {type(value).__name__} under {shown(key)!r}, where a state dict has tensors; "
                "save the state dict alone"
            )
    training = state.get("training") if model else None
    return Weights(tensors, model, wnids, source, hashlib.sha256(content).hexdigest(), None, training, path)


def _pickled(content: bytes) -> Any:
    with warnings.catch_warnings():  # of pickle's protocol, before the error that says more
        warnings.simplefilter("ignore")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _safetensors(content: bytes) -> dict[str, Any]:
    """A file of `export` as the checkpoint it was made from; another program's as a bare state dict."""
    tensors = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = header.get("__metadata__", {})
    if "config" not in metadata:
        return tensors
    return {
        "network": tensors, "model": json.loads(metadata["config"]), "wnids": json.loads(metadata["wnids"]),
        "training": json.loads(metadata["training"]),
    }  # fmt: skip


def _trouble(error: Exception) -> str:
    if asked_for := re.search(r"GLOBAL ([\w.]+\.\w+)", str(error)):
        return f"it asks to load {asked_for[1]}, and nothing but tensors and plain values is ever loaded"
    return "truncated or no file of tensors; fetch it again"


def _network_of(checkpoint: dict[str, Any], source: str) -> tuple[ModelConfig, list[str]]:
    """Which network a checkpoint is of, and its classes."""
    wnids, model = checkpoint.get("wnids"), checkpoint.get("model")
    if not isinstance(wnids, list) or not wnids or not all(isinstance(wnid, str) for wnid in wnids):
        raise UserError(f"{source} does not name its classes (wnids); expected a checkpoint of ours")
    if not isinstance(model, dict):
        raise UserError(f"{source} does not say of which network it is; expected a checkpoint of ours")
    try:
        config = stored_model(model)
        backbone(config.backbone)
    except UserError as error:
        raise UserError(f"{source} is of a network that cannot be built here: {error}") from None
    return config, wnids


def load_backbone(whole: nn.Module, weights: Weights) -> None:
    """Put a state dict into the whole network it is of (torchvision's own, timm's, or NIN), before it is cut.

    Layers behind every cut (GoogLeNet's auxiliary classifiers) may be extra; a missing or misshapen layer means
    the file belongs to another network.
    """
    wanted, found = whole.state_dict(), weights.tensors
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    unlike = [key for key in wanted if key in found and not _fits(found[key], wanted[key])]
    foreign = [key for key in found if key not in wanted and not key.startswith("aux")]
    if culprits := missing + unlike + foreign:
        raise UserError(
            f"{weights.source} is of another network: {len(missing)} layers missing, {len(unlike)} of another shape, "
            f"{len(foreign)} unknown, among them {culprits[0]}; expected a {type(whole).__name__} state dict"
        )
    whole.load_state_dict({key: found[key] for key in wanted if key in found}, strict=False)


def load_checkpoint(network: CamNetwork, weights: Weights, new_classes: bool) -> None:
    """Put a network trained here into `network`; with `new_classes` a last layer of another size is left fresh."""
    wanted, found, last = network.state_dict(), weights.tensors, last_layer(network)[0]
    odd = {key for key in wanted.keys() | found.keys() if not _fits(found.get(key), wanted.get(key))}
    if not odd:
        network.load_state_dict(found)
        return
    other_classes = (
        odd <= found.keys() & {f"{last}.weight", f"{last}.bias"} and len(weights.wnids) != network.num_classes
    )
    if not other_classes:
        settings = ("backbone", "native", "units", "groups")  # what decides the shapes of layers
        described = " ".join(f"model.{key}={shown(getattr(weights.model, key))}" for key in settings)
        raise UserError(
            f"{weights.source} is of another network: {len(odd)} layers differ, among them {min(odd)}; it holds a "
            f"{weights.model.name} with {described}"
        )
    if odd and not new_classes:
        raise UserError(
            f"{weights.source} was trained for {len(weights.wnids)} classes ({weights.wnids[0]}, …), not "
            f"{network.num_classes}: train on this data first"
        )
    network.load_state_dict({key: found[key] for key in found if key not in odd}, strict=False)


def _fits(found: torch.Tensor | None, wanted: torch.Tensor | None) -> bool:
    """The same shape, and numbers of the same kind: any precision, but no integers or complex ones for weights."""
    if found is None or wanted is None or found.is_sparse or found.is_quantized:
        return False
    return found.shape == wanted.shape and found.is_floating_point() == wanted.is_floating_point()
