"""Ways to score a split by its classes, boxes and masks, and the registry of all metrics."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cam_repro import UserError
from cam_repro.config import ProtocolConfig
from cam_repro.data import Split
from cam_repro.data.masks import read_mask
from cam_repro.data.views import VIEWS, resize_map
from cam_repro.evaluation.explanations import Faithfulness, Pointing, Randomisation
from cam_repro.evaluation.metric import ImageFacts, Rows, Scores
from cam_repro.evaluation.predictions import guesses_of
from cam_repro.files import read_text
from cam_repro.localization.boxes import LOOSE, TIGHT, Box, loose_and_tight
from cam_repro.localization.errors import (
    BASELINES,
    Correctness,
    bootstrap_intervals,
    centred_boxes,
    score_images,
    summarise,
)
from cam_repro.localization.faithfulness import Perturbation
from cam_repro.localization.intervals import Shares, bootstrap
from cam_repro.localization.max_box_acc import (
    MAP_SIDE,
    THRESHOLDS,
    accuracies,
    box_accuracy,
    boxes_on_map,
    normalised,
    right_by_threshold,
)
from cam_repro.localization.px_ap import (
    precision_and_recall,
    px_ap,
    px_ap_interval,
    score_histograms,
)


@dataclass(frozen=True)
class ClassificationErrors:
    """Top-1 to top-5 error of the network's classes, whatever its maps."""

    names = ("cls_top1_error", "cls_top5_error")

    def lacks(self, split: Split) -> str:
        return ""

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

    def lacks(self, split: Split) -> str:
        return "" if len(split.boxes) else "boxes"

    def heatmap(self, maps_vhw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """A class's maps of all crops -> (height, width), over the image of this size."""
        return VIEWS[self.view].place(maps_vhw, size, self.size, self.resize)

    def of_image(self, maps_vmhw: np.ndarray, image: ImageFacts) -> Rows:
        """boxes (M,2,4): each class's loose and tight one, the same where there is but one."""
        of_best_classes = maps_vmhw[:, :-1]
        of_true_class = maps_vmhw[:, -1:]
        boxes = []
        for maps_vhw in of_best_classes.swapaxes(0, 1):
            boxes.append(self._loose_and_tight(maps_vhw, image))
        # The true class is mostly one of the best ones. Where its maps are there, so are its boxes.
        same = (of_best_classes == of_true_class).all(axis=(0, 2, 3))
        if same.any():
            boxes.append(boxes[same.argmax()])
        else:
            boxes.append(self._loose_and_tight(of_true_class[:, 0], image))
        return {"boxes": np.array(boxes, np.int32)}

    def _loose_and_tight(self, maps_vhw: np.ndarray, image: ImageFacts) -> tuple[Box, Box]:
        return loose_and_tight(self.heatmap(maps_vhw, image.size), self)

    def compute(self, rows: Rows, split: Split, blacklist: frozenset[int]) -> Scores:
        of_best_classes = rows["boxes"][:, :-1]
        of_true_class = rows["boxes"][:, -1]
        labels, boxes = guesses_of(rows["classes"], of_best_classes, self.guesses)
        which = TIGHT if self.guesses == "tight" else LOOSE
        predicted_boxes = of_true_class[:, which]
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
        scores = _scores_of(correctness, self.names)
        classes_named = correctness.cls_right.shape[1]
        if classes_named < min(5, rows["classes"].shape[1]):  # by the release's heuristics
            del scores.metrics["cls_top5_error"]
        scores.guesses = (labels, boxes)
        scores.predicted_boxes = predicted_boxes
        return scores


@dataclass(frozen=True)
class MaxBoxAcc:
    """MaxBoxAcc V1 and V2 of the WSOL benchmark (Choe et al. 2020), of the true class's map.

    thresholds: what was best on other images, a number's name and its threshold each; none: what is
    best on the images that are scored. top1_loc and top5_loc count an image as right where its box
    is, at V1's threshold, and its class is among the best one or five.
    """

    names = (
        "max_box_acc_v1", "max_box_acc_v2", "max_box_acc_v2_one_threshold",
        "max_box_acc_v1_at_20", "max_box_acc_v2_at_20",
        "baseline_whole_image", "baseline_whole_image_v2",
        "baseline_centre_box", "baseline_centre_box_v2",
    )  # fmt: skip
    more_names = ("max_box_acc_top1_loc", "max_box_acc_top5_loc")  # older records lack them

    resize: str
    thresholds: tuple[tuple[str, float], ...] = ()

    def lacks(self, split: Split) -> str:
        return "" if len(split.boxes) else "boxes"

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
        right = np.unpackbits(rows["right"][counted], axis=-1, count=len(THRESHOLDS))
        found = accuracies(right.astype(bool), dict(self.thresholds) or None)

        measured = self._baselines(split, rows["sizes"], np.flatnonzero(counted))
        of_true_class = rows["classes"][counted] == split.labels[counted][:, None]
        box_is_right = found["per_image"]["v1"]
        added_by = {
            **found["per_image"],
            "top1_loc": box_is_right * of_true_class[:, 0],
            "top5_loc": box_is_right * of_true_class.any(axis=1),
        }
        shares: Shares = {}
        per_image = {"counted": counted}
        for number, added in added_by.items():
            name = f"max_box_acc_{number}"
            measured[name] = 100.0 * float(added.mean())
            shares[name] = (added, np.ones_like(added))
            per_image[name] = added
        counts = {
            "images": len(split),
            "loc_images": int(counted.sum()),
            "blacklisted": int(blacklisted.sum()),
            "without_true_box": int((~has_box & ~blacklisted).sum()),
        }
        return Scores(
            counts,
            metrics={name: measured[name] for name in (*self.names, *self.more_names)},
            confidence=bootstrap(shares),  # at the thresholds that were best for all images
            per_image=per_image,
            thresholds=found["best"],
            curves=found["curves"],
        )

    def _baselines(self, split: Split, sizes: np.ndarray, images: np.ndarray) -> dict[str, float]:
        """The accuracy of the two boxes that ignore the image, on the same maps."""
        found = {}
        for name, side in BASELINES.items():
            boxes = []
            true_boxes = []
            for image in images:
                size = tuple(sizes[image])
                (baseline,) = centred_boxes([size], side)
                boxes.extend(boxes_on_map(baseline, size))
                true_boxes.append(boxes_on_map(split.true_boxes(image), size))
            accuracy = box_accuracy(boxes, true_boxes)
            found[f"baseline_{name}"] = accuracy["v1"]
            found[f"baseline_{name}_v2"] = accuracy["v2"]
        return found


@dataclass(frozen=True)
class PxAP:
    """PxAP of the WSOL benchmark (Choe et al. 2020), of the true class's map, against masks."""

    names = ("px_ap", "baseline_whole_image")

    resize: str

    def lacks(self, split: Split) -> str:
        return "masks" if split.masks is None else ""

    def of_image(self, maps_vmhw: np.ndarray, image: ImageFacts) -> Rows:
        """histograms (2,1002): `score_histograms` of the map at the benchmark's size."""
        enlarged = resize_map(maps_vmhw[0, -1], MAP_SIDE, MAP_SIDE, self.resize)
        mask = read_mask(image.masks, MAP_SIDE)
        return {"histograms": score_histograms(normalised(enlarged), mask).astype(np.int32)}

    def compute(self, rows: Rows, split: Split, blacklist: frozenset[int]) -> Scores:
        counted = ~np.isin(split.devkit_numbers(), list(blacklist))
        histograms = rows["histograms"][counted].astype(np.int64)
        of_all = histograms.sum(axis=0)
        precision, recall = precision_and_recall(of_all)
        of_object, of_the_rest = of_all.sum(axis=1)
        metrics = {
            "px_ap": float(px_ap(of_all)),
            "baseline_whole_image": 100.0 * float(of_object / (of_object + of_the_rest)),
        }
        counts = {
            "images": len(split),
            "loc_images": int(counted.sum()),
            "blacklisted": int((~counted).sum()),
        }
        return Scores(
            counts,
            metrics,
            confidence={"px_ap": px_ap_interval(histograms)},
            per_image={"counted": counted, "histograms": rows["histograms"]},
            curves={"precision": 100 * precision[:1:-1], "recall": 100 * recall[:1:-1]},
        )


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


def max_box_acc_metric(protocol: ProtocolConfig, size: int) -> MaxBoxAcc:
    return MaxBoxAcc(protocol.resize)


def thresholds_chosen(path: Path, weights: str, method: str) -> tuple[tuple[str, float], ...]:
    """The best thresholds of a record of MaxBoxAcc, as `MaxBoxAcc.thresholds`.

    Raises UserError unless it is of the same weights, by their sha256, and the same method.
    """
    try:
        record = json.loads(read_text(path))
        thresholds = {name: float(at) for name, at in record["thresholds"].items()}
        measured = (record["provenance"]["weights"], record["method"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"protocol.thresholds_from={path} is no record of MaxBoxAcc; give the "
            "localization-…-wsol….json of another split"
        ) from None
    if measured != (weights, method):
        raise UserError(
            f"protocol.thresholds_from={path} has the thresholds of other weights or of another "
            f"method ({record['method']}); evaluate that split: protocol=wsol method={method}"
        )
    return tuple(sorted(thresholds.items()))


def px_ap_metric(protocol: ProtocolConfig, size: int) -> PxAP:
    return PxAP(protocol.resize)


def pointing_metric(protocol: ProtocolConfig, size: int) -> Pointing:
    return Pointing(protocol.resize, protocol.tolerance)


def faithfulness_metric(protocol: ProtocolConfig, size: int) -> Faithfulness:
    how = Perturbation(
        protocol.steps,
        protocol.insertion_from,
        protocol.deletion_to,
        tuple(protocol.percentiles),
    )
    return Faithfulness(protocol.resize, how)


def randomisation_metric(protocol: ProtocolConfig, size: int) -> Randomisation:
    return Randomisation(protocol.resize, protocol.steps)


# protocol.metric= -> the metric of a protocol, for crops of `size` pixels
METRICS = {
    "localization": localization_metric,
    "max_box_acc": max_box_acc_metric,
    "px_ap": px_ap_metric,
    "pointing": pointing_metric,
    "faithfulness": faithfulness_metric,
    "randomisation": randomisation_metric,
}
# kind of record -> the metrics that each has
METRIC_NAMES = {
    "classification": ClassificationErrors.names,
    "localization": LocalizationErrors.names,
    "max_box_acc": MaxBoxAcc.names,
    "px_ap": PxAP.names,
    "pointing": Pointing.names,
    "faithfulness": Faithfulness.names,
    "randomisation": Randomisation.names,
}
# Of the metrics of pointing, faithfulness and randomisation; the others are better higher.
LOWER_IS_BETTER = ("deletion", "average_drop", "average_drop_matched", "rank_correlation", "ssim")
SIGNED = ("road", "rank_correlation", "ssim")  # how the names begin of what can be below 0


def _true_boxes(split: Split) -> list[np.ndarray]:
    return [split.true_boxes(image) for image in range(len(split))]


def _scores_of(correctness: Correctness, names: tuple[str, ...]) -> Scores:
    """What was measured, and None for the names of which there was nothing to measure on."""
    metrics: dict[str, float | None] = dict(summarise(correctness))
    for name in names:
        metrics.setdefault(name, None)
    per_image = {}
    for name, of_images in vars(correctness).items():
        if of_images is not None:
            per_image[name] = of_images
    intervals = bootstrap_intervals(correctness)
    return Scores(correctness.counts(), metrics, intervals, per_image)
