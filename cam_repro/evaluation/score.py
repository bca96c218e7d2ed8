"""Any file of five guesses an image, ours or another program's, scored by the devkit's rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data import Split, load_split
from cam_repro.data.images import CorruptImage, read_size
from cam_repro.distributed import join_world
from cam_repro.evaluation.predictions import label_order, read_predictions
from cam_repro.localization.errors import ScoredImages, bootstrap_intervals, read_blacklist, score_images, summarise


def score(config: Config) -> dict[str, float]:
    """Print and return the errors of `config.predictions` on the val split, in percent. Raises UserError."""
    if config.predictions is None:
        raise UserError("predictions= is needed: make score predictions=results/shapes/alexnet_gap/predictions.txt")
    with join_world("cpu") as world:
        split = load_split(config.data, "val", Path(config.cache), world)
    scored = scored_file(config, Path(config.predictions), config.predictions_labels, split, image_sizes(split))
    metrics, intervals = summarise(scored), bootstrap_intervals(scored)
    print(f"{config.predictions} on {config.data.name}, {_counted(scored.counts())}:")
    for metric, value in metrics.items():
        low, high = intervals[metric]
        print(f"  {metric:20} {value:6.2f} %   95 % interval {low:.2f} … {high:.2f}")
    return metrics


def scored_file(config: Config, path: Path, labels: str, split: Split, sizes: np.ndarray) -> ScoredImages:
    """The devkit's judgement of a file of guesses at a split whose pictures have `sizes` (N,2). Raises UserError."""
    order = label_order(labels, split.wnids, config.devkit)
    split = split.answered_by(order, order)
    guessed, boxes = read_predictions(path, len(split), len(order), sizes)
    return score_images(
        guessed, boxes, split.labels, [split.true_boxes(image) for image in range(len(split))], sizes=sizes,
        blacklist=read_blacklist(config.blacklist) if config.blacklist else (), image_numbers=split.devkit_numbers(),
    )  # fmt: skip


def image_sizes(split: Split) -> np.ndarray:
    """(N,2): width and height of each image as stored, from the files' headers."""
    try:
        paths = (split.path(image) for image in range(len(split)))
        return np.array([read_size(path) for path in tqdm(paths, "image sizes", len(split), leave=False, disable=None)])
    except CorruptImage as error:
        raise UserError(f"corrupt image {error}: its boxes cannot be checked; fetch it again") from None


def _counted(counts: dict[str, int]) -> str:
    left_out = f"{counts['blacklisted']} blacklisted and {counts['without_true_box']} without a box left out"
    return f"{counts['images']} images, {counts['loc_images']} of them for localization ({left_out})"
