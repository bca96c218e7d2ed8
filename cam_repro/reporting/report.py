"""One page to look at: images with maps, boxes and a threshold to move, why guesses fail, errors.

Of data without boxes it shows which classes are taken for which. The page is one file that fetches
nothing. Its script draws and counts, but measures nothing: every box and heatmap is in the file.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from cam_repro import UserError
from cam_repro.advice import typed_data
from cam_repro.config import Config, ProtocolConfig, check_choice, model_config, written_protocols
from cam_repro.data import Split, load_split
from cam_repro.data.split import load_arrays
from cam_repro.distributed import World, join_world
from cam_repro.evaluation.record import protocol_name
from cam_repro.evaluation.spec import Evaluation
from cam_repro.evaluation.trained import load_trained
from cam_repro.files import write_text
from cam_repro.localization.failures import KINDS
from cam_repro.localization.methods import METHODS, unsupported_reason
from cam_repro.reporting.charts import (
    Answers,
    Measured,
    class_chart,
    class_names,
    confusions,
    curve_chart,
    interval_chart,
    share_chart,
    table,
)
from cam_repro.reporting.figures import chosen_images
from cam_repro.reporting.gallery import (
    ANSWERS,
    LARGEST_SIDE,
    STEP,
    Gallery,
    spread_images,
    stored_image,
    stored_run,
)
from cam_repro.reporting.layout import Table, cells_of
from cam_repro.reporting.results import Result, read_results
from cam_repro.reporting.tables import tables_of

PAGE = Path(__file__).parent / "page"
CHARTS = {
    "cls_top1_error": "Top-1 classification error",
    "cls_top5_error": "Top-5 classification error",
    "loc_top1_error": "Top-1 localization error",
    "loc_top5_error": "Top-5 localization error",
    "gt_known_loc": "Localization accuracy of the true class’s box (GT-known; higher is better)",
}
BASELINES = {"a centred box": "baseline_centre_box", "the whole image": "baseline_whole_image"}
Networks = Iterator[tuple[Evaluation, list[Result]]]  # each, with what was measured of it


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
    with join_world(config.device, config.deterministic) as world:
        split = load_split(config.data, "val", Path(config.cache), world)
        has_boxes = len(split.boxes) > 0
        results = chosen_results(config, folder, "localization" if has_boxes else "classification")
        fingerprint = split.fingerprint()
        _refuse_other_data(_counted(results), config.data.name, fingerprint)
        networks = opened_networks(config, results, split, fingerprint, world)
        if has_boxes:
            gallery = localization_gallery(config, split, networks)
            text = localization_page(results, gallery)
        else:
            text, gallery = classification_page(config, split, results, networks)
    path = write_text(folder / "report.html", text)
    count = f"{len(gallery.images)} images, {len(gallery.runs)} networks and methods"
    print(f"{count}, {path.stat().st_size / 1e6:.1f} MB: {path}")
    return path


# Which results and networks.


def chosen_results(config: Config, folder: Path, kind: str) -> list[Result]:
    """The results of the asked networks that the page is about.

    kind: "localization" are boxes of the asked methods by the paper's protocol, and of the same
    networks MaxBoxAcc, all of one commit, and their boxes by the release's protocol, of which no
    number is shown; "classification" is that alone.
    Raises UserError where there is none, or none with maps small enough for a page.
    """
    given = config.name or (config.model and config.model.name)
    networks = config.report.networks or ([given] if given else [])
    methods = _asked_methods(config)
    for method in methods:
        check_choice("method", method, METHODS)
    protocols = ("paper", "wsol", "release") if kind == "localization" else ("paper",)
    found = []
    for run in read_results(folder, config.data.split):
        of_kind = (run.kind == "classification") == (kind == "classification")
        of_network = not networks or run.name in networks
        of_method = kind == "classification" or not methods or run.method in methods
        if of_kind and of_network and of_method and run.protocol["name"] in protocols:
            found.append(run)

    measured = [run for run in found if run.kind == kind and run.protocol["name"] == "paper"]
    names = {run.name for run in measured}
    missing = [name for name in networks if name not in names]
    if missing or not names:
        which = missing[0] if missing else "any network"
        if kind == "localization" and methods:
            which += f" by method={methods[0]}"
        what = "boxes" if kind == "localization" else "classification"
        first = f"first: make eval-{kind} {typed_data(config.data)}"
        raise UserError(f"no {what} of {which} in {folder}; {first}")
    shown = [run.method for run in measured] if kind == "localization" else methods
    if shown and not any(METHODS[method].has_small_maps for method in shown):
        reason = "those of the pixels' gradient are too large"
        raise UserError(f"no maps to show in {folder}: {reason}; choose method=cam")
    found = [run for run in found if run.name in names]
    _refuse_other_code(_counted(found))
    return found


def _asked_methods(config: Config) -> list[str]:
    return config.report.methods or ([config.method] if config.method else [])


def _counted(results: Sequence[Result]) -> list[Result]:
    """Those whose numbers are on the page: of the release it has boxes alone, drawn anew."""
    return [run for run in results if run.protocol["name"] != "release"]


def _refuse_other_code(results: Sequence[Result]) -> None:
    first = results[0]
    commit = first.provenance["commit"]
    for other in results[1:]:
        other_commit = other.provenance["commit"]
        if other_commit != commit:
            raise UserError(
                f"{first.path} and {other.path} are of different code: commit {commit[:10]} "
                f"against {other_commit[:10]}; evaluate both again, or choose report.networks= and "
                "report.methods="
            )


def _refuse_other_data(results: Sequence[Result], data: str, fingerprint: str) -> None:
    for run in results:
        measured = run.provenance["data"]
        if measured != fingerprint:
            raise UserError(
                f"{run.path} is of other images ({measured}) than data={data} now has "
                f"({fingerprint}); evaluate again, or give the data.root= that it was measured on"
            )


def opened_networks(
    config: Config, results: Sequence[Result], split: Split, fingerprint: str, world: World
) -> Networks:
    """Each network of the results, read once."""

    def network_of(run: Result) -> tuple[str, str]:
        return run.name, run.provenance["weights"]

    for _, group in groupby(sorted(results, key=network_of), key=network_of):
        of_network = list(group)
        if _counted(of_network):
            yield opened(config, of_network[0], split, fingerprint, world), of_network


def opened(
    config: Config, result: Result, split: Split, fingerprint: str, world: World
) -> Evaluation:
    """The network that a result was measured with.

    Its weights are weights=, its checkpoint's or the published ones: those whose sha256 is the
    result's. Raises UserError where none is.
    """
    model = model_config(result.model)
    if config.model and config.model.name == result.model:
        model = config.model
    candidates = [config.weights, None]
    if not result.provenance.get("training"):  # else the published weights, a download, are not it
        candidates.append("DEFAULT")
    for weights in candidates:
        with suppress(UserError):  # not there, or of another network
            own = replace(config, model=model, weights=weights)
            trained = load_trained(own, result.name, (split.wnids, split.words), world.device)
            if trained.weights.sha256 == result.provenance["weights"]:
                answered = split.answered_by(trained.wnids, trained.words)
                return Evaluation(own, trained, answered, fingerprint, world, frozenset())
    raise UserError(
        f"the weights of {result.path} (sha256 {result.provenance['weights'][:10]}…) are neither "
        f"in {config.runs}/ nor those given; give weights=FILE, or evaluate again"
    )


def read_answers(result: Result, split: Split, words: Sequence[str]) -> Answers:
    """What a classification of the split's images found, from the .npz beside its JSON.

    The split has the network's classes, whose words (C,) are given. Raises UserError where the file
    is not there, or of other images.
    """
    path = result.path.with_suffix(".npz")
    arrays = load_arrays(path)
    of_split = {"files": split.files, "labels": split.labels}
    same = all(key in arrays and np.array_equal(arrays[key], of) for key, of in of_split.items())
    if not same or "classes" not in arrays:
        raise UserError(
            f"{path}, which class each image was taken for, is not there, damaged or of other "
            f"images; evaluate again with force=true"
        )
    return Answers(arrays["labels"], arrays["classes"], class_names(words, split.wnids))


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


def localization_page(results: Sequence[Result], gallery: Gallery) -> str:
    """The page of results of boxes, as `chosen_results` gives them."""
    results = _counted(results)
    max_box_acc = [run for run in results if run.kind == "max_box_acc"]
    boxes = [run for run in results if run.kind == "localization"]
    tables = {one.stem.partition("-")[0]: one for one in tables_of(results, "paper")}
    failures = tables["failures"]
    shares = []
    for run in failures.results:
        of_kinds = [run.metrics.get(column.metric) for column in failures.columns]
        shares.append((_named(run), of_kinds))
    sections = _filled(
        "localization.html",
        failures=share_chart(shares, KINDS) + _numbers(failures),
        errors=_localization_charts(tables["table2"]),
        numbers=_numbers(tables["protocols"] if tables["protocols"].rows else tables["table2"]),
        curve=_curve(max_box_acc, boxes[0].data),
        sweeps=_numbers(tables["maxboxacc"]),
    )
    links = {"failures": "Why it fails", "errors": "Errors", "curve": "Thresholds"}
    return _page(
        results,
        gallery,
        kind="localization",
        images=f"{len(gallery.images)} images of the split, the same for every network.",
        verdict="Why the best guess fails, at this threshold",
        links=links,
        sections=sections,
    )


def _localization_charts(table2: Table) -> str:
    """Table 2's results; the paper's number stands where it was measured on the same images."""
    results = []
    for row in table2.rows:
        for run in row.results:
            results.append((run, row.published if table2.is_full_val else {}))
    charts = ""
    for metric in ("cls_top1_error", "loc_top1_error", "loc_top5_error"):
        charts += _interval_chart(metric, results)
    metrics = results[0][0].metrics
    baselines = {name: metrics[key] for name, key in BASELINES.items()}
    return charts + _interval_chart("gt_known_loc", results, baselines)


def _curve(measured: Sequence[Result], data: str) -> str:
    if not measured:
        return f"<p>Not measured: <code>make eval-localization protocol=wsol</code>, of {escape(data)}</p>"
    curves = {}
    for run in measured:
        thresholds, v1, *_ = np.loadtxt(
            run.path.with_suffix(".csv"), delimiter=",", skiprows=1, unpack=True
        )
        curves[_named(run)] = np.column_stack([100 * thresholds, v1])
    return curve_chart(curves)


# The page of data without boxes.


def classification_page(
    config: Config, split: Split, results: Sequence[Result], networks: Networks
) -> tuple[str, Gallery]:
    """The page of classifications: maps of right and wrong answers, and which classes are confused.

    The images are spread over the answers of the first network.
    """
    images: list[int] = []
    runs = []
    classes = confused = said = ""
    for evaluation, (result,) in networks:
        answers = read_answers(result, evaluation.split, evaluation.trained.words)
        if not images:
            right = answers.guesses[:, 0] == answers.labels
            images = _images_of_answers(config, split, right)
            wrong = int((~right[images]).sum())
            said = f"{len(images)} images, {wrong} of them wrong answers of {result.name}."
        for method in _shown_methods(config, evaluation):
            runs.append(stored_run(evaluation, method, _protocols(result), images, ANSWERS))
        heading = f"<h3>{escape(result.name)}</h3>"
        classes += heading + class_chart(answers)
        confused += heading + confusions(answers)
    gallery = Gallery([stored_image(split, image) for image in images], runs, ANSWERS)
    errors = ""
    for metric in ("cls_top1_error", "cls_top5_error"):
        errors += _interval_chart(metric, [(result, {}) for result in results])
    sections = _filled("classification.html", errors=errors, classes=classes, confusion=confused)
    page = _page(
        results,
        gallery,
        kind="classification",
        images=said,
        verdict="The best guess",
        links={"errors": "Errors", "classes": "Classes", "confusion": "Confusion"},
        sections=sections,
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
    asked = _asked_methods(config) or ["gradcam" if unsupported_reason("cam", network) else "cam"]
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


# What both pages have.


def _page(
    results: Sequence[Result],
    gallery: Gallery,
    *,
    kind: str,
    images: str,
    verdict: str,
    links: Mapping[str, str],
    sections: str,
) -> str:
    """The frame of a page.

    images: what they are; verdict: what the kinds of guesses say; links: a section's id -> its
    name.
    """
    first = next(result for result in results if result.kind == kind)
    commit = first.provenance["commit"][:10]
    subtitle = f"{first.images:,} {first.split} images, commit {commit}, protocol "
    stored = {
        "images": gallery.images,
        "runs": gallery.runs,
        "kinds": gallery.kinds,
        "step": STEP,
        "levels": written_protocols()["release"].thresholds,
    }
    data = json.dumps(stored, separators=(",", ":"))
    links = {**links, "origin": "What was measured"}
    return _filled(
        "report.html",
        kind=kind,
        style=(PAGE / "report.css").read_text("utf-8"),
        script=(PAGE / "report.js").read_text("utf-8"),
        data=data.replace("<", "\\u003c"),  # no tag in a class's words may end the script
        title=f"Class activation maps on {escape(first.data)}",
        subtitle=escape(f"{subtitle}{_settings(first.protocol)}."),
        links=" ".join(f'<a href="#{anchor}">{text}</a>' for anchor, text in links.items()),
        images=escape(images),
        verdict=verdict,
        step=STEP,
        largest=LARGEST_SIDE,
        sections=sections,
        origin=_origin(results),
    )


def _filled(name: str, **values: Any) -> str:
    return Template((PAGE / name).read_text("utf-8")).substitute(values)


def _named(run: Result) -> str:
    return run.name if run.kind == "classification" else f"{run.name}, {run.method}"


def _settings(protocol: Mapping[str, Any]) -> str:
    """A protocol in one line: `paper, view squash, …`."""
    others = [f"{key} {value}" for key, value in protocol.items() if key != "name"]
    return ", ".join([str(protocol["name"]), *others])


def _numbers(one: Table) -> str:
    return table(cells_of(one)) if one.rows else ""


def _interval_chart(
    metric: str,
    results: Sequence[tuple[Result, Mapping[str, float]]],
    baselines: Mapping[str, float] | None = None,
) -> str:
    """A metric of all results that have it, each with its interval and the paper's number, if any."""
    rows = []
    for run, published in results:
        value = run.metrics[metric]
        if value is not None:  # as the top-5 error of three classes is
            rows.append(Measured(_named(run), value, *run.interval(metric), published.get(metric)))
    return interval_chart(CHARTS[metric], rows, baselines) if rows else ""


def _origin(results: Sequence[Result]) -> str:
    """Every result behind the page, a line each."""
    rows = [
        ["file", "images", "input (px)", "weights (sha256)", "data", "commit", "date", "protocol"]
    ]
    for result in results:
        source = result.provenance
        dirty = "*" if source.get("dirty") else ""
        rows.append([
            f"{result.name}/{result.path.name}",
            f"{result.images:,}",
            str(result.input_size),
            source["weights"][:10],
            source["data"],
            source["commit"][:10] + dirty,
            str(source.get("date", "")),
            _settings(result.protocol),
        ])  # fmt: skip
    return table(rows)
