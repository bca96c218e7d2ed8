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
from itertools import product

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


@dataclass(slots=True)  # there are 50,000
class DrawnImage:
    """What was drawn of one image, by each method and rule.

    number: its place in the split; classes (G,): the G = min(5, C) best ones; size: width and height as stored;
    boxes -> (G,2,4) and true_class_box -> (2,4) in its own pixels, the loose and the tight one (the same where a rule
    has but one); of a sweep, which draws no single box, right_by_threshold -> (4,125) uint8, the bits of
    `wsol.right_by_threshold`; heatmaps -> (H,W), the true class's, of examples.
    """

    number: int
    classes: np.ndarray
    size: np.ndarray
    boxes: dict[MethodAndRule, np.ndarray] = field(default_factory=dict)
    true_class_box: dict[MethodAndRule, np.ndarray] = field(default_factory=dict)
    right_by_threshold: dict[MethodAndRule, np.ndarray] = field(default_factory=dict)
    heatmaps: dict[MethodAndRule, np.ndarray] = field(default_factory=dict)

    def add(self, other: DrawnImage) -> None:
        """Take in what was drawn of the same image by other methods."""
        for name in ("boxes", "true_class_box", "right_by_threshold", "heatmaps"):
            getattr(self, name).update(getattr(other, name))


def rule_of(protocol: ProtocolConfig) -> str:
    """What decides a protocol's boxes: protocols that differ in name and guesses alone share them."""
    return repr(replace(protocol, name="", guesses=""))


def draw_boxes(
    batches: Iterable[MapBatch], protocols: Sequence[ProtocolConfig], size: int, split: Split, world: World,
    *, examples: Sequence[int] = (), title: str = "",
) -> list[DrawnImage]:  # fmt: skip
    """What each protocol draws from each method's maps of crops of `size` pixels, in the split's order.

    All processes must call it. examples: the images whose heatmaps are kept.
    """
    drawn: list[DrawnImage] = []
    waiting: deque[Future[list[DrawnImage]]] = deque()
    processes = available_cores()
    context = multiprocessing.get_context("fork")  # what they need is imported already
    pool = ProcessPoolExecutor(processes, context, initializer=_start_process)
    bar = tqdm(total=len(split), desc=title, unit="image", disable=None if world.is_main else True)

    def collect() -> None:
        drawn.extend(waiting.popleft().result())
        bar.update(min(len(drawn) * world.size, bar.total) - bar.n)

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
    of_all = sorted(world.gather(drawn), key=lambda image: image.number)
    if [image.number for image in of_all] != list(range(len(split))):
        raise RuntimeError("an image was counted twice or not at all")
    return of_all


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
) -> list[DrawnImage]:  # fmt: skip
    """`draw_boxes` of a few images with their true boxes, in one process."""
    rules, found = {rule_of(protocol): protocol for protocol in protocols}, []
    for place, truth in enumerate(true_boxes):
        drawn = DrawnImage(int(batch.images[place]), batch.classes[place], batch.sizes[place])
        picture = int(drawn.size[0]), int(drawn.size[1])
        for (method, maps), (rule, protocol) in product(batch.maps.items(), rules.items()):
            of_true_class = batch.true_class_maps[method][place]
            if protocol.boxes == "sweep":
                drawn.right_by_threshold[method, rule] = _sweep(of_true_class[0], truth, picture, protocol.resize)
                continue
            boxes = []
            for maps_of_class in [*maps[place].swapaxes(0, 1), of_true_class]:
                heatmap = VIEWS[protocol.view].place(maps_of_class, picture, size, protocol.resize)
                boxes.append(loose_and_tight(heatmap, protocol))
            of_each = np.array(boxes, np.int32)
            drawn.boxes[method, rule], drawn.true_class_box[method, rule] = of_each[:-1], of_each[-1]
            if drawn.number in examples:
                drawn.heatmaps[method, rule] = heatmap  # the last, of the true class
        found.append(drawn)
    return found


def loose_and_tight(heatmap: np.ndarray, protocol: ProtocolConfig) -> tuple[Box, Box]:
    """The loose and the tight box of a heatmap (H,W), the loose one twice where a rule leaves but one."""
    boxes = BOX_RULES[protocol.boxes](heatmap, protocol)
    return boxes[LOOSE], boxes[min(TIGHT, len(boxes) - 1)]


def _sweep(heatmap: np.ndarray, true_boxes: np.ndarray, picture: tuple[int, int], interpolation: str) -> np.ndarray:
    """The true class's map (h,w) of a picture of (width, height) -> (4,125) uint8: `right_by_threshold`, in bits."""
    enlarged = resize_map(heatmap, MAP_SIDE, MAP_SIDE, interpolation)
    right = right_by_threshold(normalised(enlarged), boxes_on_map(true_boxes, picture))
    return np.packbits(right, axis=-1)  # an eighth of the memory: there are 4,000 for each image
