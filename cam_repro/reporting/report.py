"""One page to look at: pictures with maps, boxes and a threshold to move, why guesses fail, errors and their origin.

The page is one file that fetches nothing. It holds the small maps, and enlarges, cuts and boxes them itself
(page/report.js), by the rules of `data.views.resize_map` and `localization.boxes.paper_box`.
"""

import io
import json
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.advice import typed_data
from cam_repro.config import Config, check_choice, model_config, written_protocols
from cam_repro.data import Split, load_split
from cam_repro.data.images import CorruptImage
from cam_repro.data.views import resize_map
from cam_repro.distributed import World, join_world
from cam_repro.evaluation.maps import predict_split
from cam_repro.evaluation.record import protocol_name
from cam_repro.evaluation.spec import Evaluation
from cam_repro.evaluation.trained import load_trained
from cam_repro.files import write_text
from cam_repro.localization.boxes import loose_and_tight
from cam_repro.localization.failures import KINDS
from cam_repro.localization.methods import METHODS
from cam_repro.reporting.charts import Measured, curve_chart, interval_chart, share_chart, table
from cam_repro.reporting.figures import first_name
from cam_repro.reporting.paper_figures import chosen_images
from cam_repro.reporting.results import Result, read_results
from cam_repro.reporting.table import Table, cells_of
from cam_repro.reporting.tables import tables_of

PAGE = Path(__file__).parent / "page"
LARGEST_SIDE = 1024  # pixels: a larger picture is judged at this size, since the page enlarges its maps to it
STORED_SIDE, QUALITY = 400, 80  # of the JPEGs in the page
CHARTS = {
    "cls_top1_error": "Top-1 classification error", "loc_top1_error": "Top-1 localization error",
    "loc_top5_error": "Top-5 localization error",
    "gt_known_loc": "Localization accuracy of the true class’s box (GT-known; higher is better)",
}  # fmt: skip
BASELINES = {"a centred box": "baseline_centre_box", "the whole image": "baseline_whole_image"}


def make_report(config: Config) -> Path:
    """Write `results/<data>/report.html` and return its path. Raises UserError, a mistake's before any long work."""
    if protocol_name(config.protocol) != "paper":
        raise UserError(f"protocol={config.protocol.name}: the page draws the boxes of protocol=paper; leave it out")
    folder = Path(config.results) / config.data.name
    results = chosen_results(config, folder)
    in_gallery = [run for run in results if run.kind == "localization" and METHODS[run.method].has_small_maps]
    if not in_gallery:
        raise UserError(f"no maps to show in {folder}: those of the pixels' gradient are too large; choose method=cam")
    with join_world(config.device, config.deterministic) as world:
        split = load_split(config.data, "val", Path(config.cache), world)
        fingerprint = split.fingerprint()
        for run in results:
            if (measured := run.provenance["data"]) != fingerprint:
                raise UserError(
                    f"{run.path} is of other pictures ({measured}) than data={config.data.name} now has "
                    f"({fingerprint}); evaluate again, or give the data.root= that it was measured on"
                )
        images = chosen_images(config.report.images, split, config.seed)
        pictures, runs = [_picture(split, image) for image in images], []
        for (name, _), group in groupby(in_gallery, lambda run: (run.name, run.provenance["weights"])):
            of_network = list(group)
            evaluation = opened(config, of_network[0], split, fingerprint, world)
            for run in tqdm(of_network, name, leave=False, disable=None):
                runs.append(_run(evaluation, run, images, pictures))
    path = write_text(folder / "report.html", page(results, pictures, runs))
    print(f"{len(pictures)} pictures, {len(runs)} networks and methods, {path.stat().st_size / 1e6:.1f} MB: {path}")
    return path


def chosen_results(config: Config, folder: Path) -> list[Result]:
    """The boxes of the asked networks and methods by the paper's protocol, and their sweeps, of one commit."""
    given = config.name or (config.model and config.model.name)
    networks = config.report.networks or ([given] if given else [])
    methods = config.report.methods or ([config.method] if config.method else [])
    for method in methods:
        check_choice("method", method, METHODS)
    found = [
        run for run in read_results(folder)
        if run.kind != "classification" and run.protocol["name"] in ("paper", "wsol")
        and (not networks or run.name in networks) and (not methods or run.method in methods)
    ]  # fmt: skip
    boxed = {run.name for run in found if run.kind == "localization"}
    if missing := [name for name in networks if name not in boxed] or ([] if boxed else ["any network"]):
        which = f"{missing[0]}{f' by method={methods[0]}' if methods else ''}"
        raise UserError(f"no boxes of {which} in {folder}; first: make eval-localization {typed_data(config.data)}")
    found = [run for run in found if run.name in boxed]
    for other in found[1:]:
        one, two = (run.provenance["commit"][:10] for run in (found[0], other))
        if one != two:
            raise UserError(
                f"{found[0].path} and {other.path} are of different code: commit {one} against {two}; evaluate both "
                "again, or choose report.networks= and report.methods="
            )
    return found


def opened(config: Config, result: Result, split: Split, fingerprint: str, world: World) -> Evaluation:
    """The network that a result was measured with: of weights=, its checkpoint and the published weights the ones whose
    sha256 is the result's. Raises UserError where none is."""
    model = config.model if config.model and config.model.name == result.model else model_config(result.model)
    trained_here = result.provenance.get("training")  # then the published weights, which may be a download, are not it
    for weights in (config.weights, None, *([] if trained_here else ["DEFAULT"])):
        with suppress(UserError):  # not there, or of another network
            own = replace(config, model=model, weights=weights)
            trained = load_trained(own, result.name, (split.wnids, split.words), world.device)
            if trained.weights.sha256 == result.provenance["weights"]:
                answered = split.answered_by(trained.wnids, trained.words)
                return Evaluation(own, trained, answered, fingerprint, world, frozenset())
    raise UserError(
        f"the weights of {result.path} (sha256 {result.provenance['weights'][:10]}…) are neither in {config.runs}/ nor "
        "those given; give weights=FILE, or evaluate again"
    )


def _picture(split: Split, image: int) -> dict[str, Any]:
    """A picture as the page has it; sizes and boxes in the pixels in which it is judged. Raises UserError."""
    try:
        pixels = split.read(image)
    except CorruptImage as error:
        raise UserError(f"corrupt image {error}; fetch it again, or leave it out of report.images=") from None
    small, jpeg = Image.fromarray(pixels), io.BytesIO()
    small.thumbnail((STORED_SIDE, STORED_SIDE))
    small.save(jpeg, "JPEG", quality=QUALITY)
    shrunk = max(1.0, max(pixels.shape[:2]) / LARGEST_SIDE)
    return {
        "name": split.path(image).name, "label": first_name(split.words[split.labels[image]]),
        "width": round(pixels.shape[1] / shrunk), "height": round(pixels.shape[0] / shrunk),
        "boxes": (split.true_boxes(image) / shrunk).tolist(),
        "src": "data:image/jpeg;base64," + b64encode(jpeg.getvalue()).decode(),
    }  # fmt: skip


def _run(evaluation: Evaluation, result: Result, images: list[int], pictures: list[dict[str, Any]]) -> dict[str, Any]:
    """A network and method as the page has them: maps, float32, with the guesses.

    right: the place of the true class among a picture's guesses, -1 where it is not; release: the loose and the tight
    box of every map.
    """
    config, trained, subset = evaluation.config, evaluation.trained, evaluation.split.subset(images)
    batches = [*predict_split(
        trained.network, subset, "squash", result.input_size, [result.method], evaluation.world,
        batch_size=config.eval_batch_size, interpolation=result.interpolation, workers=config.data.workers,
    )]  # fmt: skip
    classes = np.concatenate([batch.classes for batch in batches])
    maps = np.concatenate([batch.maps[result.method][:, 0] for batch in batches]).astype("<f4")
    words, labels = trained.words, subset.labels
    release, protocol = [], written_protocols()["release"]
    for of_picture, picture in zip(maps, pictures, strict=True):
        enlarged = [resize_map(one, picture["width"], picture["height"]) for one in of_picture]
        release.append([loose_and_tight(heatmap, protocol) for heatmap in enlarged])
    return {
        "network": result.name, "method": result.method, "side": maps.shape[2:],
        "maps": b64encode(maps.tobytes()).decode(),
        "guesses": [[first_name(words[label]) for label in of_picture] for of_picture in classes],
        "right": [[*of].index(label) if label in of else -1 for of, label in zip(classes, labels, strict=True)],
        "release": release,
    }  # fmt: skip


def page(results: Sequence[Result], pictures: list[dict[str, Any]], runs: list[dict[str, Any]]) -> str:
    """The page of these results, with pictures and runs as `_picture` and `_run` describe them."""
    boxes = [result for result in results if result.kind == "localization"]
    data, commit = boxes[0].data, boxes[0].provenance["commit"]
    tables = {one.stem.partition("-")[0]: one for one in tables_of(results, boxes[0].protocol["name"])}
    failures, stored = tables["failures"], {"pictures": pictures, "runs": runs, "kinds": KINDS}
    shares = [(_named(run), [run.metrics.get(column.value) for column in failures.columns]) for run in failures.results]
    html, style, script = ((PAGE / name).read_text("utf-8") for name in ("report.html", "report.css", "report.js"))
    return Template(html).substitute(
        style=style, script=script,
        # No tag in a class's words or a file's name may end the script.
        data=json.dumps(stored, separators=(",", ":")).replace("<", "\\u003c"),
        title=f"Class activation maps on {escape(data)}",
        images=f"{boxes[0].images:,} {escape(boxes[0].split)} images",
        commit=escape(commit[:10]), protocol=escape(_said(boxes[0].protocol)),
        count=len(pictures), largest=LARGEST_SIDE,
        failures=share_chart(shares, KINDS) + _numbers(failures),
        errors=_errors(tables["table2"]),
        numbers=_numbers(tables["protocols"] if tables["protocols"].rows else tables["table2"]),
        curve=_curve([result for result in results if result.kind == "max_box_acc"], data),
        sweeps=_numbers(tables["maxboxacc"]),
        origin=_origin(results),
    )  # fmt: skip


def _numbers(one: Table) -> str:
    return table(cells_of(one)) if one.rows else ""


def _named(run: Result) -> str:
    return f"{run.name}, {run.method}"


def _said(protocol: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" if key != "name" else str(value) for key, value in protocol.items())


def _errors(table2: Table) -> str:
    """Table 2's results as charts; the paper's number is on them where it was measured on the same images."""
    results = [(run, row.published if table2.is_full_val else {}) for row in table2.rows for run in row.results]
    charts = ""
    for metric, title in CHARTS.items():
        rows = [
            Measured(_named(run), value, *run.interval(metric), published.get(metric))
            for run, published in results if (value := run.metrics[metric]) is not None  # as top-5 of three classes
        ]  # fmt: skip
        baselines = {}
        if metric == "gt_known_loc":
            baselines = {name: results[0][0].metrics[of] for name, of in BASELINES.items()}
        charts += interval_chart(title, rows, baselines)
    return charts


def _curve(measured: Sequence[Result], data: str) -> str:
    if not measured:
        return f"<p>Not measured: <code>make eval-localization protocol=wsol</code>, of {escape(data)}</p>"
    curves = {}
    for run in measured:
        thresholds, v1, *_ = np.loadtxt(run.path.with_suffix(".csv"), delimiter=",", skiprows=1, unpack=True)
        curves[_named(run)] = np.column_stack([100 * thresholds, v1])
    return curve_chart(curves)


def _origin(results: Sequence[Result]) -> str:
    rows = [["file", "images", "input (px)", "weights (sha256)", "data", "commit", "date", "protocol"]]
    for result in results:
        said = result.provenance
        rows.append([
            f"{result.name}/{result.path.name}", f"{result.images:,}", str(result.input_size),
            said["weights"][:10], said["data"], said["commit"][:10] + "*" * bool(said.get("dirty")),
            str(said.get("date", "")), _said(result.protocol),
        ])  # fmt: skip
    return table(rows)
