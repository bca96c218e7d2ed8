"""What the report page's script shows: images, and of each network and method heatmaps and boxes.

The heatmaps are small grey images. The boxes are drawn with what the evaluation draws them with.
"""

import io
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import ProtocolConfig
from cam_repro.cores import in_threads
from cam_repro.data import Split
from cam_repro.data.images import CorruptImage
from cam_repro.data.views import VIEWS
from cam_repro.evaluation.maps import images_a_batch, predict_split
from cam_repro.evaluation.spec import Evaluation
from cam_repro.localization.boxes import loose_and_tight, paper_box, resized_boxes
from cam_repro.localization.failures import KINDS, kind_of_guess
from cam_repro.reporting.figures import first_name

IMAGE_SIDE = 400  # pixels of the longer side of a JPEG
IMAGE_QUALITY = 80
HEAT_SIDE = 48  # of a heatmap's WebP, which the browser enlarges
HEAT_QUALITY = 80
LARGEST_SIDE = 1024  # a larger image's boxes by the paper's rule are drawn at this size
STEP = 2  # percent of a map's maximum between two stops of the slider; the paper's 20 % is one
STOPS = range(0, 101, STEP)

ANSWERS = {"right": "right class", "wrong_class": "wrong class"}  # of guesses that have no box


class Gallery(NamedTuple):
    """images: `stored_image` of each; runs: `stored_run` of each network and method.

    kinds: of guesses, key -> heading, either failures.KINDS or ANSWERS.
    """

    images: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    kinds: Mapping[str, str]


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
        "src": "data:image/jpeg;base64," + _encoded(small, "JPEG", IMAGE_QUALITY),
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

    guesses, right, heats, boxes, found = [], [], [], [], []
    for number, (image, best) in enumerate(zip(images, classes, strict=True)):
        first = number * (len(best) + 1)
        of_image = drawn[first : first + len(best) + 1]
        label = evaluation.split.labels[image]
        truth = evaluation.split.true_boxes(image)
        boxes_of_image = np.stack([boxes_of_map for _, boxes_of_map in of_image])
        guesses.append([first_name(evaluation.trained.words[one]) for one in best])
        right.append(best.tolist().index(label) if label in best else -1)
        heats.append([heat for heat, _ in of_image])
        boxes.append(boxes_of_image)
        found.append(_kinds_of_guess(boxes_of_image[0], best[0] == label, truth, kinds))
    # No image has 65,536 pixels a side; a corner that lies outside of a tiny one is cut off.
    corners = np.clip(np.stack(boxes), 0, 65535).astype("<u2")
    return {
        "guesses": guesses,
        "right": right,
        "heats": heats,
        "boxes": b64encode(corners.tobytes()).decode(),
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
    classes, maps, sizes = [], [], []
    for batch in batches:
        maps.append(batch.maps[method])
        classes.append(batch.classes)
        sizes.append(batch.sizes)
    return np.concatenate(classes), np.concatenate(maps), np.concatenate(sizes)


def _heat_and_boxes(
    maps: np.ndarray, size: tuple[int, int], protocol: ProtocolConfig
) -> tuple[str, np.ndarray]:
    """A class's maps (crops,h,w) of an image of (width, height) -> its heatmap, small, as a WebP in
    base64, and its boxes (S,4) in the image's own pixels."""
    place = VIEWS[protocol.view].place
    heat = place(maps, _scaled(size, HEAT_SIDE / max(size)), protocol.size, protocol.resize)
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
    return _encoded(grey, "WEBP", HEAT_QUALITY), boxes


def _scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    width, height = size
    return max(1, round(factor * width)), max(1, round(factor * height))


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


def _encoded(image: Image.Image, form: str, quality: int) -> str:
    """An image file in base64."""
    file = io.BytesIO()
    image.save(file, form, quality=quality)
    return b64encode(file.getvalue()).decode()
