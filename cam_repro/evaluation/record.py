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
from cam_repro.evaluation.metrics import METRIC_NAMES, Scores
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
    """The name that records go by: a setting that is not its YAML's makes another, as
    `paper-threshold0.5`.

    A name without a YAML is held against the settings' defaults.
    """
    written = written_protocols().get(protocol.name, ProtocolConfig(name=protocol.name))
    usual = asdict(written)
    parts = [protocol.name]
    for key, value in asdict(protocol).items():
        if value == usual[key]:
            continue
        text = "_".join(map(str, value)) if isinstance(value, list) else str(value).lower()
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
    if (
        scores.guesses is not None
    ):  # predictions.txt is the paper's own, the others say of what they are
        of = path.stem.removeprefix("localization").removesuffix("-cam-paper")
        files.append(path.with_name(f"predictions{of}.txt"))
    if scores.curves:
        files.append(path.with_suffix(".csv"))
    with replacing_together([*files, path]) as temporaries:
        *beside, record_file = temporaries
        for file, temporary in zip(files, beside, strict=True):
            if file.suffix == ".npz":
                save_arrays(temporary, **scores.per_image)
            elif file.suffix == ".txt":
                write_predictions(temporary, *scores.guesses)
            else:
                _write_curves(temporary, scores.curves)
        record = {
            **_heading(evaluation, spec),
            **_numbers(scores),
            "files": {
                file.name: _sha256(temporary) for file, temporary in zip(files, beside, strict=True)
            },
            "provenance": {
                **origin_of(evaluation),
                "seconds": round(seconds, 1),
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        }
        if scores.guesses is not None:
            is_imagenet = evaluation.trained.wnids == imagenet_classes()[0]
            record["labels"] = "imagenet" if is_imagenet else "mapping"
        write_text(record_file, json.dumps(record, indent=1, default=np.generic.item) + "\n")
    print_record(record, str(path))
    return record


def _heading(evaluation: Evaluation, spec: EvaluationSpec) -> dict[str, Any]:
    """What was evaluated, with those of the protocol's settings that take part in it."""
    trained = evaluation.trained
    settings = asdict(spec.protocol) | {"name": protocol_name(spec.protocol)}
    unused = set()
    if spec.kind != "localization":  # no boxes
        unused = {"boxes", "guesses"}
    elif spec.protocol.boxes == "paper":  # one box a map
        unused = {"guesses"}
    if spec.kind == "classification":  # no maps either
        unused |= {"metric", "resize", "threshold", "thresholds", "jpeg"}
    shown = {
        key: value
        for key, value in settings.items()
        if key not in unused and value not in (None, False)
    }
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
    return heading


def _numbers(scores: Scores) -> dict[str, Any]:
    """Images, metrics and intervals in percent, None where there was nothing to measure on."""
    metrics = {}
    for name, value in scores.metrics.items():
        metrics[name] = None if value is None else round(float(value), 4)
    confidence = {}
    for name, bounds in scores.confidence.items():
        confidence[name] = [round(bound, 4) for bound in bounds]
    thresholds = {"thresholds": scores.thresholds} if scores.thresholds else {}
    return {**scores.counts, "metrics": metrics, "confidence": confidence, **thresholds}


def origin_of(evaluation: Evaluation) -> dict[str, Any]:
    """Where the numbers of a network come from; what it says is the same whenever nothing has
    changed.
    """
    config = evaluation.config
    trained = evaluation.trained
    commit, dirty = git_state()
    return {
        "commit": commit,
        "dirty": dirty,
        "network": _hash(asdict(trained.model)),
        "weights": trained.weights.sha256,
        "training": trained.weights.training,
        "data": evaluation.fingerprint,
        "settings": {
            key: getattr(config, key) for key in ("seed", "deterministic", "eval_batch_size")
        },
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
    """The record of this very evaluation if it is there with all its files and of a clean commit;
    printed.

    All processes must call it; the leader's answer counts.
    """
    found = None
    source = origin_of(evaluation)
    if evaluation.world.is_main and not evaluation.config.force and not source["dirty"]:
        path = record_path(evaluation, spec)
        content = (
            read_bytes(path) if is_there(path) else b""
        )  # an unreadable disk is no missing record
        with suppress(UserError):  # there is none, or it is damaged and written anew
            record = _parsed(path, content)
            check_files(path, record)
            before = {key: of for key, of in record["provenance"].items() if key not in EVERY_TIME}
            same_source = before == json.loads(json.dumps(source))
            if same_source and _heading(evaluation, spec).items() <= record.items():
                print_record(
                    record, f"{path} (nothing has changed since; force=true evaluates again)"
                )
                found = record
    return evaluation.world.broadcast(found)


def refuse_other_data(evaluation: Evaluation) -> None:
    """UserError where results/<data>/ holds records of other images under the same names.

    All processes must call it; the leader looks.
    """
    config = evaluation.config
    folder = Path(config.results) / config.data.name
    message = ""
    for path in record_files(folder) if evaluation.world.is_main and not config.force else []:
        content = read_bytes(path)
        with suppress(UserError):  # it is no record: `make tables` says so
            record = _parsed(path, content)
            measured = record["provenance"]["data"]
            if record["split"] == evaluation.split.name and measured != evaluation.fingerprint:
                message = (
                    f"{path} is of other images or labels than data={config.data.name} at "
                    f"{config.data.root} has now ({record['images']} images, fingerprint {measured}, "
                    f"against {len(evaluation.split)}, {evaluation.fingerprint}); give data.name=another "
                    "or results=elsewhere, or force=true to replace what is evaluated"
                )
                break
    if message := evaluation.world.broadcast(message):
        raise UserError(message)


def print_record(record: dict[str, Any], where: str) -> None:
    name = record["model"] + (f" ({record['name']})" if "name" in record else "")
    way = f"{record['method']}, protocol {record['protocol']['name']}"
    seen = f"{record['input_size']} px, {record['interpolation']}"
    print(
        f"{name} on {record['data']} {record['split']}, {record['images']} images at {seen}, {way}:"
    )
    for metric, value in record["metrics"].items():
        low, high = record["confidence"].get(metric, (None, None))
        interval = "" if low is None else f"   95 % interval {low:.2f} … {high:.2f}"
        said = "     –" if value is None else f"{value:6.2f} %{interval}"
        print(f"  {metric:28} {said}")
    for key, threshold in record.get("thresholds", {}).items():
        print(f"  best threshold of {key} for the whole data set: {threshold}")
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
    except (
        ValueError,
        TypeError,
        AttributeError,
    ) as error:  # JSON's and UTF-8's errors are ValueErrors
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
    there = {*record}
    for part in ("protocol", "metrics", "provenance"):
        there |= {f"{part}.{key}" for key in record.get(part, ())}
    names = METRIC_NAMES[kind_of(path, record)]
    if record.get("protocol", {}).get("guesses") == "heuristics":  # three classes in five guesses
        names = [name for name in names if name != "cls_top5_error"]
    for key in (*KEYS, *(f"metrics.{name}" for name in names)):
        if key not in there:
            raise ValueError(f"{key} is missing")
    method = None if path.name.startswith("classification") else record["method"]
    name = file_name(method, record["protocol"]["name"], record["split"])
    own = Path(record["data"], record.get("name", record["model"]), name)
    if (
        path.absolute().parts[-3:] != own.parts
    ):  # a file copied by hand must not lend its numbers to another network
        raise ValueError(f"this is the content of {own}")
    for name, value in record["metrics"].items():
        bounds = record["confidence"].get(name, [])
        if value is not None and not all(0 <= number <= 100 for number in (value, *bounds)):
            raise ValueError(
                f"metrics.{name} is {value}, its interval {bounds}, expected percentages"
            )


def check_files(path: Path, record: dict[str, Any]) -> None:
    """UserError unless the files beside a record are there and its own."""
    for name, sha256 in record.get("files", {}).items():
        file = path.with_name(name)
        if not file.is_file() or _sha256(file) != sha256:
            what = "does not belong to" if file.is_file() else "is not there, beside"
            raise UserError(f"{file} {what} {path}: evaluate again with force=true")


def read_correctness(path: Path) -> Correctness:
    """What was right on each image, from beside a record of localization errors. Raises UserError."""
    return _per_image(path, Correctness)


def read_shares(path: Path) -> Shares:
    """Each metric as what every image adds to it, from beside a record of any kind. Raises
    UserError.
    """
    kind = kind_of(path, read_record(path))
    if kind == "localization":
        return read_correctness(path).shares()
    return _per_image(path, SHARES[kind])


def _classification_shares(cls_right: np.ndarray, **_: np.ndarray) -> Shares:
    everything = np.ones(len(cls_right), bool)
    return {
        f"cls_top{k + 1}_error": (~cls_right[:, k], everything) for k in range(cls_right.shape[1])
    }


def _max_box_acc_shares(counted: np.ndarray, **per_image: np.ndarray) -> Shares:
    everything = np.ones(int(counted.sum()))
    return {name: (added, everything) for name, added in per_image.items()}


SHARES = {"classification": _classification_shares, "max_box_acc": _max_box_acc_shares}


def _per_image(path: Path, made_of: Callable[..., Any]) -> Any:
    check_files(path, read_record(path))
    beside = path.with_suffix(".npz")
    try:
        return made_of(**load_arrays(beside))
    except TypeError:  # without its columns, or with others
        raise UserError(
            f"{beside}, what was right on each image, is not there or damaged; evaluate again with force=true"
        ) from None
