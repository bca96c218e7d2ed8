"""`make svm`: linear classifiers on kept features, measured on images they were not trained on.

Zhou et al. 2016, §4, Table 5. For every draw of images and every head, C is chosen on the training
images alone; draws and heads are trained on all cores.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config, SvmConfig
from cam_repro.cores import available_cores, prepare_worker, worker_context
from cam_repro.data.annotations import Object
from cam_repro.evaluation.spec import Evaluation
from cam_repro.features.crops import SVM, measure_crops
from cam_repro.features.draws import Draw, check_grid, images_of_draws, make_draws, score_draws
from cam_repro.features.extract import layer_of, open_networks
from cam_repro.features.heads import HEADS, LinearClassifier, scaled, train_head
from cam_repro.features.kept import KeptFeatures, read_features
from cam_repro.features.maps import check_protocol, drawn_images, measure_maps
from cam_repro.features.objects import annotated_objects
from cam_repro.features.record import write_svm_record

Trained = dict[str, list[LinearClassifier]]  # head → its classifier of each draw


@dataclass(frozen=True)
class SvmOfFirstDraw:
    """The paper's SVM of a network, as the figures show it.

    images: the first draw's test images (n,), numbers in the split of `test`; answers (n,): the
    class that the SVM gives each; crop_boxes (n,4): what was classified anew with svm.crops=true;
    objects: of the file svm.objects=, by the image's number, empty without it.
    """

    test: Evaluation
    images: np.ndarray
    classifier: LinearClassifier
    answers: np.ndarray
    crop_boxes: np.ndarray | None
    objects: dict[int, list[Object]]


def measure_svms(config: Config) -> Iterator[SvmOfFirstDraw]:
    """Train and measure every head on the features of the configured network, or of every one.

    Each network's records are written before its SVM is given for the figures.
    """
    check_protocol(config.protocol)
    for evaluations in open_networks(config):
        train = evaluations[0]
        test = evaluations[-1]
        if test.world.size > 1:
            raise UserError("make svm runs in one process, on all cores: start it without torchrun")
        obstacle = test.trained.network.cam_obstacle
        if config.svm.crops and obstacle:
            raise UserError(f"svm.crops=true needs class activation maps: {obstacle}")
        draws = make_draws(train.split, test.split, config.svm, config.seed)
        check_grid(train.split, config.svm)
        objects = {}
        if config.svm.objects is not None:
            objects_file = Path(config.svm.objects)
            objects = annotated_objects(objects_file, test.split, draws[0].test.tolist())
        images = images_of_draws(draws, one_split=test is train)
        train_features = read_features(train, images[0])
        test_features = train_features
        if test is not train:
            test_features = read_features(test, images[1])

        began = time.perf_counter()
        trained = train_heads(train_features, train.split.labels, draws, config.svm, config.seed)
        answers: dict[str, list[np.ndarray]] = {head: [] for head in trained}
        for head, classifiers in trained.items():
            for draw, classifier in zip(draws, classifiers, strict=True):
                features = scaled(test_features.of(draw.test), config.svm.scaling)
                decisions = classifier.decisions(features)
                answers[head].append(decisions.argmax(axis=1))
        of_maps = _of_first_draw(test, draws[0], trained, answers)

        for head, classifiers in trained.items():
            measured, per_image = score_draws(test.split.labels, draws, answers[head])
            measured["c"] = [classifier.c for classifier in classifiers]
            measured["converged"] = sum(classifier.converged for classifier in classifiers)
            measured["features"] = f"{test_features.features.shape[1]:,}, {layer_of(test)}"
            measured["train_data"] = train.fingerprint
            if head in of_maps:
                parts, arrays = of_maps[head]
                measured["metrics"] |= parts.pop("metrics")
                measured["confidence"] |= parts.pop("confidence")
                measured |= parts
                per_image |= arrays
            write_svm_record(test, head, measured, per_image, time.perf_counter() - began)

        draw = draws[0]
        classifier = trained[SVM][0]
        test_answers = answers[SVM][0]
        crop_boxes = None
        if config.svm.crops:
            features = scaled(train_features.of(draw.train), config.svm.scaling)
            training_answers = classifier.decisions(features).argmax(axis=1)
            crop_boxes = measure_crops(
                train, test, draw, classifier, training_answers, test_answers
            )
        yield SvmOfFirstDraw(test, draw.test, classifier, test_answers, crop_boxes, objects)


def _of_first_draw(
    test: Evaluation, draw: Draw, trained: Trained, answers: dict[str, list[np.ndarray]]
) -> dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """What the maps of each head's first classifier are; empty where nobody wants them."""
    images = drawn_images(draw.test, test.config.svm.map_images, test.config.seed)
    obstacle = test.trained.network.cam_obstacle
    if obstacle:
        print(f"{test.trained.name} has no maps: {obstacle}", flush=True)
    if obstacle or not len(images):
        return {}
    classifiers = {head: of_draws[0] for head, of_draws in trained.items()}
    answered = {}
    for head, of_draws in answers.items():
        answered[head] = of_draws[0][np.searchsorted(draw.test, images)]
    return measure_maps(test, images, classifiers, answered)


def train_heads(
    features: KeptFeatures,
    labels: np.ndarray,
    draws: Sequence[Draw],
    settings: SvmConfig,
    seed: int,
) -> Trained:
    """Every head on the training images of every draw, with labels (N,) of all, on all cores."""
    context = worker_context()
    tasks = [(head, number) for number in range(len(draws)) for head in HEADS]
    trained: Trained = {head: [] for head in HEADS}
    with ProcessPoolExecutor(available_cores(), context, initializer=prepare_worker) as pool:
        waiting = []
        for head, number in tasks:
            images = draws[number].train
            of_images = scaled(features.of(images), settings.scaling)
            of_draw = (of_images, labels[images], settings, seed + number)
            waiting.append(pool.submit(train_head, head, *of_draw))
        bar = tqdm(waiting, "classifiers", unit="classifier", disable=None)
        for (head, _), task in zip(tasks, bar, strict=True):
            trained[head].append(task.result())
    return trained
