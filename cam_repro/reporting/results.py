"""What an evaluation leaves: its JSON (schema 1, percent everywhere) and what lies beside it; read back and checked."""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cam_repro import UserError
from cam_repro.config import ProtocolConfig, written_protocols
from cam_repro.data import imagenet_classes
from cam_repro.data.split import load_arrays, save_arrays
from cam_repro.evaluation.evaluate import Evaluation, Job, Outcome
from cam_repro.evaluation.predictions import write_predictions
from cam_repro.files import write_text
from cam_repro.localization.errors import ScoredImages, bootstrap_intervals, bootstrap_mean, summarise
from cam_repro.provenance import device_name, git_state, versions
from cam_repro.reporting.figures import write_curve, write_curve_csv, write_figure

SCHEMA = 1
METRICS = {  # what each kind of result holds at least, in percent; null is undefined
    "classification": ("cls_top1_error", "cls_top5_error"),
    "localization": ("cls_top1_error", "cls_top5_error", "loc_top1_error", "loc_top5_error", "loc_given_cls",
                     "gt_known_loc", "floor_whole_image", "floor_centre_box"),
    "sweep": ("max_box_acc_v1", "max_box_acc_v2", "max_box_acc_v1_at_20", "max_box_acc_v2_at_20",
              "floor_whole_image", "floor_whole_image_v2", "floor_centre_box", "floor_centre_box_v2"),
}  # fmt: skip
KEYS = ("model", "data", "split", "images", "input_size", "method", "protocol.name", "protocol.view", "confidence",
        "provenance.weights", "provenance.data", "provenance.commit")  # fmt: skip
EVERY_TIME = ("seconds", "date")  # differ between two runs of the same evaluation


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
    thresholds: dict[str, float]  # of a sweep: "v1", "v2" -> the best one for the whole data set; else empty
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
    texts = [key + ("_".join(map(str, v)) if isinstance(v, list) else str(v).lower()) for key, v in changed.items()]
    return "-".join([protocol.name, *texts])


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
        "network": _hash(asdict(trained.model)),
        "weights": trained.weights.sha256,
        "training": trained.weights.training,
        "data": evaluation.fingerprint,
        "settings": {key: getattr(config, key) for key in ("seed", "deterministic", "eval_batch_size")},
        "blacklist": _hash(sorted(evaluation.blacklist)) if evaluation.blacklist else None,
        "precision": "float32",
        "versions": versions(),
        "device": device_name(str(evaluation.world.device)),
    }


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def measured(job: Job, outcome: Outcome) -> dict[str, Any]:
    """A record's numbers: images, metrics in %, 95 % intervals; None where there was nothing to measure on."""
    if (sweep := outcome.sweep) is not None:
        counts = {"images": len(outcome.best_classes)}
        keys = {name: name.removeprefix("max_box_acc_") for name in METRICS["sweep"]}
        metrics = {name: sweep[key] for name, key in keys.items()}
        # The images are redrawn at the threshold that was best for all.
        intervals = {name: bootstrap_mean(sweep[f"right_{key}"]) for name, key in keys.items() if key != name}
        more = {"thresholds": {key: round(sweep[f"threshold_{key}"], 3) for key in ("v1", "v2")}}
    else:
        counts, more = outcome.scored.counts(), {}
        kind, begin = ("classification", "cls_") if job.method is None else ("localization", "")
        metrics = {name: value for name, value in summarise(outcome.scored).items() if name.startswith(begin)}
        intervals = {name: of for name, of in bootstrap_intervals(outcome.scored).items() if name in metrics}
        metrics |= {name: None for name in METRICS[kind] if name not in metrics}
    return {
        **counts,
        "metrics": {name: value if value is None else round(float(value), 4) for name, value in metrics.items()},
        "confidence": {name: [round(bound, 4) for bound in interval] for name, interval in intervals.items()},
        **more,
    }


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
            if same and all(file.is_file() for file in _beside(path, job)):
                print_record(record, f"{path} (nothing has changed since; force=true evaluates again)")
                found = record
    return evaluation.world.broadcast(found)


def _beside(path: Path, job: Job) -> list[Path]:
    """What is left beside a result's JSON; predictions.txt is the paper's own, the others say what they are of."""
    if job.method is None:
        return []
    if job.protocol.boxes == "sweep":
        return [path.with_suffix(".csv"), path.with_suffix(".png")]
    of = path.stem.removeprefix("localization").removesuffix("-cam-paper")
    return [path.with_name(f"predictions{of}.txt"), path.with_suffix(".npz"), path.with_suffix(".png")]


def read_judgements(path: Path) -> ScoredImages:
    """What was right on each image, beside the JSON of a localization result. Raises UserError."""
    beside = path.with_suffix(".npz")
    try:
        return ScoredImages(**load_arrays(beside))
    except TypeError:  # without its columns, or with others
        raise UserError(
            f"{beside}, what was right on each image, is not there or damaged; give a localization-….json of boxes, or "
            "evaluate again with force=true"
        ) from None


def write_outcome(evaluation: Evaluation, job: Job, outcome: Outcome) -> dict[str, Any]:
    """Write and print what an evaluation found for a job: its record, predictions or curve, and a figure."""
    path = result_path(evaluation, job)
    record = {**heading(evaluation, job), **measured(job, outcome), "provenance": origin(evaluation)}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record["provenance"] |= {"seconds": round(outcome.seconds, 1), "date": now}
    if outcome.sweep is not None:
        curve, figure = _beside(path, job)
        write_curve_csv(curve, outcome.sweep)
        title = f"{record['model']}, {job.method}, {record['data']}, {record['images']:,} images"
        write_curve(figure, outcome.sweep, title)
    elif job.method is not None:
        predictions, judgements, figure = _beside(path, job)
        record["labels"] = "imagenet" if evaluation.trained.wnids == imagenet_classes()[0] else "mapping"
        write_predictions(predictions, outcome.labels, outcome.boxes)
        save_arrays(judgements, **{key: of for key, of in vars(outcome.scored).items() if of is not None})
        write_figure(figure, evaluation.split, outcome.best_classes, outcome.heatmaps, outcome.true_class_boxes)
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
    record = read_record(path)
    record = {"thresholds": {}, "loc_images": record["images"], "name": record["model"]} | record
    if record["protocol"].get("guesses") == "heuristics":  # its five guesses name three classes
        record["metrics"]["cls_top5_error"] = None
    given = {key: value for key, value in record.items() if key in Result.__annotations__}
    return Result(path=path, kind=_kind(path, record), **given)


def _kind(path: Path, record: dict[str, Any]) -> str:
    if path.name.startswith("classification"):
        return "classification"
    return "sweep" if record.get("protocol", {}).get("boxes") == "sweep" else "localization"


def read_record(path: Path) -> dict[str, Any]:
    """The content of a result file. Raises UserError where it is damaged, impossible or another's."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        _check(path, record)
    except (OSError, ValueError, TypeError, AttributeError) as error:  # JSON's and UTF-8's errors are ValueErrors
        again = f"remove it and evaluate again: make eval-{path.stem.partition('-')[0]}"
        raise UserError(f"{path} cannot be read as a result: {error}; {again}") from None
    return record


def _check(path: Path, record: dict[str, Any]) -> None:
    """Raises ValueError, TypeError or AttributeError."""
    if record.get("schema") != SCHEMA:
        raise ValueError(f"schema is {record.get('schema')}, expected {SCHEMA}")
    kind, parts = _kind(path, record), ("protocol", "metrics", "provenance")
    there = {*record, *(f"{part}.{key}" for part in parts for key in record.get(part, ()))}
    for key in (*KEYS, *(f"metrics.{name}" for name in METRICS[kind])):
        if key not in there:
            raise ValueError(f"{key} is missing")
    name = file_name(None if kind == "classification" else record["method"], record["protocol"]["name"])
    own = Path(record["data"], record.get("name", record["model"]), name)
    if path.absolute().parts[-3:] != own.parts:  # a file copied by hand must not lend its numbers to another network
        raise ValueError(f"this is the content of {own}")
    for name, value in record["metrics"].items():
        bounds = record["confidence"].get(name, [])
        if value is not None and not all(0 <= number <= 100 for number in (value, *bounds)):
            raise ValueError(f"metrics.{name} is {value}, its interval {bounds}, expected percentages")
