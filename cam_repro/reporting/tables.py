"""Tables 1 and 2 of the paper beside what was reproduced, from the JSON files the evaluations leave.

One table holds one data set, split, set of images and protocol; anything else is refused, because its rows
could not be compared. Values are percentages. The files' schema: DESIGN.md, "Files that leave the house".
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cam_repro import UserError
from cam_repro.files import write_text
from cam_repro.reporting.paper import (
    CLASSIFICATION,
    LOCALIZATION,
    Cell,
    Comparison,
    row_title,
)
from cam_repro.reporting.records import Result, read_result, refuse_mixtures

METHODS = ("cam", "backprop")  # the paper's two ways to a box
BACKBONES = "Backbones are torchvision's where it has them; the paper's were Caffe's, which differ."


class Line(NamedTuple):
    model: str
    method: str
    cells: list[Cell]
    result: Result | None


@dataclass(frozen=True)
class Table:
    kind: Comparison
    data: str
    protocol: str
    lines: tuple[Line, ...]

    @property
    def results(self) -> list[Result]:
        return [line.result for line in self.lines if line.result]

    @property
    def is_full_val(self) -> bool:
        """Whether the paper's column is a target: the same data set, split and images, or nothing run yet."""
        scored = {(run.split, run.images) for run in self.results}
        return self.data == "ilsvrc" and scored <= {("val", images) for images in self.kind.images}

    @property
    def stem(self) -> str:
        """File name without suffix; a protocol other than the paper's gets a Table 2 of its own."""
        own = self.kind is LOCALIZATION and self.protocol != "paper"
        return f"table{self.kind.number}" + (f"-{self.protocol}" if own else "")


def write_tables(results: Path, data: str, protocol: str = "paper") -> list[Path]:
    """Write `table1` and `table2` (.md, .csv) into `results/<data>/` and return the paths.

    All are built before the first is written: a UserError leaves the old ones as they were.
    """
    texts = {}
    for table in build_tables(results, data, protocol):
        texts[results / data / f"{table.stem}.md"] = render_markdown(table)
        texts[results / data / f"{table.stem}.csv"] = render_csv(table)
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def build_tables(results: Path, data: str, protocol: str = "paper") -> list[Table]:
    """Table 1 and Table 2 of one data set; UserError if a file is unfit or the files cannot share a table."""
    folder = results / data
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist; type `make eval-classification data={data}` first")
    names = [f"localization-{method}-{protocol}.json" for method in METHODS]
    tables = []
    for kind, files in ((CLASSIFICATION, ["classification.json"]), (LOCALIZATION, names)):
        runs = [read_result(path, kind) for file in files for path in sorted(folder.glob(f"*/{file}"))]
        refuse_mixtures(runs)
        tables.append(Table(kind, data, protocol, tuple(_lines(kind, runs))))
    return tables


def _lines(kind: Comparison, runs: list[Result]) -> Iterable[Line]:
    """The paper's rows in its order, then whatever else was run, by name."""
    by_key = {(run.model, run.method): run for run in runs}
    others = sorted(by_key.keys() - set(kind.rows), key=lambda key: (key[1] != "cam", key))
    for key in kind.rows + others:
        run = by_key.get(key)
        cells = kind.cells(*key, run.metrics if run else {}, run.confidence if run else {})
        yield Line(*key, cells, run)


def render_markdown(table: Table) -> str:
    """Title, table and footer. The paper's values are a target on full ILSVRC val, elsewhere context."""
    rows = _rows_with_target(table) if table.is_full_val else _rows_with_context(table)
    parts = [f"# {_title(table)}", "", *_aligned(rows + _floors(table, rows[0])), "", *_footer(table), ""]
    return "\n".join(parts)


def _title(table: Table) -> str:
    subject = f"Table {table.kind.number}: {table.kind.subject} (%)"
    if not table.results:
        return f"{subject}, {table.data}: nothing run yet"
    run = table.results[0]
    where = "ILSVRC val" if table.is_full_val else f"{run.data}, split {run.split}"
    return f"{subject}, {where}, {run.images:,} images"


def _rows_with_target(table: Table) -> list[list[str]]:
    """Header and rows: paper | reproduced | difference for each column that the paper has."""
    rows = [["network"]]
    for heading, digits in (column[1:] for column in table.kind.columns):
        rows[0] += [heading] if digits is None else [f"{heading}: paper", "reproduced", "difference"]
    for line in table.lines:
        rows.append([row_title(line.model, line.method)])
        for cell, reproduced in zip(line.cells, _reproduced(line), strict=True):
            has_paper = cell.column.digits is not None
            rows[-1] += [_paper(cell), reproduced, _difference(cell)] if has_paper else [reproduced]
    return rows


def _rows_with_context(table: Table) -> list[list[str]]:
    """Header and rows: what was reproduced, then the paper's values of those columns in one."""
    rows = [["network", *(column.heading for column in table.kind.columns), "paper (ILSVRC val, context only)"]]
    for line in table.lines:
        published = [_paper(cell) for cell in line.cells]
        context = "—" if set(published) == {"—"} else " / ".join(published)
        rows.append([row_title(line.model, line.method), *_reproduced(line), context])
    return rows


def _reproduced(line: Line) -> list[str]:
    if line.result is None:
        return ["not run"] + [""] * (len(line.cells) - 1)
    return [_with_interval(cell) for cell in line.cells]


def _with_interval(cell: Cell) -> str:
    if cell.value is None:
        return "undefined"
    half = "" if cell.interval is None else f" ± {(cell.interval[1] - cell.interval[0]) / 2:.1f}"
    return f"{cell.value:.1f}{half}"


def _paper(cell: Cell) -> str:
    return "—" if cell.published is None else f"{cell.published:.{cell.column.digits}f}"


def _difference(cell: Cell) -> str:
    return "" if cell.difference is None else f"{cell.difference:+.1f}".replace("-", "−")


def _floors(table: Table, header: list[str]) -> list[list[str]]:
    """Rows for the boxes that ignore the picture, scored on the same images, in the GT-known column."""
    place = [heading.startswith("GT-known") for heading in header[1:]]
    floors = table.kind.floors.items() if table.results else ()
    values = [(title, f"{table.results[0].metrics[key]:.1f}") for key, title in floors]
    return [[title, *(value if here else "" for here in place)] for title, value in values]


def _aligned(rows: list[list[str]]) -> list[str]:
    """A markdown table whose columns line up in plain text too: names left, numbers right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = [":" + "-" * (widths[0] - 1)] + ["-" * (width - 1) + ":" for width in widths[1:]]
    lines = []
    for first, *others in [rows[0], rule, *rows[1:]]:
        cells = [first.ljust(widths[0])] + [o.rjust(w) for o, w in zip(others, widths[1:], strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _footer(table: Table) -> list[str]:
    runs = table.results
    notes = [f"{table.kind.reading}; ± is half the 95 % bootstrap interval.", BACKBONES]
    if runs:
        first = runs[0]
        notes += [_protocol(first), f"Images scored: {first.images:,} of {first.data}, split {first.split}."]
        notes.append(f"Network input, pixels a side: {_input_sizes(runs)}.")
        notes.append(f"Evaluated at {', '.join(sorted(set(map(_origin, runs))))}.")
    notes.append(f"Rows with a result: {len(runs)} of {len(table.lines)}.")
    return [f"- {note}" for note in [*notes, "Generated by `make tables`; do not edit."]]


def _protocol(run: Result) -> str:
    fields = {key.replace("_", " "): value for key, value in run.protocol.items() if key != "name"}
    words = [f"{key} {'none' if value is None else value}" for key, value in fields.items()]
    return f"Protocol `{run.protocol.get('name', 'unnamed')}`: {', '.join(words)}."


def _input_sizes(runs: list[Result]) -> str:
    by_size: dict[int, list[str]] = {}
    for run in runs:
        by_size.setdefault(run.input_size, []).append(row_title(run.model, run.method))
    return "; ".join(f"{size} ({', '.join(names)})" for size, names in sorted(by_size.items(), reverse=True))


def _origin(run: Result) -> str:
    """Commit and day of an evaluation, and whether the code differed from that commit."""
    commit = str(run.provenance.get("commit") or "unknown")[:10]
    dirty = ", uncommitted changes" if run.provenance.get("dirty") else ""
    return f"commit `{commit}` ({str(run.provenance.get('date') or 'no date')[:10]}{dirty})"


def render_csv(table: Table) -> str:
    """One line per row, unrounded, with the interval's ends; empty where there is no value."""
    lines = [_csv_fields(table, line) for line in table.lines]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _csv_fields(table: Table, line: Line) -> dict[str, object]:
    run = line.result
    fields = {"network": row_title(line.model, line.method), "model": line.model}
    fields |= {"method": line.method} if table.kind is LOCALIZATION else {}
    fields["status"] = "run" if run else "not run"
    for cell in line.cells:
        name, (low, high) = cell.column.metric, cell.interval or (None, None)
        values = {"": cell.value, "_low": low, "_high": high}
        if cell.column.digits is not None:
            difference = cell.difference if table.is_full_val else None
            values = {"_paper": cell.published} | values | {"_difference": difference}
        fields |= {name + suffix: value for suffix, value in values.items()}
    fields |= {floor: run.metrics[floor] if run else "" for floor in table.kind.floors}
    fields |= {key: getattr(run, key) if run else "" for key in ("data", "split", "images")}
    return fields | {"protocol": run.protocol.get("name") if run else ""}
