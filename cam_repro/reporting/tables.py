"""Tables 1 and 2 of the paper beside what was reproduced, from the JSON files the evaluations leave.

One table holds one data set, split, set of images and protocol; anything else is refused, because its rows
could not be compared. Values are percentages. Table 3 and protocols.md are written along with them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cam_repro import UserError
from cam_repro.files import write_text
from cam_repro.reporting import markdown, protocols, table3
from cam_repro.reporting.paper import CLASSIFICATION, LOCALIZATION, METHODS, Cell, Comparison, row_title
from cam_repro.reporting.records import Result, read_result, refuse_mixtures

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
    """Write `table1`, `table2`, and if there is anything for them `table3` and `protocols`, into `results/<data>/`.

    Returns the paths, .md and .csv. All are built before the first is written: a UserError leaves the old ones as
    they were.
    """
    texts, folder = {}, results / data
    for table in build_tables(results, data, protocol):
        texts |= {f"{table.stem}.md": render_markdown(table), f"{table.stem}.csv": render_csv(table)}
    texts |= table3.texts(folder) | protocols.texts(folder)
    return [write_text(folder / name, text) for name, text in texts.items()]


def build_tables(results: Path, data: str, protocol: str = "paper") -> list[Table]:
    """Table 1 and Table 2 of one data set; UserError if a file is unfit or the files cannot share a table."""
    folder = results / data
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist; type `make eval-classification data={data}` first")
    names = [f"localization-{method}-{protocol}.json" for method in METHODS]
    tables = []
    for kind, files in ((CLASSIFICATION, ["classification.json"]), (LOCALIZATION, names)):
        runs = [read_result(path) for file in files for path in sorted(folder.glob(f"*/{file}"))]
        if protocol == "all" or any(run.is_sweep for run in runs):
            raise UserError(
                f"protocol={protocol} gives no Table 2; protocols.md has all protocols: type `make tables data={data}`"
            )
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
    parts = [f"# {_title(table)}", "", *markdown.aligned(rows + _floors(table, rows[0])), "", *_footer(table), ""]
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
            rows[-1] += [_paper(cell), reproduced, markdown.signed(cell.difference)] if has_paper else [reproduced]
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
    return [markdown.measured(cell.value, cell.interval) for cell in line.cells]


def _paper(cell: Cell) -> str:
    return "—" if cell.published is None else f"{cell.published:.{cell.column.digits}f}"


def _floors(table: Table, header: list[str]) -> list[list[str]]:
    """Rows for the boxes that ignore the picture, scored on the same images, in the GT-known column."""
    place = [heading.startswith("GT-known") for heading in header[1:]]
    floors = table.kind.floors.items() if table.results else ()
    values = [(title, f"{table.results[0].metrics[key]:.1f}") for key, title in floors]
    return [[title, *(value if here else "" for here in place)] for title, value in values]


def _footer(table: Table) -> list[str]:
    runs = table.results
    notes = [f"{table.kind.reading}; {markdown.INTERVALS}.", BACKBONES]
    if runs:
        counted = markdown.images_scored if table.kind is LOCALIZATION else markdown.images_classified
        notes += [markdown.settings(runs[0]), counted(runs[0]), markdown.input_sizes(runs)]
        notes.append(markdown.evaluated_at(runs))
    notes.append(f"Rows with a result: {len(runs)} of {len(table.lines)}.")
    return markdown.bullets([*notes, markdown.GENERATED])


def render_csv(table: Table) -> str:
    """One line per row, unrounded, with the interval's ends; empty where there is no value."""
    return markdown.as_csv([_csv_fields(table, line) for line in table.lines])


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
