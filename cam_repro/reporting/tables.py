"""Tables 1, 2 and 3 of the paper beside what was measured, every method under every protocol, and why guesses fail.

A table is columns, each a heading and a metric, over rows, each a result; one description gives markdown and CSV.
Errors and accuracies are percentages. What is missing or undefined is a dash; what is all dashes is left out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from statistics import mode
from typing import NamedTuple

from cam_repro import UserError
from cam_repro.files import write_text
from cam_repro.localization.failures import KINDS
from cam_repro.reporting import paper
from cam_repro.reporting.claims import claim_rows, claims_cells
from cam_repro.reporting.results import Result, read_results

DASH = "–"
Published = dict[tuple[str, ...], dict[str, float]]  # a row's names -> metric -> the paper's number
GUESSES = {"release_heuristics": " (heuristics)", "release": ""}  # protocol -> what Table 3 adds to a row's title


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


INPUT = Column("input (px)", lambda run: run.input_size)
CLASSIFICATION = (Column("cls top-1", "cls_top1_error", 1), Column("cls top-5", "cls_top5_error", 1))
LOCALIZATION = (
    Column("loc top-1", "loc_top1_error", 2),
    Column("loc top-5", "loc_top5_error", 2),
    Column("box given class ↑", "loc_given_cls", 1),
    Column("GT-known ↑", "gt_known_loc"),
    Column("centred box ↑", "floor_centre_box"),
    Column("whole image ↑", "floor_whole_image"),
)
MAX_BOX_ACC = (
    Column("V1 ↑", "max_box_acc_v1"),
    Column("V1’s threshold", lambda run: run.thresholds["v1"]),
    Column("V1 at 0.2 ↑", "max_box_acc_v1_at_20"),
    Column("V1, centred box ↑", "floor_centre_box"),
    Column("V1, whole image ↑", "floor_whole_image"),
    Column("V2 ↑", "max_box_acc_v2"),
    Column("V2’s threshold", lambda run: run.thresholds["v2"]),
    Column("V2 at 0.2 ↑", "max_box_acc_v2_at_20"),
    Column("V2, centred box ↑", "floor_centre_box_v2"),
    Column("V2, whole image ↑", "floor_whole_image_v2"),
)
FAILURES = tuple(Column(heading, f"share_{kind}") for kind, heading in KINDS.items())
BACKBONES = "Backbones are torchvision's where it has them; the paper's were Caffe's, which differ."
OWN = "the paper's own weights"
OWN_WEIGHTS = "The paper's own weights: its Caffe networks, by files of weights that were not trained here."
GIVEN_CLASS = "Box given class is P(box right | class right), top-1; the paper's is derived from its Tables 1 and 2."
FLOORS = "Centred box, whole image: the GT-known of boxes that ignore the picture, on the same images."
HEURISTICS = "(heuristics): class 1 loose and tight, class 2 loose and tight, class 3 loose; without: five loose ones."
TEST = "The paper's column is ILSVRC test, whose labels are not public; the val split stands in for it."
SWEEP = (
    "MaxBoxAcc (Choe et al. 2020) takes the true class's map at 224×224. V1: largest contour, IoU ≥ 0.5. V2: any "
    "contour, mean over IoU 0.3, 0.5, 0.7. The threshold is the best one for these very images; 0.2 is the paper's."
)

WHY = (
    "Shares of the first guesses. Wrong in class, in box (IoU < 0.5 with every true box), or both; of those of the "
    "right class, several: half of each of two true boxes is covered; too small: half of the box lies on the object, "
    "of which less than half is covered; too large: half of the object is covered, by less than half of the box; else "
    "elsewhere."
)

CLAIM_NOTES = (
    "Errors in %, the first result → the second; the paper's are of ILSVRC val (release: Table 3, ILSVRC test).",
    "Difference: second − first, in points, with its 95 % interval, paired over images; several runs are redrawn too.",
    "One run of each speaks of these two networks as they were trained here, not of all that could be.",
    "Holds: the interval lies where the claim wants it; contradicted: wholly elsewhere; else undecided.",
    "Generated by `make tables`; do not edit.",
)


def write_tables(results: Path, data: str, protocol: str = "paper") -> list[Path]:
    """Write the tables of `results/<data>/` that have a number, as .md and .csv beside the results; returns the paths.

    `protocol` is Tables 1's and 2's; the others hold whatever was measured for them. All are built before the first is
    written: a UserError (an unfit file, results that cannot share a table) leaves the old ones as they were. A table
    that has lost its last number is removed.
    """
    folder = results / data
    runs = read_results(folder)
    if not runs:
        raise UserError(f"no results in {folder}; type `make eval-classification data={data}` first")
    names = sorted({run.protocol["name"] for run in runs})
    if protocol not in ("paper", "all", *names):
        raise UserError(f"no results of protocol={protocol} in {folder}; choose one of: {', '.join(names)}")
    texts: dict[str, str] = {}
    empty: list[str] = []
    for table in tables_of(runs, protocol):
        texts |= {f"{table.stem}.md": _markdown(table), f"{table.stem}.csv": _csv(table)} if table.rows else {}
        empty += [] if table.rows else [table.stem]
    if rows := claim_rows(runs):
        aligned, notes = _aligned(claims_cells(rows)), "".join(f"- {note}\n" for note in CLAIM_NOTES)
        title = f"# The paper's claims on {data} val"
        texts |= {"claims.md": "\n".join([title, "", *aligned, "", notes]), "claims.csv": _csv_text(rows)}
    for stem in empty if rows else [*empty, "claims"]:
        for suffix in ("md", "csv"):
            (folder / f"{stem}.{suffix}").unlink(missing_ok=True)
    return [write_text(folder / name, text) for name, text in texts.items()]


def tables_of(runs: Sequence[Result], protocol: str = "paper") -> list[Table]:
    """Every table of results; without rows where nothing was measured, with all of the paper's on full ILSVRC val.

    Raises UserError for results that cannot share a table.
    """
    runs, tables = sorted(runs, key=_order), []
    _refuse_mixtures(runs)
    for table in _tables(runs, protocol):
        metrics = [column.value for column in table.columns if isinstance(column.value, str)]
        measured = [
            row for row in table.rows
            if any(run.metrics.get(metric) is not None for run in row.results for metric in metrics)
        ]  # fmt: skip
        tables.append(replace(table, rows=table.rows if measured and table.is_full_val else measured))
    return tables


def _tables(runs: list[Result], protocol: str) -> list[Table]:
    """Every table, with the paper's rows and whatever else was measured, also those without a result."""
    boxes = [run for run in runs if run.kind == "localization"]
    here = [run for run in runs if run.protocol["name"] == protocol]
    ways = {(run.method, run.protocol["name"]) for run in boxes}
    own, marks = "" if protocol == "paper" else f"-{protocol}", _marks(runs)

    def rows(published: Published, runs: list[Result], names: Callable[[Result], tuple[str, ...]]) -> list[Row]:
        found = [(names(run), run) for run in runs]
        table = []
        for key in dict.fromkeys([*published, *(key for key, _ in found)]):
            of_key = [run for name, run in found if name == key]
            own = [run for run in of_key if published and _is_own(run)]
            others = [run for run in of_key if run not in own]
            for run, theirs in list(zip_longest(others, own)) or [(None, None)]:
                mark = next((marks[of.path] for of in (run, theirs) if of), "")
                table.append(Row((key[0] + mark, *key[1:]), run, theirs, published.get(key, {})))
        return table

    def way(run: Result) -> tuple[str, ...]:
        title = paper.row_title(run.model) + (f", {OWN}" if _is_own(run) else "")
        return title, run.method, run.protocol["name"]

    def errors(of: str, top1: float, top5: float) -> dict[str, float]:
        return {f"{of}_top1_error": top1, f"{of}_top5_error": top5}

    one = {(paper.row_title(model),): errors("cls", *row) for model, row in paper.TABLE1.items()}
    two = {
        (paper.row_title(*key),): errors("loc", *row)
        | errors("cls", *paper.TABLE1[key[0]])
        | {"loc_given_cls": paper.loc_given_cls(*key)}
        for key, row in paper.TABLE2.items()
    }
    three = {key: {"loc_top5_error": error} for key, error in paper.TABLE3.items()}
    return [
        Table(
            f"table1{own}", "Table 1: classification error (%)", ("network",), (*CLASSIFICATION, INPUT),
            rows(one, [run for run in here if run.kind == "classification"], lambda run: (paper.row_title(run.model),)),
            (BACKBONES,),
        ),
        Table(
            f"table2{own}", "Table 2: localization error (%)", ("network",), (*LOCALIZATION, INPUT),
            rows(two, [run for run in here if run.kind == "localization"],
                 lambda run: (paper.row_title(run.model, run.method),)),
            (GIVEN_CLASS, FLOORS, BACKBONES),
        ),
        Table(
            "table3", "Table 3: top-5 localization error (%)", ("network", "supervision"),
            (Column("loc top-5", "loc_top5_error", 1), INPUT),
            rows(three, [run for run in boxes if run.protocol["name"] in GUESSES],
                 lambda run: (paper.row_title(run.model, run.method) + GUESSES[run.protocol["name"]], "weakly")),
            (HEURISTICS, TEST), "ILSVRC test",
        ),
        Table(
            "protocols", "Localization error (%) by method and protocol", ("network", "method", "protocol"),
            (*(column._replace(digits=None) for column in (*CLASSIFICATION, *LOCALIZATION)), INPUT),
            rows({}, boxes if len(ways) > 1 else [], way), (FLOORS,),
        ),
        Table(
            "failures", "Why first guesses fail (%)", ("network", "method", "protocol"), FAILURES,
            rows({}, boxes, way), (WHY,),
        ),
        Table(
            "maxboxacc", "MaxBoxAcc (%) by method", ("network", "method", "protocol"), (*MAX_BOX_ACC, INPUT),
            rows({}, [run for run in runs if run.kind == "sweep"], way), (SWEEP,),
        ),
    ]  # fmt: skip


def _order(run: Result) -> tuple[int, str, bool, str, bool, str]:
    """By network in the paper's order, method (cam first) and protocol (the paper's first)."""
    known, name = [*paper.NETWORKS], run.protocol["name"]
    row = paper.CAFFE.get(run.model, run.model)
    place = known.index(row) if row in known else len(known)
    return place, run.model, run.method != "cam", run.method, name != "paper", name


def _is_own(run: Result) -> bool:
    """Whether it is of a network of the paper with weights that are not trained here, which only Caffe's files give."""
    return run.model in paper.CAFFE and not run.provenance.get("training")


def _marks(runs: list[Result]) -> dict[Path, str]:
    """What tells a row from the others: its own name, weights other than most of its run's, data other than most."""
    data, marks = mode(run.provenance["data"] for run in runs), {}
    for run in runs:
        weights = mode(other.provenance["weights"] for other in runs if other.name == run.name)
        usual = {"weights": weights, "data": data}
        unlike = [run.name] if run.name != run.model or (run.model in paper.CAFFE and not _is_own(run)) else []
        unlike += [f"{key} {run.provenance[key][:8]}" for key in usual if run.provenance[key] != usual[key]]
        marks[run.path] = f" ({', '.join(unlike)})" if unlike else ""
    return marks


def _refuse_mixtures(runs: Sequence[Result]) -> None:
    """UserError for results that must not meet: of other images, or of other settings under one protocol's name.

    Table 3's two protocols differ in their guesses alone.
    """
    for kind in ("classification", "localization", "sweep"):
        of_kind = [run for run in runs if run.kind == kind]
        _refuse_difference(of_kind, "protocol.")
        for name in {run.protocol["name"] for run in of_kind}:
            _refuse_difference([run for run in of_kind if run.protocol["name"] == name])
    guesses = [run for run in runs if run.kind == "localization" and run.protocol["name"] in GUESSES]
    _refuse_difference(guesses, "protocol.name", "protocol.guesses")


def _refuse_difference(runs: list[Result], *free: str) -> None:
    """UserError for the first two that differ in a fact whose name does not begin with one of `free`."""
    for other in runs[1:]:
        first, second = _facts(runs[0]), _facts(other)
        keys = [key for key in sorted(first | second) if first.get(key) != second.get(key) and not key.startswith(free)]
        if keys:
            what = ", ".join(f"{key} ({first.get(key)} against {second.get(key)})" for key in keys)
            raise UserError(
                f"{runs[0].path} and {other.path} cannot share a table, they differ in {what}; evaluate one like the "
                "other, or keep it in a folder of its own with results="
            )


def _facts(run: Result) -> dict[str, object]:
    """Which images were scored, and how; equal floors show that the images are the same ones."""
    facts: dict[str, object] = {"data": run.data, "split": run.split, "images": run.images}
    if run.kind != "classification":
        facts |= {"loc_images": run.loc_images, "blacklist": run.provenance.get("blacklist") or "none"}
        facts |= {key: value for key, value in run.metrics.items() if key.startswith("floor_")}
    return facts | {f"protocol.{key}": value for key, value in run.protocol.items()}


def cells_of(table: Table) -> list[list[str]]:
    """A table's heading and rows; off full ILSVRC val the paper's numbers stand in one column, as context only."""
    target = table.is_full_val
    header = list(table.names)
    for heading, metric, digits in table.columns:
        if _is_of_the_images(metric):
            header += [heading]
        elif target and digits is not None:
            header += [f"{heading}: paper", OWN, "difference", "re-trained", "difference"]
        else:
            header += [heading, f"{heading}, {OWN}"]
    header += [] if target else [f"paper, {table.paper} (context only)"]
    rows = [_cells(row, table.columns, target) for row in table.rows]
    kept = [place for place in range(len(header)) if any(row[place] != DASH for row in rows)]
    return [[row[place] for place in kept] for row in [header, *rows]]


def _markdown(table: Table) -> str:
    """Title, table and footer."""
    run, aligned, notes = table.results[0], _aligned(cells_of(table)), [f"- {note}" for note in _notes(table)]
    where = "ILSVRC val" if table.is_full_val else f"{run.data} {run.split}"
    return "\n".join([f"# {table.title}, {where}, {run.images:,} images", "", *aligned, "", *notes, ""])


def _cells(row: Row, columns: Sequence[Column], target: bool) -> list[str]:
    cells, context = list(row.names), []
    for _, metric, digits in columns:
        published = row.published.get(metric) if isinstance(metric, str) else None
        here, own = (_measured(run, metric, published) for run in (row.result, row.own))
        if _is_of_the_images(metric):
            cells.append(" / ".join(dict.fromkeys(of for of, _ in (here, own) if of != DASH)) or DASH)
            continue
        if digits is None:
            cells += [here[0], own[0]]
            continue
        theirs = DASH if published is None else f"{published:.{digits}f}"
        cells += [theirs, *own, *here] if target else [here[0], own[0]]
        context.append(theirs)
    return cells if target else [*cells, " / ".join(context) if set(context) - {DASH} else DASH]


def _is_of_the_images(metric: str | Callable[[Result], object]) -> bool:
    """Whether a column says what was shown to the networks, and nothing of them."""
    return not isinstance(metric, str) or metric.startswith("floor_")


def _measured(run: Result | None, metric: str | Callable[[Result], object], published: float | None) -> tuple[str, str]:
    """What a column says of a result, with its interval, and by how much it differs from the paper's number."""
    value = None if run is None else run.metrics.get(metric) if isinstance(metric, str) else metric(run)
    if value is None or not isinstance(metric, str):
        return DASH if value is None else str(value), DASH
    low, high = run.interval(metric)
    difference = DASH if published is None else f"{value - published:+.1f}".replace("-", "−")
    return f"{value:.1f}" + ("" if low is None else f" ± {(high - low) / 2:.1f}"), difference


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table whose columns line up in plain text too: the first left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = [":" + "-" * (widths[0] - 1)] + ["-" * (width - 1) + ":" for width in widths[1:]]
    lines = []
    for first, *others in [rows[0], rule, *rows[1:]]:
        cells = [first.ljust(widths[0])] + [o.rjust(w) for o, w in zip(others, widths[1:], strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _notes(table: Table) -> list[str]:
    """The fixed lines under every table: what the signs mean, how and on what it was measured, and from what code."""
    runs, run = table.results, table.results[0]
    notes = ["±: half the 95 % bootstrap interval over images; ↑: higher is better; –: no number.", *table.notes]
    notes += [OWN_WEIGHTS] if any(row.own for row in table.rows) else []
    for name, settings in sorted({run.protocol["name"]: run.protocol for run in runs}.items()):
        said = ", ".join(f"{key} {value}" for key, value in settings.items() if key != "name")
        notes.append(f"Protocol `{name}`: {said}.")
    images = f"Images: {run.images:,} of {run.data} {run.split}"
    if run.kind != "classification":
        images += f", {run.loc_images:,} of them for localization; blacklist: {_facts(run)['blacklist']}"
    commits = {f"`{run.provenance['commit'][:10]}`{'*' if run.provenance.get('dirty') else ''}" for run in runs}
    notes += [f"{images}.", f"Commits (*: and uncommitted changes): {', '.join(sorted(commits))}."]
    return [*notes, "Generated by `make tables`; do not edit."]


def _csv(table: Table) -> str:
    """A line for each result, unrounded, with the interval's ends and the paper's number; empty where there is none."""
    lines = []
    for row, run in [(each, of) for each in table.rows for of in each.results or [None]]:
        line = dict(zip(table.names, row.names, strict=True))
        for key in ("model", "method", "data", "split", "images", "loc_images"):
            line[key] = getattr(run, key) if run else None
        line["protocol"] = run.protocol["name"] if run else None
        line |= {key: run.provenance[key] if run else None for key in ("weights", "commit")}
        for heading, metric, digits in table.columns:
            if not isinstance(metric, str):
                line[heading] = metric(run) if run else None
                continue
            low, high = run.interval(metric) if run else (None, None)
            line |= {metric: run and run.metrics.get(metric), f"{metric}_low": low, f"{metric}_high": high}
            line |= {} if digits is None else {f"{metric}_paper": row.published.get(metric)}
        lines.append(line)
    return _csv_text(lines)


def _csv_text(lines: list[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
