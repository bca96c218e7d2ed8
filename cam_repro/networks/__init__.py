"""image → (logits, maps): torchvision's backbones, cut, with the paper's heads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, overload

import torch

from cam_repro import UserError
from cam_repro.agreement import is_published
from cam_repro.config import ModelConfig, model_config, model_names
from cam_repro.networks.network import CamNetwork, assemble, class_count, initialise_from_scratch
from cam_repro.networks.table import Listing, network_line, network_table
from cam_repro.networks.trunks import backbone
from cam_repro.networks.weights import (
    fetch_torchvision,
    load_backbone,
    load_checkpoint,
    read_state,
    refuse_not_finite,
)

__all__ = ["CamNetwork", "build_network", "initialise_from_scratch", "network_table"]


@overload
def build_network(model: Literal["list"]) -> Listing: ...
@overload
def build_network(
    model: str | ModelConfig, num_classes: int = 1000, weights: str | Path | None = None, *, new_classes: bool = False
) -> CamNetwork: ...
def build_network(
    model: str | ModelConfig, num_classes: int = 1000, weights: str | Path | None = None, *, new_classes: bool = False
) -> CamNetwork | Listing:
    """A network of `configs/model/`, by name or by its (changed) configuration; "list" gives the table of them all.

    weights: None (random), a torchvision version such as "IMAGENET1K_V1" (fetched once), or the path of a
    torchvision state dict or of one of our checkpoints, as trained or as exported. `new_classes` lets a checkpoint
    trained on other classes start a new classifier. What is still random is named in `network.untrained`.
    Raises UserError for an unknown name and for weights of another network.
    """
    if model == "list":
        return network_table()
    config = _config_of(model) if isinstance(model, str) else model
    state, source = _state_of(config, weights) if weights is not None else ({}, "")
    whole = backbone(config.backbone).build()
    if state and "network" not in state:
        load_backbone(whole, state, source)
    pretrained_classes = class_count(whole) if state else None
    network = assemble(config, whole, num_classes)
    if "network" in state:
        load_checkpoint(network, state, source, new_classes)
    else:
        network.untrained = _untrained(config, num_classes, pretrained_classes)
    if state:
        refuse_not_finite(network, source)
    return network


def _config_of(name: str) -> ModelConfig:
    if name not in model_names():
        raise UserError(f"unknown model {name!r}; choose one of: {network_line()}")
    return model_config(name)


def _untrained(config: ModelConfig, num_classes: int, pretrained_classes: int | None) -> str:
    """What is still random after the backbone was given weights of a network for `pretrained_classes`, if any."""
    if pretrained_classes is None:
        return "every layer"
    if not config.native:
        return "the new head"
    same = num_classes == pretrained_classes
    return "" if same else f"the classifier (the file has {pretrained_classes} classes, the data {num_classes})"


def _state_of(config: ModelConfig, weights: str | Path) -> tuple[dict[str, torch.Tensor], str]:
    if is_published(str(weights)):
        return fetch_torchvision(config.backbone, str(weights)), f"weights={weights}"
    return read_state(Path(weights)), f"weights={weights}"
