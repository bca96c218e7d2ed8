"""The table of methods: where each one's maps lie, and whether they are faithful to the network.

A row is a method or a map-blind baseline of one network, a column a number of one kind of record. A
number that is worse than the best baseline's is in bold, since a map that asks the network nothing
would have done better. What a method has more than CAM is paired over the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from cam_repro import UserError
from cam_repro.evaluation.metrics import LOWER_IS_BETTER
from cam_repro.evaluation.record import read_shares
from cam_repro.localization.intervals import Shares, differences
from cam_repro.localization.methods import METHODS
from cam_repro.reporting.layout import DASH, GENERATED, aligned, bullets, csv_text
from cam_repro.reporting.results import EXPLANATIONS, Result

CENTRED_BOX = "centred box"  # a baseline that has a box and no map
BEST = " ★"
NOTES = (
    "↑: higher is better, ↓: lower is better; ±: half the 95 % bootstrap interval over images.",
    "★: the best method of a column. Bold: worse than the best map-blind baseline of the column, "
    "which are centre (a Gaussian in the middle), uniform, edges (Sobel) and a centred box of 0.75 "
    "of the sides.",
    "Matched: by the ranks of the map's pixels, so that the mask of every map is equally bright; "
    "without it a brighter mask loses less, whatever it shows.",
    "Less CAM: the method's number less CAM's, in points, with its 95 % interval, paired over the "
    "same images.",
)


class NumberColumn(NamedTuple):
    heading: str
    kind: str  # of its records
    metric: str

    @property
    def lower_is_better(self) -> bool:
        return self.metric in LOWER_IS_BETTER or self.metric.endswith("_error")

    @property
    def title(self) -> str:
        return f"{self.heading} {'↓' if self.lower_is_better else '↑'}"


COLUMNS = (
    NumberColumn("GT-known", "localization", "gt_known_loc"),
    NumberColumn("loc top-1", "localization", "loc_top1_error"),
    NumberColumn("pointing", "pointing", "pointing_game"),
    NumberColumn("energy", "pointing", "energy_inside"),
    NumberColumn("insertion", "faithfulness", "insertion"),
    NumberColumn("deletion", "faithfulness", "deletion"),
    NumberColumn("average drop", "faithfulness", "average_drop"),
    NumberColumn("average drop, matched", "faithfulness", "average_drop_matched"),
    NumberColumn("increase", "faithfulness", "increase"),
    NumberColumn("increase, matched", "faithfulness", "increase_matched"),
    NumberColumn("ROAD", "faithfulness", "road"),
    NumberColumn("rank correlation", "randomisation", "rank_correlation"),
    NumberColumn("SSIM", "randomisation", "ssim"),
)


@dataclass(frozen=True)
class Number:
    """Of a row and a column, in percent; interval: of the number; less_cam: difference, low, high.

    is_best: of the methods; is_below: worse than the best baseline.
    """

    value: float
    interval: tuple[float, float] | None
    less_cam: tuple[float, float, float] | None
    is_best: bool = False
    is_below: bool = False

    def said(self) -> str:
        text = f"{self.value:.1f}"
        if self.interval is not None:
            low, high = self.interval
            text += f" ± {(high - low) / 2:.1f}"
        if self.is_best:
            text += BEST
        return f"**{text}**" if self.is_below else text

    def said_less_cam(self) -> str:
        if self.less_cam is None:
            return DASH
        return "{:+.1f} ({:+.1f} … {:+.1f})".format(*self.less_cam).replace("-", "−")


@dataclass(frozen=True)
class MethodsTable:
    """Of one network: rows (method or baseline) -> metric -> number; results: those behind it."""

    name: str
    rows: dict[str, dict[str, Number]]
    results: list[Result]

    @property
    def columns(self) -> list[NumberColumn]:
        """Those with a number."""
        measured = {metric for row in self.rows.values() for metric in row}
        return [column for column in COLUMNS if column.metric in measured]

    def cells(self) -> list[list[str]]:
        """Heading and rows."""
        return self._cells_by(lambda number: number.said())

    def cells_less_cam(self) -> list[list[str]]:
        """Heading and rows of the differences to CAM, of those that have one; else nothing."""
        heading, *rows = self._cells_by(lambda number: number.said_less_cam())
        rows = [row for row in rows if set(row[1:]) != {DASH}]
        return [heading, *rows] if rows else []

    def _cells_by(self, said: Callable[[Number], str]) -> list[list[str]]:
        lines = [["method", *(column.title for column in self.columns)]]
        for method, row in self.rows.items():
            line = [method]
            for column in self.columns:
                number = row.get(column.metric)
                line.append(DASH if number is None else said(number))
            lines.append(line)
        return lines


def is_baseline(method: str) -> bool:
    return method == CENTRED_BOX or (method in METHODS and METHODS[method].is_baseline)


def methods_tables(runs: Sequence[Result]) -> list[MethodsTable]:
    """A table of each network that has a record of pointing, faithfulness or randomisation."""
    of_networks: dict[tuple[str, str], list[Result]] = {}
    for run in runs:
        network = (run.name, run.provenance["weights"])
        of_networks.setdefault(network, []).append(run)
    tables = []
    for (name, _), of_network in of_networks.items():
        if any(run.kind in EXPLANATIONS for run in of_network):
            tables.append(_table_of(name, of_network))
    return tables


def _table_of(name: str, runs: Sequence[Result]) -> MethodsTable:
    results = []
    rows: dict[str, dict[str, Number]] = {}
    for kind in dict.fromkeys(column.kind for column in COLUMNS):
        chosen = _of_one_protocol([run for run in runs if run.kind == kind])
        results += chosen.values()
        cam = _shares(chosen.get("cam"))
        for method, run in chosen.items():
            own = {} if method == "cam" else _shares(run)
            for column in COLUMNS:
                if column.kind == kind and run.metrics.get(column.metric) is not None:
                    number = _number(run, column.metric, cam, own)
                    rows.setdefault(method, {})[column.metric] = number
        if kind == "localization" and chosen:
            any_run = next(iter(chosen.values()))
            centred = Number(any_run.metrics["baseline_centre_box"], None, None)
            rows[CENTRED_BOX] = {"gt_known_loc": centred}
    order = [*METHODS, CENTRED_BOX]
    ordered = {method: rows[method] for method in sorted(rows, key=order.index)}
    return MethodsTable(name, _marked(ordered), results)


def _of_one_protocol(runs: Sequence[Result]) -> dict[str, Result]:
    """Method -> its result, by the protocol of which there are the most methods, then images.

    Boxes are those by the paper's protocol.
    """
    by_protocol: dict[str, dict[str, Result]] = {}
    for run in runs:
        protocol = run.protocol["name"]
        if run.kind != "localization" or protocol == "paper":
            by_protocol.setdefault(protocol, {})[run.method] = run
    if not by_protocol:
        return {}

    def size(of_protocol: dict[str, Result]) -> tuple[int, int]:
        return len(of_protocol), max(run.images for run in of_protocol.values())

    return max(by_protocol.values(), key=size)


def _shares(run: Result | None) -> Shares:
    """What each image adds to the numbers; nothing where the file beside the record is missing."""
    if run is not None:
        with suppress(UserError):
            return read_shares(run.path)
    return {}


def _number(run: Result, metric: str, cam: Shares, own: Shares) -> Number:
    interval = run.confidence.get(metric)
    less_cam = None
    if metric in cam and metric in own:
        less_cam = differences([cam], [own], [metric]).get(metric)
    return Number(run.metrics[metric], tuple(interval) if interval else None, less_cam)


def _marked(rows: dict[str, dict[str, Number]]) -> dict[str, dict[str, Number]]:
    """The rows with the best method of each column, and whatever is worse than its baselines."""
    marked: dict[str, dict[str, Number]] = {method: {} for method in rows}
    for column in COLUMNS:
        sign = -1 if column.lower_is_better else 1
        of_column = {}
        for method, row in rows.items():
            if column.metric in row:
                of_column[method] = row[column.metric]
        of_methods = [sign * n.value for m, n in of_column.items() if not is_baseline(m)]
        of_baselines = [sign * n.value for m, n in of_column.items() if is_baseline(m)]
        for method, number in of_column.items():
            value = sign * number.value
            is_method = not is_baseline(method)
            is_best = is_method and len(of_methods) > 1 and value == max(of_methods)
            is_below = is_method and bool(of_baselines) and value < max(of_baselines)
            marked[method][column.metric] = Number(
                number.value, number.interval, number.less_cam, is_best, is_below
            )
    return marked


# The tables as files.


def texts_of_methods(runs: Sequence[Result]) -> dict[str, str]:
    """methods.md and methods.csv, both empty where there is no such record."""
    tables = methods_tables(runs)
    if not tables:
        return {"methods.md": "", "methods.csv": ""}
    first = tables[0].results[0]
    lines = [f"# Methods and their scores (%), {first.data} {first.split}", ""]
    for table in tables:
        lines += [f"## {table.name}", "", *aligned(table.cells()), ""]
        if less_cam := table.cells_less_cam():
            lines += [f"### {table.name}, less CAM", "", *aligned(less_cam), ""]
    lines += [*bullets([*NOTES, *_notes(tables), GENERATED]), ""]
    return {"methods.md": "\n".join(lines), "methods.csv": csv_text(_csv_lines(tables))}


def _notes(tables: Sequence[MethodsTable]) -> list[str]:
    """The images and settings of each kind of record, and the commits."""
    said = {}
    commits = set()
    for table in tables:
        for run in table.results:
            settings = [f"{key} {value}" for key, value in run.protocol.items() if key != "name"]
            name = run.protocol["name"]
            said[name] = f"Protocol `{name}`: {run.images:,} images; {', '.join(settings)}."
            dirty = "*" if run.provenance.get("dirty") else ""
            commits.add(f"`{run.provenance['commit'][:10]}`{dirty}")
    definitions = "Each number's definition: docs/protocol.md, and `definitions` of its record."
    commit = f"Commits (*: and uncommitted changes): {', '.join(sorted(commits))}."
    return [*said.values(), definitions, commit]


def _csv_lines(tables: Sequence[MethodsTable]) -> list[dict[str, object]]:
    lines = []
    for table in tables:
        for method, row in table.rows.items():
            for metric, number in row.items():
                low, high = number.interval or (None, None)
                less, less_low, less_high = number.less_cam or (None, None, None)
                line = {
                    "network": table.name,
                    "method": method,
                    "is_baseline": is_baseline(method),
                    "metric": metric,
                    "value": number.value,
                    "low": low,
                    "high": high,
                    "less_cam": less,
                    "less_cam_low": less_low,
                    "less_cam_high": less_high,
                    "is_best": number.is_best,
                    "is_below_baseline": number.is_below,
                }
                lines.append(line)
    return lines
