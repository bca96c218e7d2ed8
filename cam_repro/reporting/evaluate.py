"""The two evaluations: a trained network over a val split, scored, written and printed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cam_repro import UserError
from cam_repro.config import Config, ModelConfig
from cam_repro.data import Split, load_split
from cam_repro.devices import Team, team
from cam_repro.localization.errors import ScoredImages, read_blacklist, score_images
from cam_repro.localization.evaluation import Seen, draw_boxes, look_at_split
from cam_repro.localization.predictions import LOOSE, TIGHT, five_guesses, write_predictions
from cam_repro.networks import CamNetwork, build_network
from cam_repro.networks.weights import read_state
from cam_repro.reporting.figures import write_figure
from cam_repro.reporting.results import CLASSIFICATION, LOCALIZATION, input_size, result_folder, write_result
from cam_repro.training.checkpoint import CHECKPOINT


@dataclass(frozen=True)
class Subject:
    """A network under evaluation, and the file its weights came from."""

    model: ModelConfig
    network: CamNetwork
    weights: Path


def evaluate_classification(config: Config) -> list[dict[str, Any]]:
    """Top-1 and top-5 classification error of the configured network, or of every trained one."""
    return [_classify(config, subject, split, us) for subject, split, us in _subjects(config)]


def evaluate_localization(config: Config) -> list[dict[str, Any]]:
    """Top-1 and top-5 localization error likewise, with GT-known, both floors and predictions.txt."""
    return [_localize(config, subject, split, us) for subject, split, us in _subjects(config)]


def _subjects(config: Config) -> Iterator[tuple[Subject, Split, Team]]:
    models = [config.model] if config.model else trained_models(config)
    with team(config.device) as us:
        split = load_split(config.data, "val", Path(config.cache), us)
        for model in models:
            yield subject_of(config, model, split.wnids, us), split, us


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


def subject_of(config: Config, model: ModelConfig, wnids: list[str], us: Team) -> Subject:
    """The network with its trained weights, checked to be wholly trained and for these classes."""
    weights = Path(config.weights) if config.weights else Path(config.runs) / config.data.name / model.name / CHECKPOINT
    if not config.weights and not weights.is_file():
        raise UserError(
            f"{model.name} is not trained on {config.data.name} ({weights} is not there); first: make train "
            f"model={model.name} data={config.data.name}, or give weights="
        )
    if weights.is_file():
        model = _as_trained(model, weights, wnids)
    network = build_network(model, len(wnids), config.weights or weights)
    if network.untrained:
        raise UserError(
            f"weights={weights}: {network.untrained} of {model.name} is not trained; train it first (make train "
            f"model={model.name} weights=…), or name the network's own class order with data.synset_mapping="
        )
    return Subject(model, network.to(us.device), weights)


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


def _look(config: Config, subject: Subject, split: Split, us: Team, method: str) -> Seen:
    return look_at_split(
        subject.network, split, config.protocol.view, input_size(config, subject.model), method, us,
        batch_size=config.eval_batch_size, workers=config.data.workers,
    )  # fmt: skip


def _classify(config: Config, subject: Subject, split: Split, us: Team) -> dict[str, Any]:
    began = time.perf_counter()
    seen = _look(config, subject, split, us, "scores")
    scored = _score(config, split, seen, seen.labels, np.zeros((*seen.labels.shape, 4)), None)
    path = result_folder(config, subject.model.name) / "classification.json"
    return _record(path, config, subject, split, scored, CLASSIFICATION, us, time.perf_counter() - began)


def _localize(config: Config, subject: Subject, split: Split, us: Team) -> dict[str, Any]:
    folder = result_folder(config, subject.model.name)
    stem = f"localization-{(config.method or 'cam')}-{config.protocol.name}"
    began = time.perf_counter()
    seen = _look(config, subject, split, us, (config.method or "cam"))
    boxes = draw_boxes(seen, config.protocol)
    labels, guesses = five_guesses(seen.labels, boxes[:, :-1], config.protocol.guesses)
    true_class_boxes = boxes[:, -1, TIGHT if config.protocol.guesses == "tight" else LOOSE]
    scored = _score(config, split, seen, labels, guesses, true_class_boxes)
    seconds = time.perf_counter() - began
    if us.leads:
        write_predictions(folder / _predictions_name(config), labels, guesses)
        write_figure(folder / f"{stem}.png", split, seen, true_class_boxes, config.protocol)
    return _record(folder / f"{stem}.json", config, subject, split, scored, LOCALIZATION, us, seconds)


def _predictions_name(config: Config) -> str:
    """predictions.txt is the paper's own way to a box; the others say what they are."""
    way = f"{(config.method or 'cam')}-{config.protocol.name}"
    return "predictions.txt" if way == "cam-paper" else f"predictions-{way}.txt"


def _score(
    config: Config, split: Split, seen: Seen, labels: np.ndarray, boxes: np.ndarray, true_class_boxes: np.ndarray | None
) -> ScoredImages:
    return score_images(
        labels, boxes, split.labels, [split.true_boxes(image) for image in range(len(split))],
        gt_known_boxes=true_class_boxes, sizes=seen.sizes,
        blacklist=read_blacklist(config.blacklist) if config.blacklist else (), image_numbers=split.devkit_numbers(),
    )  # fmt: skip


def _record(
    path: Path, config: Config, subject: Subject, split: Split, scored: ScoredImages, names: tuple[str, ...], us: Team,
    seconds: float,
) -> dict[str, Any]:  # fmt: skip
    if not us.leads:
        return {}
    record = write_result(path, config, subject.model, split, scored, names, subject.weights, str(us.device), seconds)
    _print(record, path)
    return record


def _print(record: dict[str, Any], path: Path) -> None:
    size, name = record["input_size"], record["protocol"]["name"]
    print(f"{record['model']} on {record['data']}, {record['images']} images at {size} px, protocol {name}:")
    for metric, value in record["metrics"].items():
        low, high = record["confidence"].get(metric, (0, 100))
        print(f"  {metric:20} {value:6.2f} %   95 % interval {low:.2f} … {high:.2f}" if value is not None else metric)
    print(f"  {path}", flush=True)
