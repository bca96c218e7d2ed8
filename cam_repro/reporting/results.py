"""One evaluation's JSON (schema 1, percent everywhere): written, read back and checked."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cam_repro import UserError
from cam_repro.config import Config, ModelConfig, ProtocolConfig, protocols_of
from cam_repro.data.images import decoder
from cam_repro.data.split import Split
from cam_repro.files import write_text
from cam_repro.localization.errors import ScoredImages, bootstrap_intervals, bootstrap_mean, read_blacklist, summarise
from cam_repro.mistakes import shown
from cam_repro.provenance import device_name, git_state, versions

SCHEMA = 1
CLASSIFICATION = ("cls_",)  # what the names of an evaluation's metrics begin with
LOCALIZATION = ("cls_", "loc_", "gt_known", "floor_")
METRICS = {  # what each kind of result holds at least; null is undefined
    "classification": ("cls_top1_error", "cls_top5_error"),
    "localization": ("cls_top1_error", "cls_top5_error", "loc_top1_error", "loc_top5_error", "loc_given_cls",
                     "gt_known_loc", "floor_whole_image", "floor_centre_box"),
    "sweep": ("max_box_acc_v1", "max_box_acc_v2", "max_box_acc_v1_at_20", "max_box_acc_v2_at_20",
              "floor_whole_image", "floor_centre_box", "floor_whole_image_v2", "floor_centre_box_v2"),
}  # fmt: skip
EVERY_TIME = ("seconds", "date")  # differ between two runs of the same evaluation
ROUNDING = 1e-3  # percent


@dataclass(frozen=True)
class Measured:
    """What an evaluation found: metric -> %, their 95 % intervals, the images behind them, and what else it found."""

    metrics: dict[str, float | None]
    confidence: dict[str, list[float]]
    counts: dict[str, int]
    beside: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One evaluation, read from `path` and checked."""

    path: Path
    kind: str  # a key of METRICS
    model: str
    method: str
    data: str
    split: str
    images: int
    loc_images: int  # how many of them count for localization
    input_size: int  # pixels a side of what the network saw
    protocol: dict[str, Any]
    metrics: dict[str, float | None]
    confidence: dict[str, list[float]]
    thresholds: dict[str, float | None]  # of a sweep: "v1", "v2" -> the best one for the whole data set; else empty
    provenance: dict[str, Any]


def result_folder(config: Config, model: str) -> Path:
    return Path(config.results) / config.data.name / model


def file_name(method: str | None, protocol: str) -> str:
    """Of a result under a protocol's name (`protocol_name`); a classification has no method."""
    if method is not None:
        return f"localization-{method}-{protocol}.json"
    return "classification.json" if protocol == "paper" else f"classification-{protocol}.json"


def protocol_name(protocol: ProtocolConfig) -> str:
    """The name that results go by: a setting that is not its YAML's makes another, as `paper-threshold0.5`.

    A name without a YAML is held against the settings' defaults.
    """
    written = {known.name: known for known in protocols_of(ProtocolConfig(name="all"))}
    usual = asdict(written.get(protocol.name, ProtocolConfig(name=protocol.name)))
    changed = {key: value for key, value in asdict(protocol).items() if value != usual[key]}
    texts = {key: "_".join(map(str, v)) if isinstance(v, list) else str(v).lower() for key, v in changed.items()}
    return "-".join([protocol.name, *(key + text for key, text in texts.items())])


def input_size(protocol: ProtocolConfig, model: ModelConfig) -> int:
    """Pixels a side of what the network sees at evaluation."""
    return protocol.size or model.input_size


def heading(config: Config, model: ModelConfig, protocol: ProtocolConfig, method: str | None) -> dict[str, Any]:
    """What was evaluated: of a classification, which has no method and no boxes, the protocol's view alone."""
    settings = asdict(protocol) | {"name": protocol_name(protocol)}
    keys = ("name", "view", "size") if method is None else tuple(settings)
    return {
        "schema": SCHEMA,
        "model": model.name,
        "data": config.data.name,
        "split": "val",
        "input_size": input_size(protocol, model),
        "method": method or "cam",
        "protocol": {key: settings[key] for key in keys if settings[key] is not None},
    }


def origin(config: Config, trained: Any, split: Split, device: str) -> dict[str, Any]:
    """Where the numbers of a network come from; what it says is the same whenever nothing has changed.

    trained: .model (ModelConfig); .sha256 of the weights as they were read; .training, what their checkpoint says of
    how they were made, or None.
    """
    commit, dirty = git_state()
    left_out = json.dumps(sorted(read_blacklist(config.blacklist))) if config.blacklist else None
    return {
        "commit": commit,
        "dirty": dirty,
        "network": _hash(json.dumps(asdict(trained.model), sort_keys=True)),
        "weights": trained.sha256,
        "training": trained.training,
        "data": split.fingerprint(),
        "settings": {key: getattr(config, key) for key in ("seed", "deterministic", "eval_batch_size")},
        "blacklist": left_out and _hash(left_out),
        "decoder": decoder(),
        "versions": versions(),
        "device": device_name(device),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def measured(scored: ScoredImages, names: tuple[str, ...]) -> Measured:
    """The devkit's metrics whose names begin with one of `names`; None where there was nothing to measure on."""
    found, intervals = summarise(scored), bootstrap_intervals(scored)
    metrics = {name: _rounded(value) for name, value in found.items() if name.startswith(names)}
    undefined = {name: None for name in METRICS["localization"] if name.startswith(names) and name not in metrics}
    confidence = {name: [_rounded(bound) for bound in intervals[name]] for name in metrics}
    return Measured(metrics | undefined, confidence, scored.counts())


def measured_sweep(found: Mapping[str, Any], floors: Mapping[str, float], images: int) -> Measured:
    """MaxBoxAcc from `wsol`'s accuracies and floors; a NaN among them, where no image has a box, is undefined.

    The intervals redraw the images at the threshold that was best for all.
    """
    metrics = {f"max_box_acc_{key}": _rounded(found[key]) for key in ("v1", "v2", "v1_at_20", "v2_at_20")}
    right = {name: found[name.replace("max_box_acc", "right")] for name in metrics if metrics[name] is not None}
    confidence = {name: [_rounded(bound) for bound in bootstrap_mean(values)] for name, values in right.items()}
    best = {key: round(found[f"threshold_{key}"], 3) for key in ("v1", "v2") if f"max_box_acc_{key}" in right}
    metrics |= {name: _rounded(value) for name, value in floors.items()}
    return Measured(metrics, confidence, {"images": images}, {"thresholds": {"v1": None, "v2": None} | best})


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 4)


def write_result(
    path: Path, heading: dict[str, Any], origin: dict[str, Any], measured: Measured, seconds: float
) -> dict[str, Any]:
    """Write and return one evaluation's record."""
    record = {
        **heading,
        **measured.counts,
        "metrics": measured.metrics,
        "confidence": measured.confidence,
        **measured.beside,
        "provenance": origin | {"seconds": round(seconds, 1), "date": datetime.now(UTC).isoformat(timespec="seconds")},
    }
    write_text(path, json.dumps(record, indent=1, default=np.generic.item) + "\n")
    return record


def unchanged(path: Path, heading: dict[str, Any], origin: dict[str, Any]) -> dict[str, Any] | None:
    """The record at `path` if this very evaluation made it, at a clean commit; None if there is something to do."""
    if origin["dirty"] or not path.is_file():
        return None
    try:
        record = read_record(path)
    except UserError:  # it is written anew
        return None
    before = {key: value for key, value in record["provenance"].items() if key not in EVERY_TIME}
    same = before == json.loads(json.dumps(origin)) and all(record.get(key) == heading[key] for key in heading)
    return record if same else None


def read_results(folder: Path) -> list[Result]:
    """Every result of `results/<data>/`, classifications first; UserError for the first that is unfit."""
    patterns = ("*/classification*.json", "*/localization-*.json")
    return [_result(path) for pattern in patterns for path in sorted(folder.glob(pattern))]


def _result(path: Path) -> Result:
    record = {"thresholds": {}} | read_record(path)
    record = {"loc_images": record["images"]} | record
    if record["protocol"].get("guesses") == "heuristics":  # its five guesses name three classes
        record["metrics"]["cls_top5_error"] = None
    given = {key.name: record[key.name] for key in fields(Result) if key.name not in ("path", "kind")}
    return Result(path=path, kind=_kind(path, record), **given)


def _kind(path: Path, record: dict[str, Any]) -> str:
    if path.name.startswith("classification"):
        return "classification"
    return "sweep" if record["protocol"].get("boxes") == "sweep" else "localization"


def read_record(path: Path) -> dict[str, Any]:
    """The checked content of a result file; a UserError names the file and the key at fault."""
    kind, *ways = path.stem.split("-")
    keys = ("method", "protocol") if kind == "localization" else ("protocol",)
    again = f"evaluate it again: make eval-{kind} data={path.absolute().parent.parent.name} model={path.parent.name}"
    again += "".join(f" {key}={way}" for key, way in zip(keys, ways, strict=False))
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # JSON's and UTF-8's errors are both ValueErrors
        raise UserError(f"{path} cannot be read as JSON ({error}); {again}") from None
    for key, expected in _faults(path, record):
        found = _at(record, key)
        raise UserError(f"{path}: {key} is {'missing' if found is ... else shown(found)}, expected {expected}; {again}")
    return record


def _at(record: Any, key: str) -> Any:
    """What stands at a dotted key; ... where there is nothing."""
    for part in key.split(".", 1):
        record = record.get(part, ...) if isinstance(record, dict) else ...
    return record


def _faults(path: Path, record: Any) -> Iterator[tuple[str, str]]:
    """(key, what was expected there) of all that is unfit; each check relies on those before it."""
    if _at(record, "schema") != SCHEMA:
        yield "schema", str(SCHEMA)
    for key in ("protocol", "metrics", "confidence", "provenance"):
        if not isinstance(_at(record, key), dict):
            yield key, "named values"
    for key in ("model", "data", "split", "method", "protocol.name", "protocol.view",
                "provenance.weights", "provenance.data", "provenance.commit"):  # fmt: skip
        if not isinstance(_at(record, key), str):
            yield key, "a text"
    for key in ("images", "input_size"):
        if type(record.get(key)) is not int or record[key] < 1:
            yield key, "a whole number above 0"
    for key in ("loc_images", "blacklisted", "without_true_box"):
        if key in record and (type(record[key]) is not int or not 0 <= record[key] <= record["images"]):
            yield key, f"a whole number of the {record['images']} images"
    kind = _kind(path, record)
    name = file_name(None if kind == "classification" else record["method"], record["protocol"]["name"])
    place = {"data": path.absolute().parent.parent.name, "model": path.absolute().parent.name}
    for key, folder in place.items():  # a file copied by hand must not lend its numbers to another network
        if record[key] != folder:
            yield key, f"{folder}, its folder"
    if path.name != name:
        yield "protocol.name", f"the one of its file (this is the content of {name})"
    yield from _wrong_numbers(record["metrics"], record, kind)


def _wrong_numbers(metrics: dict[str, Any], record: dict[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys((*METRICS[kind], *metrics)):
        if name not in metrics or not (metrics[name] is None or _within(metrics[name], 0, 100)):
            yield f"metrics.{name}", "a percentage, or null where it is undefined"
    for what in ("cls", "loc"):
        top1, top5 = (metrics.get(f"{what}_top{k}_error") for k in (1, 5))
        if top1 is not None and top5 is not None and top5 > top1:
            yield f"metrics.{what}_top5_error", f"no more than the top-1 error, {top1}"
    for name, interval in record["confidence"].items():
        value, is_pair = metrics.get(name), isinstance(interval, list) and len(interval) == 2
        low, high = interval if is_pair and all(_within(bound, 0, 100) for bound in interval) else (100, 0)
        if value is None or not low - ROUNDING <= value <= high + ROUNDING:
            yield f"confidence.{name}", f"an interval [low, high] around {shown(value)}"
    for key in ("thresholds.v1", "thresholds.v2") if kind == "sweep" else ():
        if not (_at(record, key) is None or _within(_at(record, key), 0, 1)):
            yield key, "a fraction, or null where it is undefined"


def _within(value: object, low: float, high: float) -> bool:
    """Whether it is a number in that range; NaN is in none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
