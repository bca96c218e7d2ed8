"""Boxes by every rule: what two cores are worth, to us and at all, and the paper's rule beside
scipy's labelling.
"""

import os
from collections.abc import Iterator
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
from cam_repro.evaluation.metrics import METRICS, ImageFacts
from cam_repro.evaluation.rows import RowPool, rows_of_images
from cam_repro.localization.boxes import (
    RELEASE_THRESHOLDS,
    Box,
    eight_bit,
    paper_box,
    release_boxes,
)

IMAGES, WIDTH, HEIGHT = 576, 500, 375
RULES = {  # name: the protocol, and how many images take some seconds
    "paper": (ProtocolConfig(name="paper", threshold=0.2), IMAGES),
    "release": (
        ProtocolConfig(name="release", boxes="release", thresholds=[20, 100, 110]),
        IMAGES // 6,
    ),
    "wsol": (ProtocolConfig(name="wsol", metric="max_box_acc"), IMAGES // 2),
}


def small_maps() -> np.ndarray:
    """Maps as a network's, of a few bright places on a noisy ground: (IMAGES,6,14,14) float32."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:14, :14]
    maps = rng.random((IMAGES, 6, 14, 14)) * 0.3
    for heatmap in maps.reshape(-1, 14, 14):
        for y, x, width in rng.uniform((0, 0, 1), (14, 14, 4), (rng.integers(1, 4), 3)):
            heatmap += np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2))
    return maps.astype(np.float32)


def rows() -> Iterator[Row]:
    maps = small_maps()
    heatmaps = [resize_map(heatmap, WIDTH, HEIGHT) for heatmap in maps[:24, 0]]
    if [paper_box(heatmap) for heatmap in heatmaps] != [_labelled(heatmap) for heatmap in heatmaps]:
        raise AssertionError("paper_box differs from the labelling: nothing was timed")
    yield beside(
        "boxes", f"paper_box of 24 maps {WIDTH}×{HEIGHT}", "scipy label + find_objects, equal",
        (lambda: [paper_box(h) for h in heatmaps], lambda: [_labelled(h) for h in heatmaps]), 24, "maps/s", "≥ 2",
    )  # fmt: skip
    stored = [eight_bit(heatmap) for heatmap in heatmaps]
    yield beside(
        "boxes", f"release_boxes of 24 maps {WIDTH}×{HEIGHT}",
        "OpenCV's exact distance transforms of the whole maps alone",
        (lambda: [release_boxes(h) for h in stored], lambda: [_depths(h) for h in stored]),
        24, "maps/s", "≥ 1",
    )  # fmt: skip
    if not hasattr(os, "sched_setaffinity"):  # macOS, which lets nobody choose the cores
        return
    everywhere = os.sched_getaffinity(0)
    two, one = sorted(everywhere)[:2], sorted(everywhere)[:1]
    for name, (protocol, images) in RULES.items():
        what = f"{name}: boxes of {images} images {WIDTH}×{HEIGHT}, six maps each, on two cores"
        times = by_turns(
            [
                lambda p=protocol, n=images: _draw(maps[:n], p, two),
                lambda p=protocol, n=images: _draw(maps[:n], p, one),
                lambda p=protocol, n=images: _halves(maps[:n], p, two),
            ],
            rounds=5,
        )
        for peer, place, wanted in (
            ("on one core", 1, "≥ 1.7"),
            ("two processes that share nothing", 2, "≥ 0.9"),
        ):
            yield row(
                "boxes",
                what,
                peer,
                [[of[0], of[place]] for of in times],
                images,
                "images/s",
                wanted,
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
    """The same boxes, half by each of two processes that give nothing back: what the cores give at
    all.
    """
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
    boxes, starts = np.tile([100, 100, 299, 299], (count, 1)), np.arange(count + 1)
    batch = MapBatch(
        np.arange(count), np.tile(np.arange(5), (count, 1)), np.tile([WIDTH, HEIGHT], (count, 1)),
        {"cam": maps[:, None]},
    )  # fmt: skip
    images = Files(Path(), np.arange(count))
    return batch, Split(images, np.zeros(count, int), boxes, starts, ["n1"], ["thing"])


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
