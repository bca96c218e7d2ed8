"""image → (logits, maps): torchvision's backbones, cut, with the paper's heads."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision import models

from cam_repro.config import ModelConfig, model_config
from cam_repro.networks.network import CamNetwork, assemble, initialise_from_scratch
from cam_repro.networks.trunks import backbone
from cam_repro.networks.weights import class_count, fetch_torchvision, load_backbone, load_checkpoint, read_state

__all__ = ["CamNetwork", "build_network", "initialise_from_scratch"]


def build_network(
    model: str | ModelConfig, num_classes: int = 1000, weights: str | Path | None = None, *, new_classes: bool = False
) -> CamNetwork:
    """A network of `configs/model/`, by name or by its (changed) configuration.

    weights: None (random), a torchvision version such as "IMAGENET1K_V1" (fetched once), or the path of a
    torchvision state dict or of one of our checkpoints. `new_classes` lets a checkpoint trained on other classes
    start a new classifier. What is still random is named in `network.untrained`.
    Raises UserError for an unknown name and for weights of another network.
    """
    config = model_config(model) if isinstance(model, str) else model
    whole = backbone(config.backbone).build()
    if weights is None:
        network = assemble(config, whole, num_classes)
        network.untrained = "every layer"
        return network
    state, source = _state_of(config, weights)
    if "network" in state:
        network = assemble(config, whole, num_classes)
        load_checkpoint(network, state["network"], source, new_classes)
        return network
    load_backbone(whole, state, source)
    network = assemble(config, whole, num_classes)
    if not config.native:
        network.untrained = "the new head"
    elif num_classes != class_count(state):
        network.untrained = f"the classifier (the file has {class_count(state)} classes, the data {num_classes})"
    return network


def _state_of(config: ModelConfig, weights: str | Path) -> tuple[dict[str, torch.Tensor], str]:
    versions = models.get_model_weights(config.backbone).__members__
    if str(weights) in versions or str(weights).startswith("IMAGENET"):
        return fetch_torchvision(config.backbone, str(weights)), f"weights={weights}"
    return read_state(Path(weights)), f"weights={weights}"
