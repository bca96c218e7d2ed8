"""Which network is evaluated, with which weights: checked to be wholly trained, and for the data's classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cam_repro import UserError
from cam_repro.config import Config, ModelConfig
from cam_repro.distributed import World
from cam_repro.networks import CamNetwork, Weights, build_network, check_size, read_weights
from cam_repro.training.checkpoint import CHECKPOINT


@dataclass(frozen=True)
class Subject:
    """A network under evaluation, and the file its weights came from."""

    model: ModelConfig
    network: CamNetwork
    weights: Path


def trained_models(config: Config) -> list[ModelConfig]:
    """The name of every network with a checkpoint for the data set; the checkpoint itself knows the rest."""
    folder = Path(config.runs) / config.data.name
    found = sorted(path.parent for path in folder.glob(f"*/{CHECKPOINT}"))
    if not found:
        raise UserError(
            f"no trained network in {folder}; first: make train model=alexnet_gap data={config.data.name}, "
            "or give model= and weights="
        )
    return [ModelConfig(name=path.name) for path in found]


def subject_of(config: Config, model: ModelConfig, wnids: list[str], world: World) -> Subject:
    """The network with its trained weights, checked to be wholly trained and for these classes."""
    weights = Path(config.weights) if config.weights else Path(config.runs) / config.data.name / model.name / CHECKPOINT
    if not config.weights and not weights.is_file():
        raise UserError(
            f"{model.name} is not trained on {config.data.name} ({weights} is not there); first: make train "
            f"model={model.name} data={config.data.name}, or give weights="
        )
    read = read_weights(config.weights or weights, model.backbone)
    model = _as_trained(model, read, wnids)
    check_size(model, "protocol.size", config.protocol.size)
    network = build_network(model, len(wnids), read)
    if network.untrained:
        raise UserError(
            f"weights={weights}: {network.untrained} of {model.name} is not trained; train it first (make train "
            f"model={model.name} weights=…), or name the network's own class order with data.synset_mapping="
        )
    return Subject(model, network.to(world.device), weights)


def _as_trained(model: ModelConfig, weights: Weights, wnids: list[str]) -> ModelConfig:
    """A checkpoint knows its architecture and its classes."""
    if weights.model is None:
        return model
    if weights.wnids != wnids:
        raise UserError(
            f"{weights.source} was trained on {len(weights.wnids)} classes ({weights.wnids[0]}, …), the data's order "
            f"has {len(wnids)} ({wnids[0]}, …); give the training data's mapping with data.synset_mapping="
        )
    if weights.model.name != model.name:
        raise UserError(
            f"{weights.source} is a {weights.model.name}, not a {model.name}; type model={weights.model.name}"
        )
    return weights.model
