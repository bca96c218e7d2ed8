"""What the report page shows: which results and networks, and of these images, heatmaps and boxes.

The heatmaps are small grey images. The boxes are drawn with what the evaluation draws them with.
"""

import io
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.advice import typed_data
from cam_repro.config import Config, ProtocolConfig, check_choice, model_config
from cam_repro.cores import in_threads
from cam_repro.data import Split
from cam_repro.data.images import CorruptImage
from cam_repro.data.views import VIEWS
from cam_repro.distributed import DistributedContext
from cam_repro.evaluation.maps import images_a_batch, predict_split
from cam_repro.evaluation.spec import Evaluation
from cam_repro.evaluation.trained import load_trained
from cam_repro.localization.boxes import loose_and_tight, paper_box, resized_boxes
from cam_repro.localization.failures import KINDS, kind_of_guess
from cam_repro.localization.methods import METHODS
from cam_repro.reporting.results import Result, first_name, read_results

IMAGE_SIDE = 400  # pixels of the longer side of a JPEG
IMAGE_QUALITY = 80
HEAT_SIDE = 48  # of a heatmap's WebP, which the browser enlarges
HEAT_QUALITY = 80
LARGEST_SIDE = 1024  # a larger image's boxes by the paper's rule are drawn at this size
STEP = 2  # percent of a map's maximum between two stops of the slider; the paper's 20 % is one
STOPS = range(0, 101, STEP)

ANSWERS = {"right": "right class", "wrong_class": "wrong class"}  # of guesses that have no box
Networks = Iterator[tuple[Evaluation, list[Result]]]  # each, with what was measured of it


class Gallery(NamedTuple):
    """images: `stored_image` of each; runs: `stored_run` of each network and method.

    kinds: of guesses, key -> heading, either failures.KINDS or ANSWERS.
    """

    images: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    kinds: Mapping[str, str]


# Which results and networks the page is about.


def chosen_results(config: Config, folder: Path, kind: str) -> list[Result]:
    """The results of the asked networks that the page is about.

    kind: "localization" are boxes of the asked methods by the paper's protocol, and of the same
    networks MaxBoxAcc, all of one commit, and their boxes by the release's protocol, of which no
    number is shown; "classification" is that alone.
    Raises UserError where there is none, or none with maps small enough for a page.
    """
    given = config.name or (config.model and config.model.name)
    networks = config.report.networks or ([given] if given else [])
    methods = asked_methods(config)
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
    _refuse_other_code(counted(found))
    return found


def asked_methods(config: Config) -> list[str]:
    return config.report.methods or ([config.method] if config.method else [])


def counted(results: Sequence[Result]) -> list[Result]:
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


def refuse_other_data(results: Sequence[Result], data: str, fingerprint: str) -> None:
    for run in results:
        measured = run.provenance["data"]
        if measured != fingerprint:
            raise UserError(
                f"{run.path} is of other images ({measured}) than data={data} now has "
                f"({fingerprint}); evaluate again, or give the data.root= that it was measured on"
            )


def opened_networks(
    config: Config,
    results: Sequence[Result],
    split: Split,
    fingerprint: str,
    world: DistributedContext,
) -> Networks:
    """Each network of the results, read once."""

    def network_of(run: Result) -> tuple[str, str]:
        return run.name, run.provenance["weights"]

    for _, group in groupby(sorted(results, key=network_of), key=network_of):
        of_network = list(group)
        if counted(of_network):
            yield opened(config, of_network[0], split, fingerprint, world), of_network


def opened(
    config: Config, result: Result, split: Split, fingerprint: str, world: DistributedContext
) -> Evaluation:
    """The network that a result was measured with.

    Its weights are weights=, its checkpoint's or the published ones: those whose sha256 is the
    result's. Raises UserError where none is, with what is wrong about each.
    """
    model = model_config(result.model)
    if config.model and config.model.name == result.model:
        model = config.model
    candidates = [None]  # the checkpoint
    if config.weights:
        candidates.insert(0, config.weights)
    if not result.provenance.get("training"):  # else the published weights, a download, are not it
        candidates.append("DEFAULT")
    expected = result.provenance["weights"]
    reasons = []
    for weights in candidates:
        own = replace(config, model=model, weights=weights)
        try:
            trained = load_trained(own, result.name, (split.wnids, split.words), world.device)
        except UserError as error:
            reasons.append(str(error))
            continue
        found = trained.weights.sha256
        if found == expected:
            answered = split.answered_by(trained.wnids, trained.words)
            return Evaluation(own, trained, answered, fingerprint, world, frozenset())
        reasons.append(f"{trained.weights.source} has sha256 {found[:10]}…")
    raise UserError(
        f"the weights of {result.path} (sha256 {expected[:10]}…) are not there: "
        f"{'; '.join(reasons)}; give weights=FILE, or evaluate again"
    )


# What is shown of them.


def spread_images(count: int, right: np.ndarray, seed: int) -> list[int]:
    """So many of N images, drawn by the seed; right (N,): whether the answer is right.

    Half of them are wrong answers, as far as there are so many, and these come first.
    """
    order = np.random.default_rng(seed).permutation(len(right))
    wrong_ones = order[~right[order]]
    right_ones = order[right[order]]
    count = min(count, len(order))
    wrong_count = min(len(wrong_ones), max(count // 2, count - len(right_ones)))
    chosen_wrong = sorted(wrong_ones[:wrong_count].tolist())
    chosen_right = sorted(right_ones[: count - wrong_count].tolist())
    return chosen_wrong + chosen_right


def stored_image(split: Split, image: int) -> dict[str, Any]:
    """An image with its size and true boxes in its own pixels. UserError for a corrupt one."""
    try:
        pixels = split.read(image)
    except CorruptImage as error:
        advice = "fetch it again, or leave it out of report.images="
        raise UserError(f"corrupt image {error}; {advice}") from None
    small = Image.fromarray(pixels)
    small.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
    height, width = pixels.shape[:2]
    return {
        "name": split.path(image).name,
        "label": first_name(split.words[split.labels[image]]),
        "width": width,
        "height": height,
        "boxes": split.true_boxes(image).tolist(),
        "src": "data:image/jpeg;base64," + encoded(small, "JPEG", IMAGE_QUALITY),
    }


def stored_run(
    evaluation: Evaluation,
    method: str,
    protocols: Mapping[str, ProtocolConfig],
    images: list[int],
    kinds: Mapping[str, str],
) -> dict[str, Any]:
    """A network and method; rules: what each protocol draws of the images, at its own size."""
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
    """What a protocol draws of n images: from the maps of the G best classes, then the true one's.

    guesses (n,G): the classes' names; right (n,): the place of the true class among them, or -1;
    heats (n,G+1): grey WebPs in base64, 255 at the map's maximum; boxes (n,G+1,S,4) uint16,
    little-endian, in base64: at the S stops of the slider, or the loose and the tight one;
    kinds (n,): a string of S places in `kinds` of the best guess, "-" where none can be named.
    """
    classes, maps, sizes = _predicted(evaluation, method, protocol, images)
    every_map = []
    for image, of_image in enumerate(maps):
        for place in range(of_image.shape[1]):
            every_map.append((of_image[:, place], tuple(sizes[image].tolist())))
    drawn = list(in_threads(lambda one: _heat_and_boxes(*one, protocol), every_map))

    rule: dict[str, Any] = {"guesses": [], "right": [], "heats": [], "boxes": "", "kinds": []}
    boxes = []
    for number, (image, best) in enumerate(zip(images, classes, strict=True)):
        first = number * (len(best) + 1)
        of_image = drawn[first : first + len(best) + 1]
        label = evaluation.split.labels[image]
        truth = evaluation.split.true_boxes(image)
        boxes_of_image = np.stack([boxes_of_map for _, boxes_of_map in of_image])
        boxes.append(boxes_of_image)
        rule["guesses"].append([first_name(evaluation.trained.words[one]) for one in best])
        places = np.flatnonzero(best == label)
        rule["right"].append(int(places[0]) if len(places) else -1)
        rule["heats"].append([heat for heat, _ in of_image])
        kinds_of_best = _kinds_of_guess(boxes_of_image[0], best[0] == label, truth, kinds)
        rule["kinds"].append(kinds_of_best)
    # No image has 65,536 pixels a side; a corner that lies outside of a tiny one is cut off.
    corners = np.clip(np.stack(boxes), 0, 65535).astype("<u2")
    rule["boxes"] = b64encode(corners.tobytes()).decode()
    return rule


def _predicted(
    evaluation: Evaluation, method: str, protocol: ProtocolConfig, images: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the network says of n images by the protocol's view, as an evaluation asks it.

    Classes (n,G), the best first; their maps and the true class's, (n,crops,G+1,h,w); sizes (n,2),
    width and height of the images.
    """
    config = evaluation.config
    batches = predict_split(
        evaluation.trained.network,
        evaluation.split.subset(images),
        protocol.view,
        protocol.size,
        [method],
        evaluation.world,
        batch_size=images_a_batch(config.eval_batch_size, protocol.view, [method]),
        interpolation=protocol.interpolation or evaluation.trained.network.interpolation,
        workers=config.data.workers,
    )
    classes = []
    maps = []
    sizes = []
    for batch in batches:
        maps.append(batch.maps[method])
        classes.append(batch.classes)
        sizes.append(batch.sizes)
    return np.concatenate(classes), np.concatenate(maps), np.concatenate(sizes)


def _heat_and_boxes(
    maps: np.ndarray, size: tuple[int, int], protocol: ProtocolConfig
) -> tuple[str, np.ndarray]:
    """The heatmap, small, as a WebP in base64, and the boxes (S,4) in the image's own pixels.

    maps (crops,h,w): of one class; size: the image's width and height.
    """
    place = VIEWS[protocol.view].place
    small = _scaled(size, HEAT_SIDE / max(size))
    heat = place(maps, small, protocol.size, protocol.resize)
    share = np.clip(heat / max(float(heat.max()), 1e-12), 0, 1)
    grey = Image.fromarray(np.round(255 * share).astype(np.uint8))
    if protocol.boxes == "paper":
        drawn_at = _scaled(size, min(1.0, LARGEST_SIDE / max(size)))
        heatmap = place(maps, drawn_at, protocol.size, protocol.resize)
        at_stops = [paper_box(heatmap, stop / 100) for stop in STOPS]
        boxes = resized_boxes(at_stops, drawn_at, size)
    else:
        heatmap = place(maps, size, protocol.size, protocol.resize)
        boxes = np.array(loose_and_tight(heatmap, protocol))
    return encoded(grey, "WEBP", HEAT_QUALITY), boxes


def _scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    width = round(factor * size[0])
    height = round(factor * size[1])
    return max(1, width), max(1, height)


def _kinds_of_guess(
    boxes: np.ndarray, class_right: bool, true_boxes: np.ndarray, kinds: Mapping[str, str]
) -> str:
    """A sign for each of the best guess's boxes (S,4): the place in `kinds` of why it fails."""
    places = {kind: str(place) for place, kind in enumerate(kinds)}
    if kinds is not KINDS:
        return places["right" if class_right else "wrong_class"] * len(boxes)
    if not len(true_boxes):
        return "-" * len(boxes)
    return "".join(places[kind_of_guess(box, class_right, true_boxes)] for box in boxes)


def encoded(image: Image.Image, form: str, quality: int) -> str:
    """An image file in base64."""
    file = io.BytesIO()
    image.save(file, form, quality=quality)
    return b64encode(file.getvalue()).decode()
