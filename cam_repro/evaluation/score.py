"""Any file of five guesses an image, ours or another program's, scored by the devkit's rules."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data import load_split
from cam_repro.data.images import CorruptImage
from cam_repro.distributed import join_world
from cam_repro.evaluation.predictions import (
    check_inside,
    label_order,
    read_predictions,
    write_kaggle_predictions,
)
from cam_repro.localization.errors import (
    bootstrap_intervals,
    read_blacklist,
    score_images,
    summarise,
)


def score(config: Config) -> dict[str, float]:
    """Print and return the errors of `config.predictions` on the val split, in percent.

    The guesses are written as Kaggle's CSV too where config.kaggle names a file. Raises UserError.
    """
    if config.predictions is None:
        example = "make score predictions=results/shapes/alexnet_gap/predictions.txt"
        raise UserError(f"predictions= is needed: {example}")
    read = Path(config.predictions)
    if config.kaggle is not None:
        written = Path(config.kaggle)
        if written.resolve() == read.resolve():
            raise UserError(f"kaggle={config.kaggle} is predictions= itself; give another name")
    with join_world("cpu") as world:
        split = load_split(config.data, "val", Path(config.cache), world)
    classes = label_order(config.predictions_labels, split.wnids, config.devkit)
    split = split.answered_by(classes, classes)
    paths = [split.path(image) for image in range(len(split))]
    image_ids = [path.stem for path in paths]
    labels, boxes = read_predictions(read, classes, image_ids)
    try:
        bar = tqdm(range(len(split)), "image sizes", leave=False, disable=None)
        sizes = np.array([split.size(image) for image in bar])
    except CorruptImage as error:
        raise UserError(
            f"corrupt image {error}: its boxes cannot be checked; fetch it again"
        ) from None
    check_inside(read, image_ids, labels, boxes, sizes)
    scored = score_images(
        labels,
        boxes,
        split.labels,
        [split.true_boxes(image) for image in range(len(split))],
        sizes=sizes,
        blacklist=read_blacklist(config.blacklist),
        image_numbers=split.devkit_numbers(),
    )
    metrics = summarise(scored)
    intervals = bootstrap_intervals(scored)
    counts = scored.counts()
    images = f"{counts['images']} images, {counts['loc_images']} of them for localization"
    blacklisted = f"{counts['blacklisted']} blacklisted"
    left_out = f"{blacklisted} and {counts['without_true_box']} without a box left out"
    print(f"{config.predictions} on {config.data.name}, {images} ({left_out}):")
    for metric, value in metrics.items():
        low, high = intervals[metric]
        interval = f"95 % interval {low:.2f} … {high:.2f}"
        print(f"  {metric:20} {value:6.2f} %   {interval}")
    if config.kaggle is not None:
        write_kaggle_predictions(config.kaggle, image_ids, classes, labels, boxes)
        print(config.kaggle)
    return metrics
