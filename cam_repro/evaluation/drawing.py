"""A network over a split, batch by batch: what it sees in each image, and at once what each rule draws from that."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from cam_repro.config import ProtocolConfig
from cam_repro.data.loaders import Batch, evaluation_batches, on_device
from cam_repro.data.split import Split
from cam_repro.data.views import crops_in, normalise
from cam_repro.distributed import World
from cam_repro.evaluation.kept_maps import MapCache, Seen
from cam_repro.evaluation.predictions import LOOSE, TIGHT
from cam_repro.localization.boxes import paper_boxes, release_boxes_of
from cam_repro.localization.maps import resize_maps
from cam_repro.localization.methods import OF_THE_PIXELS, look, refuse
from cam_repro.localization.placement import picture_heatmaps
from cam_repro.localization.wsol import MAP_SIDE, boxes_on_map, normalised, right_by_threshold
from cam_repro.networks import CamNetwork

GRADIENTS_TAKE = 4  # times the memory: every layer's output is kept for the way back
Way = tuple[str, int]  # a method, and the place of a rule in the list of rules
# A batch: image numbers (n,), labels (n,G), sizes (n,2), way -> what was drawn (n,…), way -> {image: heatmap}.
Chunk = tuple[np.ndarray, np.ndarray, np.ndarray, dict[Way, np.ndarray], dict[Way, dict[int, np.ndarray]]]


@dataclass
class Drawings:
    """What was drawn of N images, in the split's order.

    labels (N,G): the G = min(5, C) best classes; sizes (N,2): width and height of the images as stored;
    drawn: way -> (N,G+1,B,4) boxes in pixels of the originals, those of the true class last, B = 1 by the paper's
    rule, 2 (loose, tight) by the release's; of a sweep (N,4,125) uint8, the bits of `wsol.right_by_threshold`;
    examples: way -> {image: the true class's heatmap (H,W) in the image's pixels}.
    """

    labels: np.ndarray
    sizes: np.ndarray
    drawn: dict[Way, np.ndarray]
    examples: dict[Way, dict[int, np.ndarray]]


def rule_of(protocol: ProtocolConfig) -> ProtocolConfig:
    """The protocol up to its boxes: protocols that differ in name and guesses alone share them."""
    return replace(protocol, name="", guesses="loose")


def look_at_split(
    network: CamNetwork, split: Split, view: str, size: int, methods: Sequence[str], world: World,
    *, batch_size: int = 64, workers: int | None = None, cache: MapCache | None = None,
) -> Iterator[Seen]:  # fmt: skip
    """This process's images of the split through the network once, each seen by one process; from `cache` if there."""
    refuse(methods, network)
    if cache is not None and cache.holds(methods):
        yield from cache.read(methods, batch_size)
        return
    network.eval()
    lanes = 1 if world.device.type == "cuda" else torch.get_num_threads()
    gradients = GRADIENTS_TAKE if set(methods) & {*OF_THE_PIXELS} else 1
    pictures = max(1, batch_size // crops_in(view) // gradients // lanes)
    batches = evaluation_batches(
        split, size, pictures, view=view,
        rank=world.rank, world=world.size, workers=workers, pin=world.device.type == "cuda",
    )  # fmt: skip
    with nullcontext() if cache is None else cache.recording(methods, len(split)) as record:
        look_at = partial(_look_at, network, crops=crops_in(view), methods=methods)
        for seen in _in_lanes(look_at, on_device(batches, world.device), lanes):
            if record:
                record(seen)
            yield seen


def _in_lanes(look_at: Callable[[Batch], Seen], batches: Iterator[Batch], lanes: int) -> Iterator[Seen]:
    """Each batch's turn in order, as many at a time as there are lanes, each on a core of its own.

    Several cores on one batch wait, layer by layer, for the one that a decoder or a rule has just held up.
    """
    if lanes == 1:
        yield from map(look_at, batches)
        return
    pool, ahead = ThreadPoolExecutor(lanes, initializer=partial(torch.set_num_threads, 1)), deque[Future]()
    try:
        for batch in batches:
            ahead.append(pool.submit(look_at, batch))
            if len(ahead) > lanes:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # a stop waits for the batches in hand alone


def _look_at(network: CamNetwork, batch: Batch, crops: int, methods: Sequence[str]) -> Seen:
    seen = look(network, normalise(batch.pixels), batch.labels, methods=methods, crops=crops)
    maps = {method: heat.cpu().numpy() for method, heat in seen.heat.items()}
    # Copies: a view of what is kept to the end would keep all classes' order, and the workers' memory.
    images, labels, sizes = (kept.cpu().numpy().copy() for kept in (batch.images, seen.guesses, batch.sizes))
    return Seen(images, labels, sizes, maps)


def draw(
    batches: Iterator[Seen], rules: Sequence[ProtocolConfig], size: int, split: Split, world: World,
    *, examples: Sequence[int] = (), title: str = "",
) -> Drawings:  # fmt: skip
    """What each rule draws from each method's maps of crops of `size` pixels, one batch while the next is looked at.

    examples: the images whose heatmaps are kept.
    """
    drawn: list[Chunk] = []
    with (
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
        tqdm(total=len(split), desc=title, unit="image", disable=None if world.is_main else True) as bar,
    ):
        pending: list[Future] = []
        for seen in batches:
            drawn += _together(pending)
            pending = [pool.submit(_draw_image, seen, k, rules, size, split, examples) for k in range(len(seen.images))]
            bar.update(min(len(pending) * world.size, bar.total - bar.n))
        drawn += _together(pending)
    return _in_order(world.gather(drawn), len(split))


def _draw_image(
    seen: Seen, place: int, rules: Sequence[ProtocolConfig], size: int, split: Split, examples: Sequence[int]
) -> tuple[int, np.ndarray, np.ndarray, dict[Way, np.ndarray], dict[Way, np.ndarray]]:
    image, (width, height) = int(seen.images[place]), map(int, seen.sizes[place])
    drawn, kept = {}, {}
    for method, maps in seen.maps.items():
        heatmaps: dict[tuple[str, str], np.ndarray] = {}  # of a view and a resizing: rules share them
        for number, rule in enumerate(rules):
            if rule.boxes == "sweep":
                drawn[method, number] = sweep(maps[place][-1], split.true_boxes(image), (width, height), rule.resize)
                continue
            way = rule.view, rule.resize
            if way not in heatmaps:
                heatmaps[way] = picture_heatmaps(maps[place], rule.view, (width, height), size, rule.resize)
            drawn[method, number] = heatmap_boxes(heatmaps[way], rule)
            if image in examples:
                kept[method, number] = heatmaps[way][-1]
    return image, seen.labels[place], seen.sizes[place], drawn, kept


def heatmap_boxes(heatmaps: np.ndarray, rule: ProtocolConfig) -> np.ndarray:
    """(M,H,W) → (M,B,4); the loose box alone stands for both where the release's rule leaves one."""
    if rule.boxes == "paper":
        return paper_boxes(heatmaps, rule.threshold)[:, None]
    of_each = release_boxes_of(heatmaps, rule.thresholds)
    return np.array([[boxes[LOOSE], boxes[min(TIGHT, len(boxes) - 1)]] for boxes in of_each])


def sweep(heat: np.ndarray, true_boxes: np.ndarray, size: tuple[int, int], resize: str) -> np.ndarray:
    """The true class's map (h,w) of a picture of (width, height) → (4,125) uint8: `right_by_threshold`, in bits."""
    heatmap = normalised(resize_maps(heat[None], (MAP_SIDE, MAP_SIDE), resize)[0])
    right = right_by_threshold(heatmap, boxes_on_map(true_boxes, size, (MAP_SIDE, MAP_SIDE)))
    return np.packbits(right, axis=-1)  # an eighth of the memory: there are 4,000 for each image


def _together(jobs: list[Future]) -> list[Chunk]:
    """A batch's images in a few arrays, which is a quarter of the memory; none where there are no jobs."""
    if not jobs:
        return []
    images, labels, sizes, drawn, kept = zip(*(job.result() for job in jobs), strict=True)
    stacked = {way: np.stack([of_image[way] for of_image in drawn]) for way in drawn[0]}
    examples = {way: {i: k[way] for i, k in zip(images, kept, strict=True) if way in k} for way in drawn[0]}
    return [(np.array(images), np.stack(labels), np.stack(sizes), stacked, examples)]


def _in_order(chunks: list[Chunk], images: int) -> Drawings:
    numbers, labels, sizes = (np.concatenate([chunk[part] for chunk in chunks]) for part in range(3))
    order = np.argsort(numbers)
    if not np.array_equal(numbers[order], np.arange(images)):
        raise RuntimeError("an image was counted twice or not at all")
    ways = list(chunks[0][3])
    return Drawings(
        labels=labels[order],
        sizes=sizes[order],
        drawn={way: np.concatenate([chunk[3][way] for chunk in chunks])[order] for way in ways},
        examples={way: {k: v for chunk in chunks for k, v in chunk[4][way].items()} for way in ways},
    )
