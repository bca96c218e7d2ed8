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
from cam_repro.localization.iou import IOU_OF_A_RIGHT_BOX
from cam_repro.localization.iou import box_iou as box_iou
from cam_repro.localization.max_box_acc import boxes_on_map as boxes_on_map
from cam_repro.localization.max_box_acc import max_box_accuracy as max_box_accuracy

# The boxes that never look at the image, as a share of its width and of its height; 0.75 is the
# best centred box on ILSVRC val.
BASELINES = {"whole_image": 1.0, "centre_box": 0.75}


@dataclass(frozen=True)
class Correctness:
    """Per-image correctness of N images with K guesses; a field nobody asked for is None.

    cls_right (N, K') bool: one of the first k + 1 labels is right. K' ≤ K: as far as the labels of
    every image are K' different classes, since a top-k error is one of k classes.
    counted (N,) bool: counts for localization: it is not blacklisted, and has a true box.
    blacklisted (N,) bool.
    loc_right (N, K) bool: of the first k + 1 guesses one has both label and box right.
    gt_known_right (N,) bool: the box predicted for the true class is right.
    whole_image_right, centre_box_right (N,) bool: this baseline's box is right.
    kinds (N,) int8: why the first guess fails, its place in failures.KINDS; -1 if uncounted.
    """

    cls_right: np.ndarray
    counted: np.ndarray
    blacklisted: np.ndarray
    loc_right: np.ndarray | None = None
    gt_known_right: np.ndarray | None = None
    whole_image_right: np.ndarray | None = None
    centre_box_right: np.ndarray | None = None
    kinds: np.ndarray | None = None

    def counts(self) -> dict[str, int]:
        """How many images count, for localization too, and why the others do not."""
        counts = {"images": len(self.counted)}
        if self.loc_right is not None:
            without_box = ~self.counted & ~self.blacklisted
            counts["loc_images"] = int(self.counted.sum())
            counts["blacklisted"] = int(self.blacklisted.sum())
            counts["without_true_box"] = int(without_box.sum())
        return counts

    def shares(self) -> Shares:
        """Each metric as (part, whole), two (N,) arrays: images in the part ÷ in the whole."""
        shares: Shares = {}
        everything = np.ones_like(self.counted)
        for k in range(self.cls_right.shape[1]):
            shares[f"cls_top{k + 1}_error"] = (~self.cls_right[:, k], everything)
        if self.loc_right is None:
            return shares
        for k in range(self.loc_right.shape[1]):
            wrong = ~self.loc_right[:, k] & self.counted
            shares[f"loc_top{k + 1}_error"] = (wrong, self.counted)
        class_right = self.cls_right[:, 0] & self.counted
        shares["loc_given_cls"] = (self.loc_right[:, 0] & class_right, class_right)
        of_counted = {
            "gt_known_loc": self.gt_known_right,
            "baseline_whole_image": self.whole_image_right,
            "baseline_centre_box": self.centre_box_right,
        }
        if self.kinds is not None:
            for place, kind in enumerate(KINDS):
                of_counted[f"share_{kind}"] = self.kinds == place
        for name, part in of_counted.items():
            if part is not None:
                shares[name] = (part & self.counted, self.counted)
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
    """Score every guess: right = right label, and IoU ≥ 0.5 with any true box of that class.

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
    images = len(true_labels)
    if labels.ndim != 2 or len(labels) != images:
        raise ValueError(f"expected labels (N, K) of N = {images} images, got {labels.shape}")
    if len(true_boxes) != images:
        found = len(true_boxes)
        raise ValueError(f"expected the true boxes of {images} images, got those of {found}")
    if image_numbers is None:
        image_numbers = np.arange(1, images + 1)
    blacklisted = np.isin(image_numbers, list(blacklist))
    has_box = np.array([len(of_image) > 0 for of_image in true_boxes], bool)
    counted = has_box & ~blacklisted
    label_right = labels == true_labels[:, None]
    cls_right = np.logical_or.accumulate(label_right, axis=1)
    cls_right = cls_right[:, : _classes_named(labels)]
    if boxes is None:
        return Correctness(cls_right, counted, blacklisted)

    boxes = np.asarray(boxes)
    expected = (*labels.shape, 4)
    if boxes.shape != expected:
        raise ValueError(
            f"expected boxes {expected} beside labels {labels.shape}, got {boxes.shape}"
        )
    guess_right = np.zeros_like(label_right)
    for k in range(labels.shape[1]):
        box_right = _box_right(boxes[:, k], true_boxes)
        guess_right[:, k] = label_right[:, k] & box_right
    of_boxes = {"loc_right": np.logical_or.accumulate(guess_right, axis=1)}
    if gt_known_boxes is not None:
        of_boxes["gt_known_right"] = _box_right(np.asarray(gt_known_boxes), true_boxes)
    if sizes is not None:
        for name, side in BASELINES.items():
            of_boxes[f"{name}_right"] = _box_right(centred_boxes(sizes, side), true_boxes)

    names = list(KINDS)
    kinds = np.full(images, -1, np.int8)
    for image in np.flatnonzero(counted):
        class_right = bool(label_right[image, 0])
        kind = kind_of_guess(boxes[image, 0], class_right, true_boxes[image])
        kinds[image] = names.index(kind)
    return Correctness(cls_right, counted, blacklisted, kinds=kinds, **of_boxes)


def _box_right(boxes: np.ndarray, true_boxes: Sequence[ArrayLike]) -> np.ndarray:
    """Whether the box (4,) of each of N images is right: it has IoU ≥ 0.5 with any true box."""
    boxes_per_image = [len(of_image) for of_image in true_boxes]
    image_of_true_box = np.repeat(np.arange(len(boxes)), boxes_per_image)
    all_true_boxes = np.concatenate([np.reshape(of_image, (-1, 4)) for of_image in true_boxes])
    overlap = box_iou(boxes[image_of_true_box], all_true_boxes)
    right = np.zeros(len(boxes), bool)
    right[image_of_true_box[overlap >= IOU_OF_A_RIGHT_BOX]] = True
    return right


def _classes_named(labels: np.ndarray) -> int:
    """The largest k for which the first k guesses of every image (N, K) name k classes.

    The release's heuristics name three classes in five guesses: their "top-5" would be a top-3
    error.
    """
    for k in range(1, labels.shape[1]):
        newest = labels[:, k]
        named_before = (labels[:, :k] == newest[:, None]).any(axis=1)
        is_guess = newest >= 0
        if (named_before & is_guess).any():
            return k
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
    """Boxes (N, 4) in the middle of images of (width, height) (N, 2), of `side` times both."""
    sizes = np.asarray(sizes, dtype=np.float64)
    first = (1 - side) / 2 * sizes
    last = first + side * sizes - 1
    return np.concatenate([first, last], axis=1)


def read_blacklist(path: str | Path | None) -> frozenset[int]:
    """The image numbers of the devkit's blacklist, 1-based, one a line; none without a path.

    Source: `ILSVRC2014_clsloc_validation_blacklist.txt`.
    """
    if path is None:
        return frozenset()
    try:
        return frozenset(map(int, Path(path).read_text().split()))
    except (OSError, ValueError) as error:
        expected = "expected one image number a line (the devkit's blacklist)"
        raise UserError(f"{path}: {expected}: {error}") from None
