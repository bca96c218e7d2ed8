"""A way to score a split: what each image's maps come to, and the numbers that come of all images.

A metric is an object with two methods. `of_image` runs in a process for each core and gives arrays
of one shape for every image, its rows; `compute` is given the rows of all images, in the split's
order, beside `classes` (N,G), the network's best ones, and `sizes` (N,2), width and height of the
images. Two metrics are equal if they ask for the same rows, which are then made once.

A metric that asks the network about changed images, or changes the network, has `of_network` in
place of `of_image`: it is called where the network is, with a few images at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from cam_repro.data import Split
from cam_repro.data.masks import MaskFiles

Rows = dict[str, np.ndarray]


class ImageFacts(NamedTuple):
    """What is known of an image whatever the network says."""

    size: tuple[int, int]  # width and height
    true_boxes: np.ndarray  # (M,4) of its class, inclusive corners
    masks: MaskFiles | None = None  # of its class


@dataclass
class Scores:
    """What a metric says of a split.

    counts: how many images stand behind the numbers; metrics and confidence (95 % intervals) in
    percent, None where there was nothing to measure on; per_image: what each image adds, (N,…)
    each; thresholds: the best ones of a metric that chooses them; curves: {name: (1000,)} in
    percent over THRESHOLDS; guesses: labels (N,K) and boxes (N,K,4); predicted_boxes (N,4) of the
    true class.
    """

    counts: dict[str, int]
    metrics: dict[str, float | None]
    confidence: dict[str, list[float]]
    per_image: dict[str, np.ndarray]
    thresholds: dict[str, float] = field(default_factory=dict)
    curves: dict[str, np.ndarray] = field(default_factory=dict)
    guesses: tuple[np.ndarray, np.ndarray] | None = None
    predicted_boxes: np.ndarray | None = None


class Metric(Protocol):
    """One way to score a split; `names` are the metrics that every record of it has."""

    names: tuple[str, ...]

    def lacks(self, split: Split) -> str:
        """What the split would need and does not have; empty where it can be scored."""

    def of_image(self, maps_vmhw: np.ndarray, image: ImageFacts) -> Rows:
        """One image's rows, from its maps of V crops and M classes, of which the last is true."""

    def compute(self, rows: Rows, split: Split, blacklist: frozenset[int]) -> Scores:
        """The numbers of all images; the blacklist holds the devkit's image numbers."""
