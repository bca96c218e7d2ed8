"""Classification and localization errors by the rules of the ILSVRC devkit (`eval_clsloc`).

`score_images` says of every image what is right about it, `summarise` turns that into percentages,
and `bootstrap_intervals` says how far those would move with another draw of images.
Boxes are (x1, y1, x2, y2) in pixels of the original image, both corners inside the box.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cam_repro import UserError
from cam_repro.localization.failures import KINDS, kind_of_guess
from cam_repro.localization.intervals import Shares, bootstrap, percentages
from cam_repro.localization.iou import IOU_OF_A_RIGHT_BOX, best_iou
from cam_repro.localization.iou import box_iou as box_iou
from cam_repro.localization.max_box_acc import boxes_on_map as boxes_on_map
from cam_repro.localization.max_box_acc import max_box_accuracy as max_box_accuracy

# The boxes that never look, as a share of width and of height; 0.75: the best centred box on ILSVRC
# val.
BASELINES = {"whole_image": 1.0, "centre_box": 0.75}


@dataclass(frozen=True)
class Correctness:
    """What was right on each of N images with K guesses; a field nobody asked for is None."""

    # (N, K') bool: one of the first k + 1 labels is right; K' ≤ K: as far as the labels of every
    # image are K' different classes, since a top-k error is one of k classes
    cls_right: np.ndarray
    counted: np.ndarray  # (N,) bool: counts for localization: not blacklisted, and has a true box
    blacklisted: np.ndarray  # (N,) bool
    loc_right: np.ndarray | None = (
        None  # (N, K) bool: of the first k + 1 guesses one has label and box right
    )
    gt_known_right: np.ndarray | None = (
        None  # (N,) bool: the box predicted for the true class is right
    )
    whole_image_right: np.ndarray | None = None  # (N,) bool: the whole image would have been right
    centre_box_right: np.ndarray | None = None  # (N,) bool: the centred box would have been right
    kinds: np.ndarray | None = (
        None  # (N,) int8: why the first guess fails, its place in failures.KINDS; uncounted: -1
    )

    def counts(self) -> dict[str, int]:
        """How many images stand behind the percentages, and why the others do not count for
        localization.
        """
        counts = {"images": len(self.counted)}
        if self.loc_right is not None:
            counts["loc_images"] = int(self.counted.sum())
            counts["blacklisted"] = int(self.blacklisted.sum())
            counts["without_true_box"] = int((~self.counted & ~self.blacklisted).sum())
        return counts

    def shares(self) -> Shares:
        """Each metric as (part, whole), two (N,) arrays: value = images in the part ÷ in the whole."""
        shares: Shares = {}
        everything = np.ones_like(self.counted)
        for k in range(self.cls_right.shape[1]):
            shares[f"cls_top{k + 1}_error"] = (~self.cls_right[:, k], everything)
        if self.loc_right is None:
            return shares
        for k in range(self.loc_right.shape[1]):
            shares[f"loc_top{k + 1}_error"] = (~self.loc_right[:, k] & self.counted, self.counted)
        class_right = self.cls_right[:, 0] & self.counted
        shares["loc_given_cls"] = (self.loc_right[:, 0] & class_right, class_right)
        right = {
            "gt_known_loc": self.gt_known_right,
            "baseline_whole_image": self.whole_image_right,
            "baseline_centre_box": self.centre_box_right,
        }
        if self.kinds is not None:
            for place, kind in enumerate(KINDS):
                right[f"share_{kind}"] = self.kinds == place
        for name, of_each in right.items():
            if of_each is not None:
                shares[name] = (of_each & self.counted, self.counted)
        return shares


def localization_errors(
    labels: ArrayLike,
    boxes: ArrayLike,
    true_labels: ArrayLike,
    true_boxes: Sequence[ArrayLike],
    **options: Any,
) -> dict[str, float]:
    """Errors in percent: arguments and options of `score_images`, keys of `summarise`."""
    return summarise(score_images(labels, boxes, true_labels, true_boxes, **options))


def score_images(
    labels: ArrayLike,
    boxes: ArrayLike | None,
    true_labels: ArrayLike,
    true_boxes: Sequence[ArrayLike],
    *,
    gt_known_boxes: ArrayLike | None = None,
    sizes: ArrayLike | None = None,
    blacklist: Iterable[int] = (),
    image_numbers: ArrayLike | None = None,
) -> Correctness:
    """Score every guess of every image: right = right label and IoU ≥ 0.5 with any true box of that
    class.

    labels (N, K) and boxes (N, K, 4): the guesses, best first; a label below 0 is no guess; without
    boxes there is a classification alone. true_labels (N,); true_boxes: N arrays (M, 4), the boxes
    of the image's own class, any number of them. gt_known_boxes (N, 4): the boxes predicted for the
    true classes. sizes (N, 2): (width, height) in pixels, for the two baselines. blacklist: the
    devkit's 1-based image numbers, looked up in image_numbers (N,), by default 1…N.

    A blacklisted image counts for classification only. So does an image without any true box: no
    guess could be right there (the devkit's program stops on one); `Correctness.counts` says how
    many there were. ValueError when the arrays do not speak of the same images.
    """
    labels = np.asarray(labels)
    true_labels = np.asarray(true_labels)
    if labels.ndim != 2 or len(labels) != len(true_labels):
        expected = f"labels (N, K) of N = {len(true_labels)} images"
        raise ValueError(f"expected {expected}, got {labels.shape}")
    if len(true_boxes) != len(labels):
        raise ValueError(
            f"expected the true boxes of {len(labels)} images, got those of {len(true_boxes)}"
        )
    numbers = np.arange(1, len(labels) + 1) if image_numbers is None else np.asarray(image_numbers)
    blacklisted = np.isin(numbers, list(blacklist))
    has_box = np.array([len(of_image) > 0 for of_image in true_boxes], bool)
    counted = has_box & ~blacklisted
    label_right = labels == true_labels[:, None]
    cls_right = np.logical_or.accumulate(label_right, axis=1)[:, : _classes_named(labels)]
    if boxes is None:
        return Correctness(cls_right, counted, blacklisted)

    boxes = np.asarray(boxes)
    if boxes.shape != (*labels.shape, 4):
        raise ValueError(
            f"expected boxes {(*labels.shape, 4)} beside labels {labels.shape}, got {boxes.shape}"
        )
    one_box_each = {"gt_known_right": gt_known_boxes}
    if sizes is not None:
        for name, side in BASELINES.items():
            one_box_each[f"{name}_right"] = centred_boxes(sizes, side)
    others = {name: np.asarray(of)[:, None] for name, of in one_box_each.items() if of is not None}
    all_boxes = np.concatenate([boxes, *others.values()], axis=1)
    pairs = zip(all_boxes, true_boxes, strict=True)
    best = np.array([best_iou(of_image, truth) for of_image, truth in pairs])
    box_right = best.reshape(all_boxes.shape[:2]) >= IOU_OF_A_RIGHT_BOX
    guesses = labels.shape[1]
    loc_right = np.logical_or.accumulate(label_right & box_right[:, :guesses], axis=1)

    names = [*KINDS]
    kinds = np.full(len(labels), -1, np.int8)
    for image in np.flatnonzero(counted):
        kind = kind_of_guess(boxes[image, 0], bool(label_right[image, 0]), true_boxes[image])
        kinds[image] = names.index(kind)
    of_one_box = dict(zip(others, box_right[:, guesses:].T, strict=True))
    return Correctness(cls_right, counted, blacklisted, loc_right, kinds=kinds, **of_one_box)


def _classes_named(labels: np.ndarray) -> int:
    """The largest k for which the first k guesses of every image (N, K) name k classes.

    The release's heuristics name three classes in five guesses: their "top-5" would be a top-3
    error.
    """
    for k in range(2, labels.shape[1] + 1):
        newest = labels[:, k - 1]
        repeated = (labels[:, : k - 1] == newest[:, None]).any(axis=1) & (newest >= 0)
        if repeated.any():
            return k - 1
    return labels.shape[1]


def summarise(correctness: Correctness) -> dict[str, float]:
    """Percentages over images (the metrics of a result file).

    Keys: cls_top{k}_error over all images; over those that count for localization loc_top{k}_error,
    gt_known_loc (accuracy of the box predicted for the true class), loc_given_cls (P(box right |
    class right), top-1), baseline_whole_image, baseline_centre_box, and share_{kind} of first
    guesses for every kind of failures.KINDS. A metric with nothing to be measured on is left out.
    """
    return percentages(correctness.shares())


def bootstrap_intervals(
    correctness: Correctness, *, seed: int = 0, samples: int = 1000
) -> dict[str, list[float]]:
    """95 % percentile intervals {metric: [low, high]}, in percent, of every key of `summarise`."""
    return bootstrap(correctness.shares(), seed=seed, samples=samples)


def centred_boxes(sizes: ArrayLike, side: float) -> np.ndarray:
    """Sizes (N, 2) as (width, height) -> (N, 4) boxes in the middle of the images, of `side` times
    both.
    """
    sizes = np.asarray(sizes, dtype=np.float64)
    corner = (1 - side) / 2 * sizes
    return np.concatenate([corner, corner + side * sizes - 1], axis=1)


def read_blacklist(path: str | Path | None) -> frozenset[int]:
    """The devkit's `ILSVRC2014_clsloc_validation_blacklist.txt`: one 1-based image number a line;
    no path, no image.
    """
    if path is None:
        return frozenset()
    try:
        return frozenset(int(number) for number in Path(path).read_text().split())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: expected one image number a line (the devkit's blacklist): {error}"
        ) from None
