"""Boxes of many maps, every one equal to the plain rule's, and of many thresholds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from benchmarks.timing import Row, beside
from cam_repro.localization.boxes import (
    eight_bit,
    paper_box,
    paper_boxes,
    release_boxes,
    release_boxes_of,
    threshold_sweep,
)
from cam_repro.localization.maps import resize_maps

COUNT, SIDE = 24, 224
LEVELS = np.arange(256) / 256


def heatmaps() -> np.ndarray:
    """Maps of 14 × 14 as a network's, of a few bright places on a noisy ground, enlarged: (24,224,224) float32."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:14, :14]
    small = rng.random((COUNT, 14, 14)) * 0.3
    for heatmap in small:
        for y, x, width in rng.uniform((0, 0, 1), (14, 14, 4), (rng.integers(1, 4), 3)):
            heatmap += np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2))
    return resize_maps(small.astype(np.float32), (SIDE, SIDE))


def rows() -> Iterator[Row]:
    maps = heatmaps()
    stored = np.stack([eight_bit(heatmap) for heatmap in maps])
    _refuse_difference("paper_boxes", paper_boxes(maps), [_labelled(heatmap) for heatmap in maps])
    yield beside(
        "boxes", f"paper_boxes of {COUNT} maps {SIDE}×{SIDE}, equal", "scipy label + find_objects, each map",
        (lambda: paper_boxes(maps), lambda: [_labelled(heatmap) for heatmap in maps]), COUNT, "maps/s", "≥ 3",
    )  # fmt: skip
    noise = np.abs(np.random.default_rng(0).standard_normal((6, SIDE, SIDE))).astype(np.float32)
    _refuse_difference("paper_boxes", paper_boxes(noise), [_labelled(heatmap) for heatmap in noise])
    yield beside(
        "boxes", f"paper_boxes of 6 maps {SIDE}×{SIDE} of noise, equal", "scipy label + find_objects, each map",
        (lambda: paper_boxes(noise), lambda: [_labelled(heatmap) for heatmap in noise]), 6, "maps/s", "≥ 0.8",
    )  # fmt: skip
    _refuse_difference("release_boxes_of", release_boxes_of(stored), [release_boxes(heatmap) for heatmap in stored])
    yield beside(
        "boxes", f"release_boxes_of {COUNT} maps {SIDE}×{SIDE}, equal", "release_boxes, each map",
        (lambda: release_boxes_of(stored), lambda: [release_boxes(heatmap) for heatmap in stored]),
        COUNT, "maps/s", "≥ 3",
    )  # fmt: skip
    for heatmap in maps:
        _refuse_difference("threshold_sweep", threshold_sweep(heatmap, LEVELS), [paper_box(heatmap, t) for t in LEVELS])
    yield beside(
        "boxes", f"threshold_sweep of {len(LEVELS)} thresholds, equal to {len(LEVELS)} boxes", "one paper_box",
        (lambda: [threshold_sweep(heatmap, LEVELS) for heatmap in maps], lambda: [paper_box(h) for h in maps]),
        COUNT, "maps/s", "≤ 8",
    )  # fmt: skip


def _labelled(heatmap: np.ndarray) -> tuple[int, int, int, int]:
    """The paper's box as one writes it first."""
    labels, _ = ndimage.label(heatmap > np.float32(0.2) * heatmap.max(), np.ones((3, 3)))
    largest = 1 + np.argmax(np.bincount(labels.ravel())[1:])
    rows, columns = ndimage.find_objects(labels)[largest - 1]
    return columns.start, rows.start, columns.stop - 1, rows.stop - 1


def _refuse_difference(name: str, ours: object, theirs: object) -> None:
    ours, theirs = ([tuple(map(tuple, np.atleast_2d(box).tolist())) for box in boxes] for boxes in (ours, theirs))
    if ours != theirs:
        raise AssertionError(f"{name} differs from the plain rule: nothing was timed")
