"""Linear classifiers on features, by scikit-learn; C is chosen on the training images alone.

Zhou et al. 2016, §4, trains "a linear SVM" by LIBLINEAR (Fan et al. 2008) and says neither its C
nor its loss. All heads minimise ½‖w‖² + C·Σ loss over the images, so that twice the images at half
of C are the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.svm import LinearSVC

from cam_repro.config import SvmConfig

ITERATIONS = 2000  # of a solver, at most; tens are usual
ITERATIONS_TO_CHOOSE = 100  # for each C that is tried, of which large ones need thousands


@dataclass(frozen=True)
class Head:
    """A linear classifier: how it is solved, in words, and scikit-learn's estimator of it.

    intercept_scaling: LIBLINEAR penalises the intercept as a weight of a constant feature of this
    size, so that a small one makes the weights carry part of it; None: it is not penalised.
    """

    solver: str
    intercept_scaling: float | None
    build: Callable[..., ClassifierMixin]


def _liblinear(intercept_scaling: float) -> Head:
    """LIBLINEAR's `-s 2`, one class against the rest.

    Its dual (`-s 1`) finds the same weights, but needs thousands of passes over the images where C
    or the intercept's scaling is large.
    """
    build = partial(
        LinearSVC,
        loss="squared_hinge",
        dual=False,
        intercept_scaling=intercept_scaling,
    )
    return Head(
        "LIBLINEAR primal (-s 2), squared hinge, one against the rest", intercept_scaling, build
    )


HEADS = {
    "liblinear": _liblinear(1.0),
    "liblinear_intercept100": _liblinear(100.0),
    "softmax": Head("L-BFGS, softmax", None, LogisticRegression),
}


@dataclass(frozen=True)
class LinearClassifier:
    """A trained head: weight (C,F) and intercept (C,), float64, of features that are scaled.

    c: what it was trained with; converged: whether the tolerance was reached.
    """

    weight: np.ndarray
    intercept: np.ndarray
    c: float
    converged: bool

    def decisions(self, features: np.ndarray) -> np.ndarray:
        """Scaled features (N,F) → (N,C); the largest is the answer."""
        return features @ self.weight.T + self.intercept


def scaled(features: np.ndarray, scaling: str) -> np.ndarray:
    """Features (N,F) as the classifiers take them, float64: as they are, or each of length 1."""
    features = features.astype(np.float64)
    return features / lengths(features, scaling)[:, None]


def lengths(features: np.ndarray, scaling: str) -> np.ndarray:
    """What each vector of features (N,F) is divided by; 1 for one of zeros."""
    if scaling == "none":
        return np.ones(len(features))
    found = np.linalg.norm(features, axis=1)
    return np.where(found == 0, 1.0, found)


def train_head(
    name: str, features: np.ndarray, labels: np.ndarray, settings: SvmConfig, seed: int
) -> LinearClassifier:
    """The head `name` on scaled features (N,F) of images with labels (N,), which cover 0…C−1."""
    c = choose_c(name, features, labels, settings, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the record says it
        estimator = HEADS[name].build(C=c, tol=settings.tolerance, max_iter=ITERATIONS)
        fitted = estimator.fit(features, labels)
    weight = fitted.coef_
    intercept = np.broadcast_to(fitted.intercept_, len(weight))
    if len(weight) == 1:  # of two classes scikit-learn gives the second's alone
        weight = np.concatenate([-weight, weight])
        intercept = np.concatenate([-intercept, intercept])
    converged = int(np.max(fitted.n_iter_)) < ITERATIONS
    return LinearClassifier(weight, intercept, c, converged)


def choose_c(
    name: str, features: np.ndarray, labels: np.ndarray, settings: SvmConfig, seed: int
) -> float:
    """The C of the grid with the best accuracy in cross-validation; of equals the smallest.

    The search ends after two values that are worse: a larger C takes longer and gains no more.
    """
    if len(settings.c) == 1:
        return settings.c[0]
    folds = StratifiedKFold(settings.folds, shuffle=True, random_state=seed)
    best = settings.c[0]
    best_accuracy = -1.0
    worse = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for c in settings.c:
            estimator = HEADS[name].build(
                C=c, tol=settings.tolerance, max_iter=ITERATIONS_TO_CHOOSE
            )
            accuracy = cross_val_score(estimator, features, labels, cv=folds).mean()
            if accuracy > best_accuracy:
                best = c
                best_accuracy = accuracy
                worse = 0
            elif accuracy < best_accuracy:
                worse += 1
            if worse == 2:
                break
    return best
