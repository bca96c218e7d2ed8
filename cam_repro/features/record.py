"""What `make svm` leaves of each classifier: a JSON of its numbers, and beside it what was right.

The files are `results/<data>/<model>/svm-<head>-<protocol>-<scaling>-<draws>.json` (schema 1,
percent).
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cam_repro import UserError
from cam_repro.data.split import save_arrays
from cam_repro.evaluation.record import SCHEMA, origin_of, protocol_name
from cam_repro.evaluation.spec import Evaluation
from cam_repro.features.extract import input_size, interpolation
from cam_repro.features.heads import HEADS
from cam_repro.files import read_bytes, replacing_together, write_text

KEYS = (
    "model", "data", "split", "images", "train_images", "head", "solver", "scaling", "c", "grid",
    "tolerance", "intercept_scaling", "draws", "per_class", "metrics", "deviation", "confidence",
    "provenance",
)  # fmt: skip


def draws_name(per_class: int | None, test_per_class: int | None, draws: int) -> str:
    """`official`, or how many images of each class are drawn, how often: `100x10`, `30+29x10`."""
    if per_class is None and test_per_class is None:
        return "official"
    train = "all" if per_class is None else str(per_class)
    test = "" if test_per_class is None else f"+{test_per_class}"
    return f"{train}{test}x{draws}"


def svm_path(evaluation: Evaluation, head: str, crop: str | None = None) -> Path:
    """Of the record of a head on the test images of an evaluation, whole or cropped."""
    config = evaluation.config
    protocol = protocol_name(config.protocol)
    settings = config.svm
    drawn = draws_name(settings.per_class, settings.test_per_class, settings.draws)
    parts = ["svm", head, protocol, settings.scaling, drawn]
    if len(settings.c) == 1:
        parts.append(f"c{settings.c[0]:g}")
    if config.seed != 0:
        parts.append(f"seed{config.seed}")
    if evaluation.split.name not in ("val", "all"):
        parts.append(evaluation.split.name)
    if crop is not None:
        parts.append(crop)
    folder = Path(config.results, config.data.name, evaluation.trained.name)
    return folder / ("-".join(parts) + ".json")


def write_svm_record(
    evaluation: Evaluation,
    head: str,
    measured: dict[str, Any],
    per_image: dict[str, np.ndarray],
    seconds: float,
) -> dict[str, Any]:
    """Write and print what was found of a head; both files take their places together.

    measured: the parts of the record that were measured; per_image: arrays (N,) over the test
    split.
    """
    config = evaluation.config
    settings = config.svm
    trained = evaluation.trained
    path = svm_path(evaluation, head, measured.get("crop"))
    beside = path.with_suffix(".npz")
    protocol = {"name": protocol_name(config.protocol), "view": config.protocol.view}
    if "loc_images" in measured:
        for key in ("boxes", "threshold", "thresholds", "resize"):
            value = getattr(config.protocol, key)
            if value is not None:
                protocol[key] = value
    record: dict[str, Any] = {"schema": SCHEMA, "model": trained.model.name}
    if trained.name != trained.model.name:
        record["name"] = trained.name
    record |= {
        "data": config.data.name,
        "split": evaluation.split.name,
        "input_size": input_size(evaluation),
        "interpolation": interpolation(evaluation),
        "protocol": protocol,
        "head": head,
        "solver": HEADS[head].solver,
        "intercept_scaling": HEADS[head].intercept_scaling,
        "scaling": settings.scaling,
        "tolerance": settings.tolerance,
        "grid": settings.c,
        "folds": settings.folds,
        "per_class": settings.per_class,
        "test_per_class": settings.test_per_class,
    }
    record |= measured
    origin = origin_of(evaluation)
    origin["versions"] = origin["versions"] | {"scikit-learn": version("scikit-learn")}
    with replacing_together([beside, path]) as (arrays_file, record_file):
        save_arrays(arrays_file, **per_image)
        record["files"] = {beside.name: hashlib.sha256(arrays_file.read_bytes()).hexdigest()}
        record["provenance"] = {
            **origin,
            "seconds": round(seconds, 1),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_text(record_file, json.dumps(record, indent=1, default=np.generic.item) + "\n")
    print_svm_record(record, path)
    return record


def print_svm_record(record: dict[str, Any], where: Path) -> None:
    name = record.get("name", record["model"])
    view = record["protocol"]["view"]
    draws = record["draws"]
    images = f"{record['train_images']:,} training and {record['images']:,} test images"
    times = f", {draws} draws" if draws > 1 else ""
    scale = record["intercept_scaling"]
    intercept = "not penalised" if scale is None else f"of intercept_scaling {scale:g}"
    print(f"{record['head']} on {name}, {record['data']} {record['split']}, {images}{times}:")
    seen = f"inside of {record['crop']}, " if "crop" in record else ""
    print(f"  {seen}{view}, {record['input_size']} px, {record['interpolation']}")
    print(f"  features: {record['features']}; scaling {record['scaling']}")
    print(f"  {record['solver']}; tolerance {record['tolerance']:g}; intercept {intercept}")
    print(f"  C {said_c(record)}")
    for metric, value in record["metrics"].items():
        deviation = record["deviation"].get(metric)
        low, high = record["confidence"].get(metric, (None, None))
        said = "     –" if value is None else f"{value:6.2f} %"
        over_draws = "" if deviation is None else f" ± {deviation:.2f} over draws"
        interval = "" if low is None else f"   95 % interval {low:.2f} … {high:.2f}"
        print(f"  {metric:24} {said}{over_draws}{interval}")
    if "gain" in record:
        gain, low, high = record["gain"]
        interval = f"95 % interval {low:+.2f} … {high:+.2f}, paired over images"
        print(f"  gain over full images {gain:+7.2f}     {interval}")
    print(f"  {where}", flush=True)


def chosen_c(record: dict[str, Any]) -> str:
    """Every C that was chosen in a draw, as `0.01/0.1`."""
    return "/".join(f"{c:g}" for c in sorted(set(record["c"])))


def said_c(record: dict[str, Any]) -> str:
    """The chosen values of C, and whether one lies at the edge of the grid."""
    found = []
    chosen = record["c"]
    for c in sorted(set(chosen)):
        times = chosen.count(c)
        how_often = f" in {times} draws" if times < len(chosen) else ""
        found.append(f"{c:g}{how_often}")
    grid = record["grid"]
    if len(grid) == 1:
        return f"{found[0]}, as given"
    said = f"{', '.join(found)} by {record['folds']} folds of the training images, of {grid}"
    edges = [c for c in (grid[0], grid[-1]) if c in chosen]
    if edges:
        beyond = " and ".join(f"{c:g}" for c in edges)
        said += f"; {beyond} lies at the grid's edge: give svm.c= values beyond it"
    return said


def svm_record_files(folder: Path) -> list[Path]:
    """The records of `results/<data>/`."""
    return sorted(folder.glob("*/svm-*.json"))


def read_svm_record(path: Path) -> dict[str, Any]:
    """The content of a record. Raises UserError where it is damaged or another's."""
    try:
        record = json.loads(read_bytes(path))
        if record["schema"] != SCHEMA:
            raise ValueError(f"schema is {record['schema']}, expected {SCHEMA}")
        missing = [key for key in KEYS if key not in record]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        folder = (record["data"], record.get("name", record["model"]))
        if path.absolute().parts[-3:-1] != folder:
            raise ValueError(f"this is a record of {'/'.join(folder)}")
        for name, value in record["metrics"].items():
            if value is not None and not 0 <= value <= 100:
                raise ValueError(f"metrics.{name} is {value}, expected a percentage")
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read as a record of make svm: {error}; remove it and type make svm"
        ) from None
    return record
