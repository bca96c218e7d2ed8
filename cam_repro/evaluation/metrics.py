"""Ways to score a split: what is kept of each image's maps, and the numbers that come of all of
them.

A metric is an object with two methods. `of_image` runs in a process for each core and gives arrays
of one shape for every image, its rows; `compute` is given the rows of all images, in the split's
order, beside `classes` (N,G), the network's best ones, and `sizes` (N,2), width and height of the
images. Two metrics are equal if they ask for the same rows, which are then made once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from cam_repro.config import ProtocolConfig
from cam_repro.data import Split
from cam_repro.data.views import VIEWS, resize_map
from cam_repro.evaluation.predictions import guesses_of
from cam_repro.localization.boxes import LOOSE, TIGHT, loose_and_tight
from cam_repro.localization.errors import (
    BASELINES,
    Correctness,
    bootstrap_intervals,
    centred_boxes,
    score_images,
    summarise,
)
from cam_repro.localization.intervals import bootstrap
from cam_repro.localization.max_box_acc import (
    MAP_SIDE,
    THRESHOLDS,
    accuracies,
    box_accuracy,
    boxes_on_map,
    normalised,
    right_by_threshold,
)

Rows = dict[str, np.ndarray]


class ImageFacts(NamedTuple):
    """What is known of an image whatever the network says."""

    size: tuple[int, int]  # width and height
    true_boxes: np.ndarray  # (M,4) of its class, inclusive corners


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

    def of_image(self, maps_vmhw: np.ndarray, image: ImageFacts) -> Rows:
        """One image's maps of V crops and M classes, the true one last -> arrays of fixed shapes."""

    def compute(self, rows: Rows, split: Split, blacklist: frozenset[int]) -> Scores:
        """All images' rows -> numbers; the blacklist holds the devkit's image numbers."""


@dataclass(frozen=True)
class ClassificationErrors:
    """Top-1 to top-5 error of the network's classes, whatever its maps."""

    names = ("cls_top1_error", "cls_top5_error")

    def of_image(self, maps_vmhw: np.ndarray, image: ImageFacts) -> Rows:
        return {}

    def compute(self, rows: Rows, split: Split, blacklist: frozenset[int]) -> Scores:
        correctness = score_images(rows["classes"], None, split.labels, _true_boxes(split))
        scores = _scores_of(correctness, self.names)
        scores.per_image = {
            "cls_right": correctness.cls_right,
            "labels": split.labels,
            "classes": rows["classes"],
            "files": split.files,
        }
        return scores


@dataclass(frozen=True)
class LocalizationErrors:
    """The ILSVRC devkit's errors of five boxes an image, drawn from the maps by one rule."""

    names = (
        "cls_top1_error", "cls_top5_error", "loc_top1_error", "loc_top5_error", "loc_given_cls",
        "gt_known_loc", "baseline_whole_image", "baseline_centre_box",
    )  # fmt: skip

    view: str
    size: int  # pixels a side of the crops that the network saw
    boxes: str  # a key of BOX_RULES
    threshold: float | None
    thresholds: tuple[int, ...]
    jpeg: bool
    resize: str
    guesses: str = field(compare=False, repr=False)  # a key of RESULT_SETS: these share their boxes

    def heatmap(self, maps_vhw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """A class's maps of all crops -> (height, width), over the image of this size."""
        return VIEWS[self.view].place(maps_vhw, size, self.size, self.resize)

    def of_image(self, maps_vmhw: np.ndarray, image: ImageFacts) -> Rows:
        """boxes (M,2,4): the loose and the tight one of each class, the same where there is but
        one.
        """
        of_classes = []
        for maps_vhw in maps_vmhw.swapaxes(0, 1):
            heatmap = self.heatmap(maps_vhw, image.size)
            of_classes.append(loose_and_tight(heatmap, self))
        return {"boxes": np.array(of_classes, np.int32)}

    def compute(self, rows: Rows, split: Split, blacklist: frozenset[int]) -> Scores:
        of_best_classes = rows["boxes"][:, :-1]
        of_true_class = rows["boxes"][:, -1]
        labels, boxes = guesses_of(rows["classes"], of_best_classes, self.guesses)
        predicted_boxes = of_true_class[:, TIGHT if self.guesses == "tight" else LOOSE]
        correctness = score_images(
            labels,
            boxes,
            split.labels,
            _true_boxes(split),
            gt_known_boxes=predicted_boxes,
            sizes=rows["sizes"],
            blacklist=blacklist,
            image_numbers=split.devkit_numbers(),
        )
        names = self.names
        if correctness.cls_right.shape[1] < min(5, rows["classes"].shape[1]):  # fewer classes named
            names = tuple(name for name in names if name != "cls_top5_error")
        scores = _scores_of(correctness, names)
        scores.guesses = (labels, boxes)
        scores.predicted_boxes = predicted_boxes
        return scores


@dataclass(frozen=True)
class MaxBoxAcc:
    """MaxBoxAcc V1 and V2 of the WSOL benchmark (Choe et al. 2020), of the true class's map."""

    names = (
        "max_box_acc_v1", "max_box_acc_v2", "max_box_acc_v2_one_threshold",
        "max_box_acc_v1_at_20", "max_box_acc_v2_at_20",
        "baseline_whole_image", "baseline_whole_image_v2",
        "baseline_centre_box", "baseline_centre_box_v2",
    )  # fmt: skip

    resize: str

    def of_image(self, maps_vmhw: np.ndarray, image: ImageFacts) -> Rows:
        """right (4,125): `right_by_threshold` in bits, an eighth of the memory."""
        enlarged = resize_map(maps_vmhw[0, -1], MAP_SIDE, MAP_SIDE, self.resize)
        truth = boxes_on_map(image.true_boxes, image.size)
        right = right_by_threshold(normalised(enlarged), truth)
        return {"right": np.packbits(right, axis=-1)}

    def compute(self, rows: Rows, split: Split, blacklist: frozenset[int]) -> Scores:
        has_box = np.diff(split.box_starts) > 0
        blacklisted = np.isin(split.devkit_numbers(), list(blacklist))
        counted = has_box & ~blacklisted
        right = np.unpackbits(rows["right"][counted], axis=-1)[..., : len(THRESHOLDS)]
        found = accuracies(right.astype(bool))
        per_image = {f"max_box_acc_{name}": of for name, of in found["per_image"].items()}
        shares = {name: (added, np.ones_like(added)) for name, added in per_image.items()}
        metrics = {name: 100.0 * float(added.mean()) for name, added in per_image.items()}
        metrics |= self._baselines(split, rows["sizes"], np.flatnonzero(counted))
        counts = {
            "images": len(split),
            "loc_images": int(counted.sum()),
            "blacklisted": int(blacklisted.sum()),
            "without_true_box": int((~has_box & ~blacklisted).sum()),
        }
        return Scores(
            counts,
            {name: metrics[name] for name in self.names},
            bootstrap(shares),  # at the thresholds that were best for all images
            {"counted": counted, **per_image},
            thresholds=found["best"],
            curves=found["curves"],
        )

    def _baselines(self, split: Split, sizes: np.ndarray, images: np.ndarray) -> dict[str, float]:
        """The accuracy of the two boxes that ignore the image, on the same maps."""
        image_sizes = [tuple(sizes[image]) for image in images]
        truth = [
            boxes_on_map(split.true_boxes(image), size)
            for image, size in zip(images, image_sizes, strict=True)
        ]
        found = {}
        for name, side in BASELINES.items():
            boxes = centred_boxes(sizes[images], side)
            on_map = [
                boxes_on_map(box, size)[0] for box, size in zip(boxes, image_sizes, strict=True)
            ]
            accuracy = box_accuracy(on_map, truth)
            found[f"baseline_{name}"] = accuracy["v1"]
            found[f"baseline_{name}_v2"] = accuracy["v2"]
        return found


def localization_metric(protocol: ProtocolConfig, size: int) -> LocalizationErrors:
    return LocalizationErrors(
        view=protocol.view,
        size=size,
        boxes=protocol.boxes,
        threshold=protocol.threshold,
        thresholds=tuple(protocol.thresholds or ()),
        jpeg=protocol.jpeg,
        resize=protocol.resize,
        guesses=protocol.guesses,
    )


METRICS = {  # protocol.metric -> the metric of a protocol, for crops of `size` pixels
    "localization": localization_metric,
    "max_box_acc": lambda protocol, size: MaxBoxAcc(protocol.resize),
}
METRIC_NAMES = {  # kind of record -> the metrics that each has
    "classification": ClassificationErrors.names,
    "localization": LocalizationErrors.names,
    "max_box_acc": MaxBoxAcc.names,
}


def _true_boxes(split: Split) -> list[np.ndarray]:
    return [split.true_boxes(image) for image in range(len(split))]


def _scores_of(correctness: Correctness, names: tuple[str, ...]) -> Scores:
    measured = summarise(correctness)
    metrics: dict[str, Any] = dict(measured)
    for name in names:
        metrics.setdefault(name, None)
    per_image = {name: of for name, of in vars(correctness).items() if of is not None}
    return Scores(correctness.counts(), metrics, bootstrap_intervals(correctness), per_image)
