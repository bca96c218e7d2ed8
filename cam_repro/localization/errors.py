"""Classification and localization errors by the rules of the ILSVRC devkit (`eval_clsloc`).

`score_images` judges every image once, `summarise` turns the judgements into percentages, and
`bootstrap_intervals` says how far those would move with another draw of images.
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
from cam_repro.localization.iou import IOU_OF_A_RIGHT_BOX, box_iou
from cam_repro.localization.wsol import boxes_on_map as boxes_on_map
from cam_repro.localization.wsol import max_box_accuracy as max_box_accuracy

SIDE_OF_THE_CENTRE_BOX = 0.75  # of width and of height: the best centred box on ILSVRC val


@dataclass(frozen=True)
class ScoredImages:
    """What was right on each of N images with K guesses; a field nobody asked for is None."""

    cls_right: np.ndarray  # (N, K) bool: one of the first k + 1 labels is right
    loc_right: np.ndarray  # (N, K) bool: one of the first k + 1 guesses has the right label and a right box
    counted: np.ndarray  # (N,) bool: counts for localization: not blacklisted, and has a true box
    blacklisted: np.ndarray  # (N,) bool
    gt_known_right: np.ndarray | None = None  # (N,) bool: the box drawn for the true class is right
    whole_image_right: np.ndarray | None = None  # (N,) bool: the whole image would have been right
    centre_box_right: np.ndarray | None = None  # (N,) bool: the centred box would have been right
    kinds: np.ndarray | None = None  # (N,) int8: why the first guess fails, its place in failures.KINDS; uncounted: -1

    def counts(self) -> dict[str, int]:
        """How many images stand behind the percentages, and why the others do not count for localization."""
        return {
            "images": len(self.counted),
            "loc_images": int(self.counted.sum()),
            "blacklisted": int(self.blacklisted.sum()),
            "without_true_box": int((~self.counted & ~self.blacklisted).sum()),
        }

    def shares(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Each metric as (part, whole), two (N,) bool arrays: value = images in the part ÷ in the whole."""
        everything, counted = np.ones_like(self.counted), self.counted
        shares = {}
        for k in range(self.cls_right.shape[1]):
            shares[f"cls_top{k + 1}_error"] = (~self.cls_right[:, k], everything)
        for k in range(self.loc_right.shape[1]):
            shares[f"loc_top{k + 1}_error"] = (~self.loc_right[:, k] & counted, counted)
        class_right = self.cls_right[:, 0] & counted
        shares["loc_given_cls"] = (self.loc_right[:, 0] & class_right, class_right)
        boxes_alone = {
            "gt_known_loc": self.gt_known_right,
            "floor_whole_image": self.whole_image_right,
            "floor_centre_box": self.centre_box_right,
        }
        if self.kinds is not None:
            boxes_alone |= {f"share_{kind}": self.kinds == place for place, kind in enumerate(KINDS)}
        return shares | {name: (right & counted, counted) for name, right in boxes_alone.items() if right is not None}


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
    boxes: ArrayLike,
    true_labels: ArrayLike,
    true_boxes: Sequence[ArrayLike],
    *,
    gt_known_boxes: ArrayLike | None = None,
    sizes: ArrayLike | None = None,
    blacklist: Iterable[int] = (),
    image_numbers: ArrayLike | None = None,
) -> ScoredImages:
    """Judge every guess of every image: right = right label and IoU ≥ 0.5 with any true box of that class.

    labels (N, K) and boxes (N, K, 4): the guesses, best first. true_labels (N,); true_boxes: N arrays (M, 4),
    the boxes of the image's own class, any number of them. gt_known_boxes (N, 4): the boxes drawn for the
    true classes. sizes (N, 2): (width, height) in pixels, for the two floors. blacklist: the devkit's 1-based
    image numbers, looked up in image_numbers (N,), by default 1…N.

    A blacklisted image counts for classification only. So does an image without any true box: no guess could
    be right there (the devkit's program stops on one); `ScoredImages.counts` says how many there were.
    ValueError when the arrays do not speak of the same images.
    """
    labels, boxes, true_labels = np.asarray(labels), np.asarray(boxes), np.asarray(true_labels)
    if labels.ndim != 2 or len(labels) != len(true_labels) or boxes.shape != (*labels.shape, 4):
        expected = f"labels (N, K) and boxes (N, K, 4) of N = {len(true_labels)} images"
        raise ValueError(f"expected {expected}, got {labels.shape} and {boxes.shape}")
    if len(true_boxes) != len(labels):
        raise ValueError(f"expected the true boxes of {len(labels)} images, got those of {len(true_boxes)}")
    label_right = labels == true_labels[:, None]
    numbers = np.arange(1, len(labels) + 1) if image_numbers is None else np.asarray(image_numbers)
    blacklisted = np.isin(numbers, list(blacklist))

    one_box_each = {"gt_known_right": gt_known_boxes}
    if sizes is not None:
        one_box_each |= {"whole_image_right": whole_image_boxes(sizes), "centre_box_right": centre_boxes(sizes)}
    others = {name: np.asarray(of)[:, None] for name, of in one_box_each.items() if of is not None}
    right = _right_boxes(np.concatenate([boxes, *others.values()], axis=1), true_boxes)  # all of them in one comparison

    counted, names = np.array([len(of_image) > 0 for of_image in true_boxes], bool) & ~blacklisted, [*KINDS]
    kinds = np.full(len(labels), -1, np.int8)
    for image in np.flatnonzero(counted):
        guess = boxes[image, 0], bool(label_right[image, 0])
        kinds[image] = names.index(kind_of_guess(*guess, true_boxes[image]))
    return ScoredImages(
        cls_right=np.logical_or.accumulate(label_right, axis=1),
        loc_right=np.logical_or.accumulate(label_right & right[:, : labels.shape[1]], axis=1),
        counted=counted,
        blacklisted=blacklisted,
        kinds=kinds,
        **dict(zip(others, right[:, labels.shape[1] :].T, strict=True)),
    )


def _right_boxes(boxes: np.ndarray, true_boxes: Sequence[ArrayLike]) -> np.ndarray:
    """boxes (N, K, 4), true_boxes N × (M, 4) -> (N, K) bool: IoU ≥ 0.5 with any true box of the image."""
    truths = [np.asarray(of_image, dtype=np.float64).reshape(-1, 4) for of_image in true_boxes]
    image_of_box = np.repeat(np.arange(len(truths)), np.array([len(truth) for truth in truths], np.int64))
    overlaps = box_iou(boxes[image_of_box], np.concatenate([np.empty((0, 4)), *truths])[:, None])
    true_box, guess = np.nonzero(overlaps >= IOU_OF_A_RIGHT_BOX)
    right = np.zeros(boxes.shape[:2], dtype=bool)
    right[image_of_box[true_box], guess] = True
    return right


def summarise(scored: ScoredImages) -> dict[str, float]:
    """Percentages over images (the metrics of a result file).

    Keys: cls_top{k}_error over all images; over those that count for localization loc_top{k}_error,
    gt_known_loc (accuracy of the box drawn for the true class), loc_given_cls (P(box right | class right),
    top-1), floor_whole_image, floor_centre_box, and share_{kind} of first guesses for every kind of failures.KINDS. A
    metric with nothing to be measured on is left out.
    """
    shares = scored.shares().items()
    return {name: 100.0 * float(part.sum() / whole.sum()) for name, (part, whole) in shares if whole.any()}


def bootstrap_intervals(
    scored: ScoredImages, metrics: Iterable[str] | None = None, *, seed: int = 0, samples: int = 1000
) -> dict[str, list[float]]:
    """95 % percentile intervals {metric: [low, high]}, in percent, over `samples` redrawings of the images.

    metrics: some keys of `summarise`, by default all. The two counts of a ratio are redrawn together; a
    drawing in which it is undefined is passed over. KeyError for a metric that `summarise` does not have.
    """
    shares = scored.shares()
    names = list(summarise(scored) if metrics is None else metrics)
    drawn = _redrawn([column for name in names for column in shares[name]], seed, samples)
    return {name: _interval(drawn[:, 2 * i], drawn[:, 2 * i + 1]) for i, name in enumerate(names)}


def differences(
    ones: Sequence[ScoredImages], twos: Sequence[ScoredImages], metrics: Iterable[str] | None = None,
    *, seed: int = 0, samples: int = 1000,
) -> dict[str, tuple[float, float, float]]:  # fmt: skip
    """{metric: (two − one, and its paired 95 % interval's low and high)}, in percentage points.

    Of judgements of the same images, redrawn together: what both find hard in a drawing cancels. Each side is one
    training or several of other seeds, whose mean it is; several are redrawn too. metrics: some keys of `summarise`,
    by default all; one that a judgement does not have is left out. ValueError for other images.
    """
    judged = [*ones, *twos]
    if any(not np.array_equal(judged[0].counted, other.counted) for other in judged):
        raise ValueError("the judgements do not count the same images")
    found, is_two, shares_of_each = {}, np.arange(len(judged)) >= len(ones), [scored.shares() for scored in judged]
    for name in shares_of_each[0] if metrics is None else metrics:
        shares = [shares_of_one.get(name) for shares_of_one in shares_of_each]
        if any(share is None or not share[1].any() for share in shares):
            continue
        columns = [column for share in shares for column in share]
        value = 100 * _mean_difference(np.array([[column.sum() for column in columns]]), is_two)
        drawn = _redrawn(columns, seed, samples)
        rng = np.random.default_rng((seed, 1))
        runs = np.hstack([rng.choice(np.flatnonzero(side), (samples, side.sum())) for side in (~is_two, is_two)])
        counts = np.take_along_axis(drawn.reshape(samples, -1, 2), runs[..., None], axis=1).reshape(samples, -1)
        low, high = np.nanpercentile(100 * _mean_difference(counts, is_two), (2.5, 97.5))
        found[name] = float(value[0]), float(low), float(high)
    return found


def _mean_difference(counts: np.ndarray, is_two: np.ndarray) -> np.ndarray:
    """(samples,2R) counts of part and whole of R runs -> (samples,): the twos' mean share minus the others'."""
    with np.errstate(invalid="ignore"):
        shares = counts[:, ::2] / counts[:, 1::2]
    return shares[:, is_two].mean(1) - shares[:, ~is_two].mean(1)


def _redrawn(columns: list[np.ndarray], seed: int, samples: int) -> np.ndarray:
    """K columns (N,) bool over images -> (samples,K): how many are true in each redrawing of the N images."""
    # Images judged alike are interchangeable: drawing how many of each kind is cheaper than drawing images.
    kinds, images_of_kind = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
    images = images_of_kind.sum()
    return np.random.default_rng(seed).multinomial(images, images_of_kind / images, size=samples) @ kinds.astype(int)


def bootstrap_mean(values: ArrayLike, *, seed: int = 0, samples: int = 1000) -> list[float]:
    """95 % percentile interval [low, high], in percent, of the mean of values (N,) in 0…1 over redrawn images."""
    kinds, images_of_kind = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    images = images_of_kind.sum()
    drawn = np.random.default_rng(seed).multinomial(images, images_of_kind / images, size=samples) @ kinds
    return _interval(drawn, np.full(samples, images))


def _interval(part: np.ndarray, whole: np.ndarray) -> list[float]:
    """Of part / whole over the redrawings in which it is defined."""
    share = part[whole > 0] / whole[whole > 0]
    return [float(bound) for bound in np.percentile(100.0 * share, (2.5, 97.5))]


def whole_image_boxes(sizes: ArrayLike) -> np.ndarray:
    """The lower floor: sizes (N, 2) as (width, height) -> (N, 4) boxes of the whole images."""
    sizes = np.asarray(sizes)
    return np.concatenate([np.zeros_like(sizes), sizes - 1], axis=1)


def centre_boxes(sizes: ArrayLike, side: float = SIDE_OF_THE_CENTRE_BOX) -> np.ndarray:
    """The higher floor: sizes (N, 2) as (width, height) -> (N, 4) boxes of `side` times both."""
    sizes = np.asarray(sizes, dtype=np.float64)
    corner = (1 - side) / 2 * sizes
    return np.concatenate([corner, corner + side * sizes - 1], axis=1)


def read_blacklist(path: str | Path) -> frozenset[int]:
    """The devkit's `ILSVRC2014_clsloc_validation_blacklist.txt`: one 1-based image number a line."""
    try:
        return frozenset(int(number) for number in Path(path).read_text().split())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected one image number a line (the devkit's blacklist): {error}") from None
