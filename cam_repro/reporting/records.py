"""Result files read back: each checked by itself, then against the others it shall share a table with."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cam_repro import UserError
from cam_repro.reporting.paper import CLASSIFICATION, LOCALIZATION, Intervals, Metrics

SCHEMA = 1
UNDEFINED_IF_NONE_RIGHT = "loc_given_cls"  # the only metric that may be null
SWEEP = "sweep"  # the `boxes` of a protocol that measures MaxBoxAcc
SWEEP_METRICS = (
    *(f"max_box_acc_{key}" for key in ("v1", "v2", "v1_at_20", "v2_at_20")),
    *(f"floor_{box}{version}" for version in ("", "_v2") for box in ("whole_image", "centre_box")),
)
Facts = dict[str, object]


@dataclass(frozen=True)
class Result:
    """One evaluation, read from `path` and checked."""

    path: Path
    model: str
    method: str  # "cam" for a classification, which has none
    data: str
    split: str
    images: int
    loc_images: int  # how many of them count for localization
    input_size: int  # pixels a side of what the network saw
    protocol: dict[str, Any]
    metrics: Metrics
    confidence: Intervals
    thresholds: dict[str, float]  # of a sweep: "v1", "v2" -> the best one for the whole data set; else empty
    provenance: dict[str, Any]

    @property
    def is_sweep(self) -> bool:
        return self.protocol.get("boxes") == SWEEP

    @property
    def blacklist(self) -> str:
        """The hash of the list of images left out of localization; older files say only whether there was one."""
        return str(self.provenance.get("blacklist") or "none")


def read_result(path: Path) -> Result:
    """The checked content of a result file; a UserError names the file and the key at fault."""
    document = _load(path)
    if document.get("schema") != SCHEMA:
        raise _unfit(path, f"has schema {document.get('schema')!r}, this version reads {SCHEMA}")
    document = {"loc_images": document.get("images"), "thresholds": {}} | document
    wanted = dict.fromkeys(("model", "data", "split"), str) | dict.fromkeys(("images", "loc_images", "input_size"), int)
    wanted |= dict.fromkeys(("protocol", "metrics", "confidence", "thresholds", "provenance"), dict)
    for key, kind_of_value in wanted.items():
        if not isinstance(document.get(key), kind_of_value):
            raise _unfit(path, f"has no valid {key!r}")
    _check_place(path, document)
    _check_numbers(path, document)
    method = "cam" if _is_classification(path) else document["method"]
    return Result(path=path, method=method, **{key: document[key] for key in wanted})


def _is_classification(path: Path) -> bool:
    return path.name == "classification.json"


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
    if not _is_classification(path):
        place["method"], place["protocol.name"] = method_and_protocol(path)
        said |= {"method": document.get("method"), "protocol.name": document["protocol"].get("name")}
    for key, expected in place.items():
        if said[key] != expected:
            raise _unfit(path, f"says {key} is {said[key]!r}, but its place says {expected!r}")


def _check_numbers(path: Path, document: dict[str, Any]) -> None:
    metrics, required = document["metrics"], _required_metrics(path, document)
    for metric in (*required, *(name for name in metrics if name not in required)):
        value = metrics.get(metric)
        undefined = metric == UNDEFINED_IF_NONE_RIGHT and metric in metrics and value is None
        if not undefined and not _is_percentage(value):
            raise _unfit(path, f"has no percentage at metrics.{metric} (found {value!r})")
    for metric, interval in document["confidence"].items():
        if not _is_interval(interval):
            raise _unfit(path, f"has no interval [low, high] at confidence.{metric} (found {interval!r})")
    for key in ("v1", "v2") if document["protocol"].get("boxes") == SWEEP else ():
        threshold = document["thresholds"].get(key)
        if not _is_number(threshold) or not 0 <= threshold <= 1:
            raise _unfit(path, f"has no fraction at thresholds.{key} (found {threshold!r})")


def _required_metrics(path: Path, document: dict[str, Any]) -> tuple[str, ...]:
    if _is_classification(path):
        return CLASSIFICATION.metrics
    return SWEEP_METRICS if document["protocol"].get("boxes") == SWEEP else LOCALIZATION.metrics


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_percentage(value: object) -> bool:
    return _is_number(value) and 0 <= value <= 100


def _is_interval(value: object) -> bool:
    numbers = isinstance(value, list) and len(value) == 2 and all(map(_is_percentage, value))
    return numbers and value[0] <= value[1]


def _unfit(path: Path, problem: str) -> UserError:
    return UserError(f"{path} {problem}; remove it or type `{command_for(path)}`")


def method_and_protocol(path: Path) -> tuple[str, str]:
    """What the name of a localization's file says."""
    _, method, protocol = path.stem.split("-", 2)
    return method, protocol


def command_for(path: Path) -> str:
    """The command that makes this result file."""
    where = f"data={path.parent.parent.name} model={path.parent.name}"
    if _is_classification(path):
        return f"make eval-classification {where}"
    method, protocol = method_and_protocol(path)
    args = "" if method == "cam" else f' args="method={method}"'
    return f"make eval-localization {where} protocol={protocol}{args}"


def of_a_column(run: Result) -> Facts:
    """What all results in a column agree on; equal floors show that the images are the same ones."""
    facts: Facts = {"data": run.data, "split": run.split, "images": run.images}
    facts |= {} if _is_classification(run.path) else {"loc_images": run.loc_images}
    facts |= {f"protocol.{key}": value for key, value in run.protocol.items()}
    return facts | {f"{key} of the images": value for key, value in run.metrics.items() if key.startswith("floor_")}


def refuse_mixtures(runs: Sequence[Result], facts: Callable[[Result], Facts] = of_a_column) -> None:
    """UserError if two results differ in what they must agree on."""
    if found := mixture(runs, facts):
        first, other, what = found
        raise UserError(
            f"{first.path} and {other.path} cannot share a table, they differ in {what}; "
            f"remove one or evaluate it like the other, e.g. `{command_for(other.path)}`"
        )


def mixture(runs: Sequence[Result], facts: Callable[[Result], Facts]) -> tuple[Result, Result, str] | None:
    """The first two results that differ in `facts`, and how; None if all agree."""
    for other in runs[1:]:
        first, second = facts(runs[0]), facts(other)
        differing = sorted(key for key in first | second if first.get(key) != second.get(key))
        if differing:
            what = ", ".join(f"{key} ({first.get(key)} against {second.get(key)})" for key in differing)
            return runs[0], other, what
    return None
