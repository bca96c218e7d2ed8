"""Any file of five guesses an image, ours or another program's, scored by the devkit's rules."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data import load_split
from cam_repro.data.images import CorruptImage, read_size
from cam_repro.distributed import join_world
from cam_repro.evaluation.predictions import label_order, read_predictions
from cam_repro.localization.errors import bootstrap_intervals, read_blacklist, score_images, summarise


def score(config: Config) -> dict[str, float]:
    """Print and return the errors of `config.predictions` on the val split, in percent. Raises UserError."""
    if config.predictions is None:
        raise UserError("predictions= is needed: make score predictions=results/shapes/alexnet_gap/predictions.txt")
    with join_world("cpu") as world:
        split = load_split(config.data, "val", Path(config.cache), world)
    try:
        paths = tqdm([split.path(image) for image in range(len(split))], "image sizes", leave=False, disable=None)
        sizes = np.array([read_size(path) for path in paths])
    except CorruptImage as error:
        raise UserError(f"corrupt image {error}: its boxes cannot be checked; fetch it again") from None
    classes = label_order(config.predictions_labels, split.wnids, config.devkit)
    split = split.answered_by(classes, classes)
    labels, boxes = read_predictions(config.predictions, len(classes), sizes)
    scored = score_images(
        labels, boxes, split.labels, [split.true_boxes(image) for image in range(len(split))], sizes=sizes,
        blacklist=read_blacklist(config.blacklist), image_numbers=split.devkit_numbers(),
    )  # fmt: skip
    metrics, intervals, counts = summarise(scored), bootstrap_intervals(scored), scored.counts()
    left_out = f"{counts['blacklisted']} blacklisted and {counts['without_true_box']} without a box left out"
    images = f"{counts['images']} images, {counts['loc_images']} of them for localization ({left_out})"
    print(f"{config.predictions} on {config.data.name}, {images}:")
    for metric, value in metrics.items():
        low, high = intervals[metric]
        print(f"  {metric:20} {value:6.2f} %   95 % interval {low:.2f} … {high:.2f}")
    return metrics
