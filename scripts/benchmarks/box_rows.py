"""Boxes by every rule: what a second core is worth, and the paper's rule beside scipy's."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from scipy import ndimage
from tqdm import tqdm

from benchmarks.timing import Row, beside, by_turns, row
from cam_repro.config import ProtocolConfig
from cam_repro.cores import prepare_worker, worker_context
from cam_repro.data import Split
from cam_repro.data.storage import Files
from cam_repro.data.views import resize_map
from cam_repro.evaluation.maps import MapBatch
from cam_repro.evaluation.metric import ImageFacts
from cam_repro.evaluation.metrics import METRICS
from cam_repro.evaluation.rows import RowPool, rows_of_images
from cam_repro.localization.boxes import (
    RELEASE_THRESHOLDS,
    Box,
    eight_bit,
    paper_box,
    release_boxes,
)

IMAGES = 576
WIDTH, HEIGHT = 500, 375
PAPER = ProtocolConfig(name="paper", threshold=0.2)
RELEASE = ProtocolConfig(name="release", boxes="release", thresholds=[20, 100, 110])
WSOL = ProtocolConfig(name="wsol", metric="max_box_acc")
# The protocol, and how many images take some seconds
RULES = ((PAPER, IMAGES), (RELEASE, IMAGES // 6), (WSOL, IMAGES // 2))


def small_maps() -> np.ndarray:
    """Maps as a network's, of a few bright places on a noisy ground: (IMAGES,6,14,14) float32."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:14, :14]
    maps = rng.random((IMAGES, 6, 14, 14)) * 0.3
    for heatmap in maps.reshape(-1, 14, 14):
        places = rng.uniform((0, 0, 1), (14, 14, 4), (rng.integers(1, 4), 3))
        for y, x, width in places:
            distance = (rows - y) ** 2 + (columns - x) ** 2
            heatmap += np.exp(-distance / (2 * width**2))
    return maps.astype(np.float32)


def rows(_tree: Path, _work: Path) -> Iterator[Row]:
    maps = small_maps()
    heatmaps = [resize_map(heatmap, WIDTH, HEIGHT) for heatmap in maps[:24, 0]]
    if [paper_box(heatmap) for heatmap in heatmaps] != [_labelled(heatmap) for heatmap in heatmaps]:
        raise AssertionError("paper_box differs from the labelling: nothing was timed")
    yield beside(
        part="boxes",
        what=f"paper_box of 24 maps {WIDTH}×{HEIGHT}",
        peer="scipy label + find_objects, equal",
        ours=lambda: [paper_box(heatmap) for heatmap in heatmaps],
        theirs=lambda: [_labelled(heatmap) for heatmap in heatmaps],
        count=24,
        unit="maps/s",
        wanted="≥ 2",
    )
    stored = [eight_bit(heatmap) for heatmap in heatmaps]
    yield beside(
        part="boxes",
        what=f"release_boxes of 24 maps {WIDTH}×{HEIGHT}",
        peer="OpenCV's exact distance transforms of the whole maps alone",
        ours=lambda: [release_boxes(heatmap) for heatmap in stored],
        theirs=lambda: [_depths(heatmap) for heatmap in stored],
        count=24,
        unit="maps/s",
        wanted="≥ 1",
    )
    if not hasattr(os, "sched_setaffinity"):  # macOS, which lets nobody choose the cores
        return
    everywhere = os.sched_getaffinity(0)
    two = sorted(everywhere)[:2]
    one = two[:1]
    for protocol, images in RULES:
        some = maps[:images]
        works = [
            partial(_draw, some, protocol, two),
            partial(_draw, some, protocol, one),
            partial(_halves, some, protocol, two),
        ]
        times = by_turns(works, rounds=5)
        what = f"{protocol.name}: boxes of {images} images {WIDTH}×{HEIGHT}, six maps each"
        for peer, place, wanted in (
            ("on one core", 1, "≥ 1.7"),
            ("two processes that share nothing", 2, "≥ 0.9"),
        ):
            yield row(
                part="boxes",
                what=f"{what}, on two cores",
                peer=peer,
                times=[[of_round[0], of_round[place]] for of_round in times],
                count=images,
                unit="images/s",
                wanted=wanted,
            )
    os.sched_setaffinity(0, everywhere)


def _draw(maps: np.ndarray, protocol: ProtocolConfig, cores: list[int]) -> None:
    """As an evaluation draws, from maps that are there already."""
    os.sched_setaffinity(0, cores)
    batch, split = _batch_and_split(maps)
    with RowPool(split, [_wanted(protocol)], lambda rows: None, tqdm(disable=True)) as pool:
        pool.submit(batch)
        pool.finish()


def _halves(maps: np.ndarray, protocol: ProtocolConfig, cores: list[int]) -> None:
    """The same boxes, half by each of two processes that give nothing back."""
    os.sched_setaffinity(0, cores)
    processes = []
    for half in (maps[::2], maps[1::2]):
        batch, split = _batch_and_split(half)
        facts = [ImageFacts((WIDTH, HEIGHT), split.true_boxes(image)) for image in range(len(half))]
        arguments = (batch, facts, [_wanted(protocol)])
        processes.append(worker_context().Process(target=_draw_alone, args=arguments))
        processes[-1].start()
    for process in processes:
        process.join()


def _draw_alone(*arguments: object) -> None:
    prepare_worker()
    rows_of_images(*arguments)


def _wanted(protocol: ProtocolConfig) -> tuple[str, object]:
    return "cam", METRICS[protocol.metric](protocol, 224)


def _batch_and_split(maps: np.ndarray) -> tuple[MapBatch, Split]:
    count = len(maps)
    batch = MapBatch(
        np.arange(count),
        np.tile(np.arange(5), (count, 1)),
        np.tile([WIDTH, HEIGHT], (count, 1)),
        {"cam": maps[:, None]},
    )
    boxes = np.tile([100, 100, 299, 299], (count, 1))
    starts = np.arange(count + 1)
    labels = np.zeros(count, int)
    images = Files(Path(), np.arange(count))
    return batch, Split(images, labels, boxes, starts, ["n1"], ["thing"])


def _depths(heatmap: np.ndarray) -> None:
    """The costliest step of the release's rule, as one writes it first."""
    for threshold in RELEASE_THRESHOLDS:
        mask = (heatmap > threshold).astype(np.uint8)
        cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _labelled(heatmap: np.ndarray) -> Box:
    """The paper's box as one writes it first."""
    labels, _ = ndimage.label(heatmap > np.float32(0.2) * heatmap.max(), np.ones((3, 3)))
    largest = 1 + np.argmax(np.bincount(labels.ravel())[1:])
    rows, columns = ndimage.find_objects(labels)[largest - 1]
    return columns.start, rows.start, columns.stop - 1, rows.stop - 1
