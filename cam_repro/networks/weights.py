"""Weights from torchvision, from a state dict on disk, or from one of our own checkpoints, published or not."""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cam_repro import UserError
from cam_repro.agreement import check_published
from cam_repro.config import stored_model
from cam_repro.mistakes import shown
from cam_repro.networks.network import CamNetwork, last_layer
from cam_repro.networks.published import SUFFIX, read_published
from cam_repro.networks.trunks import backbone


def read_state(path: Path) -> dict[str, Any]:
    """A state dict, or a checkpoint with `network`, `model` and `wnids`; never more than tensors and plain values.

    Raises UserError for a file that is neither, or damaged.
    """
    if not path.is_file():
        raise UserError(
            f"weights={path} is not a file; give a .pth state dict, a .safetensors, a checkpoint.pt, or IMAGENET1K_V1"
        )
    try:
        state = read_published(path) if path.suffix == SUFFIX else _read_tensors(path)
    except Exception as error:  # a damaged file can fail anywhere in the reader
        raise UserError(f"weights={path} cannot be read ({type(error).__name__}): {_trouble(error)}") from None
    if not isinstance(state, dict) or not state:
        raise UserError(f"weights={path} holds a {type(state).__name__}, not a state dict or a checkpoint of ours")
    if "network" in state:
        _check_checkpoint(state, path)
    _check_tensors(state.get("network", state), path)
    return state


def _read_tensors(path: Path) -> Any:
    with warnings.catch_warnings():  # of pickle's protocol, before the error that says more
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def _trouble(error: Exception) -> str:
    if asked_for := re.search(r"GLOBAL ([\w.]+\.\w+)", str(error)):
        return f"it asks to load {asked_for[1]}, and nothing but tensors and plain values is ever loaded"
    return "truncated or no file of tensors; fetch it again"


def _check_checkpoint(state: dict[str, Any], path: Path) -> None:
    """What every reader of a checkpoint relies on."""
    wnids, model = state.get("wnids"), state.get("model")
    if not isinstance(wnids, list) or not wnids or not all(isinstance(wnid, str) for wnid in wnids):
        raise UserError(f"weights={path} does not name its classes (wnids); expected a checkpoint of ours")
    if not isinstance(model, dict):
        raise UserError(f"weights={path} does not say of which network it is; expected a checkpoint of ours")
    try:
        stored_model(model)
    except UserError as error:
        raise UserError(f"weights={path} is of a network that cannot be built here: {error}") from None


def _check_tensors(tensors: Any, path: Path) -> None:
    if not isinstance(tensors, dict):
        raise UserError(f"weights={path} holds a {type(tensors).__name__} for a network's state dict")
    for key, value in tensors.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise UserError(
                f"weights={path} holds a {type(value).__name__} under {shown(key)!r}, where a state dict has tensors; "
                "save the state dict alone"
            )


def fetch_torchvision(name: str, version: str) -> dict[str, torch.Tensor]:
    """The weights torchvision publishes for a backbone, downloaded once and checked by hash."""
    check_published(name, version)
    from torchvision.models import get_model_weights  # slow to import

    published = get_model_weights(backbone(name).torchvision)
    try:
        return dict(published[version].get_state_dict(progress=True, check_hash=True, weights_only=True))
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"weights={version} of {name} could not be fetched ({error}); give a downloaded file: weights=<path>"
        ) from None


def load_backbone(whole: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Put a state dict into the whole network it is of (torchvision's own, or NIN), before it is cut.

    Layers behind every cut (GoogLeNet's auxiliary classifiers) may be extra; a missing or misshapen layer means
    the file belongs to another network.
    """
    wanted = whole.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unlike = [k for k in wanted if k in state and not _fits(state, k, wanted[k])]
    foreign = [key for key in state if key not in wanted and not key.startswith("aux")]
    if missing or unlike or foreign:
        culprit = (missing + unlike + foreign)[0]
        raise UserError(
            f"{source} is of another network: {len(missing)} layers missing, {len(unlike)} of another shape, "
            f"{len(foreign)} unknown, among them {culprit}; expected a {type(whole).__name__} state dict"
        )
    whole.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False)


def load_checkpoint(network: CamNetwork, checkpoint: dict[str, Any], source: str, new_classes: bool) -> None:
    """Put a checkpoint of ours into `network`; with `new_classes` a last layer of another size is left fresh."""
    wanted, last, state = network.state_dict(), f"{last_layer(network)[0]}.", checkpoint["network"]
    odd = [k for k in wanted if not _fits(state, k, wanted[k])] + [k for k in state if k not in wanted]
    other_classes = bool(odd) and all(
        key.startswith(last) and key in wanted and key in state and state[key].shape != wanted[key].shape for key in odd
    )
    if other_classes and not new_classes:
        wnids = checkpoint["wnids"]
        raise UserError(
            f"{source} was trained for {len(wnids)} classes ({wnids[0]}, …), not {network.num_classes}: give the "
            "data's class order with data.synset_mapping=, or train on this data first"
        )
    if odd and not other_classes:
        raise UserError(
            f"{source} is of another network: {len(odd)} layers differ, among them {min(odd)}; it holds a "
            f"{checkpoint['model']['name']} with {_settings(checkpoint['model'])}"
        )
    network.load_state_dict({key: value for key, value in state.items() if key not in odd}, strict=False)


def _settings(model: dict[str, Any]) -> str:
    """What decides the shapes of a network's layers."""
    keys = [key for key in ("backbone", "native", "units", "groups") if key in model]
    return " ".join(f"model.{key}={shown(model[key])}" for key in keys)


def refuse_not_finite(network: nn.Module, source: str) -> None:
    """UserError for NaN or infinity in what a file gave to the network."""
    for key, value in network.state_dict().items():
        if not torch.isfinite(value).all():
            raise UserError(f"{source} holds NaN or infinity in {key}: its training failed or the file is damaged")


def _fits(state: dict[str, torch.Tensor], key: str, wanted: torch.Tensor) -> bool:
    """The same shape, and numbers of the same kind: any precision, but no integers or complex ones for weights."""
    found = state.get(key)
    if found is None or found.is_sparse or found.is_quantized:
        return False
    return found.shape == wanted.shape and found.is_floating_point() == wanted.is_floating_point()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
