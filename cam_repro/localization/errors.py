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
from cam_repro.localization.iou import IOU_OF_A_RIGHT_BOX, best_iou
from cam_repro.localization.iou import box_iou as box_iou
from cam_repro.localization.wsol import boxes_on_map as boxes_on_map
from cam_repro.localization.wsol import max_box_accuracy as max_box_accuracy

# The boxes that never look, as a share of width and of height; 0.75: the best centred box on ILSVRC val.
FLOORS = {"whole_image": 1.0, "centre_box": 0.75}


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
        one_box_each |= {f"{name}_right": centred_boxes(sizes, side) for name, side in FLOORS.items()}
    others = {name: np.asarray(of)[:, None] for name, of in one_box_each.items() if of is not None}
    judged = np.concatenate([boxes, *others.values()], axis=1)
    best = np.array([best_iou(of_image, truth) for of_image, truth in zip(judged, true_boxes, strict=True)])
    right = best.reshape(judged.shape[:2]) >= IOU_OF_A_RIGHT_BOX

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


def summarise(scored: ScoredImages) -> dict[str, float]:
    """Percentages over images (the metrics of a result file).

    Keys: cls_top{k}_error over all images; over those that count for localization loc_top{k}_error,
    gt_known_loc (accuracy of the box drawn for the true class), loc_given_cls (P(box right | class right),
    top-1), floor_whole_image, floor_centre_box, and share_{kind} of first guesses for every kind of failures.KINDS. A
    metric with nothing to be measured on is left out.
    """
    shares = scored.shares().items()
    return {name: 100.0 * float(part.sum() / whole.sum()) for name, (part, whole) in shares if whole.any()}


def bootstrap_intervals(scored: ScoredImages, *, seed: int = 0, samples: int = 1000) -> dict[str, list[float]]:
    """95 % percentile intervals {metric: [low, high]}, in percent, over `samples` redrawings of the images.

    Of every key of `summarise`. The two counts of a ratio are redrawn together; a drawing in which it is undefined is
    passed over.
    """
    shares, names = scored.shares(), list(summarise(scored))
    drawn = _redrawn([shares[name] for name in names], seed, samples)
    return dict(zip(names, np.nanpercentile(drawn, (2.5, 97.5), axis=0).T.tolist(), strict=True))


def differences(
    ones: Sequence[ScoredImages], twos: Sequence[ScoredImages], metrics: Iterable[str] | None = None,
    *, seed: int = 0, samples: int = 1000,
) -> dict[str, tuple[float, float, float]]:  # fmt: skip
    """{metric: (two − one, and its paired 95 % interval's low and high)}, in percentage points.

    Of judgements of the same images, redrawn together: what both find hard in a drawing cancels. Each side is one
    training or several of other seeds, whose mean it is; several are redrawn too. metrics: some keys of `summarise`,
    by default all; one that a judgement does not have is left out. ValueError for other images.
    """
    judged, is_two = [*ones, *twos], np.repeat([False, True], [len(ones), len(twos)])
    if any(not np.array_equal(judged[0].counted, other.counted) for other in judged):
        raise ValueError("the judgements do not count the same images")
    rng = np.random.default_rng((seed, 1))
    runs = np.hstack([rng.choice(np.flatnonzero(side), (samples, side.sum())) for side in (~is_two, is_two)])
    shares_of_each, found = [scored.shares() for scored in judged], {}
    for name in shares_of_each[0] if metrics is None else metrics:
        shares = [shares_of_one.get(name) for shares_of_one in shares_of_each]
        if any(share is None or not share[1].any() for share in shares):
            continue
        measured = np.array([100 * part.sum() / whole.sum() for part, whole in shares])
        drawn = np.take_along_axis(_redrawn(shares, seed, samples), runs, axis=1)
        low, high = np.nanpercentile(drawn[:, is_two].mean(1) - drawn[:, ~is_two].mean(1), (2.5, 97.5))
        found[name] = float(measured[is_two].mean() - measured[~is_two].mean()), float(low), float(high)
    return found


def bootstrap_mean(values: ArrayLike, *, seed: int = 0, samples: int = 1000) -> list[float]:
    """95 % percentile interval [low, high], in percent, of the mean of values (N,) in 0…1 over redrawn images."""
    values = np.asarray(values, dtype=np.float64)
    return np.percentile(_redrawn([(values, np.ones_like(values))], seed, samples), (2.5, 97.5)).tolist()


def _redrawn(shares: Sequence[tuple[np.ndarray, np.ndarray]], seed: int, samples: int) -> np.ndarray:
    """M shares (part, whole) of N images -> (samples,M): percent in each redrawing of the images; NaN: undefined."""
    # Images judged alike are interchangeable: drawing how many of each kind is cheaper than drawing images.
    columns = np.stack([column for share in shares for column in share], axis=1)
    kinds, images_of_kind = np.unique(columns, axis=0, return_counts=True)
    images = images_of_kind.sum()
    chosen = np.random.default_rng(seed).multinomial(images, images_of_kind / images, size=samples)
    counts = chosen @ kinds.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return 100.0 * counts[:, ::2] / counts[:, 1::2]


def centred_boxes(sizes: ArrayLike, side: float) -> np.ndarray:
    """Sizes (N, 2) as (width, height) -> (N, 4) boxes in the middle of the images, of `side` times both."""
    sizes = np.asarray(sizes, dtype=np.float64)
    corner = (1 - side) / 2 * sizes
    return np.concatenate([corner, corner + side * sizes - 1], axis=1)


def read_blacklist(path: str | Path | None) -> frozenset[int]:
    """The devkit's `ILSVRC2014_clsloc_validation_blacklist.txt`: one 1-based image number a line; no path, no image."""
    if path is None:
        return frozenset()
    try:
        return frozenset(int(number) for number in Path(path).read_text().split())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected one image number a line (the devkit's blacklist): {error}") from None
