"""Tables of results, as Markdown and as CSV: Tables 1, 2 and 3 of the paper, and those it lacks.

A new table is a function that makes a `Table` of the results, and a line in TABLES.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cam_repro import UserError
from cam_repro.evaluation.cells import MOVED, read_cells
from cam_repro.files import write_text
from cam_repro.localization.failures import KINDS
from cam_repro.provenance import unfinished
from cam_repro.reporting import paper
from cam_repro.reporting.layout import (
    DASH,
    GENERATED,
    OWN,
    Column,
    Row,
    Table,
    aligned,
    bullets,
    csv_of,
    csv_text,
    distinctions,
    has_papers_weights,
    in_papers_order,
    markdown,
    rows_of,
)
from cam_repro.reporting.methods_table import texts_of_methods
from cam_repro.reporting.results import Result, read_results, refuse_mixtures

INPUT = Column("input (px)", fact=lambda run: run.input_size)
CLASSIFICATION = (
    Column("cls top-1", "cls_top1_error", 1),
    Column("cls top-5", "cls_top5_error", 1),
)
LOCALIZATION = (
    Column("loc top-1", "loc_top1_error", 2),
    Column("loc top-5", "loc_top5_error", 2),
    Column("box given class ↑", "loc_given_cls", 1),
    Column("GT-known ↑", "gt_known_loc"),
    Column("centred box ↑", "baseline_centre_box"),
    Column("whole image ↑", "baseline_whole_image"),
)
MAX_BOX_ACC = (
    Column("V1 ↑", "max_box_acc_v1"),
    Column("V1’s threshold", fact=lambda run: run.thresholds.get("v1")),
    Column("V1 at 0.2 ↑", "max_box_acc_v1_at_20"),
    Column("V1, centred box ↑", "baseline_centre_box"),
    Column("V1, whole image ↑", "baseline_whole_image"),
    Column("V2 ↑", "max_box_acc_v2"),
    Column("V2’s thresholds", fact=lambda run: thresholds_of_v2(run)),
    Column("V2 by one threshold ↑", "max_box_acc_v2_one_threshold"),
    Column("that threshold", fact=lambda run: run.thresholds.get("v2_one_threshold")),
    Column("V2 at 0.2 ↑", "max_box_acc_v2_at_20"),
    Column("V2, centred box ↑", "baseline_centre_box_v2"),
    Column("V2, whole image ↑", "baseline_whole_image_v2"),
)
FAILURES = tuple(Column(heading, f"share_{kind}") for kind, heading in KINDS.items())
# A protocol -> how Table 3's names end.
TABLE3_ENDINGS = {"release_heuristics": " (heuristics)", "release": ""}
WAY = ("network", "method", "protocol")

BACKBONES = "Backbones are torchvision's where it has them; the paper's were Caffe's, which differ."
GIVEN_CLASS = (
    "Box given class is P(box right | class right), top-1; the paper's is derived from its Tables "
    "1 and 2."
)
BASELINES_NOTE = (
    "Centred box, whole image: the GT-known of boxes that ignore the picture, on the same images."
)
HEURISTICS = (
    "(heuristics): class 1 loose and tight, class 2 loose and tight, class 3 loose; without: five "
    "loose ones."
)
TEST = (
    "The paper's column is ILSVRC test, whose labels are not public; the val split stands in for "
    "it."
)
MAX_BOX_ACC_NOTE = (
    "MaxBoxAcc (Choe et al. 2020) takes the true class's map at 224×224. V1: largest contour, "
    "IoU ≥ 0.5. V2: any contour, mean over IoU 0.3, 0.5, 0.7, each at its own best threshold; by "
    "one threshold: one for all three. Thresholds are the best ones for these very images; 0.2 is "
    "the paper's."
)
PX_AP_NOTE = (
    "PxAP (Choe et al. 2020): the area under precision over recall of the pixels of all images, "
    "the true class's map at 224×224 against the objects' masks."
)
WHY = (
    "Shares of the first guesses. Wrong in class, in box (IoU < 0.5 with every true box), or both; "
    "of those of the right class, several: half of each of two true boxes is covered; too small: "
    "half of the box lies on the object, of which less than half is covered; too large: half of "
    "the object is covered, by less than half of the box; else elsewhere."
)
CELLS_HEADINGS = (
    "network",
    "maps",
    "drawn every",
    "connected to: down, right",
    "every",
    "gradients: down, right",
    "every ",
)
CELLS_NOTES = (
    "In pixels of the network's input: where the middle cell looks, from where it is drawn, and "
    "how far it is from one cell to the next.",
    "Connected to: the middle of the pixels that the layers link it to, by their paddings and "
    "strides. Gradients: the centroid of the squared gradient of all maps at the middle, mean and "
    "standard error over images; the edges of the image cut a wide gradient off, so that its "
    "stride is smaller than the cells'.",
    "GT-known (%) of the true class's boxes, as drawn and moved to what the cells are connected "
    "to, by half and by all of it; in brackets the paired difference and its 95 % interval.",
)
CLAIM_HEADINGS = ["claim", "§", "network", "recipe", "error", "paper", "here"]
CLAIM_HEADINGS += ["difference", "95 % interval", "verdict"]
CLAIM_NOTES = (
    "Errors in %, the first result → the second; the paper's are of ILSVRC val (release: Table 3, "
    "ILSVRC test).",
    "Difference: second − first, in points, with its 95 % interval, paired over images; several "
    "runs are redrawn too.",
    "One run of each speaks of these two networks as they were trained here, not of all that could "
    "be.",
    "Holds: the interval lies where the claim wants it; contradicted: wholly elsewhere; else "
    "undecided.",
)


def classification_table(runs: Sequence[Result], protocol: str) -> Table:
    def names(run: Result) -> tuple[str, ...]:
        return (paper.row_title(run.model),)

    published = {}
    for model in paper.TABLE1:
        published[(paper.row_title(model),)] = paper.published(model)
    return Table(
        stem=f"table1{_ending(protocol)}",
        title="Table 1: classification error (%)",
        names=("network",),
        columns=(*CLASSIFICATION, INPUT),
        rows=rows_of(_chosen(runs, "classification", [protocol]), names, published),
        notes=(BACKBONES,),
    )


def localization_table(runs: Sequence[Result], protocol: str) -> Table:
    def names(run: Result) -> tuple[str, ...]:
        return (paper.row_title(run.model, run.method),)

    published = {}
    for model, method in paper.TABLE2:
        published[(paper.row_title(model, method),)] = paper.published(model, method)
    return Table(
        stem=f"table2{_ending(protocol)}",
        title="Table 2: localization error (%)",
        names=("network",),
        columns=(*LOCALIZATION, INPUT),
        rows=rows_of(_chosen(runs, "localization", [protocol]), names, published),
        notes=(GIVEN_CLASS, BASELINES_NOTE, BACKBONES),
    )


def table_of_test(runs: Sequence[Result], protocol: str) -> Table:
    """Table 3, of the release's protocols, whatever protocol is asked for."""

    def names(run: Result) -> tuple[str, ...]:
        title = paper.row_title(run.model, run.method)
        return title + TABLE3_ENDINGS[run.protocol["name"]], "weakly"

    published = {}
    for key, error in paper.TABLE3.items():
        published[key] = {"loc_top5_error": error}
    return Table(
        stem="table3",
        title="Table 3: top-5 localization error (%)",
        names=("network", "supervision"),
        columns=(Column("loc top-5", "loc_top5_error", 1), INPUT),
        rows=rows_of(_chosen(runs, "localization", TABLE3_ENDINGS), names, published),
        notes=(HEURISTICS, TEST),
        paper="ILSVRC test",
    )


def protocols_table(runs: Sequence[Result], protocol: str) -> Table:
    """Every method by every protocol, where there are two results at least to be told apart."""
    boxes = _chosen(runs, "localization")
    ways = {(run.method, run.protocol["name"]) for run in boxes}
    columns = [column._replace(digits=None) for column in (*CLASSIFICATION, *LOCALIZATION)]
    return Table(
        stem="protocols",
        title="Localization error (%) by method and protocol",
        names=WAY,
        columns=(*columns, INPUT),
        rows=rows_of(boxes, _way) if len(ways) > 1 else [],
        notes=(BASELINES_NOTE,),
    )


def failures_table(runs: Sequence[Result], protocol: str) -> Table:
    rows = rows_of(_chosen(runs, "localization"), _way)
    return Table("failures", "Why first guesses fail (%)", WAY, FAILURES, rows, (WHY,))


def max_box_acc_table(runs: Sequence[Result], protocol: str) -> Table:
    rows = rows_of(_chosen(runs, "max_box_acc"), _way)
    columns = (*MAX_BOX_ACC, INPUT)
    return Table("maxboxacc", "MaxBoxAcc (%) by method", WAY, columns, rows, (MAX_BOX_ACC_NOTE,))


def px_ap_table(runs: Sequence[Result], protocol: str) -> Table:
    columns = (
        Column("PxAP ↑", "px_ap"),
        Column("every pixel alike ↑", "baseline_whole_image"),
        INPUT,
    )
    rows = rows_of(_chosen(runs, "px_ap"), _way)
    return Table("pxap", "PxAP (%) by method", WAY, columns, rows, (PX_AP_NOTE,))


TABLES = (
    classification_table,
    localization_table,
    table_of_test,
    protocols_table,
    failures_table,
    max_box_acc_table,
    px_ap_table,
)


def _chosen(
    runs: Sequence[Result], kind: str, protocols: Collection[str] | None = None
) -> list[Result]:
    """Those of a kind, by one of the protocols where some are named."""
    found = []
    for run in runs:
        if run.kind == kind and (protocols is None or run.protocol["name"] in protocols):
            found.append(run)
    return found


def _ending(protocol: str) -> str:
    """Of the stem of Tables 1 and 2."""
    return "" if protocol == "paper" else f"-{protocol}"


def _way(run: Result) -> tuple[str, ...]:
    """The names of a row in a table of every method and protocol."""
    title = paper.row_title(run.model)
    if has_papers_weights(run):
        title += f", {OWN}"
    return title, run.method, run.protocol["name"]


def thresholds_of_v2(run: Result) -> str | None:
    """The best threshold of each IoU, as `0.2 / 0.3 / 0.5`; None in a record without them."""
    found = [run.thresholds.get(f"v2_iou{iou}") for iou in (30, 50, 70)]
    return " / ".join(map(str, found)) if None not in found else None


def tables_of(runs: Sequence[Result], protocol: str = "paper") -> list[Table]:
    """Every table of results, on full ILSVRC val with all rows of the paper, else with a result.

    One in which nothing was measured has no rows. Raises UserError for results that cannot share a
    table.
    """
    runs = in_papers_order(runs)
    refuse_mixtures(runs)
    marks = distinctions(runs)
    tables = []
    for make_table in TABLES:
        table = make_table(runs, protocol)
        rows = []
        has_number = False
        for row in table.rows:
            is_measured = _has_number(row, table.columns)
            has_number |= is_measured
            if is_measured or table.is_full_val:
                rows.append(_marked(row, marks))
        tables.append(replace(table, rows=rows if has_number else []))
    return tables


def _has_number(row: Row, columns: Sequence[Column]) -> bool:
    values = []
    for run in row.results:
        values += [run.metrics.get(column.metric) for column in columns]
    return any(value is not None for value in values)


def _marked(row: Row, marks: dict[Path, str]) -> Row:
    """The row, with what tells its result from others behind its first name."""
    if not row.results:
        return row
    mark = marks[row.results[0].path]
    network, *others = row.names
    return replace(row, names=(network + mark, *others))


# The tables as files.


def write_tables(
    results: Path, data: str, protocol: str = "paper", split: str = "val"
) -> list[Path]:
    """Write the tables of `results/<data>/` that have a number, .md and .csv; returns their paths.

    They are of one split. `protocol` is Tables 1's and 2's; the others hold whatever was measured
    for them. All are built before the first is written: a UserError (an unfit file, results that
    cannot share a table) leaves the old ones as they were. A table that has lost its last number is
    removed.
    """
    folder = results / data
    runs = read_results(folder, split)
    if not runs:
        raise UserError(f"no results in {folder}; evaluate a network first")
    names = sorted({run.protocol["name"] for run in runs})
    if protocol not in ("paper", "all", *names):
        choice = f"choose one of: {', '.join(names)}"
        raise UserError(f"no results of protocol={protocol} in {folder}; {choice}")
    texts = {}
    for table in tables_of(runs, protocol):
        texts[f"{table.stem}.md"] = markdown(table) if table.rows else ""
        texts[f"{table.stem}.csv"] = csv_of(table) if table.rows else ""
    texts |= _texts_of_claims(runs, f"The paper's claims on {data} {runs[0].split}")
    texts["cells.md"] = _text_of_cells(folder)
    texts |= texts_of_methods(runs)
    written = []
    for name, text in texts.items():
        if text:
            written.append(write_text(folder / name, text))
        else:
            (folder / name).unlink(missing_ok=True)
    return written


def _texts_of_claims(runs: Sequence[Result], title: str) -> dict[str, str]:
    """claims.md and claims.csv, both empty where no claim could be judged."""
    finished = [run for run in runs if not unfinished(run.provenance.get("training"))]
    claims = paper.judged_claims(finished)
    if not claims:
        return {"claims.md": "", "claims.csv": ""}
    notes = [*CLAIM_NOTES, GENERATED]
    if left_out := len(runs) - len(finished):
        of_all = f"{left_out} of {len(runs)} results"
        notes.insert(0, f"Left out: {of_all}, whose trainings are unfinished.")
    lines = [f"# {title}", "", *aligned(_claims_cells(claims)), "", *bullets(notes), ""]
    return {
        "claims.md": "\n".join(lines),
        "claims.csv": csv_text(claims),
    }


def _claims_cells(claims: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The table of claims.md, its heading first."""
    cells = [CLAIM_HEADINGS]
    for claim in claims:
        theirs = []
        for value in (claim["paper_one"], claim["paper_two"]):
            theirs.append(DASH if value is None else f"{value:.1f}")
        family = claim["family"]
        if max(claim["runs_one"], claim["runs_two"]) > 1:
            family += f" ({claim['runs_one']} and {claim['runs_two']} runs)"
        error = claim["metric"].removesuffix("_error").replace("_", " ")
        line = [claim["claim"], claim["section"], family, claim["recipe"], error]
        here = f"{claim['one']:.1f} → {claim['two']:.1f}"
        interval = f"{claim['low']:+.1f} … {claim['high']:+.1f}"
        line += [" → ".join(theirs), here, f"{claim['difference']:+.1f}", interval]
        cells.append([*line, claim["verdict"]])
    return cells


def _text_of_cells(folder: Path) -> str:
    """cells.md, of what `make cells` has measured; empty where that is nothing."""
    records = [read_cells(path) for path in sorted(folder.glob("*/cells.json"))]
    if not records:
        return ""
    lines = [[*CELLS_HEADINGS, *(f"GT-known, {name}" for name in ("drawn", *MOVED))]]
    for record in records:
        known = record.get("gt_known_loc", {})
        numbers = [_one_digit(known.get("drawn"))]
        for name in MOVED:
            number = _one_digit(known.get(name))
            if known:
                difference, low, high = known[f"{name}_difference"]
                number += f" ({difference:+.1f}, {low:+.1f} … {high:+.1f})"
            numbers.append(number)
        cells = [paper.row_title(record["model"]), "×".join(map(str, record["maps"]))]
        if record["name"] != record["model"]:
            cells[0] += f" ({record['name']})"
        cells.append(f"{record['drawn']['stride'][0]:.1f}")
        for kind in ("connected", "seen"):
            cells += _where(record, kind)
        lines.append([*cells, *numbers])
    title = f"# Where the cells of the maps look, on {records[0]['data']} {records[0]['split']}"
    return "\n".join([title, "", *aligned(lines), "", *bullets([*CELLS_NOTES, GENERATED]), ""])


def _where(record: dict[str, Any], kind: str) -> list[str]:
    """The place of the middle less where it is drawn, as down and right, and the stride."""
    found = record.get(kind)
    if found is None:
        return [DASH, DASH]
    places = []
    for axis in range(2):
        moved = found["middle"][axis] - record["drawn"]["middle"][axis]
        error = f" ± {found['middle_error'][axis]:.1f}" if "middle_error" in found else ""
        places.append(f"{moved:+.1f}{error}")
    stride = f"{sum(found['stride']) / 2:.1f}"
    return [", ".join(places), stride]


def _one_digit(value: float | None) -> str:
    return DASH if value is None else f"{value:.1f}"
