"""What an evaluation leaves: a JSON of its numbers (schema 1, percent), and files beside it.

A record names the files that belong to it with their sha256: what was half replaced, or copied from
elsewhere, is never taken for another evaluation's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cam_repro import UserError
from cam_repro.config import ProtocolConfig, written_protocols
from cam_repro.data import imagenet_classes
from cam_repro.data.split import load_arrays, save_arrays
from cam_repro.evaluation.metric import Scores
from cam_repro.evaluation.metrics import METRIC_NAMES, SIGNED
from cam_repro.evaluation.predictions import write_predictions
from cam_repro.evaluation.spec import Evaluation, EvaluationSpec
from cam_repro.files import is_there, read_bytes, replacing_together, write_text
from cam_repro.localization.errors import Correctness
from cam_repro.localization.intervals import Shares
from cam_repro.localization.max_box_acc import THRESHOLDS
from cam_repro.provenance import device_name, git_state, versions

SCHEMA = 1
KEYS = (
    "model", "data", "split", "images", "input_size", "method", "protocol.name", "protocol.view",
    "confidence", "provenance.weights", "provenance.data", "provenance.commit",
)  # fmt: skip
EVERY_TIME = ("seconds", "date")  # differ between two runs of the same evaluation


def file_name(method: str | None, protocol: str, split: str = "val") -> str:
    """Of a record under a protocol's name (`protocol_name`); a classification has no method."""
    parts = ["classification"] if method is None else ["localization", method]
    if method is not None or protocol != "paper":
        parts.append(protocol)
    if split != "val":
        parts.append(split)
    return "-".join(parts) + ".json"


def protocol_name(protocol: ProtocolConfig) -> str:
    """The name of records: `paper-threshold0.5` where a setting is not that of the YAML `paper`.

    A name without a YAML is held against the settings' defaults.
    """
    written = written_protocols().get(protocol.name, ProtocolConfig(name=protocol.name))
    usual = asdict(written)
    parts = [protocol.name]
    for key, value in asdict(protocol).items():
        if value == usual[key]:
            continue
        text = str(value).lower()
        if isinstance(value, list):
            text = "_".join(map(str, value))
        elif key == "thresholds_from":
            text = Path(value).stem
        parts.append(f"{key}{text}")
    return "-".join(parts)


def record_path(evaluation: Evaluation, spec: EvaluationSpec) -> Path:
    """`results/<data>/<model>/…json` of a spec."""
    config = evaluation.config
    folder = Path(config.results) / config.data.name / evaluation.trained.name
    return folder / file_name(spec.method, protocol_name(spec.protocol), evaluation.split.name)


def write_record(
    evaluation: Evaluation, spec: EvaluationSpec, scores: Scores, seconds: float
) -> dict[str, Any]:
    """Write and print what was found for a spec: all of its files take their places together."""
    path = record_path(evaluation, spec)
    files = [path.with_suffix(".npz")]
    if scores.guesses is not None:
        # predictions.txt is the paper's own; the others say of what they are.
        suffix = path.stem.removeprefix("localization").removesuffix("-cam-paper")
        files.append(path.with_name(f"predictions{suffix}.txt"))
    if scores.curves:
        files.append(path.with_suffix(".csv"))
    record = _heading(evaluation, spec) | _numbers(scores) | {"files": {}}
    record["provenance"] = origin_of(evaluation) | {
        "seconds": round(seconds, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if scores.guesses is not None:
        imagenet_wnids, _ = imagenet_classes()
        is_imagenet = evaluation.trained.wnids == imagenet_wnids
        record["labels"] = "imagenet" if is_imagenet else "mapping"
    with replacing_together([*files, path]) as temporaries:
        *beside, record_file = temporaries
        for file, temporary in zip(files, beside, strict=True):
            if file.suffix == ".npz":
                save_arrays(temporary, **scores.per_image)
            elif file.suffix == ".txt":
                write_predictions(temporary, *scores.guesses)
            else:
                _write_curves(temporary, scores.curves)
            record["files"][file.name] = _sha256(temporary)
        write_text(record_file, json.dumps(record, indent=1, default=np.generic.item) + "\n")
    print_record(record, str(path))
    return record


def _heading(evaluation: Evaluation, spec: EvaluationSpec) -> dict[str, Any]:
    """What was evaluated, with those of the protocol's settings that take part in it."""
    trained = evaluation.trained
    unused = set()
    if spec.kind != "localization":  # no boxes
        unused = {"boxes", "guesses"}
    elif spec.protocol.boxes == "paper":  # one box a map
        unused = {"guesses"}
    if spec.kind == "classification":  # no maps either
        unused |= {"metric", "resize", "threshold", "thresholds", "thresholds_from", "jpeg"}
    settings = asdict(spec.protocol) | {"name": protocol_name(spec.protocol)}
    shown = {}
    for key, value in settings.items():
        if key not in unused and value not in (None, False):
            shown[key] = value
    heading: dict[str, Any] = {"schema": SCHEMA, "model": trained.model.name}
    if trained.name != trained.model.name:
        heading["name"] = trained.name
    heading |= {
        "data": evaluation.config.data.name,
        "split": evaluation.split.name,
        "input_size": spec.size,
        "interpolation": spec.interpolation,
        "method": spec.method or "cam",
        "protocol": shown,
    }
    if getattr(spec.metric, "thresholds", ()) and spec.kind == "max_box_acc":
        heading["thresholds"] = dict(spec.metric.thresholds)
    if spec.kind in ("pointing", "faithfulness", "randomisation"):
        heading["definitions"] = spec.metric.definitions()
    return heading


def _numbers(scores: Scores) -> dict[str, Any]:
    """Images, metrics and intervals in percent, None where there was nothing to measure on."""
    metrics = {}
    for name, value in scores.metrics.items():
        metrics[name] = None if value is None else round(float(value), 4)
    confidence = {}
    for name, bounds in scores.confidence.items():
        confidence[name] = [round(bound, 4) for bound in bounds]
    numbers = {**scores.counts, "metrics": metrics, "confidence": confidence}
    if scores.thresholds:
        numbers["thresholds"] = scores.thresholds
    return numbers


def origin_of(evaluation: Evaluation) -> dict[str, Any]:
    """Where a network's numbers come from, which says the same whenever nothing has changed."""
    config = evaluation.config
    trained = evaluation.trained
    commit, dirty = git_state()
    settings = {key: getattr(config, key) for key in ("seed", "deterministic", "eval_batch_size")}
    return {
        "commit": commit,
        "dirty": dirty,
        "network": _hash(asdict(trained.model)),
        "weights": trained.weights.sha256,
        "training": trained.weights.training,
        "data": evaluation.fingerprint,
        "settings": settings,
        "blacklist": _hash(sorted(evaluation.blacklist)) if evaluation.blacklist else None,
        "precision": "float32",
        "versions": versions(),
        "device": device_name(str(evaluation.world.device)),
    }


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_curves(path: Path, curves: dict[str, np.ndarray]) -> None:
    """A line a threshold of the maximum: the accuracies of each curve, in percent."""
    columns = np.column_stack([THRESHOLDS, *curves.values()])
    formats = ["%.3f"] + ["%.4f"] * len(curves)
    heading = ",".join(["threshold", *curves])
    with path.open("w") as file:
        np.savetxt(file, columns, formats, delimiter=",", header=heading, comments="")


def unchanged(evaluation: Evaluation, spec: EvaluationSpec) -> dict[str, Any] | None:
    """The record of this very evaluation, printed, if it is there whole and of a clean commit.

    All processes must call it; the leader's answer counts.
    """
    found = None
    origin = origin_of(evaluation)
    path = record_path(evaluation, spec)
    may_be_the_same = not evaluation.config.force and not origin["dirty"]
    if evaluation.world.is_main and may_be_the_same and is_there(path):
        content = read_bytes(path)  # an unreadable disk is no missing record
        with suppress(UserError):  # it is damaged, and written anew
            record = _parsed(path, content)
            check_files(path, record)
            before = record["provenance"].copy()
            for key in EVERY_TIME:
                before.pop(key, None)
            same_origin = before == json.loads(json.dumps(origin))
            if same_origin and _heading(evaluation, spec).items() <= record.items():
                again = "nothing has changed since; force=true evaluates again"
                print_record(record, f"{path} ({again})")
                found = record
    return evaluation.world.broadcast(found)


def refuse_other_data(evaluation: Evaluation) -> None:
    """UserError where results/<data>/ holds records of other images under the same names.

    All processes must call it; the leader looks.
    """
    message = ""
    if evaluation.world.is_main and not evaluation.config.force:
        message = _record_of_other_data(evaluation)
    if message := evaluation.world.broadcast(message):
        raise UserError(message)


def _record_of_other_data(evaluation: Evaluation) -> str:
    """What is to be said of the first record of other images under the same names; "": no such."""
    config = evaluation.config
    split = evaluation.split
    for path in record_files(Path(config.results) / config.data.name):
        content = read_bytes(path)
        try:
            record = _parsed(path, content)
        except UserError:  # it is no record: `make tables` says so
            continue
        measured = record["provenance"]["data"]
        if record["split"] == split.name and measured != evaluation.fingerprint:
            before = f"{record['images']} images, fingerprint {measured}"
            now = f"{len(split)}, {evaluation.fingerprint}"
            return (
                f"{path} is of other images or labels than data={config.data.name} at "
                f"{config.data.root} has now ({before}, against {now}); give data.name=another or "
                "results=elsewhere, or force=true to replace what is evaluated"
            )
    return ""


def print_record(record: dict[str, Any], where: str) -> None:
    name = record["model"]
    if "name" in record:
        name += f" ({record['name']})"
    images = f"{record['data']} {record['split']}, {record['images']} images"
    seen = f"{record['input_size']} px, {record['interpolation']}"
    way = f"{record['method']}, protocol {record['protocol']['name']}"
    print(f"{name} on {images} at {seen}, {way}:")
    for metric, value in record["metrics"].items():
        said = "     –" if value is None else f"{value:6.2f} %"
        if value is not None and metric in record["confidence"]:
            low, high = record["confidence"][metric]
            said += f"   95 % interval {low:.2f} … {high:.2f}"
        print(f"  {metric:28} {said}")
    chosen_on = record["protocol"].get("thresholds_from", "these very images")
    for key, threshold in record.get("thresholds", {}).items():
        print(f"  threshold of {key}: {threshold}, the best one on {chosen_on}")
    print(f"  {where}", flush=True)


def record_files(folder: Path) -> list[Path]:
    """The records of `results/<data>/`, classifications first."""
    classifications = sorted(folder.glob("*/classification*.json"))
    return classifications + sorted(folder.glob("*/localization-*.json"))


def kind_of(path: Path, record: dict[str, Any]) -> str:
    """A key of METRIC_NAMES."""
    if path.name.startswith("classification"):
        return "classification"
    return record.get("protocol", {}).get("metric", "localization")


def read_record(path: Path) -> dict[str, Any]:
    """The content of a record. Raises UserError where it is damaged, impossible or another's."""
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        raise UserError(f"{path} is not there; give a record of results/") from None
    return _parsed(path, content)


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content)
        _check(path, record)
    except (ValueError, TypeError, AttributeError) as error:  # ValueErrors: JSON's, UTF-8's too
        kind = path.stem.partition("-")[0]
        again = "give a localization-….json or classification.json of results/"
        if kind in ("classification", "localization"):
            again = f"remove it and evaluate again: make eval-{kind}"
        raise UserError(f"{path} cannot be read as a result: {error}; {again}") from None
    return record


def _check(path: Path, record: dict[str, Any]) -> None:
    """Raises ValueError, TypeError or AttributeError."""
    if record.get("schema") != SCHEMA:
        raise ValueError(f"schema is {record.get('schema')}, expected {SCHEMA}")
    there = set(record)
    for part in ("protocol", "metrics", "provenance"):
        there |= {f"{part}.{key}" for key in record.get(part, ())}
    expected = [*KEYS]
    is_heuristics = record.get("protocol", {}).get("guesses") == "heuristics"
    for name in METRIC_NAMES[kind_of(path, record)]:
        if name == "cls_top5_error" and is_heuristics:  # three classes in five guesses
            continue
        expected.append(f"metrics.{name}")
    for key in expected:
        if key not in there:
            raise ValueError(f"{key} is missing")
    # A file copied by hand must not lend its numbers to another network.
    method = None if path.name.startswith("classification") else record["method"]
    name = file_name(method, record["protocol"]["name"], record["split"])
    own = Path(record["data"], record.get("name", record["model"]), name)
    if path.absolute().parts[-3:] != own.parts:
        raise ValueError(f"this is the content of {own}")
    for name, value in record["metrics"].items():
        if value is None:
            continue
        bounds = record["confidence"].get(name, [])
        lowest = -100 if name.startswith(SIGNED) else 0
        if not all(lowest <= number <= 100 for number in (value, *bounds)):
            found = f"metrics.{name} is {value}, its interval {bounds}"
            raise ValueError(f"{found}, expected percentages")


def check_files(path: Path, record: dict[str, Any]) -> None:
    """UserError unless the files beside a record are there and its own."""
    for name, sha256 in record.get("files", {}).items():
        file = path.with_name(name)
        if not file.is_file() or _sha256(file) != sha256:
            what = "does not belong to" if file.is_file() else "is not there, beside"
            raise UserError(f"{file} {what} {path}: evaluate again with force=true")


def read_correctness(path: Path) -> Correctness:
    """The per-image correctness beside a record of localization errors. Raises UserError."""
    return _per_image(path, Correctness)


def read_shares(path: Path) -> Shares:
    """What every image adds to each metric, from beside a record of any kind. Raises UserError."""
    kind = kind_of(path, read_record(path))
    if kind == "localization":
        return read_correctness(path).shares()
    return _per_image(path, SHARES[kind])


def _classification_shares(cls_right: np.ndarray, **_: np.ndarray) -> Shares:
    everything = np.ones(len(cls_right), bool)
    shares = {}
    for k in range(cls_right.shape[1]):
        shares[f"cls_top{k + 1}_error"] = (~cls_right[:, k], everything)
    return shares


def _max_box_acc_shares(counted: np.ndarray, **per_image: np.ndarray) -> Shares:
    everything = np.ones(int(counted.sum()))
    return {name: (added, everything) for name, added in per_image.items()}


def _no_shares(**_: np.ndarray) -> Shares:
    raise UserError("PxAP is of the pixels of all images: no image has a share of it to compare")


SHARES = {
    "px_ap": _no_shares,
    "classification": _classification_shares,
    "max_box_acc": _max_box_acc_shares,
    "pointing": _max_box_acc_shares,
    "faithfulness": _max_box_acc_shares,
    "randomisation": _max_box_acc_shares,
}


def _per_image(path: Path, made_of: Callable[..., Any]) -> Any:
    check_files(path, read_record(path))
    beside = path.with_suffix(".npz")
    try:
        return made_of(**load_arrays(beside))
    except TypeError:  # without its columns, or with others
        found = f"{beside}, what was right on each image, is not there or damaged"
        raise UserError(f"{found}; evaluate again with force=true") from None
