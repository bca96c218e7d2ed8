"""One page to look at: images with maps, boxes and a threshold to move, why guesses fail, errors and
their origin; of data without boxes, which classes are taken for which.

The page is one file that fetches nothing, and computes nothing that is measured here: it holds the
heatmaps as small grey images, and the boxes at every stop of the threshold's slider.
"""

import io
import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.advice import typed_data
from cam_repro.config import Config, ProtocolConfig, check_choice, model_config, written_protocols
from cam_repro.cores import in_threads
from cam_repro.data import Split, load_split
from cam_repro.data.images import CorruptImage
from cam_repro.data.split import load_arrays
from cam_repro.data.views import VIEWS
from cam_repro.distributed import World, join_world
from cam_repro.evaluation.maps import images_a_batch, predict_split
from cam_repro.evaluation.record import protocol_name
from cam_repro.evaluation.spec import Evaluation
from cam_repro.evaluation.trained import load_trained
from cam_repro.files import write_text
from cam_repro.localization.boxes import loose_and_tight, paper_box, resized_boxes
from cam_repro.localization.failures import KINDS, kind_of_guess
from cam_repro.localization.methods import METHODS, unsupported_reason
from cam_repro.reporting.charts import (
    Measured,
    confusion_table,
    curve_chart,
    interval_chart,
    share_chart,
    table,
)
from cam_repro.reporting.figures import first_name
from cam_repro.reporting.paper_figures import chosen_images, listed_images
from cam_repro.reporting.results import Result, read_results
from cam_repro.reporting.table import Table, cells_of
from cam_repro.reporting.tables import tables_of

PAGE = Path(__file__).parent / "page"
IMAGE_SIDE, IMAGE_QUALITY = 400, 80  # of the JPEGs in the page
HEAT_SIDE, HEAT_QUALITY = 48, 80  # of a heatmap's WebP, which the browser enlarges
STEP = 2  # percent of a map's maximum between two stops of the slider; the paper's 20 % is one
STOPS = range(0, 101, STEP)
LARGEST_SIDE = 1024  # pixels: a larger image's boxes are drawn at this size, and carried back
CHARTS = {
    "cls_top1_error": "Top-1 classification error",
    "cls_top5_error": "Top-5 classification error",
    "loc_top1_error": "Top-1 localization error",
    "loc_top5_error": "Top-5 localization error",
    "gt_known_loc": "Localization accuracy of the true class’s box (GT-known; higher is better)",
}
LOCALIZATION_CHARTS = ("cls_top1_error", "loc_top1_error", "loc_top5_error", "gt_known_loc")
CLASSIFICATION_CHARTS = ("cls_top1_error", "cls_top5_error")
BASELINES = {"a centred box": "baseline_centre_box", "the whole image": "baseline_whole_image"}
LOCALIZATION_LINKS = {
    "failures": "Why it fails", "errors": "Errors", "curve": "Thresholds", "origin": "What was measured",
}  # fmt: skip
CLASSIFICATION_LINKS = {
    "errors": "Errors", "classes": "Classes", "confusion": "Confusion", "origin": "What was measured",
}  # fmt: skip
ANSWERS = {"right": "right class", "wrong_class": "wrong class"}  # KINDS where there are no boxes
CLASSES_SHOWN = 40  # rows of a chart of classes, those of the most errors
MATRIX_CLASSES = 30  # more do not fit beside each other
PAIRS_SHOWN = 20


class Gallery(NamedTuple):
    """What the page's script shows: images and runs as `_stored_image` and `_stored_run` describe
    them, and the kinds of guesses, key -> heading."""

    images: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    kinds: Mapping[str, str]


class Answers(NamedTuple):
    """What a network said of N images: labels (N,) and guesses (N,G), the best first, in its numbers of
    classes; names (C,) of these, no two the same."""

    labels: np.ndarray
    guesses: np.ndarray
    names: list[str]


def make_report(config: Config) -> Path:
    """Write `results/<data>/report.html` and return its path.

    Raises UserError, a mistake's before any long work.
    """
    if protocol_name(config.protocol) != "paper":
        raise UserError(
            f"protocol={config.protocol.name}: the page is about the results of protocol=paper; leave it "
            "out. It has the release's boxes too, where there are results of protocol=release"
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
            gallery = localization_gallery(config, split, results, networks)
            text = localization_page(results, gallery)
        else:
            text, gallery = classification_page(config, split, results, networks)
    path = write_text(folder / "report.html", text)
    count = f"{len(gallery.images)} images, {len(gallery.runs)} networks and methods"
    print(f"{count}, {path.stat().st_size / 1e6:.1f} MB: {path}")
    return path


# Which results, images and networks.


def chosen_results(config: Config, folder: Path, kind: str) -> list[Result]:
    """The results of the asked networks that the page is about.

    kind: "localization" are boxes of the asked methods by the paper's protocol, and of the same
    networks MaxBoxAcc, all of one commit, and their boxes by the release's protocol, of which no
    number is shown; "classification" is that alone.
    Raises UserError where there is none, or none with maps small enough for a page.
    """
    given = config.name or (config.model and config.model.name)
    networks = config.report.networks or ([given] if given else [])
    methods = config.report.methods or ([config.method] if config.method else [])
    for method in methods:
        check_choice("method", method, METHODS)
    protocols = ("paper", "wsol", "release") if kind == "localization" else ("paper",)
    found = []
    for run in read_results(folder):
        of_kind = (run.kind == "classification") == (kind == "classification")
        of_network = not networks or run.name in networks
        of_method = kind == "classification" or not methods or run.method in methods
        if of_kind and of_network and of_method and run.protocol["name"] in protocols:
            found.append(run)

    measured = [run for run in found if run.kind == kind and run.protocol["name"] == "paper"]
    named = [run.name for run in measured]
    missing = [name for name in networks if name not in named] or ([] if named else ["any network"])
    if missing:
        what = "boxes" if kind == "localization" else "classification"
        which = missing[0] + (f" by method={methods[0]}" if methods and kind == "localization" else "")
        raise UserError(f"no {what} of {which} in {folder}; first: make eval-{kind} {typed_data(config.data)}")
    of_page = methods if kind == "classification" else [run.method for run in measured]
    if of_page and not any(METHODS[method].has_small_maps for method in of_page):
        raise UserError(f"no maps to show in {folder}: those of the pixels' gradient are too large; choose method=cam")
    found = [run for run in found if run.name in named]
    _refuse_other_code(_counted(found))
    return found


def _counted(results: Sequence[Result]) -> list[Result]:
    """Those whose numbers are on the page: of the release's protocol it has boxes alone, drawn anew."""
    return [run for run in results if run.protocol["name"] != "release"]


def _refuse_other_code(results: Sequence[Result]) -> None:
    first = results[0]
    for other in results[1:]:
        commit, other_commit = first.provenance["commit"], other.provenance["commit"]
        if commit != other_commit:
            raise UserError(
                f"{first.path} and {other.path} are of different code: commit {commit[:10]} against "
                f"{other_commit[:10]}; evaluate both again, or choose report.networks= and report.methods="
            )


def _refuse_other_data(results: Sequence[Result], data: str, fingerprint: str) -> None:
    for run in results:
        measured = run.provenance["data"]
        if measured != fingerprint:
            raise UserError(
                f"{run.path} is of other images ({measured}) than data={data} now has ({fingerprint}); "
                "evaluate again, or give the data.root= that it was measured on"
            )


def opened_networks(
    config: Config, results: Sequence[Result], split: Split, fingerprint: str, world: World
) -> Iterator[tuple[Evaluation, list[Result]]]:
    """Each network of the results, read once, with what was measured of it."""

    def network_of(run: Result) -> tuple[str, str]:
        return run.name, run.provenance["weights"]

    for _, group in groupby(sorted(results, key=network_of), key=network_of):
        of_network = list(group)
        yield opened(config, of_network[0], split, fingerprint, world), of_network


def opened(config: Config, result: Result, split: Split, fingerprint: str, world: World) -> Evaluation:
    """The network that a result was measured with: of weights=, its checkpoint and the published weights
    the ones whose sha256 is the result's. Raises UserError where none is."""
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
        f"the weights of {result.path} (sha256 {result.provenance['weights'][:10]}…) are neither in "
        f"{config.runs}/ nor those given; give weights=FILE, or evaluate again"
    )


def read_answers(result: Result, split: Split, words: Sequence[str]) -> Answers:
    """What a classification of the split's images found, from the .npz beside its JSON.

    The split has the network's classes, whose words (C,) are given. Raises UserError where the file is
    not there, or of other images.
    """
    path = result.path.with_suffix(".npz")
    arrays = load_arrays(path)
    of_split = {"files": split.files, "labels": split.labels}
    same = all(key in arrays and np.array_equal(arrays[key], of) for key, of in of_split.items())
    if not same or "classes" not in arrays:
        raise UserError(
            f"{path}, which class each image was taken for, is not there, damaged or of other images; "
            "evaluate again with force=true"
        )
    return Answers(arrays["labels"], arrays["classes"], class_names(words, split.wnids))


def class_names(words: Sequence[str], wnids: Sequence[str]) -> list[str]:
    """The first name of each class, with its wnid where another class has the same, as ILSVRC's crane."""
    firsts = [first_name(of_class) for of_class in words]
    return [f"{name} ({wnid})" if firsts.count(name) > 1 else name for name, wnid in zip(firsts, wnids, strict=True)]


def spread_images(asked: str, split: Split, right: np.ndarray, seed: int) -> list[int]:
    """As many images as report.images= asks for, half of them wrong answers as far as there are so many,
    drawn by the seed, the wrong ones first; or those of a list. right (N,): the network's answers."""
    if not asked.isdecimal():
        return listed_images(Path(asked), split)
    if not int(asked):
        raise UserError(f"report.images={asked}: give a number above 0, of the {len(split)} images")
    order = np.random.default_rng(seed).permutation(len(split))
    wrong_ones = order[~right[order]]
    right_ones = order[right[order]]
    count = min(int(asked), len(split))
    wrong_count = min(len(wrong_ones), max(count // 2, count - len(right_ones)))
    of_wrong, of_right = wrong_ones[:wrong_count], right_ones[: count - wrong_count]
    return sorted(of_wrong.tolist()) + sorted(of_right.tolist())


# What the page's script shows.


def localization_gallery(
    config: Config,
    split: Split,
    results: Sequence[Result],
    networks: Iterator[tuple[Evaluation, list[Result]]],
) -> Gallery:
    """Images with their true boxes, and boxes of every network and method with small maps."""
    images = chosen_images(config.report.images, split, config.seed)
    stored = [_stored_image(split, image) for image in images]
    runs = []
    for evaluation, of_network in networks:
        boxed = [run for run in of_network if run.kind == "localization"]
        by_release = {}
        for run in boxed:
            if run.protocol["name"] == "release" and run.provenance["data"] == evaluation.fingerprint:
                by_release[run.method] = run
        for run in boxed:
            if run.protocol["name"] == "paper" and METHODS[run.method].has_small_maps:
                protocols = _protocols(run, by_release.get(run.method))
                runs.append(_stored_run(evaluation, run.method, protocols, images, KINDS))
    return Gallery(stored, runs, KINDS)


def _protocols(paper: Result, release: Result | None) -> dict[str, ProtocolConfig]:
    """The protocols whose boxes are shown, each at the size that was measured."""
    written = written_protocols()
    seen = {"size": paper.input_size, "interpolation": paper.interpolation}
    protocols = {"paper": replace(written["paper"], **seen)}
    if release is not None:
        seen = {"size": release.input_size, "interpolation": release.interpolation}
        protocols["release"] = replace(written["release"], **seen)
    return protocols


def _stored_image(split: Split, image: int) -> dict[str, Any]:
    """An image as the page has it, with its size and true boxes in its own pixels. Raises UserError."""
    try:
        pixels = split.read(image)
    except CorruptImage as error:
        raise UserError(f"corrupt image {error}; fetch it again, or leave it out of report.images=") from None
    small = Image.fromarray(pixels)
    small.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
    height, width = pixels.shape[:2]
    return {
        "name": split.path(image).name,
        "label": first_name(split.words[split.labels[image]]),
        "width": width,
        "height": height,
        "boxes": split.true_boxes(image).tolist(),
        "src": "data:image/jpeg;base64," + _encoded(small, "JPEG", IMAGE_QUALITY),
    }


def _stored_run(
    evaluation: Evaluation,
    method: str,
    protocols: Mapping[str, ProtocolConfig],
    images: list[int],
    kinds: Mapping[str, str],
) -> dict[str, Any]:
    """A network and method as the page has them: rules, what `_drawn` says of each protocol."""
    title = f"{evaluation.trained.name}, {method}"
    rules = {}
    for name, protocol in tqdm(protocols.items(), title, leave=False, disable=None):
        rules[name] = _drawn(evaluation, method, protocol, images, kinds)
    return {"network": evaluation.trained.name, "method": method, "rules": rules}


def _drawn(
    evaluation: Evaluation,
    method: str,
    protocol: ProtocolConfig,
    images: list[int],
    kinds: Mapping[str, str],
) -> dict[str, Any]:
    """What a protocol draws of n images, from the maps of the G best classes and then the true one's.

    guesses (n,G): the classes' names; right (n,): the place of the true class among them, or -1;
    heats (n,G+1): grey WebPs in base64, 255 at the map's maximum; boxes (n,G+1,S,4) uint16,
    little-endian, in base64: at the S stops of the slider, or the loose and the tight one;
    kinds (n,): a string of S places in `kinds` of the best guess, "-" where none can be named.
    """
    classes, maps, sizes = _predicted(evaluation, method, protocol, images)
    labels = evaluation.split.labels[images]
    places = [(image, place) for image in range(len(maps)) for place in range(maps.shape[2])]

    def drawn(at: tuple[int, int]) -> tuple[str, np.ndarray]:
        image, place = at
        width, height = sizes[image].tolist()
        return _heat_and_boxes(maps[image, :, place], (width, height), protocol)

    heats, boxes = zip(*in_threads(drawn, places), strict=True)
    boxes_of_all = np.stack(boxes).reshape(len(maps), maps.shape[2], -1, 4)
    found = []
    for image, boxes_of_best, label, guess in zip(images, boxes_of_all[:, 0], labels, classes[:, 0], strict=True):
        truth = evaluation.split.true_boxes(image)
        found.append(_kinds_of_guess(boxes_of_best, bool(guess == label), truth, [*kinds]))
    words = evaluation.trained.words
    return {
        "guesses": [[first_name(words[label]) for label in of_image] for of_image in classes],
        "right": [_place_of(label, of_image) for label, of_image in zip(labels, classes, strict=True)],
        "heats": [heats[start : start + maps.shape[2]] for start in range(0, len(heats), maps.shape[2])],
        # No image that can be read has 65,536 pixels a side; a corner outside of a tiny one is cut off.
        "boxes": b64encode(np.clip(boxes_of_all, 0, 65535).astype("<u2").tobytes()).decode(),
        "kinds": found,
    }


def _predicted(
    evaluation: Evaluation, method: str, protocol: ProtocolConfig, images: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the network says of n images by the protocol's view, as an evaluation asks it.

    Classes (n,G), the best first; their maps and the true class's, (n,crops,G+1,h,w); sizes (n,2),
    width and height of the images.
    """
    config = evaluation.config
    batches = predict_split(
        evaluation.trained.network, evaluation.split.subset(images), protocol.view, protocol.size,
        [method], evaluation.world, batch_size=images_a_batch(config.eval_batch_size, protocol.view, [method]),
        interpolation=protocol.interpolation or evaluation.trained.network.interpolation,
        workers=config.data.workers,
    )  # fmt: skip
    classes, maps, sizes = [], [], []
    for batch in batches:
        maps.append(batch.maps[method])
        classes.append(batch.classes)
        sizes.append(batch.sizes)
    return np.concatenate(classes), np.concatenate(maps), np.concatenate(sizes)


def _heat_and_boxes(maps: np.ndarray, size: tuple[int, int], protocol: ProtocolConfig) -> tuple[str, np.ndarray]:
    """A class's maps (crops,h,w) of an image of (width, height) -> its heatmap, small, as a WebP in base64,
    and its boxes (S,4) in the image's own pixels."""

    def placed(at_size: tuple[int, int]) -> np.ndarray:
        return VIEWS[protocol.view].place(maps, at_size, protocol.size, protocol.resize)

    heat = placed(_within(size, HEAT_SIDE, enlarge=True))
    share = np.clip(heat / max(float(heat.max()), 1e-12), 0, 1)
    grey = Image.fromarray(np.round(255 * share).astype(np.uint8))
    if protocol.boxes == "paper":
        drawn_at = _within(size, LARGEST_SIDE)
        heatmap = placed(drawn_at)
        boxes = [paper_box(heatmap, stop / 100) for stop in STOPS]
        boxes = resized_boxes(boxes, drawn_at, size)
    else:
        boxes = np.array(loose_and_tight(placed(size), protocol))
    return _encoded(grey, "WEBP", HEAT_QUALITY), boxes


def _within(size: tuple[int, int], side: int, enlarge: bool = False) -> tuple[int, int]:
    """(width, height) in the same proportion with a longer side of at most `side`, or of `side` itself."""
    scale = side / max(size)
    if scale >= 1 and not enlarge:
        return size
    return max(1, round(scale * size[0])), max(1, round(scale * size[1]))


def _kinds_of_guess(boxes: np.ndarray, class_right: bool, true_boxes: np.ndarray, kinds: list[str]) -> str:
    """A sign for each of the boxes (S,4) of the best guess: the place in `kinds` of why it fails."""
    if kinds == [*ANSWERS]:
        return str(kinds.index("right" if class_right else "wrong_class")) * len(boxes)
    if not len(true_boxes):
        return "-" * len(boxes)
    return "".join(str(kinds.index(kind_of_guess(box, class_right, true_boxes))) for box in boxes)


def _place_of(label: int, guesses: np.ndarray) -> int:
    places = np.flatnonzero(guesses == label)
    return int(places[0]) if len(places) else -1


def _encoded(image: Image.Image, form: str, quality: int) -> str:
    """An image file in base64."""
    file = io.BytesIO()
    image.save(file, form, quality=quality)
    return b64encode(file.getvalue()).decode()


# The page.


def localization_page(results: Sequence[Result], gallery: Gallery) -> str:
    """The page of results of boxes, as `chosen_results` gives them."""
    results = _counted(results)
    max_box_acc = [run for run in results if run.kind == "max_box_acc"]
    boxes = [run for run in results if run.kind == "localization"]
    tables = {one.stem.partition("-")[0]: one for one in tables_of(results, "paper")}
    failures = tables["failures"]
    shares = []
    for run in failures.results:
        shares.append((_named(run), [run.metrics.get(column.value) for column in failures.columns]))
    sections = _filled(
        "localization.html",
        failures=share_chart(shares, KINDS) + _numbers(failures),
        errors=_table2_charts(tables["table2"]),
        numbers=_numbers(tables["protocols"] if tables["protocols"].rows else tables["table2"]),
        curve=_curve(max_box_acc, boxes[0].data),
        sweeps=_numbers(tables["maxboxacc"]),
    )
    said = f"{len(gallery.images)} images of the split, the same for every network."
    return _page("localization", boxes[0], results, gallery, said, sections, LOCALIZATION_LINKS)


def classification_page(
    config: Config,
    split: Split,
    results: Sequence[Result],
    networks: Iterator[tuple[Evaluation, list[Result]]],
) -> tuple[str, Gallery]:
    """The page of data without boxes: maps of right and wrong answers, and which classes are confused."""
    images: list[int] = []
    runs = []
    classes = confusion = said = ""
    for evaluation, (result,) in networks:
        answers = read_answers(result, evaluation.split, evaluation.trained.words)
        if not images:
            right = answers.guesses[:, 0] == answers.labels
            images = spread_images(config.report.images, split, right, config.seed)
            said = f"{len(images)} images, {int((~right[images]).sum())} of them wrong answers of {result.name}."
        protocols = _protocols(result, None)
        for method in _methods_of(config, evaluation):
            runs.append(_stored_run(evaluation, method, protocols, images, ANSWERS))
        classes += f"<h3>{escape(result.name)}</h3>{class_chart(answers)}"
        confusion += f"<h3>{escape(result.name)}</h3>{confusions(answers)}"
    gallery = Gallery([_stored_image(split, image) for image in images], runs, ANSWERS)
    table1 = next(one for one in tables_of(results, "paper") if one.stem == "table1")
    errors = [(run, {}) for run in results]
    sections = _filled(
        "classification.html",
        errors=_interval_charts(errors, CLASSIFICATION_CHARTS) + _numbers(table1),
        classes=classes,
        confusion=confusion,
    )
    page = _page("classification", results[0], results, gallery, said, sections, CLASSIFICATION_LINKS)
    return page, gallery


def _methods_of(config: Config, evaluation: Evaluation) -> list[str]:
    """The asked methods that can serve the network and have small maps: CAM, or Grad-CAM, unless some are
    asked for."""
    network = evaluation.trained.network
    asked = config.report.methods or ([config.method] if config.method else [])
    if not asked:
        return ["gradcam" if unsupported_reason("cam", network) else "cam"]
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


def class_chart(answers: Answers) -> str:
    """The error of each class of the images with its Wilson interval, the worst first."""
    from scipy.stats import binomtest  # takes half a second to import

    wrong = answers.guesses[:, 0] != answers.labels
    rows = []
    for label in np.unique(answers.labels).tolist():
        of_class = answers.labels == label
        images, errors = int(of_class.sum()), int(wrong[of_class].sum())
        interval = binomtest(errors, images).proportion_ci(method="wilson")
        name = f"{answers.names[label]}: {errors} of {images}"
        bounds = 100 * interval.low, 100 * interval.high
        rows.append(Measured(name, 100 * errors / images, *bounds))
    rows.sort(key=lambda row: -row.value)
    chart = interval_chart("Top-1 error of each class, wrong of all its images", rows[:CLASSES_SHOWN])
    if len(rows) > CLASSES_SHOWN:
        chart += f"<p>The {CLASSES_SHOWN} of {len(rows)} classes with the highest error.</p>"
    return chart


def confusions(answers: Answers) -> str:
    """The confusion matrix, where its classes fit on a page, and the pairs that are confused most often."""
    labels, guesses = answers.labels, answers.guesses[:, 0]
    wrong = np.flatnonzero(labels != guesses)
    pairs, counts = np.unique(np.stack([labels[wrong], guesses[wrong]]), axis=1, return_counts=True)
    rows = [["true class", "taken for", "images", "of the class’s images"]]
    for place in np.argsort(-counts, kind="stable")[:PAIRS_SHOWN]:
        true, guess = pairs[:, place]
        share = 100 * counts[place] / (labels == true).sum()
        rows.append([answers.names[true], answers.names[guess], str(counts[place]), f"{share:.1f} %"])
    text = table(rows) if len(rows) > 1 else "<p>No image is taken for another class.</p>"

    classes = np.unique(labels)
    if len(classes) > MATRIX_CLASSES:
        return f"<p>The matrix of {len(classes)} classes does not fit here; its largest cells:</p>{text}"
    columns = [answers.names[label] for label in classes]
    places = np.searchsorted(classes, guesses).clip(max=len(classes) - 1)
    others = classes[places] != guesses
    if others.any():  # a network of 1000 classes has such answers, of images of ten
        places[others] = len(classes)
        columns.append("any other class")
    matrix = np.zeros((len(classes), len(columns)), int)
    np.add.at(matrix, (np.searchsorted(classes, labels), places), 1)
    return confusion_table(matrix, columns) + text


def _page(
    kind: str,
    result: Result,
    results: Sequence[Result],
    gallery: Gallery,
    said: str,
    sections: str,
    links: Mapping[str, str],
) -> str:
    """The frame of both pages; result: one of those that it is about."""
    stored = {
        "images": gallery.images, "runs": gallery.runs, "kinds": gallery.kinds, "step": STEP,
        "levels": written_protocols()["release"].thresholds,
    }  # fmt: skip
    return _filled(
        "report.html",
        kind=kind,
        style=(PAGE / "report.css").read_text("utf-8"),
        script=(PAGE / "report.js").read_text("utf-8"),
        # No tag in a class's words or a file's name may end the script.
        data=json.dumps(stored, separators=(",", ":")).replace("<", "\\u003c"),
        title=f"Class activation maps on {escape(result.data)}",
        subtitle=escape(
            f"{result.images:,} {result.split} images, commit {result.provenance['commit'][:10]}, "
            f"protocol {_settings(result.protocol)}."
        ),
        links=" ".join(f'<a href="#{anchor}">{text}</a>' for anchor, text in links.items()),
        images=escape(said),
        verdict="Why the best guess fails, at this threshold" if kind == "localization" else "The best guess",
        step=STEP,
        largest=LARGEST_SIDE,
        sections=sections,
        origin=_origin(results),
    )


def _filled(name: str, **values: Any) -> str:
    return Template((PAGE / name).read_text("utf-8")).substitute(values)


def _numbers(one: Table) -> str:
    return table(cells_of(one)) if one.rows else ""


def _named(run: Result) -> str:
    return run.name if run.kind == "classification" else f"{run.name}, {run.method}"


def _settings(protocol: Mapping[str, Any]) -> str:
    """A protocol in one line: `paper, view squash, …`."""
    others = [f"{key} {value}" for key, value in protocol.items() if key != "name"]
    return ", ".join([str(protocol["name"]), *others])


def _table2_charts(table2: Table) -> str:
    """Table 2's results as charts; the paper's number is on them where it was measured on the same images."""
    results = []
    for row in table2.rows:
        for run in row.results:
            results.append((run, row.published if table2.is_full_val else {}))
    return _interval_charts(results, LOCALIZATION_CHARTS)


def _interval_charts(results: Sequence[tuple[Result, Mapping[str, float]]], metrics: Sequence[str]) -> str:
    """A chart of each metric over all results, each with the paper's numbers, if it has any."""
    charts = ""
    for metric in metrics:
        rows = []
        for run, published in results:
            value = run.metrics[metric]
            if value is not None:  # as the top-5 error of three classes is
                rows.append(Measured(_named(run), value, *run.interval(metric), published.get(metric)))
        baselines = {}
        if metric == "gt_known_loc":
            baselines = {name: results[0][0].metrics[key] for name, key in BASELINES.items()}
        if rows:
            charts += interval_chart(CHARTS[metric], rows, baselines)
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
    """Every result behind the page, a line each."""
    header = ["file", "images", "input (px)", "weights (sha256)", "data", "commit", "date", "protocol"]
    rows = [header]
    for result in results:
        source = result.provenance
        rows.append([
            f"{result.name}/{result.path.name}", f"{result.images:,}", str(result.input_size),
            source["weights"][:10], source["data"], source["commit"][:10] + "*" * bool(source.get("dirty")),
            str(source.get("date", "")), _settings(result.protocol),
        ])  # fmt: skip
    return table(rows)
