"""Class activation maps of a classifier trained on features: its weights take the place of w.

Zhou et al. 2016, §4: M_c(x,y) = Σ_k w_k^c f_k(x,y), so that the mean of M_c is the decision less
the intercept. One against the rest, most images are of the rest: where the weights carry that, the
map of the true class is negative in many places, and 20 % of its maximum keeps too little of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import ProtocolConfig
from cam_repro.data.loaders import evaluation_batches
from cam_repro.data.views import VIEWS, normalise
from cam_repro.distributed import float32
from cam_repro.evaluation.maps import images_a_batch
from cam_repro.evaluation.spec import Evaluation
from cam_repro.features.extract import input_size, interpolation
from cam_repro.features.heads import LinearClassifier
from cam_repro.localization.boxes import LOOSE, Box, loose_and_tight
from cam_repro.localization.errors import bootstrap_intervals, score_images, summarise
from cam_repro.localization.intervals import Shares, bootstrap, percentages
from cam_repro.localization.maps import class_activation_maps

METRICS = (
    "loc_top1_error",
    "loc_given_cls",
    "gt_known_loc",
    "baseline_whole_image",
    "baseline_centre_box",
)


def check_protocol(protocol: ProtocolConfig) -> None:
    """UserError where a protocol draws no single box of a map."""
    if protocol.metric != "localization" or protocol.name == "all":
        raise UserError(
            f"protocol={protocol.name} draws no single box; choose protocol=paper or release"
        )


def measure_maps(
    evaluation: Evaluation,
    images: np.ndarray,
    classifiers: dict[str, LinearClassifier],
    answers: dict[str, np.ndarray],
) -> dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Each head's maps on these images (n,) of the split, for its record: parts, and arrays (n,).

    answers: the class (n,) that a head gives each image. Boxes are the protocol's, and held against
    both baselines on the same images.
    """
    split = evaluation.split.subset(images.tolist())
    has_boxes = len(split.boxes) > 0
    classes = {}
    for head, answered in answers.items():
        classes[head] = np.stack([answered, split.labels], axis=1)
    sizes = []
    negative_shares: dict[str, list[float]] = defaultdict(list)
    boxes_of: dict[str, list[tuple[Box, Box]]] = defaultdict(list)  # of the answer, and the truth
    for size, of_heads in maps_of_heads(evaluation, images, classifiers, classes):
        sizes.append(size)
        for head, maps_vmhw in of_heads.items():
            negative_shares[head].append(float((maps_vmhw[:, 1] < 0).mean()))
            if has_boxes:
                answered = head_box(evaluation, maps_vmhw[:, 0], size)
                true = head_box(evaluation, maps_vmhw[:, 1], size)
                boxes_of[head].append((answered, true))

    measured = {}
    for head, found in negative_shares.items():
        negative = np.array(found)
        shares: Shares = {"negative_share": (negative, np.ones(len(negative)))}
        metrics = percentages(shares)
        confidence = bootstrap(shares)
        arrays = {"map_images": images, "negative": negative}
        parts: dict[str, Any] = {"map_images": len(images)}
        if has_boxes:
            boxes = np.array(boxes_of[head])
            correctness = score_images(
                answers[head][:, None],
                boxes[:, :1],
                split.labels,
                [split.true_boxes(image) for image in range(len(split))],
                gt_known_boxes=boxes[:, 1],
                sizes=sizes,
            )
            all_metrics = summarise(correctness)
            all_intervals = bootstrap_intervals(correctness)
            for name in METRICS:
                metrics[name] = all_metrics.get(name)
                if name in all_intervals:
                    confidence[name] = all_intervals[name]
            parts["loc_images"] = int(correctness.counted.sum())
            arrays["gt_known_right"] = correctness.gt_known_right
        measured[head] = (parts | {"metrics": metrics, "confidence": confidence}, arrays)
    return measured


def maps_of_heads(
    evaluation: Evaluation,
    images: np.ndarray,
    classifiers: dict[str, LinearClassifier],
    classes: dict[str, np.ndarray],
) -> Iterator[tuple[tuple[int, int], dict[str, np.ndarray]]]:
    """One image after the other: its (width, height), and each head's maps (V,M,h,w) of V crops.

    images (n,): numbers in the split; classes: of each head the M classes of each image, (n,M). Of
    features that were scaled to length 1 the maps are these divided by that length, which moves
    neither a sign nor a box.
    """
    config = evaluation.config
    network = evaluation.trained.network
    view = VIEWS[config.protocol.view]
    device = evaluation.world.device
    split = evaluation.split.subset(images.tolist())
    weights = {}
    for head, classifier in classifiers.items():
        weights[head] = torch.from_numpy(classifier.weight).to(device, torch.float32)
    batches = evaluation_batches(
        split,
        input_size(evaluation),
        images_a_batch(config.eval_batch_size, config.protocol.view, []),
        view=config.protocol.view,
        interpolation=interpolation(evaluation),
        workers=config.data.workers,
    )
    bar = tqdm(total=len(split), desc="maps", unit="image", disable=None)
    with bar:
        for batch in batches:
            batch = batch.to(device)
            with torch.inference_mode(), float32():
                _, maps = network.forward_with_maps(normalise(batch.pixels))
            of_heads = {}
            for head, weight in weights.items():
                asked = torch.from_numpy(classes[head][batch.images]).to(device)
                of_crops = asked.repeat_interleave(view.crops, dim=0)
                found = class_activation_maps(maps, network.weight_of(maps, weight), of_crops)
                of_heads[head] = found.unflatten(0, (-1, view.crops)).cpu().numpy()
            for place, (width, height) in enumerate(batch.sizes.tolist()):
                bar.update()
                yield (width, height), {head: found[place] for head, found in of_heads.items()}


def heatmap_of(evaluation: Evaluation, maps_vhw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A class's maps of V crops → (H,W), over the image of this (width, height)."""
    protocol = evaluation.config.protocol
    place = VIEWS[protocol.view].place
    return place(maps_vhw, size, input_size(evaluation), protocol.resize)


def head_box(evaluation: Evaluation, maps_vhw: np.ndarray, size: tuple[int, int]) -> Box:
    """The protocol's box of a class's maps of V crops, in pixels of the image of this size."""
    heatmap = heatmap_of(evaluation, maps_vhw, size)
    return loose_and_tight(heatmap, evaluation.config.protocol)[LOOSE]


def drawn_images(test: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """So many of the test images (n,), sorted; all of them where there are no more."""
    if count is None or count >= len(test):
        return test
    return np.sort(np.random.default_rng(seed).choice(test, count, replace=False))
