"""Boxes of every image from its maps, by every rule at once, on all cores while the network is at work on the next."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm import tqdm

from cam_repro.config import ProtocolConfig
from cam_repro.cores import available_cores
from cam_repro.data import Split
from cam_repro.data.views import VIEWS, resize_map
from cam_repro.distributed import World
from cam_repro.evaluation.maps import MapBatch
from cam_repro.localization.boxes import BOX_RULES, LOOSE, TIGHT, Box
from cam_repro.localization.wsol import MAP_SIDE, boxes_on_map, normalised, right_by_threshold

IMAGES_A_TASK = 8  # enough to make a task's overhead small, few enough to keep all processes busy
TASKS_AHEAD = 4  # for each process: how far the network may run ahead before it waits

MethodAndRule = tuple[str, str]  # a method's name, and what `rule_of` says of a protocol


@dataclass
class DrawnBoxes:
    """What was drawn of N images, in the split's order, by each method and rule.

    images (N,) their numbers; classes (N,G): the G = min(5, C) best ones; sizes (N,2): width and height as stored;
    boxes -> (N,G,2,4) in pixels of the originals, the loose and the tight one (the same where a rule has but one);
    true_class_boxes -> (N,2,4); of a sweep, which draws no single box, right_by_threshold -> (N,4,125) uint8, the
    bits of `wsol.right_by_threshold`; heatmaps -> {image: the true class's (H,W) in the image's pixels}, of examples.
    """

    images: np.ndarray
    classes: np.ndarray
    sizes: np.ndarray
    boxes: dict[MethodAndRule, np.ndarray] = field(default_factory=dict)
    true_class_boxes: dict[MethodAndRule, np.ndarray] = field(default_factory=dict)
    right_by_threshold: dict[MethodAndRule, np.ndarray] = field(default_factory=dict)
    heatmaps: dict[MethodAndRule, dict[int, np.ndarray]] = field(default_factory=dict)

    def add(self, other: DrawnBoxes) -> None:
        """Take in what was drawn of the same images by other methods."""
        for name in ("boxes", "true_class_boxes", "right_by_threshold", "heatmaps"):
            getattr(self, name).update(getattr(other, name))


def rule_of(protocol: ProtocolConfig) -> str:
    """What decides a protocol's boxes: protocols that differ in name and guesses alone share them."""
    return repr(replace(protocol, name="", guesses=""))


def draw_boxes(
    batches: Iterable[MapBatch], protocols: Sequence[ProtocolConfig], size: int, split: Split, world: World,
    *, examples: Sequence[int] = (), title: str = "",
) -> DrawnBoxes:  # fmt: skip
    """What each protocol draws from each method's maps of crops of `size` pixels; all processes must call it.

    examples: the images whose heatmaps are kept.
    """
    drawn: list[DrawnBoxes] = []
    waiting: deque[Future[DrawnBoxes]] = deque()
    processes = available_cores()
    context = multiprocessing.get_context("fork")  # what they need is imported already
    pool = ProcessPoolExecutor(processes, context, initializer=_start_process)
    bar = tqdm(total=len(split), desc=title, unit="image", disable=None if world.is_main else True)

    def collect() -> None:
        drawn.append(waiting.popleft().result())
        bar.update(min(len(drawn[-1].images) * world.size, bar.total - bar.n))

    try:
        for batch in batches:
            for piece in batch.pieces(IMAGES_A_TASK):
                truth = [split.true_boxes(image) for image in piece.images]
                waiting.append(pool.submit(draw_piece, piece, protocols, size, truth, examples))
                if len(waiting) > TASKS_AHEAD * processes:
                    collect()
        while waiting:
            collect()
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()
    return _in_order(world.gather(drawn), len(split))


def _start_process() -> None:
    """A Ctrl-C is the parent's alone, and a drawing process ends with a parent that was killed.

    An executor's processes would wait for a killed parent for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def draw_piece(
    batch: MapBatch, protocols: Sequence[ProtocolConfig], size: int, true_boxes: list[np.ndarray],
    examples: Sequence[int] = (),
) -> DrawnBoxes:  # fmt: skip
    """`draw_boxes` of a few images with their true boxes, in one process."""
    drawn = DrawnBoxes(batch.images, batch.classes, batch.sizes)
    rules = {rule_of(protocol): protocol for protocol in protocols}
    for method, maps in batch.maps.items():
        of_true_class = batch.true_class_maps[method]
        with_true_class = np.concatenate([maps, of_true_class[:, :, None]], axis=2)
        for rule, protocol in rules.items():
            if protocol.boxes == "sweep":
                rows = zip(of_true_class[:, 0], true_boxes, batch.sizes, strict=True)
                drawn.right_by_threshold[method, rule] = np.stack([_sweep(*row, protocol.resize) for row in rows])
                continue
            boxes, heatmaps_of_examples = [], {}
            for image, of_image, (width, height) in zip(batch.images, with_true_class, batch.sizes, strict=True):
                picture = int(width), int(height)
                for maps_of_class in of_image.swapaxes(0, 1):
                    heatmap = VIEWS[protocol.view].place(maps_of_class, picture, size, protocol.resize)
                    boxes.append(loose_and_tight(heatmap, protocol))
                if image in examples:
                    heatmaps_of_examples[int(image)] = heatmap  # the last, of the true class
            of_each = np.array(boxes).reshape(len(batch), -1, 2, 4)
            drawn.boxes[method, rule], drawn.true_class_boxes[method, rule] = of_each[:, :-1], of_each[:, -1]
            drawn.heatmaps[method, rule] = heatmaps_of_examples
    return drawn


def loose_and_tight(heatmap: np.ndarray, protocol: ProtocolConfig) -> tuple[Box, Box]:
    """The loose and the tight box of a heatmap (H,W), the loose one twice where a rule leaves but one."""
    boxes = BOX_RULES[protocol.boxes](heatmap, protocol)
    return boxes[LOOSE], boxes[min(TIGHT, len(boxes) - 1)]


def _sweep(heatmap: np.ndarray, true_boxes: np.ndarray, picture: np.ndarray, interpolation: str) -> np.ndarray:
    """The true class's map (h,w) of a picture of (width, height) -> (4,125) uint8: `right_by_threshold`, in bits."""
    enlarged = resize_map(heatmap, MAP_SIDE, MAP_SIDE, interpolation)
    right = right_by_threshold(normalised(enlarged), boxes_on_map(true_boxes, picture, (MAP_SIDE, MAP_SIDE)))
    return np.packbits(right, axis=-1)  # an eighth of the memory: there are 4,000 for each image


def _in_order(drawn: list[DrawnBoxes], images: int) -> DrawnBoxes:
    """One of all pieces, in the split's order."""
    numbers = np.concatenate([piece.images for piece in drawn])
    order = np.argsort(numbers)
    if not np.array_equal(numbers[order], np.arange(images)):
        raise RuntimeError("an image was counted twice or not at all")

    def joined(name: str) -> dict[MethodAndRule, np.ndarray]:
        keys = getattr(drawn[0], name)
        return {key: np.concatenate([getattr(piece, name)[key] for piece in drawn])[order] for key in keys}

    return DrawnBoxes(
        images=numbers[order],
        classes=np.concatenate([piece.classes for piece in drawn])[order],
        sizes=np.concatenate([piece.sizes for piece in drawn])[order],
        boxes=joined("boxes"),
        true_class_boxes=joined("true_class_boxes"),
        right_by_threshold=joined("right_by_threshold"),
        heatmaps={
            key: {image: heatmap for piece in drawn for image, heatmap in piece.heatmaps[key].items()}
            for key in drawn[0].heatmaps
        },
    )
