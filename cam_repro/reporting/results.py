"""What an evaluation leaves: its JSON (schema 1, percent everywhere) and what lies beside it; read back and checked."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cam_repro import UserError
from cam_repro.config import ProtocolConfig, model_names, written_protocols
from cam_repro.data import imagenet_classes
from cam_repro.data.images import decoder
from cam_repro.data.split import load_arrays, save_arrays
from cam_repro.evaluation.evaluate import Evaluation, Job, Outcome
from cam_repro.evaluation.predictions import write_predictions
from cam_repro.files import write_text
from cam_repro.localization.errors import ScoredImages, bootstrap_intervals, bootstrap_mean, summarise
from cam_repro.mistakes import shown
from cam_repro.provenance import device_name, git_state, versions
from cam_repro.reporting.figures import write_curve, write_curve_csv, write_figure

SCHEMA = 1
CLASSIFICATION = ("cls_",)  # what the names of an evaluation's metrics begin with
LOCALIZATION = ("cls_", "loc_", "gt_known", "floor_", "share_")
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
class Result:
    """One evaluation, read from `path` and checked."""

    path: Path
    kind: str  # a key of METRICS
    model: str
    name: str  # of the run: the network's, unless it was given another
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

    def interval(self, metric: str) -> tuple[float, float] | tuple[None, None]:
        """The ends of a metric's 95 % interval, where it has one."""
        return tuple(self.confidence.get(metric) or (None, None))


def file_name(method: str | None, protocol: str) -> str:
    """Of a result under a protocol's name (`protocol_name`); a classification has no method."""
    if method is not None:
        return f"localization-{method}-{protocol}.json"
    return "classification.json" if protocol == "paper" else f"classification-{protocol}.json"


def protocol_name(protocol: ProtocolConfig) -> str:
    """The name that results go by: a setting that is not its YAML's makes another, as `paper-threshold0.5`.

    A name without a YAML is held against the settings' defaults.
    """
    usual = asdict(written_protocols().get(protocol.name, ProtocolConfig(name=protocol.name)))
    changed = {key: value for key, value in asdict(protocol).items() if value != usual[key]}
    texts = {key: "_".join(map(str, v)) if isinstance(v, list) else str(v).lower() for key, v in changed.items()}
    return "-".join([protocol.name, *(key + text for key, text in texts.items())])


def result_path(evaluation: Evaluation, job: Job) -> Path:
    """`results/<data>/<model>/…json` of a job."""
    folder = Path(evaluation.config.results) / evaluation.config.data.name / evaluation.trained.name
    return folder / file_name(job.method, protocol_name(job.protocol))


def heading(evaluation: Evaluation, job: Job) -> dict[str, Any]:
    """What was evaluated: of a classification, which has no method and no boxes, the protocol's view alone."""
    trained, settings = evaluation.trained, asdict(job.protocol) | {"name": protocol_name(job.protocol)}
    keys = ("name", "view", "size") if job.method is None else tuple(settings)
    return {
        "schema": SCHEMA,
        "model": trained.model.name,
        **({"name": trained.name} if trained.name != trained.model.name else {}),
        "data": evaluation.config.data.name,
        "split": "val",
        "input_size": job.size,
        "method": job.method or "cam",
        "protocol": {key: settings[key] for key in keys if settings[key] is not None and settings[key] is not False},
    }


def origin(evaluation: Evaluation) -> dict[str, Any]:
    """Where the numbers of a network come from; what it says is the same whenever nothing has changed."""
    config, trained = evaluation.config, evaluation.trained
    commit, dirty = git_state()
    return {
        "commit": commit,
        "dirty": dirty,
        "network": _hash(json.dumps(asdict(trained.model), sort_keys=True)),
        "weights": trained.weights.sha256,
        "training": trained.weights.training,
        "data": evaluation.fingerprint,
        "settings": {key: getattr(config, key) for key in ("seed", "deterministic", "eval_batch_size")},
        "blacklist": _hash(json.dumps(sorted(evaluation.blacklist))) if evaluation.blacklist else None,
        "decoder": decoder(),
        "precision": "float32",
        "versions": versions(),
        "device": device_name(str(evaluation.world.device)),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def measured(job: Job, outcome: Outcome) -> dict[str, Any]:
    """A record's numbers: images, metrics in %, 95 % intervals; None where there was nothing to measure on."""
    if outcome.sweep is not None:
        return _measured_sweep(outcome.sweep, len(outcome.best_classes))
    names = CLASSIFICATION if job.method is None else LOCALIZATION
    found, intervals = summarise(outcome.scored), bootstrap_intervals(outcome.scored)
    metrics = {name: _rounded(value) for name, value in found.items() if name.startswith(names)}
    undefined = {name: None for name in METRICS["localization"] if name.startswith(names) and name not in metrics}
    confidence = {name: [_rounded(bound) for bound in intervals[name]] for name in metrics}
    counts = outcome.scored.counts()
    return {**counts, "metrics": metrics | undefined, "confidence": confidence}


def _measured_sweep(found: Mapping[str, Any], images: int) -> dict[str, Any]:
    """The intervals redraw the images at the threshold that was best for all."""
    names = {f"max_box_acc_{key}": key for key in ("v1", "v2", "v1_at_20", "v2_at_20")}
    floors = {name: value for name, value in found.items() if name.startswith("floor_")}
    return {
        "images": images,
        "metrics": {name: _rounded(found[key]) for name, key in names.items()}
        | {name: _rounded(value) for name, value in floors.items()},
        "confidence": {
            name: [_rounded(bound) for bound in bootstrap_mean(found[f"right_{key}"])] for name, key in names.items()
        },
        "thresholds": {key: round(found[f"threshold_{key}"], 3) for key in ("v1", "v2")},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 4)


def unchanged(evaluation: Evaluation, job: Job) -> dict[str, Any] | None:
    """The record of this very evaluation if it is there with all its files and was made at a clean commit; printed.

    All processes must call it; the leader's answer counts.
    """
    path, source, found = result_path(evaluation, job), origin(evaluation), None
    if evaluation.world.is_main and not evaluation.config.force and not source["dirty"]:
        with suppress(UserError):  # there is none, or it is written anew
            record = read_record(path)
            before = {key: value for key, value in record["provenance"].items() if key not in EVERY_TIME}
            same = before == json.loads(json.dumps(source)) and heading(evaluation, job).items() <= record.items()
            if same and all(file.is_file() for file in _beside(path, job).values()):
                print_record(record, f"{path} (nothing has changed since; force=true evaluates again)")
                found = record
    return evaluation.world.broadcast(found)


def _beside(path: Path, job: Job) -> dict[str, Path]:
    """What is left beside a result's JSON; predictions.txt is the paper's own, the others say what they are of."""
    if job.method is None:
        return {}
    if job.protocol.boxes == "sweep":
        return {"curve": path.with_suffix(".csv"), "figure": path.with_suffix(".png")}
    return {
        "predictions": predictions_of(path), "judgements": path.with_suffix(".npz"), "figure": path.with_suffix(".png")
    }  # fmt: skip


def predictions_of(path: Path) -> Path:
    """The guesses beside a localization result."""
    return path.with_name("predictions" + path.stem.removeprefix("localization").removesuffix("-cam-paper") + ".txt")


def read_judgements(path: Path) -> ScoredImages:
    """What was right on each image, beside the JSON of a localization result. Raises UserError."""
    beside = path.with_suffix(".npz")
    try:
        return ScoredImages(**load_arrays(beside))
    except TypeError:  # without its columns, or with others
        what = "cannot be read (it is damaged)" if beside.is_file() else "is not there"
        raise UserError(
            f"{beside}, what was right on each image, {what}; give a localization-….json of boxes, or evaluate again "
            "with force=true"
        ) from None


def write_outcome(evaluation: Evaluation, job: Job, outcome: Outcome) -> dict[str, Any]:
    """Write and print what an evaluation found for a job: its record, predictions or curve, and a figure."""
    path = result_path(evaluation, job)
    beside = _beside(path, job)
    record = {**heading(evaluation, job), **measured(job, outcome), "provenance": origin(evaluation)}
    record["provenance"] |= {
        "seconds": round(outcome.seconds, 1), "date": datetime.now(UTC).isoformat(timespec="seconds")
    }  # fmt: skip
    if outcome.sweep is not None:
        found = outcome.sweep
        write_curve_csv(beside["curve"], found["thresholds"], found["curve_v1"], found["curve_v2"])
        write_curve(
            beside["figure"], found["thresholds"], found["curve_v1"], found["curve_v2"],
            best={name: found[f"threshold_{name}"] for name in ("v1", "v2")},
            floors={name: found[name] for name in ("floor_whole_image", "floor_centre_box")},
            title=f"{record['model']}, {job.method}, {record['data']}, {record['images']:,} images",
        )  # fmt: skip
    elif job.method is not None:
        record["labels"] = "imagenet" if evaluation.trained.wnids == imagenet_classes()[0] else "mapping"
        write_predictions(beside["predictions"], outcome.labels, outcome.boxes)
        judged = {key: value for key, value in vars(outcome.scored).items() if value is not None}
        save_arrays(beside["judgements"], **judged)
        write_figure(
            beside["figure"], evaluation.split, outcome.best_classes, outcome.heatmaps, outcome.true_class_boxes
        )
    write_text(path, json.dumps(record, indent=1, default=np.generic.item) + "\n")  # last: it says that all is there
    print_record(record, str(path))
    return record


def print_record(record: dict[str, Any], where: str) -> None:
    size, way = record["input_size"], f"{record['method']}, protocol {record['protocol']['name']}"
    name = record["model"] + (f" ({record['name']})" if "name" in record else "")
    print(f"{name} on {record['data']}, {record['images']} images at {size} px, {way}:")
    for metric, value in record["metrics"].items():
        low, high = record["confidence"].get(metric, (None, None))
        interval = "" if low is None else f"   95 % interval {low:.2f} … {high:.2f}"
        print(f"  {metric:20} {value:6.2f} %{interval}" if value is not None else f"  {metric:20}      –")
    for key, threshold in record.get("thresholds", {}).items():
        print(f"  best threshold of {key.upper()} for the whole data set: {threshold}")
    print(f"  {where}", flush=True)


def read_results(folder: Path) -> list[Result]:
    """Every result of `results/<data>/`, classifications first; UserError for the first that is unfit."""
    patterns = ("*/classification*.json", "*/localization-*.json")
    return [_result(path) for pattern in patterns for path in sorted(folder.glob(pattern))]


def _result(path: Path) -> Result:
    record = {"thresholds": {}} | read_record(path)
    record = {"loc_images": record["images"], "name": record["model"]} | record
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
    data, name = path.absolute().parts[-3:-1]
    again = f"evaluate it again: make eval-{kind} data={data} {'model' if name in model_names() else 'name'}={name}"
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
    run = "name" if "name" in record else "model"
    place = {"data": path.absolute().parent.parent.name, run: path.absolute().parent.name}
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
