"""One page to look at: images with maps, boxes and a threshold to move, why guesses fail, errors.

Of data without boxes it shows which classes are taken for which; of data with nothing but
classifiers on features, these. Beside that it has the figures that were drawn. The page is one file
that fetches nothing. Its script draws and counts, but measures nothing: every box and heatmap is in
the file.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from cam_repro import UserError
from cam_repro.config import Config, ProtocolConfig, written_protocols
from cam_repro.data import Split, load_split
from cam_repro.distributed import join_distributed
from cam_repro.evaluation.record import protocol_name, record_files
from cam_repro.evaluation.spec import Evaluation
from cam_repro.features.record import read_svm_record, svm_record_files
from cam_repro.files import write_text
from cam_repro.localization.failures import KINDS
from cam_repro.localization.methods import METHODS, unsupported_reason
from cam_repro.reporting.figures import chosen_images
from cam_repro.reporting.gallery import (
    ANSWERS,
    LARGEST_SIDE,
    STEP,
    Gallery,
    Networks,
    asked_methods,
    chosen_results,
    counted,
    encoded,
    opened_networks,
    refuse_other_data,
    spread_images,
    stored_image,
    stored_run,
)
from cam_repro.reporting.layout import Table, cells_of
from cam_repro.reporting.leaderboard import NOTES as LEADERBOARD_NOTES
from cam_repro.reporting.leaderboard import cells_of_leaderboard, commands_of, leaderboard
from cam_repro.reporting.methods_table import NOTES as METHODS_NOTES
from cam_repro.reporting.methods_table import MethodsTable, methods_tables
from cam_repro.reporting.plots import PAPER_THRESHOLD
from cam_repro.reporting.results import (
    Answers,
    Result,
    confused_pairs,
    confusion_matrix,
    read_answers,
    read_results,
)
from cam_repro.reporting.section4 import tables_of_data
from cam_repro.reporting.tables import tables_of

PAGE = Path(__file__).parent / "page"
PAGES = Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined)
PAGES.trim_blocks = True
PAGES.lstrip_blocks = True
PAGES.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
CHARTS = {
    "cls_top1_error": "Top-1 classification error",
    "cls_top5_error": "Top-5 classification error",
    "loc_top1_error": "Top-1 localization error",
    "loc_top5_error": "Top-5 localization error",
    "gt_known_loc": "Localization accuracy of the true class’s box (GT-known; higher is better)",
}
CURVE_COLOURS = ("right", "wrong_both", "too_large", "several", "part", "wrong_class")  # of the CSS
CLASSES_SHOWN = 40  # rows of a chart of classes, those of the highest errors
BASELINE_METRICS = {
    "a centred box": "baseline_centre_box",
    "the whole image": "baseline_whole_image",
}


def make_report(config: Config) -> Path:
    """Write `results/<data>/report.html` and return its path.

    Raises UserError, a mistake's before any long work.
    """
    if protocol_name(config.protocol) != "paper":
        raise UserError(
            f"protocol={config.protocol.name}: the page is about protocol=paper; leave it out. The "
            "release's boxes are on it too, where there are results of protocol=release"
        )
    folder = Path(config.results) / config.data.name
    if svm_record_files(folder) and not record_files(folder):
        text, count = features_page(config, folder)
        path = write_text(folder / "report.html", text)
        print(f"{count}, {path.stat().st_size / 1e6:.1f} MB: {path}")
        return path
    with join_distributed(config.device, config.deterministic) as world:
        split = load_split(config.data, "val", Path(config.cache), world)
        has_boxes = len(split.boxes) > 0
        results = chosen_results(config, folder, "localization" if has_boxes else "classification")
        fingerprint = split.fingerprint()
        refuse_other_data(counted(results), config.data.name, fingerprint)
        networks = opened_networks(config, results, split, fingerprint, world)
        methods = _methods(folder, config.data.split, results)
        if has_boxes:
            gallery = localization_gallery(config, split, networks)
            text = localization_page(folder, results, gallery, methods)
        else:
            text, gallery = classification_page(config, split, results, networks, methods)
    path = write_text(folder / "report.html", text)
    count = f"{len(gallery.images)} images, {len(gallery.runs)} networks and methods"
    print(f"{count}, {path.stat().st_size / 1e6:.1f} MB: {path}")
    return path


def _methods(folder: Path, split: str, results: Sequence[Result]) -> list[MethodsTable]:
    """The tables of methods of the networks on the page, where any was measured."""
    names = {result.name for result in results}
    return [table for table in methods_tables(read_results(folder, split)) if table.name in names]


# The page of data with boxes.


def localization_gallery(config: Config, split: Split, networks: Networks) -> Gallery:
    """Images with their true boxes, and the boxes of every network and method with small maps."""
    images = chosen_images(config.report.images, split, config.seed)
    stored = [stored_image(split, image) for image in images]
    runs = []
    for evaluation, results in networks:
        by_paper = {}
        by_release = {}
        for run in results:
            if run.kind == "localization" and METHODS[run.method].has_small_maps:
                if run.protocol["name"] == "paper":
                    by_paper[run.method] = run
                elif run.provenance["data"] == evaluation.fingerprint:
                    by_release[run.method] = run
        for method, run in by_paper.items():
            protocols = _protocols(run, by_release.get(method))
            runs.append(stored_run(evaluation, method, protocols, images, KINDS))
    return Gallery(stored, runs, KINDS)


def _protocols(paper: Result, release: Result | None = None) -> dict[str, ProtocolConfig]:
    """The protocols whose boxes are shown, each at the size that was measured."""
    written = written_protocols()
    seen = {"size": paper.input_size, "interpolation": paper.interpolation}
    protocols = {"paper": replace(written["paper"], **seen)}
    if release is not None:
        seen = {"size": release.input_size, "interpolation": release.interpolation}
        protocols["release"] = replace(written["release"], **seen)
    return protocols


def localization_page(
    folder: Path,
    results: Sequence[Result],
    gallery: Gallery,
    methods: Sequence[MethodsTable] = (),
) -> str:
    """The page of results of boxes, as `chosen_results` gives them; folder: `results/<data>`."""
    results = counted(results)
    tables = {table.stem: table for table in tables_of(results)}
    standings = leaderboard(read_results(folder, results[0].split))
    failures = tables["failures"]
    shares = []
    for run in failures.results:
        of_kinds = [run.metrics.get(column.metric) for column in failures.columns]
        shares.append((_named(run), of_kinds))
    return _page(
        "localization",
        folder,
        results,
        gallery,
        said=f"{len(gallery.images)} images of the split, the same for every network.",
        shares=shares,
        failures=_cells(failures),
        errors=_localization_charts(tables["table2"]),
        numbers=_cells(tables["protocols"]) or _cells(tables["table2"]),
        curves=_curves([run for run in results if run.kind == "max_box_acc"]),
        sweeps=_cells(tables["maxboxacc"]),
        methods=methods,
        leaderboard=cells_of_leaderboard(standings),
        leaderboard_notes=LEADERBOARD_NOTES,
        commands=commands_of(standings),
    )


def _cells(table: Table) -> list[list[str]]:
    return cells_of(table) if table.rows else []


class Measured(NamedTuple):
    """A row of a chart, in percent; the interval and the paper's number are not always there."""

    name: str
    value: float
    low: float | None
    high: float | None
    paper: float | None = None


class IntervalChart(NamedTuple):
    """A point with its interval for each row; baselines: name -> %, lines through all rows."""

    title: str
    rows: list[Measured]
    baselines: Mapping[str, float]


def _chart(
    metric: str,
    results: Sequence[Result],
    published: Mapping[Path, Mapping[str, float]],
    baselines: Mapping[str, float],
) -> IntervalChart:
    """The results that have a metric; published: path of a result -> the paper's numbers."""
    rows = []
    for run in results:
        value = run.metrics[metric]
        if value is not None:  # as the top-5 error of three classes is
            low, high = run.interval(metric)
            theirs = published.get(run.path, {}).get(metric)
            rows.append(Measured(_named(run), value, low, high, theirs))
    return IntervalChart(CHARTS[metric], rows, baselines)


def _localization_charts(table2: Table) -> list[IntervalChart]:
    """Table 2's results; the paper's number stands where it was measured on the same images."""
    published = {}
    for row in table2.rows if table2.is_full_val else []:
        for run in row.results:
            published[run.path] = row.published
    results = table2.results
    measured = results[0].metrics
    baselines = {name: measured[metric] for name, metric in BASELINE_METRICS.items()}
    errors = ("cls_top1_error", "loc_top1_error", "loc_top5_error")
    charts = [_chart(metric, results, published, {}) for metric in errors]
    return [*charts, _chart("gt_known_loc", results, published, baselines)]


def _curves(measured: Sequence[Result]) -> list[dict[str, str]]:
    """MaxBoxAcc V1 over the threshold as a line of each result, and what it is at two of them."""
    curves = []
    for place, run in enumerate(measured):
        columns = np.loadtxt(run.path.with_suffix(".csv"), delimiter=",", skiprows=1, unpack=True)
        thresholds = 100 * columns[0]
        v1 = columns[1]
        at_20 = v1[np.abs(thresholds - 100 * PAPER_THRESHOLD).argmin()]
        best = v1.argmax()
        said = f"{at_20:.1f} % at 20 %, best {v1[best]:.1f} % at {thresholds[best]:.1f} %"
        points = [f"{x:.1f},{100 - y:.2f}" for x, y in zip(thresholds, v1, strict=True)]
        colour = CURVE_COLOURS[place % len(CURVE_COLOURS)]
        said = f"{_named(run)}: {said}"
        curves.append({"colour": colour, "points": " ".join(points), "said": said})
    return curves


# The page of data without boxes.


def classification_page(
    config: Config,
    split: Split,
    results: Sequence[Result],
    networks: Networks,
    methods: Sequence[MethodsTable] = (),
) -> tuple[str, Gallery]:
    """The page of classifications: maps of right and wrong answers, and which classes are confused.

    The images are spread over the answers of the first network.
    """
    images: list[int] = []
    runs = []
    of_networks = []
    said = ""
    for evaluation, (result,) in networks:
        answers = read_answers(result, evaluation.split, evaluation.trained.words)
        if not images:
            images = _images_of_answers(config, split, answers.right)
            wrong = int((~answers.right[images]).sum())
            said = f"{len(images)} images, {wrong} of them wrong answers of {result.name}."
        for method in _shown_methods(config, evaluation):
            runs.append(stored_run(evaluation, method, _protocols(result), images, ANSWERS))
        of_network = {
            "name": result.name,
            "classes": len(np.unique(answers.labels)),
            "errors": class_errors(answers),
            "matrix": confusion_matrix(answers),
            "pairs": confused_pairs(answers),
        }
        of_networks.append(of_network)
    gallery = Gallery([stored_image(split, image) for image in images], runs, ANSWERS)
    page = _page(
        "classification",
        Path(config.results) / config.data.name,
        results,
        gallery,
        said=said,
        errors=[_chart(metric, results, {}, {}) for metric in ("cls_top1_error", "cls_top5_error")],
        networks=of_networks,
        methods=methods,
    )
    return page, gallery


def _images_of_answers(config: Config, split: Split, right: np.ndarray) -> list[int]:
    """report.images='s images, of as many half wrong answers; right (N,): of the network."""
    asked = config.report.images
    if asked.isdecimal() and int(asked):
        return spread_images(int(asked), right, config.seed)
    return chosen_images(asked, split, config.seed)  # of a list; none is refused there


def _shown_methods(config: Config, evaluation: Evaluation) -> list[str]:
    """The asked methods that serve the network and have small maps; without any, CAM or Grad-CAM.

    What is left out is said.
    """
    network = evaluation.trained.network
    usual = "gradcam" if unsupported_reason("cam", network) else "cam"
    asked = asked_methods(config) or [usual]
    fit = []
    for method in asked:
        reason = unsupported_reason(method, network)
        if not reason and not METHODS[method].has_small_maps:
            reason = "its maps are too large for the page"
        if reason:
            print(f"{evaluation.trained.name}, {method} is left out of the gallery: {reason}")
        else:
            fit.append(method)
    return fit


def class_errors(answers: Answers) -> IntervalChart:
    """The error of each class that the images have, with its Wilson interval, the highest first."""
    from scipy.stats import binomtest  # takes half a second to import

    rows = []
    for label in np.unique(answers.labels).tolist():
        right = answers.right[answers.labels == label]
        errors = int((~right).sum())
        interval = binomtest(errors, len(right)).proportion_ci(method="wilson")
        name = f"{answers.names[label]}: {errors} of {len(right)}"
        error = 100 * errors / len(right)
        rows.append(Measured(name, error, 100 * interval.low, 100 * interval.high))
    rows.sort(key=lambda row: -row.value)
    title = "Top-1 error of each class: wrong of all its images"
    return IntervalChart(title, rows[:CLASSES_SHOWN], {})


# The page of data on which only classifiers on features were measured.


def features_page(config: Config, folder: Path) -> tuple[str, str]:
    """The page of make svm's records and figures, and what is on it in words."""
    records = [read_svm_record(path) for path in svm_record_files(folder)]
    origin = [["file", "images", "weights (sha256)", "data", "commit", "date"]]
    for path, record in zip(svm_record_files(folder), records, strict=True):
        source = record["provenance"]
        line = [f"{path.parent.name}/{path.name}", f"{record['images']:,}", source["weights"][:10]]
        origin.append([*line, source["data"], source["commit"][:10], source.get("date", "")])
    figures = stored_figures(folder, {record.get("name", record["model"]) for record in records})
    text = PAGES.get_template("features.html").render(
        kind="features",
        style=Markup((PAGE / "report.css").read_text("utf-8")),
        name=config.data.name,
        subtitle=f"Linear classifiers on pooled features: {len(records)} results.",
        section4=tables_of_data(records, config.data.name),
        figures=figures,
        origin=origin,
    )
    return text, f"{len(records)} classifiers, {len(figures)} figures"


def stored_figures(folder: Path, networks: Collection[str]) -> list[dict[str, str]]:
    """The figures of these networks that make figures and make svm left, as WebPs.

    They are those by the paper's protocol. folder: `results/<data>`, which has Fig. 5 itself.
    """
    figures = []
    for path in (*folder.glob("figure*.png"), *folder.glob("*/figure*.png")):
        number = path.stem.removeprefix("figure")
        network = "all networks" if path.parent == folder else path.parent.name
        if number.isdecimal() and (path.parent == folder or network in networks):
            figures.append((network, int(number), path))
    stored = []
    for network, number, path in sorted(figures):
        with Image.open(path) as image:
            source = "data:image/webp;base64," + encoded(image.convert("RGB"), "WEBP", 85)
        stored.append({"said": f"Figure {number}, {network}", "src": source})
    return stored


# What all pages have.


def _page(
    kind: str,
    folder: Path,
    results: Sequence[Result],
    gallery: Gallery,
    *,
    said: str,
    **sections: Any,
) -> str:
    """The page by the template of its kind, which escapes whatever stands in a result.

    folder: `results/<data>`; said: what the images are; sections: what the template of this kind
    shows.
    """
    first = next(result for result in results if result.kind == kind)
    measured = f"{first.images:,} {first.split} images, commit {first.provenance['commit'][:10]}"
    stored = {
        "images": gallery.images,
        "runs": gallery.runs,
        "kinds": gallery.kinds,
        "step": STEP,
        "levels": written_protocols()["release"].thresholds,
    }
    return PAGES.get_template(f"{kind}.html").render(
        kind=kind,
        style=Markup((PAGE / "report.css").read_text("utf-8")),
        script=Markup((PAGE / "report.js").read_text("utf-8")),
        data=stored,
        name=first.data,
        subtitle=f"{measured}, protocol {_settings(first.protocol)}.",
        said=said,
        kinds=gallery.kinds,
        step=STEP,
        largest=LARGEST_SIDE,
        section4=tables_of_data(
            [read_svm_record(path) for path in svm_record_files(folder)], first.data
        ),
        figures=stored_figures(folder, {result.name for result in results}),
        origin=_origin(results),
        methods_notes=METHODS_NOTES,
        **sections,
    )


def _named(run: Result) -> str:
    return run.name if run.kind == "classification" else f"{run.name}, {run.method}"


def _settings(protocol: Mapping[str, Any]) -> str:
    """A protocol in one line: `paper, view squash, …`."""
    others = [f"{key} {value}" for key, value in protocol.items() if key != "name"]
    return ", ".join([str(protocol["name"]), *others])


def _origin(results: Sequence[Result]) -> list[list[str]]:
    """Every result behind the page, a line each, below a heading."""
    cells = [["file", "images", "input (px)", "weights (sha256)"]]
    cells[0] += ["data", "commit", "date", "protocol"]
    for result in results:
        source = result.provenance
        file = f"{result.name}/{result.path.name}"
        dirty = "*" if source.get("dirty") else ""
        commit = source["commit"][:10] + dirty
        date = str(source.get("date", ""))
        line = [file, f"{result.images:,}", str(result.input_size), source["weights"][:10]]
        cells.append([*line, source["data"], commit, date, _settings(result.protocol)])
    return cells
