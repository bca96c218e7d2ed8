"""One evaluation's JSON, with everything needed to make it again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cam_repro.config import Config, ModelConfig, ProtocolConfig
from cam_repro.data.images import decoder
from cam_repro.data.split import Split
from cam_repro.files import write_text
from cam_repro.localization.errors import ScoredImages, bootstrap_intervals, bootstrap_mean, summarise
from cam_repro.provenance import device_name, git_state, versions
from cam_repro.reporting.records import SCHEMA, UNDEFINED_IF_NONE_RIGHT
from cam_repro.training.checkpoint import CHECKPOINT, ENVIRONMENT, METRICS, SETTINGS

CLASSIFICATION = ("cls_",)  # what the names of an evaluation's metrics begin with
LOCALIZATION = ("cls_", "loc_", "gt_known", "floor_")
EVERY_TIME = ("seconds", "date")  # differ between two runs of the same evaluation


@dataclass(frozen=True)
class Measured:
    """What an evaluation found: metric -> %, their 95 % intervals, the images behind them, and what else it found."""

    metrics: dict[str, float | None]
    confidence: dict[str, list[float]]
    counts: dict[str, int]
    beside: dict[str, Any] = field(default_factory=dict)


def measured(scored: ScoredImages, names: tuple[str, ...]) -> Measured:
    """The devkit's metrics whose names begin with one of `names`."""
    metrics, intervals = summarise(scored), bootstrap_intervals(scored)
    kept = [name for name in metrics if name.startswith(names)]
    undefined = {UNDEFINED_IF_NONE_RIGHT: None} if names == LOCALIZATION and UNDEFINED_IF_NONE_RIGHT not in kept else {}
    return Measured(
        metrics={name: round(metrics[name], 4) for name in kept} | undefined,
        confidence={name: _rounded(intervals[name]) for name in kept},
        counts=scored.counts(),
    )


def measured_sweep(found: dict[str, Any], floors: dict[str, float], images: int) -> Measured:
    """MaxBoxAcc, from `wsol`'s accuracies; the intervals redraw the images at the threshold that was best for all."""
    names = {f"max_box_acc_{key}": key for key in ("v1", "v2", "v1_at_20", "v2_at_20")}
    return Measured(
        metrics={name: round(found[key], 4) for name, key in names.items()}
        | {name: round(value, 4) for name, value in floors.items()},
        confidence={name: _rounded(bootstrap_mean(found[f"right_{key}"])) for name, key in names.items()},
        counts={"images": images},
        beside={"thresholds": {key: round(found[f"threshold_{key}"], 3) for key in ("v1", "v2")}},
    )


def _rounded(interval: list[float]) -> list[float]:
    return [round(bound, 4) for bound in interval]


def result_folder(config: Config, model: str) -> Path:
    return Path(config.results) / config.data.name / model


def input_size(protocol: ProtocolConfig, model: ModelConfig) -> int:
    """Pixels a side of what the network sees at evaluation."""
    return protocol.size or model.input_size


def heading(config: Config, model: ModelConfig, protocol: ProtocolConfig, method: str | None) -> dict[str, Any]:
    """What was evaluated: of a classification, which has no method and no boxes, the protocol's view alone."""
    keys = ("name", "view", "size") if method is None else tuple(asdict(protocol))
    settings = {key: getattr(protocol, key) for key in keys}
    return {
        "schema": SCHEMA,
        "model": model.name,
        "data": config.data.name,
        "split": "val",
        "input_size": input_size(protocol, model),
        "method": method or "cam",
        "protocol": {key: value for key, value in settings.items() if value is not None},
    }


def origin(config: Config, model: ModelConfig, weights: Path, split: Split, device: str) -> dict[str, Any]:
    """Where the numbers of a network come from; what it says is the same whenever nothing has changed."""
    commit, dirty = git_state()
    return {
        "commit": commit,
        "dirty": dirty,
        "network": hashlib.sha256(json.dumps(asdict(model), sort_keys=True).encode()).hexdigest()[:16],
        "weights": hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else str(weights),
        "training": _training(weights),
        "data": split.fingerprint(),
        "settings": {key: getattr(config, key) for key in ("seed", "deterministic", "eval_batch_size")},
        "blacklist": config.blacklist and hashlib.sha256(Path(config.blacklist).read_bytes()).hexdigest()[:16],
        "decoder": decoder(),
        "versions": versions(),
        "device": device_name(device),
    }


def _training(weights: Path) -> dict[str, Any] | None:
    """How a checkpoint of ours was trained: its recipe and how far, where it started from, and at which commit."""
    files = [weights.parent / name for name in (SETTINGS, ENVIRONMENT, METRICS)]
    if weights.name != CHECKPOINT or not all(path.is_file() for path in files):
        return None
    settings, environment, metrics = (path.read_text() for path in files)
    run, environment, metrics = yaml.safe_load(settings), yaml.safe_load(environment), metrics.splitlines()
    done = json.loads(metrics[-1])["epoch"] if metrics else 0
    begun = {"seed": run["seed"], "weights": run["weights"], "commit": environment["commit"]}
    return run["recipe"] | {"epochs_done": done} | begun


def unchanged(path: Path, head: dict[str, Any], source: dict[str, Any]) -> dict[str, Any] | None:
    """The record at `path` if this very evaluation made it, at a clean commit; None if there is something to do."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        before = {key: value for key, value in record["provenance"].items() if key not in EVERY_TIME}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    now = json.loads(json.dumps(source))
    same = before == now and not now["dirty"] and all(record.get(key) == value for key, value in head.items())
    return record if same else None


def write_result(
    path: Path, head: dict[str, Any], source: dict[str, Any], found: Measured, seconds: float
) -> dict[str, Any]:
    """Write and return one evaluation's record (schema 1), metrics in percent."""
    record = {
        **head,
        **found.counts,
        "metrics": found.metrics,
        "confidence": found.confidence,
        **found.beside,
        "provenance": source | {"seconds": round(seconds, 1), "date": datetime.now(UTC).isoformat(timespec="seconds")},
    }
    write_text(path, json.dumps(record, indent=1, default=_plain) + "\n")
    return record


def _plain(number: np.generic) -> object:
    return number.item()
