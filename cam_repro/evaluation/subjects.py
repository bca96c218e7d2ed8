"""Which network is evaluated, with which weights: checked to be wholly trained, and for the data's classes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cam_repro import UserError
from cam_repro.agreement import check_sizes
from cam_repro.config import Config, ModelConfig
from cam_repro.distributed import World
from cam_repro.networks import CamNetwork, build_network
from cam_repro.networks.weights import read_state, sha256_of
from cam_repro.training.checkpoint import CHECKPOINT, ENVIRONMENT, METRICS, SETTINGS


@dataclass(frozen=True)
class Subject:
    """A network under evaluation, and the file its weights came from."""

    model: ModelConfig
    network: CamNetwork
    weights: Path

    @property
    def sha256(self) -> str:
        return sha256_of(self.weights) if self.weights.is_file() else str(self.weights)

    @property
    def training(self) -> dict[str, Any] | None:
        """How a checkpoint of ours was trained: its recipe and how far, where it started from, and at which commit."""
        files = [self.weights.parent / name for name in (SETTINGS, ENVIRONMENT, METRICS)]
        if self.weights.name != CHECKPOINT or not all(path.is_file() for path in files):
            return None
        settings, environment, metrics = (path.read_text() for path in files)
        run, environment, metrics = yaml.safe_load(settings), yaml.safe_load(environment), metrics.splitlines()
        done = json.loads(metrics[-1])["epoch"] if metrics else 0
        begun = {"seed": run["seed"], "weights": run["weights"], "commit": environment["commit"]}
        return run["recipe"] | {"epochs_done": done} | begun


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
    if weights.is_file():
        model = _as_trained(model, weights, wnids)
        check_sizes(model, "protocol.size", config.protocol.size)
    network = build_network(model, len(wnids), config.weights or weights)
    if network.untrained:
        raise UserError(
            f"weights={weights}: {network.untrained} of {model.name} is not trained; train it first (make train "
            f"model={model.name} weights=…), or name the network's own class order with data.synset_mapping="
        )
    return Subject(model, network.to(world.device), weights)


def _as_trained(model: ModelConfig, weights: Path, wnids: list[str]) -> ModelConfig:
    """A checkpoint knows its architecture and its classes."""
    state = read_state(weights)
    if "network" not in state:
        return model
    if state["wnids"] != wnids:
        raise UserError(
            f"{weights} was trained on {len(state['wnids'])} classes ({state['wnids'][0]}, …), the data's order has "
            f"{len(wnids)} ({wnids[0]}, …); give the training data's mapping with data.synset_mapping="
        )
    if state["model"]["name"] != model.name:
        raise UserError(
            f"{weights} is a {state['model']['name']}, not a {model.name}; type model={state['model']['name']}"
        )
    return ModelConfig(**state["model"])
