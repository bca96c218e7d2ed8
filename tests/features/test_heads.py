"""Linear classifiers: what C weighs, how it is chosen, and which intercept is meant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cam_repro.config import SvmConfig
from cam_repro.features.heads import HEADS, scaled, train_head
from cam_repro.localization.maps import class_activation_maps

EXACT = SvmConfig(c=[0.1], tolerance=1e-10)


def clouds(images: int = 60, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Positive features (N,8), as behind a ReLU, around a middle of each class, with overlap."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    middles = rng.uniform(0, 2, (classes, 8))
    return np.abs(middles[labels] + rng.normal(0, 0.7, (images, 8))), labels


@pytest.mark.parametrize("head", HEADS)
def test_doubling_the_images_is_halving_c(head: str) -> None:
    features, labels = clouds()
    once = train_head(head, features, labels, replace(EXACT, c=[0.1]), 0)
    twice = train_head(
        head, np.tile(features, (2, 1)), np.tile(labels, 2), replace(EXACT, c=[0.05]), 0
    )
    assert np.allclose(once.decisions(features), twice.decisions(features), rtol=0, atol=1e-8)
    assert np.allclose(once.weight, twice.weight, rtol=0, atol=1e-8)
    other = train_head(head, features, labels, replace(EXACT, c=[0.05]), 0)
    assert not np.allclose(once.weight, other.weight, atol=1e-3)


@pytest.mark.parametrize("scaling", ["none", "l2"])
@pytest.mark.parametrize("head", HEADS)
def test_the_mean_of_a_classifiers_map_is_its_decision_less_the_intercept(
    head: str, scaling: str
) -> None:
    """Also of features that are scaled to length 1, whose maps are scaled alike."""
    _, labels = clouds()
    maps = torch.from_numpy(np.random.default_rng(1).gamma(1.0, size=(60, 8, 3, 3)))
    pooled = maps.mean((2, 3)).numpy()
    lengths = np.linalg.norm(pooled, axis=1) if scaling == "l2" else np.ones(60)
    features = scaled(pooled, scaling)
    classifier = train_head(head, features, labels, EXACT, 0)
    of_classes = class_activation_maps(maps, torch.from_numpy(classifier.weight))
    means = of_classes.mean((2, 3)).numpy() / lengths[:, None]
    assert np.allclose(means, classifier.decisions(features) - classifier.intercept, atol=1e-9)


def test_liblinears_intercept_is_penalised_the_less_the_larger_its_scaling() -> None:
    """Far from zero, weights that carry the intercept say no to all of the features."""
    features, labels = clouds(classes=6)
    negative = {}
    for head in ("liblinear", "liblinear_intercept100"):
        classifier = train_head(head, features, labels, replace(EXACT, c=[0.01]), 0)
        negative[head] = (features @ classifier.weight.T).mean()
    assert negative["liblinear"] < negative["liblinear_intercept100"] < 0.05


@pytest.mark.parametrize("head", HEADS)
def test_two_classes_have_a_weight_each(head: str) -> None:
    features, labels = clouds(classes=2)
    classifier = train_head(head, features, labels, EXACT, 0)
    assert classifier.weight.shape == (2, 8) and classifier.intercept.shape == (2,)
    answers = classifier.decisions(features).argmax(axis=1)
    fitted = HEADS[head].build(C=0.1, tol=1e-10).fit(features, labels)
    assert answers.tolist() == fitted.predict(features).tolist()
    assert (answers == labels).mean() > 0.8


def test_c_is_chosen_on_the_training_images_and_of_equals_the_smallest() -> None:
    features, labels = clouds(images=90)
    chosen = train_head("liblinear", features, labels, SvmConfig(c=[1e-9, 0.1]), 0).c
    assert chosen == 0.1
    separate = np.eye(3)[labels]
    assert train_head("liblinear", separate, labels, SvmConfig(c=[0.01, 0.1, 1]), 0).c == 0.01


def test_scaling_makes_every_vector_one_long_and_leaves_zeros() -> None:
    features = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    assert scaled(features, "none").tolist() == features.tolist()
    assert scaled(features, "l2").tolist() == [[0.6, 0.8], [0.0, 0.0]]
