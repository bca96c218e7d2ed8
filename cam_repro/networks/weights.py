"""Weights from torchvision, from a torchvision state dict on disk, or from one of our own checkpoints."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

from cam_repro import UserError
from cam_repro.networks.network import CamNetwork, last_layer
from cam_repro.networks.trunks import backbone


def read_state(path: Path) -> dict[str, Any]:
    """A state dict or a checkpoint, never unpickling more than tensors and plain values."""
    if not path.is_file():
        raise UserError(f"weights={path} is not a file; give a .pth state dict, a checkpoint.pt, or IMAGENET1K_V1")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail anywhere in the reader
        raise UserError(
            f"weights={path} cannot be read ({type(error).__name__}): truncated or no file of tensors; fetch it again"
        ) from None
    if not isinstance(state, dict) or not state:
        raise UserError(f"weights={path} holds a {type(state).__name__}, not a state dict or a checkpoint of ours")
    return state


def fetch_torchvision(name: str, version: str) -> dict[str, torch.Tensor]:
    """The weights torchvision publishes for a backbone, downloaded once and checked by hash."""
    if not backbone(name).torchvision:
        raise UserError(f"weights={version}: torchvision has no {name}; give a file, or leave weights= out to train it")
    published = models.get_model_weights(backbone(name).torchvision)
    if version not in published.__members__:
        raise UserError(
            f"weights={version} is neither a file nor weights of {name}: {', '.join(published.__members__)}"
        )
    try:
        return dict(published[version].get_state_dict(progress=True, check_hash=True))
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


def load_checkpoint(network: CamNetwork, state: dict[str, torch.Tensor], source: str, new_classes: bool) -> None:
    """Put a checkpoint of ours into `network`; with `new_classes` a last layer of another size is left fresh."""
    wanted, last = network.state_dict(), f"{last_layer(network)[0]}."
    fresh = [k for k in wanted if new_classes and k.startswith(last) and not _fits(state, k, wanted[k])]
    state = {k: v for k, v in state.items() if k not in fresh}
    odd = [k for k in wanted if k not in fresh and not _fits(state, k, wanted[k])]
    odd += [k for k in state if k not in wanted]
    if odd:
        raise UserError(f"{source} is of another network: {len(odd)} layers differ, among them {min(odd)}")
    network.load_state_dict(state, strict=False)


def _fits(state: dict[str, torch.Tensor], key: str, wanted: torch.Tensor) -> bool:
    return getattr(state.get(key), "shape", None) == wanted.shape


def class_count(state: dict[str, torch.Tensor]) -> int:
    """How many classes a torchvision state dict ends in: the length of its last bias."""
    return len([value for key, value in state.items() if key.endswith("bias") and not key.startswith("aux")][-1])


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
