"""What any program found, scored: a file of five guesses an image, or a folder of maps."""

import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data import Split, load_split
from cam_repro.data.images import CorruptImage
from cam_repro.data.views import resize_map
from cam_repro.distributed import join_distributed
from cam_repro.evaluation.metric import ImageFacts
from cam_repro.evaluation.metrics import MaxBoxAcc
from cam_repro.evaluation.predictions import (
    check_inside,
    label_order,
    read_predictions,
    write_kaggle_predictions,
)
from cam_repro.localization.boxes import checked_heatmap, paper_box
from cam_repro.localization.errors import (
    bootstrap_intervals,
    read_blacklist,
    score_images,
    summarise,
)
from cam_repro.localization.intervals import bootstrap
from cam_repro.localization.iou import best_iou
from cam_repro.localization.max_box_acc import IOU_V1


def score(config: Config) -> dict[str, float]:
    """Print and return, in percent, what `config.predictions` or `config.maps` are worth.

    Raises UserError.
    """
    if (config.predictions is None) == (config.maps is None):
        example = "make score predictions=results/shapes/alexnet_gap/predictions.txt"
        raise UserError(f"one of predictions= and maps= is needed: {example}")
    if config.maps is not None:
        return score_maps(config)
    return score_predictions(config)


def score_maps(config: Config) -> dict[str, float]:
    """A map (h,w) of each image's true class, in config.maps, by the paper's rule and MaxBoxAcc.

    The map of image `a/b.JPEG` is `a/b.JPEG.npy`, as the WSOL benchmark writes it, `a/b.npy` or
    `b.npy`; it is enlarged to the image for the paper's box, and to 224×224 for the benchmark's.
    Raises UserError.
    """
    with join_distributed("cpu") as world:
        split = load_split(config.data, "val", Path(config.cache), world)
    blacklist = read_blacklist(config.blacklist)
    if len(split.boxes) == 0:
        raise UserError(
            f"{config.data.name} has no boxes, so no map can be scored; give data.boxes="
        )
    files = _map_files(Path(config.maps), split)
    benchmark = MaxBoxAcc("bicubic")
    sizes = []
    boxes = []
    right = []
    for image, file in enumerate(tqdm(files, "maps", unit="image", leave=False, disable=None)):
        heatmap = _read_map(file)
        try:
            size = split.size(image)
        except CorruptImage as error:
            raise UserError(f"corrupt image {error}; fetch it again") from None
        facts = ImageFacts(size, split.true_boxes(image))
        sizes.append(size)
        boxes.append(paper_box(resize_map(heatmap, *size)))
        right.append(benchmark.of_image(heatmap[None, None], facts)["right"])
    rows = {
        "classes": split.labels[:, None],  # as if each image's class were known
        "sizes": np.array(sizes),
        "right": np.stack(right),
    }
    found = benchmark.compute(rows, split, blacklist)
    counted = found.per_image["counted"]
    gt_known = []
    for image in np.flatnonzero(counted):
        (overlap,) = best_iou([boxes[image]], split.true_boxes(image))
        gt_known.append(float(overlap >= IOU_V1))
    metrics = {"gt_known_loc": 100.0 * float(np.mean(gt_known))}
    intervals = bootstrap({"gt_known_loc": (np.array(gt_known), np.ones(len(gt_known)))})
    for name in benchmark.names:
        metrics[name] = found.metrics[name]
    intervals |= found.confidence
    print(f"{config.maps} on {config.data.name}, {found.counts['loc_images']} images:")
    _print_metrics(metrics, intervals)
    return metrics


def _map_files(folder: Path, split: Split) -> list[Path]:
    """The map of each image. Raises UserError where some have none."""
    files = []
    missing = []
    for name in map(os.fsdecode, split.files.tolist()):
        without_suffix = Path(name).with_suffix("")
        places = [f"{name}.npy", f"{without_suffix}.npy", f"{without_suffix.name}.npy"]
        there = [folder / place for place in places if (folder / place).is_file()]
        files += there[:1]
        missing += [] if there else [name]
    if missing:
        raise UserError(
            f"maps={folder} lacks the maps of {len(missing)} of {len(split)} images, the first "
            f"{missing[0]}.npy"
        )
    return files


def _read_map(file: Path) -> np.ndarray:
    """(h,w) float32. Raises UserError."""
    try:
        heatmap = np.load(file, allow_pickle=False)
        return checked_heatmap(np.asarray(heatmap, np.float32))
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file} is no map (h,w) of numbers: {error}") from None


def score_predictions(config: Config) -> dict[str, float]:
    """Five guesses an image, by the devkit's rules.

    The guesses are written as Kaggle's CSV too where config.kaggle names a file. Raises UserError.
    """
    read = Path(config.predictions)
    if config.kaggle is not None:
        written = Path(config.kaggle)
        if written.resolve() == read.resolve():
            raise UserError(f"kaggle={config.kaggle} is predictions= itself; give another name")
    with join_distributed("cpu") as world:
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
    _print_metrics(metrics, intervals)
    if config.kaggle is not None:
        write_kaggle_predictions(config.kaggle, image_ids, classes, labels, boxes)
        print(config.kaggle)
    return metrics


def _print_metrics(metrics: dict[str, float], intervals: dict[str, list[float]]) -> None:
    for name, value in metrics.items():
        said = ""
        if name in intervals:
            low, high = intervals[name]
            said = f"   95 % interval {low:.2f} … {high:.2f}"
        print(f"  {name:28} {value:6.2f} %{said}")
