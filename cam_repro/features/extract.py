"""What a network gives its classifier of images: the pooled maps, or AlexNet's and VGG16's fc7."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config, check_choice
from cam_repro.data import load_split
from cam_repro.data.loaders import evaluation_batches
from cam_repro.data.views import VIEWS, normalise
from cam_repro.distributed import float32, join_distributed
from cam_repro.evaluation.cache import CODE_OF_THE_MAPS, BatchFile
from cam_repro.evaluation.maps import images_a_batch
from cam_repro.evaluation.spec import Evaluation
from cam_repro.evaluation.trained import load_trained, trained_runs
from cam_repro.networks import CamNetwork
from cam_repro.provenance import code_of, device_name, versions

CODE_OF_THE_FEATURES = (*CODE_OF_THE_MAPS, "features/extract.py")


def open_networks(config: Config) -> Iterator[list[Evaluation]]:
    """Each network with the splits whose features are wanted: for training first, then for test.

    That is one split with data.split=all or train. A network needs no classifier, nor one of the
    data's classes. Raises UserError before any long work.
    """
    check_choice("protocol.view", config.protocol.view, VIEWS)
    names = ["val"] if config.data.split in ("all", "train") else ["train", "val"]
    with join_distributed(config.device, config.deterministic) as world:
        splits = []
        prints = []
        for name in names:
            split = load_split(config.data, name, Path(config.cache), world)
            fingerprint = split.fingerprint() if world.is_main else ""
            splits.append(split)
            prints.append(world.broadcast(fingerprint))
        classes = (splits[0].wnids, splits[0].words)
        for name in trained_runs(config):
            trained = load_trained(config, name, classes, world.device, for_features=True)
            evaluations = []
            for split, fingerprint in zip(splits, prints, strict=True):
                of_split = Evaluation(config, trained, split, fingerprint, world, frozenset())
                evaluations.append(of_split)
            yield evaluations


def extract(evaluation: Evaluation) -> np.ndarray:
    """The features (N,F) float32 of all images, of several crops an image their mean.

    What is computed is kept in the cache batch by batch: a start after a kill goes on from there.
    All processes must call it, and all are given the result. Raises UserError where a feature is
    not finite.
    """
    config = evaluation.config
    world = evaluation.world
    split = evaluation.split
    share = len(range(world.rank, len(split), world.size))  # of the images, this process's
    kept = BatchFile(Path(config.cache) / "features", "features", _work_of(evaluation))
    found = list(kept.read())
    bar = tqdm(
        total=share,
        initial=kept.images,
        desc=f"{evaluation.trained.name}: {split.name}",
        unit="image",
        disable=None if world.is_main else True,
    )
    with bar:
        for batch in _batches(evaluation, kept.images, kept.images_a_batch):
            kept.append(batch)
            found.append(batch)
            bar.update(len(batch["images"]))
    kept.close()
    found = world.gather(found)

    images = np.concatenate([batch["images"] for batch in found])
    features = np.concatenate([batch["features"] for batch in found])
    features = features[images.argsort()]
    check_finite(evaluation, features)
    return features


def _batches(evaluation: Evaluation, first: int, length: int) -> Iterator[dict[str, np.ndarray]]:
    """This process's images from its `first` one on, `length` at a time where that is not 0."""
    config = evaluation.config
    world = evaluation.world
    view = config.protocol.view
    batches = evaluation_batches(
        evaluation.split,
        input_size(evaluation),
        length or images_a_batch(config.eval_batch_size, view, []),
        view=view,
        interpolation=interpolation(evaluation),
        first=first,
        rank=world.rank,
        world_size=world.size,
        workers=config.data.workers,
        pin=world.device.type == "cuda",
    )
    for batch in batches:
        pixels = batch.to(world.device).pixels
        features = pooled(evaluation.trained.network, pixels, VIEWS[view].crops)
        yield {"images": batch.images.numpy().copy(), "features": features.cpu().numpy()}


def pooled(network: CamNetwork, pixels: torch.Tensor, crops: int) -> torch.Tensor:
    """(P·crops,3,H,W) uint8 → (P,F): the mean of an image's crops, in whole float32."""
    with torch.inference_mode(), float32():
        of_crops = network.features(normalise(pixels))
    return of_crops.unflatten(0, (-1, crops)).mean(1)


def check_finite(evaluation: Evaluation, features: np.ndarray) -> None:
    """UserError where a feature (N,F) is NaN or infinite, naming an image."""
    odd = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(odd):
        first = evaluation.split.path(odd[0])
        of_all = f"{len(odd):,} of {len(features):,} images"
        found = f"{evaluation.trained.name} gives features that are NaN or infinite of {of_all}"
        raise UserError(f"{found} ({first}, …); choose other weights=")


def identity_of(evaluation: Evaluation) -> dict[str, Any]:
    """Of what the features are, by the words that a message names a difference with."""
    return {
        "weights": evaluation.trained.weights.sha256,
        "images": evaluation.fingerprint,
        "network": repr(evaluation.trained.model),
        "view": evaluation.config.protocol.view,
        "size": input_size(evaluation),
        "interpolation": interpolation(evaluation),
        "code": code_of(CODE_OF_THE_FEATURES),
    }


def _work_of(evaluation: Evaluation) -> dict[str, Any]:
    """All that must be the same where an extraction goes on."""
    config = evaluation.config
    world = evaluation.world
    return identity_of(evaluation) | {
        "listing": evaluation.split.listing(),
        "batch": config.eval_batch_size,
        "deterministic": config.deterministic,
        "share": [world.rank, world.size],
        "versions": versions(),
        "device": device_name(str(world.device)),
    }


def layer_of(evaluation: Evaluation) -> str:
    """Which of the network's layers the features are."""
    return "fc7" if evaluation.trained.network.cam_obstacle else "pooled maps"


def input_size(evaluation: Evaluation) -> int:
    """Pixels a side of what the network sees."""
    return evaluation.config.protocol.size or evaluation.trained.model.input_size


def interpolation(evaluation: Evaluation) -> str:
    """The filter that shrinks the images."""
    return evaluation.config.protocol.interpolation or evaluation.trained.network.interpolation
