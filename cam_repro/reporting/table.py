"""One table: columns, each a heading and a metric, over rows, each of one result or two; as
Markdown and as CSV.

Errors and accuracies are percentages. What is missing or undefined is a dash; what is all dashes is
left out.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cam_repro.reporting import paper
from cam_repro.reporting.results import Result

DASH = "–"
OWN = "the paper's own weights"
SAID = (
    "model",
    "method",
    "data",
    "split",
    "images",
    "loc_images",
    "protocol",
    "weights",
    "commit",
)  # of each in a CSV
OWN_WEIGHTS = (
    "The paper's own weights: its Caffe networks, by files of weights that were not trained here."
)


class Column(NamedTuple):
    heading: str
    value: str | Callable[[Result], object]  # a metric, or what else to say of a result
    digits: int | None = None  # decimals of the paper's value; None: the paper has no such column


@dataclass(frozen=True)
class Row:
    names: tuple[str, ...]
    result: Result | None
    own: Result | None = None  # of the paper's own weights
    published: dict[str, float] = field(default_factory=dict)  # metric -> the paper's, in %

    @property
    def results(self) -> list[Result]:
        return [run for run in (self.result, self.own) if run]


@dataclass(frozen=True)
class Table:
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
        full = ("ilsvrc", "val", paper.VAL_IMAGES)
        return all(
            (run.data, run.split, run.images) == full and run.loc_images in paper.LOCALIZED_IMAGES
            for run in self.results
        )


def cells_of(table: Table) -> list[list[str]]:
    """A table's heading and rows; off full ILSVRC val the paper's numbers stand in one column, as
    context only.
    """
    rows = [_cells(row, table) for row in table.rows]
    header, *lines = [
        [heading for heading, _ in rows[0]],
        *([cell for _, cell in row] for row in rows),
    ]
    kept = [place for place in range(len(header)) if any(line[place] != DASH for line in lines)]
    return [[line[place] for place in kept] for line in [header, *lines]]


def markdown(table: Table) -> str:
    """Title, table and footer."""
    run, lines, notes = (
        table.results[0],
        aligned(cells_of(table)),
        [f"- {note}" for note in _notes(table)],
    )
    where = "ILSVRC val" if table.is_full_val else f"{run.data} {run.split}"
    return "\n".join(
        [f"# {table.title}, {where}, {run.images:,} images", "", *lines, "", *notes, ""]
    )


def _cells(row: Row, table: Table) -> list[tuple[str, str]]:
    """A row's cells from left to right, each under its heading."""
    cells, context = [*zip(table.names, row.names, strict=True)], []
    for heading, metric, digits in table.columns:
        published = row.published.get(metric)
        (here, away), (own, own_away) = (
            _measured(run, metric, published) for run in (row.result, row.own)
        )
        theirs = DASH if published is None else f"{published:.{digits}f}"
        if not isinstance(metric, str) or metric.startswith(
            "baseline_"
        ):  # of the images, not of the networks
            cells.append(
                (heading, " / ".join(dict.fromkeys(of for of in (here, own) if of != DASH)) or DASH)
            )
        elif digits is not None and table.is_full_val:
            cells += [(f"{heading}: paper", theirs), (OWN, own), ("difference", own_away)]
            cells += [("re-trained", here), ("difference", away)]
        else:
            cells += [(heading, here), (f"{heading}, {OWN}", own)]
            context += [] if digits is None else [theirs]
    if not table.is_full_val:
        said = " / ".join(context) if set(context) - {DASH} else DASH
        cells.append((f"paper, {table.paper} (context only)", said))
    return cells


def _measured(
    run: Result | None, metric: str | Callable[[Result], object], published: float | None
) -> tuple[str, str]:
    """What a column says of a result, with its interval, and by how much it differs from the
    paper's number.
    """
    value = (
        None if run is None else run.metrics.get(metric) if isinstance(metric, str) else metric(run)
    )
    if value is None or not isinstance(metric, str):
        return DASH if value is None else str(value), DASH
    low, high = run.interval(metric)
    difference = DASH if published is None else f"{value - published:+.1f}".replace("-", "−")
    return f"{value:.1f}" + ("" if low is None else f" ± {(high - low) / 2:.1f}"), difference


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table whose columns line up in plain text too: the first left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = [":" + "-" * (widths[0] - 1)] + ["-" * (width - 1) + ":" for width in widths[1:]]
    lines = []
    for first, *others in [rows[0], rule, *rows[1:]]:
        cells = [first.ljust(widths[0])] + [
            o.rjust(w) for o, w in zip(others, widths[1:], strict=True)
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _notes(table: Table) -> list[str]:
    """The fixed lines under every table: what the signs mean, how and on what it was measured, and
    from what code.
    """
    runs, run = table.results, table.results[0]
    notes = [
        "±: half the 95 % bootstrap interval over images; ↑: higher is better; –: no number.",
        *table.notes,
    ]
    notes += [OWN_WEIGHTS] if any(row.own for row in table.rows) else []
    for name, settings in sorted({run.protocol["name"]: run.protocol for run in runs}.items()):
        said = ", ".join(f"{key} {value}" for key, value in settings.items() if key != "name")
        notes.append(f"Protocol `{name}`: {said}.")
    shrunk_by: dict[str, set[str]] = {}  # filter -> networks
    for of_network in runs:
        shrunk_by.setdefault(of_network.interpolation, set()).add(of_network.name)
    if len(shrunk_by) == 1:
        notes.append(
            f"Images were shrunk to the network's input by the {runs[0].interpolation} filter."
        )
    else:
        said = "; ".join(
            f"{name}: {', '.join(sorted(of))}" for name, of in sorted(shrunk_by.items())
        )
        notes.append(f"Images were shrunk to the network's input by different filters. {said}.")
    images = f"Images: {run.images:,} of {run.data} {run.split}"
    if run.kind != "classification":
        blacklist = run.provenance.get("blacklist") or "none"
        images += f", {run.loc_images:,} of them for localization; blacklist: {blacklist}"
    commits = {
        f"`{run.provenance['commit'][:10]}`{'*' if run.provenance.get('dirty') else ''}"
        for run in runs
    }
    notes += [f"{images}.", f"Commits (*: and uncommitted changes): {', '.join(sorted(commits))}."]
    return [*notes, "Generated by `make tables`; do not edit."]


def csv_of(table: Table) -> str:
    """A line for each result, unrounded, with the interval's ends and the paper's number; empty
    where there is none.
    """
    lines = []
    for row, run in [(each, of) for each in table.rows for of in each.results or [None]]:
        said = run.provenance | vars(run) | {"protocol": run.protocol["name"]} if run else {}
        line = dict(zip(table.names, row.names, strict=True)) | {key: said.get(key) for key in SAID}
        for heading, metric, digits in table.columns:
            if not isinstance(metric, str):
                line[heading] = metric(run) if run else None
                continue
            low, high = run.interval(metric) if run else (None, None)
            line |= {
                metric: run and run.metrics.get(metric),
                f"{metric}_low": low,
                f"{metric}_high": high,
            }
            line |= {} if digits is None else {f"{metric}_paper": row.published.get(metric)}
        lines.append(line)
    return csv_text(lines)


def csv_text(lines: list[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
