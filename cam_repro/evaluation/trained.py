"""Which network is evaluated, with which weights: checked to be wholly trained, and for the data's classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cam_repro import UserError
from cam_repro.config import Config, ModelConfig
from cam_repro.distributed import World
from cam_repro.networks import CamNetwork, build_network
from cam_repro.networks.weights import Weights, is_published, read_weights
from cam_repro.training.checkpoint import CHECKPOINT


@dataclass(frozen=True)
class TrainedNetwork:
    """A network under evaluation: its settings as it was trained, and the weights as they were read, once."""

    model: ModelConfig
    network: CamNetwork
    weights: Weights


def trained_models(config: Config) -> list[ModelConfig]:
    """The configured network, or every one with a checkpoint for the data set: those know the rest themselves."""
    if config.model:
        return [config.model]
    folder = Path(config.runs) / config.data.name
    found = sorted(path.parent for path in folder.glob(f"*/{CHECKPOINT}"))
    if not found:
        raise UserError(
            f"no trained network in {folder}; first: make train model=alexnet_gap data={config.data.name}, "
            "or give model= and weights="
        )
    return [ModelConfig(name=path.name) for path in found]


def load_trained(config: Config, model: ModelConfig, wnids: list[str], world: World) -> TrainedNetwork:
    """The network with its trained weights, on the device. Raises UserError for any that is not for these classes."""
    source = config.weights or str(Path(config.runs) / config.data.name / model.name / CHECKPOINT)
    if not config.weights and not Path(source).is_file():
        raise UserError(
            f"{model.name} is not trained on {config.data.name} ({source} is not there); first: make train "
            f"model={model.name} data={config.data.name}, or give weights="
        )
    weights = read_weights(source, model.backbone if is_published(source) else "")
    if weights.model is not None:  # a checkpoint knows its architecture and its classes
        if weights.wnids != wnids:
            raise UserError(
                f"{source} was trained on {len(weights.wnids)} classes ({weights.wnids[0]}, …), the data's order has "
                f"{len(wnids)} ({wnids[0]}, …); give the training data's mapping with data.synset_mapping="
            )
        if weights.model.name != model.name:
            raise UserError(f"{source} is a {weights.model.name}, not a {model.name}; type model={weights.model.name}")
        model = weights.model
    network = build_network(model, len(wnids), weights)
    if network.untrained:
        raise UserError(
            f"weights={source}: {network.untrained} of {model.name} is not trained; train it first (make train "
            f"model={model.name} weights=…), or name the network's own class order with data.synset_mapping="
        )
    return TrainedNetwork(model, network.to(world.device).eval(), weights)
