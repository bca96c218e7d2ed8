"""The paper's sentences of section 4, held against the records of `make svm`.

A claim compares two accuracies of the paper's classifier, LIBLINEAR's SVM: of two networks'
features on the same draws of the same images, or of full images and of crops. It holds where the
95 % interval of the difference lies in the claim's range; is contradicted where it lies wholly
outside; else it is undecided. The interval is over images and, where there are several, over
draws, both of which are redrawn together for the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cam_repro import UserError
from cam_repro.data.split import load_arrays
from cam_repro.features.record import draws_name
from cam_repro.localization.intervals import difference_over_draws
from cam_repro.reporting.paper import FAMILIES, verdict

Records = Mapping[Path, dict[str, Any]]
SVM = "liblinear"
# The paper's fc7 is AlexNet's: of Caffe's beside Caffe's networks, else of torchvision's.
FC7 = {"Caffe's GoogLeNet": "caffenet"}
# What two records that are compared have in common, beside the test images and the seed.
ALIKE = ("data", "split", "scaling", "per_class", "test_per_class", "draws", "train_data")


class FeatureClaim(NamedTuple):
    """The accuracy on the features of `two` less that on those of `one` lies in `range`, in points.

    one, two: "fc7", "original" or "gap", the networks of a family.
    """

    says: str
    one: str
    two: str
    range: tuple[float, float]


class CropClaim(NamedTuple):
    """The accuracy of crops by CAM's boxes less that of full images lies in `range`, in points."""

    says: str
    range: tuple[float, float]


Claim = FeatureClaim | CropClaim
# "As good" is said of differences of 1.4 points at most; the paper gives no range.
CLAIMS: tuple[Claim, ...] = (
    FeatureClaim(
        "GAP features are as good as average pooling of the whole network (at most 2 points less)",
        "original",
        "gap",
        (-2.0, inf),
    ),
    FeatureClaim("GAP features are better than AlexNet's fc7", "fc7", "gap", (0.0, inf)),
    # 63.0 to 67.8 % on CUB-200-2011.
    CropClaim("crops by CAM's boxes improve recognition", (0.0, inf)),
    CropClaim("… by about 5 points (2.5 to 7.5)", (2.5, 7.5)),
)


class Judged(NamedTuple):
    """A claim against two records of one data set. difference, low, high: two − one, in points."""

    claim: Claim
    data: str
    one: str
    two: str
    images: str  # how they were drawn
    scaling: str
    accuracy_one: float
    accuracy_two: float
    difference: float
    low: float
    high: float
    verdict: str


def judged_by(claim: Claim, records: Records) -> list[Judged]:
    """The claim by all records that it speaks of."""
    if isinstance(claim, CropClaim):
        return judged_crops(claim, records)
    return judged_features(claim, records)


def judged_features(claim: FeatureClaim, records: Records) -> list[Judged]:
    """The claim by every two records that are of one family, and of the same draws and images."""
    judged = []
    for family, networks in FAMILIES.items():
        if "googlenet_gap" not in networks:
            continue
        name_of = {
            "fc7": FC7.get(family, "alexnet"),
            "original": networks["googlenet"],
            "gap": networks["googlenet_gap"],
        }
        ones = _whole(records, name_of[claim.one])
        twos = _whole(records, name_of[claim.two])
        for path_one, one in ones.items():
            for path_two, two in twos.items():
                if _images(one) != _images(two):
                    continue
                right_one = _right_of_draws(path_one)
                right_two = _right_of_draws(path_two)
                if right_one is None or right_two is None:
                    continue
                names = (_named(one), _named(two))
                judged.append(_judged(claim, one, names, right_one, right_two))
    return judged


def judged_crops(claim: CropClaim, records: Records) -> list[Judged]:
    """The claim by every record of crops by CAM's boxes, against full images of the same draw."""
    judged = []
    for path, record in records.items():
        if record["head"] != SVM or record.get("crop") not in ("cam", "cam_of_true_class"):
            continue
        arrays = _arrays(path)
        if "right_of_full" not in arrays:
            continue
        right = arrays["right_of_draws"]
        full = np.where(right >= 0, arrays["right_of_full"][None], -1)
        names = (f"{_named(record)}: full", "crop")
        if record["crop"] == "cam_of_true_class":
            names = (names[0], "crop (training images by the true class)")
        judged.append(_judged(claim, record, names, full, right))
    return judged


def _judged(
    claim: Claim,
    record: dict[str, Any],
    names: tuple[str, str],
    right_one: np.ndarray,
    right_two: np.ndarray,
) -> Judged:
    difference, low, high = difference_over_draws(right_one, right_two)
    draws = len(right_two)
    return Judged(
        claim,
        record["data"],
        *names,
        draws_name(record["per_class"], record["test_per_class"], draws),
        record["scaling"],
        100 * float(right_one[right_one >= 0].mean()),
        100 * float(right_two[right_two >= 0].mean()),
        difference,
        low,
        high,
        verdict(low, high, claim.range),
    )


def _whole(records: Records, model: str) -> dict[Path, dict[str, Any]]:
    """The records of the paper's SVM on a network's features of full images."""
    found = {}
    for path, record in records.items():
        if record["model"] == model and record["head"] == SVM and "crop" not in record:
            found[path] = record
    return found


def _images(record: dict[str, Any]) -> list[Any]:
    """What two records of the same draws of the same images, scaled alike, agree in."""
    provenance = record["provenance"]
    shared = [record.get(key) for key in ALIKE]
    return [*shared, provenance["data"], provenance["settings"]["seed"]]


def _right_of_draws(path: Path) -> np.ndarray | None:
    """(D,N) of a record; none where it was written before draws were kept apart."""
    return _arrays(path).get("right_of_draws")


def _arrays(path: Path) -> dict[str, np.ndarray]:
    beside = path.with_suffix(".npz")
    arrays = load_arrays(beside)
    if not arrays:
        raise UserError(f"{beside} is not there, or damaged; type make svm again")
    return arrays


def _named(record: dict[str, Any]) -> str:
    return record.get("name", record["model"])
