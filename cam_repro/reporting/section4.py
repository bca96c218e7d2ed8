"""The paper's section 4: Tables 4 and 5, every head of one data set, and what was claimed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cam_repro.features.record import chosen_c, draws_name, read_svm_record, svm_record_files
from cam_repro.files import write_text
from cam_repro.reporting import paper
from cam_repro.reporting.claims_of_section4 import write_claims
from cam_repro.reporting.layout import DASH, GENERATED, aligned, bullets, csv_text

Names = tuple[str, str, str, str]  # whose features, which classifier and solver, which scaling
Cells = dict[str, str]  # column -> what stands there

CROPS = {  # a record's `crop` -> whose map crops the training images
    "cam": "the answer's",
    "cam_of_true_class": "the true class's",
}
HEADS = {
    "liblinear": "SVM",
    "liblinear_intercept100": "SVM, intercept_scaling 100",
    "softmax": "softmax",
}
METRICS = {  # of the heads of one data set
    "accuracy": "accuracy ↑",
    "class_accuracy": "mean over classes ↑",
    "negative_share": "of the true class's map negative",
    "gt_known_loc": "GT-known ↑",
    "baseline_centre_box": "centred box ↑",
    "baseline_whole_image": "whole image ↑",
    "loc_top1_error": "loc top-1 error",
}
TABLE4_METRICS = {
    "box_right": "box right ↑",
    "baseline_centre_box": "centred box ↑",
    "baseline_whole_image": "whole image ↑",
}
TABLE5_NOTES = (
    "Accuracy in %, of the paper's Table 5 and measured here; the paper names neither C nor the "
    "scaling of the features, nor their splits.",
    "±: the standard deviation over draws; of an official split there is one draw.",
    "C: chosen in each draw by cross-validation on its training images alone. 100x10: 100 training "
    "images of each class, 10 draws; official: the data set's own split.",
    "Scaling l2: each image's features are divided by their length.",
)
TABLE4_HEADINGS = [
    "features", "classifier", "solver, tolerance", "scaling", "draw", "C: full, crop, true",
    "training crops by", "full image", "crop", "gain", "true boxes", "gain",
]  # fmt: skip
TABLE4_NOTES = (
    "Accuracy in % of the SVM on the first draw's test images, as a whole or what is inside of "
    "boxes; on crops it is trained anew. The paper's are of CUB-200-2011: context only.",
    "Crop: boxes of the maps of the SVM on the full images, in training and test images. A test "
    "image is cropped by the class that the SVM answers, a training image by the class whose map "
    "is named. True boxes: the largest of an image.",
    "Gain: over full images, in points, with its 95 % interval, paired over test images.",
    "Box right: the share of CAM's boxes of the test images with IoU ≥ 0.5 with a true box; "
    "centred box, whole image: of boxes that ignore the image.",
)
NOTES_OF_DATA = {
    "stanford40": "The true boxes are persons', the classes actions: the map of an action lies on "
    "the tool more than on the person, so that few of its boxes are right.",
    "tinyimagenet": "The images are 64×64 pixels, enlarged to what the network sees. They are "
    "ILSVRC's: a network with ILSVRC's weights was trained on most of them.",
}
HEADS_NOTES = (
    "In %; ±: the standard deviation over draws. Maps and boxes are of the first draw's test "
    "images.",
    "The weights of a head take the place of w in the class activation map, whose mean is the "
    "decision less the intercept. LIBLINEAR penalises the intercept, of a feature of the size "
    "intercept_scaling: where that is small the weights carry part of it, and more of the map is "
    "negative. Softmax does not penalise it. Of such a map 20 % of the maximum keeps less, and its "
    "box is smaller: GT-known says what that does.",
    "GT-known: the true class's box has IoU ≥ 0.5; centred box, whole image: of boxes that ignore "
    "the image, on the same images.",
)


def write_section4(results: Path, data: str) -> list[Path]:
    """Table 5 and the claims of all data sets, Table 4 and the heads of one.

    None where nothing is there.
    """
    written = []
    by_path = {}
    for folder in sorted(results.glob("*/")):
        for path in svm_record_files(folder):
            by_path[path] = read_svm_record(path)
    everywhere = list(by_path.values())
    whole = [record for record in everywhere if "crop" not in record]
    of_table5 = [record for record in whole if paper.column_of(record["data"])]
    if of_table5:
        written += _write(results / "table5", _table5_lines(of_table5), of_table5)
    if everywhere:
        written += write_claims(results / "claims-section4", by_path)
    here = [record for record in everywhere if record["data"] == data]
    for table in tables_of_data(here, data):
        lines = _page(f"# {table.title}", table.cells, table.notes)
        written += _write(results / data / table.stem, lines, table.records)
    return written


class DataTable(NamedTuple):
    """A table of one data set's records; the first of the cells are its headings."""

    stem: str
    title: str
    cells: list[list[str]]
    notes: Sequence[str]
    records: list[dict[str, Any]]


def tables_of_data(records: Sequence[dict[str, Any]], data: str) -> list[DataTable]:
    """The heads of a data set, and Table 4 where crops were measured; none without records."""
    tables = []
    whole = [record for record in records if "crop" not in record]
    if whole:
        title = f"Linear classifiers on the features of {data}"
        tables.append(DataTable("svm", title, _heads_cells(whole), HEADS_NOTES, whole))
    if len(whole) < len(records):
        of_svm = [record for record in records if record["head"] == "liblinear"]
        notes = [*TABLE4_NOTES]
        if data in NOTES_OF_DATA:
            notes.append(NOTES_OF_DATA[data])
        title = f"Table 4: accuracy (%) of the SVM on {data}, of full images and of crops"
        tables.append(DataTable("table4", title, _table4_cells(of_svm), notes, of_svm))
    return tables


def _write(stem: Path, lines: list[str], records: Sequence[dict[str, Any]]) -> list[Path]:
    text = write_text(stem.with_suffix(".md"), "\n".join(lines) + "\n")
    numbers = write_text(stem.with_suffix(".csv"), csv_text([_csv_line(of) for of in records]))
    return [text, numbers]


def _table5_lines(records: Sequence[dict[str, Any]]) -> list[str]:
    """The paper's three rows, then a row for each network, head and scaling.

    Where one of them has several results on a data set, of other draws, it has as many rows.
    """
    cells = [["features", "classifier", "solver, tolerance", "scaling", *paper.DATA_SETS]]
    for title, numbers in paper.TABLE5.items():
        published = [f"{number:.2f}" for number in numbers]
        cells.append([f"paper: {title}", "SVM", "LIBLINEAR, ?", "?", *published])
    rows: dict[Names, list[Cells]] = {}
    for record in records:
        column = paper.column_of(record["data"])
        of_names = rows.setdefault(_names(record), [])
        free = [row for row in of_names if column not in row]
        if not free:
            free = [{}]
            of_names += free
        free[0][column] = _table5_cell(record)
    for names, of_names in sorted(rows.items()):
        for row in of_names:
            measured = [row.get(column, DASH) for column in paper.DATA_SETS]
            cells.append([*names, *measured])
    title = "# Table 5: accuracy (%) of linear classifiers on pooled features"
    return _page(title, cells, TABLE5_NOTES)


def _table5_cell(record: dict[str, Any]) -> str:
    """As `91.8 ± 0.3 (C 0.01, 100x10)`."""
    return f"{_measured(record, 'accuracy')} (C {chosen_c(record)}, {_draws(record)})"


def _heads_cells(records: Sequence[dict[str, Any]]) -> list[list[str]]:
    found = []
    for name in METRICS:
        if any(name in record["metrics"] for record in records):
            found.append(name)
    headings = [METRICS[name] for name in found]
    cells = [["features", "classifier", "solver, tolerance", "scaling", "draws", "C", *headings]]
    for record in sorted(records, key=_names):
        numbers = [_measured(record, name) for name in found]
        cells.append([*_names(record), _draws(record), chosen_c(record), *numbers])
    return cells


def _table4_cells(records: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The paper's row, then one of each network, scaling and draw, and of each way of cropping."""
    cells = [[*TABLE4_HEADINGS, *TABLE4_METRICS.values()]]
    of_paper = ["paper: gap from GoogLeNet-GAP", "SVM", "LIBLINEAR, ?", "?", "official", "?", "?"]
    full = paper.TABLE4["full"]
    of_paper.append(f"{full:.1f}")
    for images in ("crop", "true_boxes"):
        of_paper += [f"{paper.TABLE4[images]:.1f}", f"{paper.TABLE4[images] - full:+.1f}"]
    cells.append([*of_paper, f"{paper.TABLE4['box_right']:.1f}", DASH, DASH])
    for record in sorted(records, key=lambda of: (_names(of), of.get("crop", ""))):
        if record.get("crop") in CROPS:
            full_record = _beside(records, record, None)
            true_record = _beside(records, record, "true_boxes")
            cells.append(_table4_row(record, full_record, true_record))
    return cells


def _beside(
    records: Sequence[dict[str, Any]], crops: dict[str, Any], crop: str | None
) -> dict[str, Any] | None:
    """The record of other images of the same draw by the same SVM: full ones (None), or a crop."""

    def told_apart(record: dict[str, Any]) -> list[Any]:
        drawn = draws_name(record["per_class"], record["test_per_class"], 1)
        return [*_names(record), drawn, record["grid"], record["split"]]

    for record in records:
        if record.get("crop") == crop and told_apart(record) == told_apart(crops):
            return record
    return None


def _table4_row(
    record: dict[str, Any], full: dict[str, Any] | None, true_boxes: dict[str, Any] | None
) -> list[str]:
    """record: of crops by CAM's boxes; the others are none where they were not measured."""
    drawn = draws_name(record["per_class"], record["test_per_class"], 1)
    chosen = []
    for one in (full, record, true_boxes):
        chosen.append(DASH if one is None else f"{one['c'][0]:g}")
    row = [*_names(record), drawn, ", ".join(chosen), CROPS[record["crop"]], _of_first_draw(full)]
    for one in (record, true_boxes):
        row += [_of_first_draw(one), _gain(one)]
    return row + [_measured(record, metric) for metric in TABLE4_METRICS]


def _of_first_draw(record: dict[str, Any] | None) -> str:
    return DASH if record is None else f"{record['each_draw']['accuracy'][0]:.1f}"


def _gain(record: dict[str, Any] | None) -> str:
    """As `+4.8 (+3.1 … +6.4)`."""
    if record is None or "gain" not in record:
        return DASH
    gain, low, high = record["gain"]
    return f"{gain:+.1f} ({low:+.1f} … {high:+.1f})"


def _page(title: str, cells: list[list[str]], notes: Sequence[str]) -> list[str]:
    lines = [title, "", *aligned(cells), ""]
    return lines + bullets([*notes, GENERATED])


def _names(record: dict[str, Any]) -> Names:
    """Whose features, which classifier by which solver, and how the features are scaled."""
    network = paper.row_title(record["model"])
    if "name" in record:
        network += f" ({record['name']})"
    layer = record["features"].partition(", ")[2]
    view = record["protocol"]["view"]
    solver = record["solver"].partition(",")[0]
    solved = f"{solver}, {record['tolerance']:g}"
    return f"{network}: {layer}, {view}", HEADS[record["head"]], solved, record["scaling"]


def _measured(record: dict[str, Any], metric: str) -> str:
    value = record["metrics"].get(metric)
    if value is None:
        return DASH
    deviation = record["deviation"].get(metric)
    over_draws = "" if deviation is None else f" ± {deviation:.1f}"
    return f"{value:.1f}{over_draws}"


def _draws(record: dict[str, Any]) -> str:
    """What was drawn of each class, and how often: `100x10`; else `official`."""
    return draws_name(record["per_class"], record["test_per_class"], record["draws"])


def _csv_line(record: dict[str, Any]) -> dict[str, Any]:
    """Unrounded, with the deviations over draws and what tells the records apart."""
    line = {
        "data": record["data"],
        "split": record["split"],
        "model": record["model"],
        "name": record.get("name", record["model"]),
        "head": record["head"],
        "scaling": record["scaling"],
        "protocol": record["protocol"]["name"],
        "draws": _draws(record),
        "crop": record.get("crop"),
        "train_images": record["train_images"],
        "images": record["images"],
        "c": " ".join(f"{c:g}" for c in record["c"]),
        "solver": record["solver"],
        "tolerance": record["tolerance"],
        "intercept_scaling": record["intercept_scaling"],
        "weights": record["provenance"]["weights"],
        "commit": record["provenance"]["commit"],
    }
    line["gain"], line["gain_low"], line["gain_high"] = record.get("gain", (None, None, None))
    for name in METRICS | TABLE4_METRICS:
        line[name] = record["metrics"].get(name)
        line[f"{name}_deviation"] = record["deviation"].get(name)
        low, high = record["confidence"].get(name, (None, None))
        line[f"{name}_low"] = low
        line[f"{name}_high"] = high
    return line
