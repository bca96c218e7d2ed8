"""One evaluation's JSON, with everything needed to make it again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from cam_repro.config import Config, ModelConfig
from cam_repro.data.ilsvrc import Split
from cam_repro.data.images import decoder
from cam_repro.files import write_text
from cam_repro.localization.errors import ScoredImages, bootstrap_intervals, summarise
from cam_repro.networks.weights import sha256_of
from cam_repro.provenance import device_name, git_state, versions
from cam_repro.reporting.records import SCHEMA, UNDEFINED_IF_NONE_RIGHT
from cam_repro.training.checkpoint import CHECKPOINT, ENVIRONMENT, METRICS, SETTINGS

CLASSIFICATION = ("cls_",)  # what the names of an evaluation's metrics begin with
LOCALIZATION = ("cls_", "loc_", "gt_known", "floor_")


def result_folder(config: Config, model: str) -> Path:
    return Path(config.results) / config.data.name / model


def protocol_record(config: Config, names: tuple[str, ...]) -> dict[str, Any]:
    """The protocol's settings that decide the numbers: of a classification, which has no boxes, the view alone."""
    keys = ("name", "view", "size") if names == CLASSIFICATION else tuple(asdict(config.protocol))
    settings = {key: getattr(config.protocol, key) for key in keys}
    return {key: value for key, value in settings.items() if value is not None}


def write_result(
    path: Path, config: Config, model: ModelConfig, split: Split, scored: ScoredImages, names: tuple[str, ...],
    weights: Path, device: str, seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """Write and return one evaluation's record (schema 1); names: the metrics it reports, in percent."""
    metrics, intervals = summarise(scored), bootstrap_intervals(scored)
    kept = [name for name in metrics if name.startswith(names)]
    undefined = {UNDEFINED_IF_NONE_RIGHT: None} if names == LOCALIZATION and UNDEFINED_IF_NONE_RIGHT not in kept else {}
    record = {
        "schema": SCHEMA,
        "model": model.name,
        "data": config.data.name,
        "split": "val",
        **scored.counts(),
        "input_size": input_size(config, model),
        "method": (config.method or "cam"),
        "protocol": protocol_record(config, names),
        "metrics": {name: round(metrics[name], 4) for name in kept} | undefined,
        "confidence": {name: [round(bound, 4) for bound in intervals[name]] for name in kept},
        "provenance": _provenance(config, model, split, weights, device, seconds),
    }
    write_text(path, json.dumps(record, indent=1) + "\n")
    return record


def input_size(config: Config, model: ModelConfig) -> int:
    """Pixels a side of what the network sees at evaluation."""
    return config.protocol.size or model.input_size


def _training(weights: Path) -> dict[str, Any] | None:
    """How a checkpoint of ours was trained: its recipe and how far, where it started from, and at which commit."""
    settings = weights.parent / SETTINGS
    if weights.name != CHECKPOINT or not settings.is_file():
        return None
    run = yaml.safe_load(settings.read_text())
    environment = yaml.safe_load((weights.parent / ENVIRONMENT).read_text())
    metrics = (weights.parent / METRICS).read_text().splitlines()
    done = json.loads(metrics[-1])["epoch"] if metrics else 0
    begun = {"seed": run["seed"], "weights": run["weights"], "commit": environment["commit"]}
    return run["recipe"] | {"epochs_done": done} | begun


def _provenance(
    config: Config, model: ModelConfig, split: Split, weights: Path, device: str, seconds: float
) -> dict[str, Any]:
    commit, dirty = git_state()
    settings = json.dumps([asdict(model), asdict(config.protocol), (config.method or "cam")], sort_keys=True)
    return {
        "commit": commit,
        "dirty": dirty,
        "config": hashlib.sha256(settings.encode()).hexdigest()[:16],
        "weights": sha256_of(weights) if weights.is_file() else str(weights),
        "training": _training(weights),
        "data": split.fingerprint(),
        "blacklist": config.blacklist is not None,
        "decoder": decoder(),
        "versions": versions(),
        "device": device_name(device),
        "seconds": round(seconds, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
