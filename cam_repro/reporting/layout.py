"""How results are laid out as one table: rows that can stand together, cells, Markdown, CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from statistics import mode
from typing import NamedTuple

from cam_repro.provenance import unfinished
from cam_repro.reporting import paper
from cam_repro.reporting.results import Result

DASH = "–"  # what is missing or undefined
OWN = "the paper's own weights"


class Column(NamedTuple):
    """What stands in a column of each result: a metric or, where there is none, a fact."""

    heading: str
    metric: str = ""
    digits: int | None = None  # decimals of the paper's number; None: the paper has no such column
    fact: Callable[[Result], object] | None = None


@dataclass(frozen=True)
class Row:
    """Two results stand in one row where one of them is of the paper's own weights."""

    names: tuple[str, ...]
    result: Result | None
    own: Result | None = None  # of the paper's own weights
    published: dict[str, float] = field(default_factory=dict)  # metric -> the paper's, in %

    @property
    def results(self) -> list[Result]:
        return [run for run in (self.result, self.own) if run]


@dataclass(frozen=True)
class Table:
    """Errors and accuracies are percentages."""

    stem: str  # of its files
    title: str
    names: tuple[str, ...]  # the headings of the rows' names
    columns: tuple[Column, ...]
    rows: list[Row]
    notes: tuple[str, ...] = ()
    paper: str = "ILSVRC val"  # the images of the paper's numbers

    @property
    def results(self) -> list[Result]:
        return [run for row in self.rows for run in row.results]

    @property
    def is_full_val(self) -> bool:
        """Whether the paper's numbers are a target: the same data set, split and images."""
        for run in self.results:
            if (run.data, run.split, run.images) != ("ilsvrc", "val", paper.VAL_IMAGES):
                return False
            if run.loc_images not in paper.LOCALIZED_IMAGES:
                return False
        return True


# Rows: in which order, and what tells them apart.


def in_papers_order(runs: Sequence[Result]) -> list[Result]:
    """By network as in the paper's Table 1, method (cam first) and protocol (the paper's first)."""
    networks = list(paper.TABLE1)

    def place(run: Result) -> tuple[int, str, bool, str, bool, str]:
        network = paper.CAFFE.get(run.model, run.model)
        row = networks.index(network) if network in networks else len(networks)
        protocol = run.protocol["name"]
        return row, run.model, run.method != "cam", run.method, protocol != "paper", protocol

    return sorted(runs, key=place)


def distinctions(runs: Sequence[Result]) -> dict[Path, str]:
    """Path of a result -> what tells it from the others, in brackets; empty where nothing does."""
    found = {}
    usual_data = mode(run.provenance["data"] for run in runs)
    for run in runs:
        of_same_name = [other for other in runs if other.name == run.name]
        usual_weights = mode(other.provenance["weights"] for other in of_same_name)
        filters = {other.interpolation for other in of_same_name}  # by which images were shrunk
        unlike = []
        if run.name != run.model or (run.model in paper.CAFFE and not has_papers_weights(run)):
            unlike.append(run.name)
        if run.provenance["weights"] != usual_weights:  # other weights than most of its run's
            unlike.append(f"weights {run.provenance['weights'][:8]}")
        if run.provenance["data"] != usual_data:
            unlike.append(f"data {run.provenance['data'][:8]}")
        if len(filters) > 1:
            unlike.append(run.interpolation)
        if so_far := unfinished(run.provenance.get("training")):
            unlike.append(so_far)
        found[run.path] = f" ({', '.join(unlike)})" if unlike else ""
    return found


def has_papers_weights(run: Result) -> bool:
    """Whether it is a network of the paper not trained here, which only Caffe's files give."""
    return run.model in paper.CAFFE and not run.provenance.get("training")


def rows_of(
    runs: Sequence[Result],
    names_of: Callable[[Result], tuple[str, ...]],
    published: dict[tuple[str, ...], dict[str, float]] | None = None,
) -> list[Row]:
    """Every row of the paper, also those without a result, and then whatever else was measured.

    published: a row's names -> metric -> the paper's number; without it every result has a row of
    its own, with it one of the paper's own weights shares that of a network trained again.
    """
    published = published or {}
    groups: dict[tuple[str, ...], list[Result]] = {names: [] for names in published}
    for run in runs:
        groups.setdefault(names_of(run), []).append(run)
    rows = []
    for names, group in groups.items():
        own = [run for run in group if published and has_papers_weights(run)]
        others = [run for run in group if run not in own]
        for run, of_own_weights in list(zip_longest(others, own)) or [(None, None)]:
            rows.append(Row(names, run, of_own_weights, published.get(names, {})))
    return rows


# Text.

OWN_WEIGHTS = (
    "The paper's own weights: its Caffe networks, by files of weights that were not trained here."
)
SIGNS = "±: half the 95 % bootstrap interval over images; ↑: higher is better; –: no number."
GENERATED = "Generated by `make tables`; do not edit."


def markdown(table: Table) -> str:
    """Title, table and footer."""
    run = table.results[0]
    where = "ILSVRC val" if table.is_full_val else f"{run.data} {run.split}"
    title = f"# {table.title}, {where}, {run.images:,} images"
    lines = [title, "", *aligned(cells_of(table)), "", *bullets(_notes(table)), ""]
    return "\n".join(lines)


def bullets(notes: Sequence[str]) -> list[str]:
    return [f"- {note}" for note in notes]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table that lines up in plain text too: the first column left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        for cell, width in zip(row[1:], widths[1:], strict=True):
            cells.append(cell.rjust(width))
        lines.append(f"| {' | '.join(cells)} |")
    rule = [":" + "-" * (widths[0] - 1)]
    for width in widths[1:]:
        rule.append("-" * (width - 1) + ":")
    lines.insert(1, f"| {' | '.join(rule)} |")
    return lines


def cells_of(table: Table) -> list[list[str]]:
    """A table's heading and rows, without the columns that are all dashes."""
    header: list[str] = []
    lines = []
    for row in table.rows:
        cells = _cells(row, table)
        header = [heading for heading, _ in cells]
        lines.append([cell for _, cell in cells])
    columns = []
    for heading, *cells in zip(header, *lines, strict=True):
        if any(cell != DASH for cell in cells):
            columns.append((heading, *cells))
    return [list(line) for line in zip(*columns, strict=True)]


def _cells(row: Row, table: Table) -> list[tuple[str, str]]:
    """A row's cells from left to right, each under its heading.

    Off full ILSVRC val the paper's numbers stand in one column, as context only.
    """
    cells = list(zip(table.names, row.names, strict=True))
    context = []
    for column in table.columns:
        heading = column.heading
        here = _said(row.result, column)
        own = _said(row.own, column)
        published = row.published.get(column.metric)
        theirs = DASH if published is None else f"{published:.{column.digits}f}"
        if column.fact or column.metric.startswith("baseline_"):
            # It is of the images, and not of the networks.
            different = dict.fromkeys(value for value in (here, own) if value != DASH)
            cells.append((heading, " / ".join(different) or DASH))
        elif column.digits is not None and table.is_full_val:
            cells.append((f"{heading}: paper", theirs))
            cells.append((OWN, own))
            cells.append(("difference", _difference(row.own, column, published)))
            cells.append(("re-trained", here))
            cells.append(("difference", _difference(row.result, column, published)))
        else:
            cells.append((heading, here))
            cells.append((f"{heading}, {OWN}", own))
            if column.digits is not None:
                context.append(theirs)
    if not table.is_full_val:
        said = " / ".join(context) if set(context) - {DASH} else DASH
        cells.append((f"paper, {table.paper} (context only)", said))
    return cells


def _said(run: Result | None, column: Column) -> str:
    """What a column says of a result, a metric with half its interval."""
    if run is None:
        return DASH
    if not column.fact:
        return said_with_interval(run, column.metric)
    value = column.fact(run)
    return DASH if value is None else str(value)


def said_with_interval(run: Result, metric: str) -> str:
    """A metric with half its interval, where it has one, as `62.9 ± 4.2`."""
    value = run.metrics.get(metric)
    if value is None:
        return DASH
    low, high = run.interval(metric)
    return f"{value:.1f}" if low is None else f"{value:.1f} ± {(high - low) / 2:.1f}"


def _difference(run: Result | None, column: Column, published: float | None) -> str:
    value = run.metrics.get(column.metric) if run else None
    if value is None or published is None:
        return DASH
    return f"{value - published:+.1f}".replace("-", "−")


def _notes(table: Table) -> list[str]:
    """The lines under a table: what its signs mean, how it was measured, and by which code."""
    runs = table.results
    notes = [SIGNS, *table.notes]
    if any(row.own for row in table.rows):
        notes.append(OWN_WEIGHTS)
    protocols = {run.protocol["name"]: run.protocol for run in runs}
    for name in sorted(protocols):
        settings = [f"{key} {value}" for key, value in protocols[name].items() if key != "name"]
        notes.append(f"Protocol `{name}`: {', '.join(settings)}.")

    networks_of: dict[str, set[str]] = {}  # filter -> networks
    for run in runs:
        networks_of.setdefault(run.interpolation, set()).add(run.name)
    by = f"the {runs[0].interpolation} filter."
    if len(networks_of) > 1:
        filters = sorted(networks_of)
        said = [f"{name}: {', '.join(sorted(networks_of[name]))}" for name in filters]
        by = f"different filters. {'; '.join(said)}."
    notes.append(f"Images were shrunk to the network's input by {by}")

    first = runs[0]
    images = f"Images: {first.images:,} of {first.data} {first.split}"
    if first.kind != "classification":
        blacklist = first.provenance.get("blacklist") or "none"
        images += f", {first.loc_images:,} of them for localization; blacklist: {blacklist}"
    notes.append(f"{images}.")
    commits = set()
    for run in runs:
        dirty = "*" if run.provenance.get("dirty") else ""
        commits.add(f"`{run.provenance['commit'][:10]}`{dirty}")
    notes.append(f"Commits (*: and uncommitted changes): {', '.join(sorted(commits))}.")
    notes.append(GENERATED)
    return notes


def csv_of(table: Table) -> str:
    """A line for each result, unrounded, with the interval's ends and the paper's number."""
    lines = []
    for row in table.rows:
        for run in row.results or [None]:
            lines.append(_csv_line(row, run, table))
    return csv_text(lines)


def _csv_line(row: Row, run: Result | None, table: Table) -> dict[str, object]:
    """Column -> value, None where there is none; run: one of the row's results, if it has any."""
    line: dict[str, object] = dict(zip(table.names, row.names, strict=True))
    for key in ("model", "method", "data", "split", "images", "loc_images"):
        line[key] = getattr(run, key, None)
    line["protocol"] = run.protocol["name"] if run else None
    for key in ("weights", "commit"):
        line[key] = run.provenance[key] if run else None
    for column in table.columns:
        metric = column.metric
        if column.fact:
            line[column.heading] = column.fact(run) if run else None
            continue
        low, high = run.interval(metric) if run else (None, None)
        line[metric] = run.metrics.get(metric) if run else None
        line[f"{metric}_low"] = low
        line[f"{metric}_high"] = high
        if column.digits is not None:
            line[f"{metric}_paper"] = row.published.get(metric)
    return line


def csv_text(lines: Sequence[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
