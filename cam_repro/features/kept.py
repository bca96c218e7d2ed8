"""Features on disk: `make features` keeps them, and classifiers are trained on what it kept.

`features-<view>-<split>.npz` in the folder of the network's run has `features` (n,F) of `images`
(n,), their numbers in the split, with their `files` and `labels`; `wnids` (C,); and in `about` of
what they are: features of other weights, images, or another view are refused where they are read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cam_repro import UserError
from cam_repro.advice import typed, typed_data
from cam_repro.config import Config, run_folder
from cam_repro.data.split import load_arrays, save_arrays
from cam_repro.evaluation.spec import Evaluation
from cam_repro.features.draws import images_of_draws, make_draws
from cam_repro.features.extract import (
    check_finite,
    extract,
    identity_of,
    layer_of,
    open_networks,
)


@dataclass(frozen=True)
class KeptFeatures:
    """Features (n,F) of images (n,), which are sorted numbers in their split."""

    images: np.ndarray
    features: np.ndarray

    def of(self, images: np.ndarray) -> np.ndarray:
        """The features (m,F) of these images (m,), all of which must be kept."""
        return self.features[np.searchsorted(self.images, images)]


def make_features(config: Config) -> None:
    """Keep the features of the configured network, or of every trained one, of each split.

    Of all images, or where svm.per_class= or svm.test_per_class= are given of those that the draws
    take.
    """
    for evaluations in open_networks(config):
        of_splits = wanted_images(evaluations)
        for evaluation, images in zip(evaluations, of_splits, strict=True):
            began = time.perf_counter()
            path = features_path(evaluation)
            arrays = load_arrays(path)
            done = "nothing has changed since"
            refuse_other_weights(evaluation, _about(arrays))
            if not _is_kept(arrays, evaluation, images):
                chosen = _only(evaluation, images)
                features = extract(chosen)
                if evaluation.world.is_main:
                    _write(path, chosen, images, features)
                evaluation.world.barrier()
                arrays = load_arrays(path)
                done = f"{time.perf_counter() - began:.0f} s"
            count, length = arrays["features"].shape
            name = evaluation.trained.name
            of_what = f"{name} on {config.data.name} {evaluation.split.name}"
            of_all = f"{count:,} images"
            if count < len(evaluation.split):
                of_all = f"{count:,} of {len(evaluation.split):,} images"
            said = f"{of_all}, {length:,} features each ({layer_of(evaluation)})"
            evaluation.world.say(f"{of_what}: {said}\n  {path} ({done})")


def wanted_images(evaluations: Sequence[Evaluation]) -> list[np.ndarray]:
    """Of each split the sorted numbers of the images that some draw takes; of all without draws.

    Raises UserError where the draws cannot be made.
    """
    config = evaluations[0].config
    settings = config.svm
    if settings.per_class is None and settings.test_per_class is None:
        return [np.arange(len(evaluation.split)) for evaluation in evaluations]
    train = evaluations[0].split
    test = evaluations[-1].split
    draws = make_draws(train, test, settings, config.seed)
    return images_of_draws(draws, one_split=test is train)


def read_features(evaluation: Evaluation, images: np.ndarray) -> KeptFeatures:
    """The kept features, of these images (n,) at least.

    Raises UserError where there are none, or those of other data or images.
    """
    path = features_path(evaluation)
    command = _command(evaluation, images)
    arrays = load_arrays(path)
    if not arrays:
        raise UserError(f"{path} is not there, or damaged; first: {command}")
    kept = _about(arrays)
    refuse_other_weights(evaluation, kept)
    for key, asked in identity_of(evaluation).items():
        here = kept.get(key)
        if here != asked:
            against = f"{str(here)[:40]} against {str(asked)[:40]}"
            raise UserError(f"{path} has features of other {key} ({against}); type {command}")
    missing = np.setdiff1d(images, arrays["images"])
    if len(missing):
        first = evaluation.split.path(missing[0])
        raise UserError(
            f"{path} lacks {len(missing):,} of the {len(images):,} images that are drawn "
            f"({first}, …); type {command}"
        )
    found = KeptFeatures(arrays["images"], arrays["features"])
    check_finite(_only(evaluation, found.images), found.features)
    return found


def refuse_other_weights(evaluation: Evaluation, kept: dict[str, Any]) -> None:
    """UserError where kept features of this name are of other weights than those that were typed.

    kept: of what they are. A run's own features follow its checkpoint, and are replaced.
    """
    typed_weights = evaluation.config.weights
    if not kept or typed_weights is None:
        return
    now = evaluation.trained.weights.sha256
    if kept.get("weights") != now:
        before = f"sha256 {str(kept.get('weights'))[:12]} against {now[:12]}"
        raise UserError(
            f"{features_path(evaluation)} has features of other weights than "
            f"{typed('weights', typed_weights)} ({before}); give these a name of their own "
            f"with name=, as name={evaluation.trained.name}_2, or remove the file"
        )


def features_path(evaluation: Evaluation) -> Path:
    """`runs/<data>/<model>/features-<view>-<split>.npz`."""
    config = evaluation.config
    folder = run_folder(config, evaluation.trained.name)
    return folder / f"features-{config.protocol.view}-{evaluation.split.name}.npz"


def _command(evaluation: Evaluation, images: np.ndarray) -> str:
    """What makes the features of these images."""
    config = evaluation.config
    name = evaluation.trained.name
    words = ["make features", f"model={evaluation.trained.model.name}", typed_data(config.data)]
    if name != evaluation.trained.model.name:
        words.append(typed("name", name))
    if config.weights:
        words.append(typed("weights", config.weights))
    if config.protocol.view != "squash":
        words.append(f"protocol.view={config.protocol.view}")
    if len(images) < len(evaluation.split):
        for key in ("per_class", "test_per_class", "draws"):
            value = getattr(config.svm, key)
            if value is not None:
                words.append(f"svm.{key}={value}")
        words.append(f"seed={config.seed}")
    return " ".join(words)


def _is_kept(arrays: dict[str, np.ndarray], evaluation: Evaluation, images: np.ndarray) -> bool:
    """Whether the arrays of a file are these images' features."""
    if _about(arrays) != identity_of(evaluation):
        return False
    return bool(np.isin(images, arrays["images"]).all())


def _about(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Of what kept features are; empty where there are none."""
    return json.loads(str(arrays["about"])) if "about" in arrays else {}


def _only(evaluation: Evaluation, images: np.ndarray) -> Evaluation:
    """The same of these images of the split alone."""
    if len(images) == len(evaluation.split):
        return evaluation
    return replace(evaluation, split=evaluation.split.subset(images.tolist()))


def _write(path: Path, chosen: Evaluation, images: np.ndarray, features: np.ndarray) -> None:
    """chosen: of the images (n,) alone, which are their numbers in the whole split."""
    split = chosen.split
    save_arrays(
        path,
        images=images,
        features=features,
        files=split.files,
        labels=split.labels,
        wnids=np.array(split.wnids),
        about=np.array(json.dumps(identity_of(chosen))),
    )
