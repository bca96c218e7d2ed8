"""Boxes by every rule: how much two cores are worth, and the paper's rule beside scipy's labelling."""

import os
from collections.abc import Iterator

import numpy as np
import torch
from scipy import ndimage

from benchmarks.timing import Row, beside
from cam_repro.config import ProtocolConfig
from cam_repro.data import Split
from cam_repro.data.views import resize_map
from cam_repro.distributed import World
from cam_repro.evaluation.draw import draw_boxes
from cam_repro.evaluation.maps import MapBatch
from cam_repro.localization.boxes import Box, paper_box

IMAGES, WIDTH, HEIGHT = 192, 500, 375
RULES = {  # name: the protocol, and how many images make about a second
    "paper": (ProtocolConfig(name="paper", threshold=0.2), IMAGES),
    "release": (ProtocolConfig(name="release", boxes="release", thresholds=[20, 100, 110]), IMAGES // 6),
    "wsol": (ProtocolConfig(name="wsol", boxes="sweep"), IMAGES // 2),
}


def small_maps() -> np.ndarray:
    """Maps as a network's, of a few bright places on a noisy ground: (192,6,14,14) float32."""
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
    everywhere = os.sched_getaffinity(0)
    for name, (protocol, images) in RULES.items():
        yield beside(
            "boxes", f"{name}: boxes of {images} images {WIDTH}×{HEIGHT}, six maps each, on two cores", "on one core",
            (lambda p=protocol, n=images: _draw(maps[:n], p, sorted(everywhere)[:2]),
             lambda p=protocol, n=images: _draw(maps[:n], p, sorted(everywhere)[:1])),
            images, "images/s", "≥ 1.7",
        )  # fmt: skip
    os.sched_setaffinity(0, everywhere)


def _draw(maps: np.ndarray, protocol: ProtocolConfig, cores: list[int]) -> None:
    """As an evaluation draws, from maps that are there already."""
    os.sched_setaffinity(0, cores)
    count = len(maps)
    boxes, starts = np.tile([100, 100, 299, 299], (count, 1)), np.arange(count + 1)
    split = Split(None, np.arange(count), np.zeros(count, int), boxes, starts, ["n1"], ["thing"])  # type: ignore[arg-type]
    batch = MapBatch(
        np.arange(count), np.tile(np.arange(5), (count, 1)), np.tile([WIDTH, HEIGHT], (count, 1)),
        {"cam": maps[:, None, :5]}, {"cam": maps[:, None, 5]},
    )  # fmt: skip
    draw_boxes([batch], [protocol], 224, split, World(0, 1, torch.device("cpu")))


def _labelled(heatmap: np.ndarray) -> Box:
    """The paper's box as one writes it first."""
    labels, _ = ndimage.label(heatmap > np.float32(0.2) * heatmap.max(), np.ones((3, 3)))
    largest = 1 + np.argmax(np.bincount(labels.ravel())[1:])
    rows, columns = ndimage.find_objects(labels)[largest - 1]
    return columns.start, rows.start, columns.stop - 1, rows.stop - 1
