"""Result files read back: each checked by itself, then against the others it shall share a table with."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cam_repro import UserError
from cam_repro.reporting.paper import LOCALIZATION, Comparison, Intervals, Metrics

SCHEMA = 1
UNDEFINED_IF_NONE_RIGHT = "loc_given_cls"  # the only metric that may be null


@dataclass(frozen=True)
class Result:
    """One evaluation, read from `path` and checked."""

    path: Path
    model: str
    method: str  # "cam" for a classification, which has none
    data: str
    split: str
    images: int
    input_size: int  # pixels a side of what the network saw
    protocol: dict[str, Any]
    metrics: Metrics
    confidence: Intervals
    provenance: dict[str, Any]


def read_result(path: Path, kind: Comparison) -> Result:
    """The checked content of a result file; a UserError names the file and the key at fault."""
    document = _load(path)
    if document.get("schema") != SCHEMA:
        raise _unfit(path, f"has schema {document.get('schema')!r}, this version reads {SCHEMA}")
    wanted = {"model": str, "data": str, "split": str, "images": int, "input_size": int}
    wanted |= dict.fromkeys(("protocol", "metrics", "confidence", "provenance"), dict)
    for key, kind_of_value in wanted.items():
        if not isinstance(document.get(key), kind_of_value):
            raise _unfit(path, f"has no valid {key!r}")
    _check_place(path, document)
    _check_metrics(path, document, kind)
    method = document["method"] if kind is LOCALIZATION else "cam"
    return Result(path=path, method=method, **{key: document[key] for key in wanted})


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # JSON's and UTF-8's errors are both ValueErrors
        raise _unfit(path, f"cannot be read as JSON ({error})") from error
    if not isinstance(document, dict):
        raise _unfit(path, "is not a JSON object")
    return document


def _check_place(path: Path, document: dict[str, Any]) -> None:
    """A file copied or renamed by hand must not lend its numbers to another network, data set or protocol."""
    place = {"data": path.parent.parent.name, "model": path.parent.name}
    said = {key: document[key] for key in place}
    if path.name != "classification.json":
        _, place["method"], place["protocol.name"] = path.stem.split("-", 2)
        said |= {"method": document.get("method"), "protocol.name": document["protocol"].get("name")}
    for key, expected in place.items():
        if said[key] != expected:
            raise _unfit(path, f"says {key} is {said[key]!r}, but its place says {expected!r}")


def _check_metrics(path: Path, document: dict[str, Any], kind: Comparison) -> None:
    for metric in kind.metrics:
        value = document["metrics"].get(metric)
        undefined = metric == UNDEFINED_IF_NONE_RIGHT and metric in document["metrics"] and value is None
        if not undefined and not _is_percentage(value):
            raise _unfit(path, f"has no percentage at metrics.{metric} (found {value!r})")
        interval = document["confidence"].get(metric)
        if interval is not None and not _is_interval(interval):
            raise _unfit(path, f"has no interval [low, high] at confidence.{metric} (found {interval!r})")


def _is_percentage(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100


def _is_interval(value: object) -> bool:
    numbers = isinstance(value, list) and len(value) == 2 and all(map(_is_percentage, value))
    return numbers and value[0] <= value[1]


def _unfit(path: Path, problem: str) -> UserError:
    return UserError(f"{path} {problem}; remove it or type `{_evaluate(path)}`")


def _evaluate(path: Path) -> str:
    """The command that makes this result file."""
    where = f"data={path.parent.parent.name} model={path.parent.name}"
    if path.name == "classification.json":
        return f"make eval-classification {where}"
    _, method, protocol = path.stem.split("-", 2)
    args = "" if method == "cam" else f' args="method={method}"'
    return f"make eval-localization {where} protocol={protocol}{args}"


def refuse_mixtures(runs: list[Result]) -> None:
    """UserError if two results differ in data, images or protocol."""
    for other in runs[1:]:
        first, second = _fingerprint(runs[0]), _fingerprint(other)
        differing = sorted(key for key in first | second if first.get(key) != second.get(key))
        if differing:
            what = ", ".join(f"{key} ({first.get(key)} against {second.get(key)})" for key in differing)
            raise UserError(
                f"{runs[0].path} and {other.path} cannot share a table, they differ in {what}; "
                f"remove one or evaluate it like the other, e.g. `{_evaluate(other.path)}`"
            )


def _fingerprint(run: Result) -> dict[str, object]:
    """What all rows of a table must agree on; equal floors show that the images are the same ones."""
    what = {"data": run.data, "split": run.split, "images": run.images}
    what |= {f"protocol.{key}": value for key, value in run.protocol.items()}
    floors = run.metrics.keys() & LOCALIZATION.floors.keys()
    return what | {f"{key} of the images": run.metrics[key] for key in floors}
