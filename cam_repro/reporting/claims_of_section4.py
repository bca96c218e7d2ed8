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
from cam_repro.features.record import chosen_c, draws_name
from cam_repro.files import write_text
from cam_repro.localization.intervals import difference_over_draws
from cam_repro.reporting import paper
from cam_repro.reporting.layout import DASH, GENERATED, aligned, bullets, csv_text

Records = Mapping[Path, dict[str, Any]]
SVM = "liblinear"
# The paper's fc7 is AlexNet's: of Caffe's beside Caffe's networks, else of torchvision's.
FC7 = {"Caffe's GoogLeNet": "caffenet"}
# What two records that are compared have in common, beside the test images and the seed.
ALIKE = (
    "data", "split", "train_data", "per_class", "test_per_class", "draws", "scaling", "grid",
    "tolerance",
)  # fmt: skip


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
    draws: str  # how many images, how often
    c: str  # of the first → of the second, or of the crops alone
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
    for family, networks in paper.FAMILIES.items():
        if "googlenet_gap" not in networks:
            continue
        name_of = {
            "fc7": FC7.get(family, "alexnet"),
            "original": networks["googlenet"],
            "gap": networks["googlenet_gap"],
        }
        if name_of[claim.one] == name_of["fc7"] and claim.one == "original":
            continue  # AlexNet itself has no average pooling
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
                c = f"{chosen_c(one)} → {chosen_c(two)}"
                judged.append(_judged(claim, one, names, right_one, right_two, c))
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
        judged.append(_judged(claim, record, names, full, right, chosen_c(record)))
    return judged


def _judged(
    claim: Claim,
    record: dict[str, Any],
    names: tuple[str, str],
    right_one: np.ndarray,
    right_two: np.ndarray,
    c: str,
) -> Judged:
    difference, low, high = difference_over_draws(right_one, right_two)
    draws = len(right_two)
    return Judged(
        claim,
        record["data"],
        *names,
        draws_name(record["per_class"], record["test_per_class"], draws),
        c,
        record["scaling"],
        100 * float(right_one[right_one >= 0].mean()),
        100 * float(right_two[right_two >= 0].mean()),
        difference,
        low,
        high,
        paper.verdict(low, high, claim.range),
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


# The claims as a table.

CLAIM_HEADINGS = [
    "claim", "data", "features", "draws", "C", "scaling", "paper", "here", "difference",
    "95 % interval", "verdict",
]  # fmt: skip
CLAIM_NOTES = (
    "Accuracy of the SVM in %, of the first features → of the second; the paper's are of the same "
    "data set in Table 5, and of CUB-200-2011 for crops.",
    "Difference: second − first, in points, with its 95 % interval over images and, where there "
    "are several, over draws: both are redrawn together for the two.",
    "Holds: the interval lies where the claim wants it; contradicted: wholly elsewhere; else "
    "undecided. One network of each kind speaks of these two, not of all that could be trained.",
)
ROWS_OF_TABLE5 = {
    "fc7": "fc7 from AlexNet",
    "original": "ave pool from GoogLeNet",
    "gap": "gap from GoogLeNet-GAP",
}
# What to type where a claim has no records.
MEASURE = {
    "fc7": "model=alexnet weights=DEFAULT",
    "original": "model=googlenet weights=DEFAULT",
    "gap": "model=googlenet_gap weights=FILE",
    "crops": "make svm model=efficientnet_lite0 weights=DEFAULT data=stanford40 svm.crops=true",
}


def write_claims(stem: Path, records: Records) -> list[Path]:
    """A row for each claim and what it was held against, or one that says what to type.

    stem: of the Markdown, and of a CSV where anything could be judged.
    """
    cells = [CLAIM_HEADINGS]
    lines = []
    for claim in CLAIMS:
        judged = judged_by(claim, records)
        for one in judged:
            here = f"{one.accuracy_one:.1f} → {one.accuracy_two:.1f}"
            interval = f"{one.low:+.1f} … {one.high:+.1f}"
            row = [claim.says, one.data, f"{one.one} → {one.two}", one.draws, one.c, one.scaling]
            row += [_papers(claim, one.data), here, f"{one.difference:+.1f}", interval]
            cells.append([*row, one.verdict])
            lines.append(one._asdict() | {"claim": claim.says})
        if not judged:
            row_of = dict.fromkeys(CLAIM_HEADINGS, DASH)
            row_of["claim"] = claim.says
            row_of["paper"] = _papers(claim, "")
            row_of["verdict"] = f"not measured: {_to_measure(claim)}"
            cells.append([*row_of.values()])
    text = ["# The paper's claims of section 4", "", *aligned(cells), ""]
    text += bullets([*CLAIM_NOTES, GENERATED])
    written = [write_text(stem.with_suffix(".md"), "\n".join(text) + "\n")]
    numbers = stem.with_suffix(".csv")
    if lines:
        written.append(write_text(numbers, csv_text(lines)))
    else:
        numbers.unlink(missing_ok=True)
    return written


def _papers(claim: Claim, data: str) -> str:
    """The paper's two numbers, as `63.0 → 67.8`; of features, in the data set's column."""
    if isinstance(claim, CropClaim):
        return f"{paper.TABLE4['full']:.1f} → {paper.TABLE4['crop']:.1f}"
    column = paper.column_of(data)
    if not column:
        return DASH
    place = list(paper.DATA_SETS).index(column)
    one = paper.TABLE5[ROWS_OF_TABLE5[claim.one]][place]
    two = paper.TABLE5[ROWS_OF_TABLE5[claim.two]][place]
    return f"{one:.1f} → {two:.1f}"


def _to_measure(claim: Claim) -> str:
    if isinstance(claim, CropClaim):
        return f"`{MEASURE['crops']}`"
    both = f"`{MEASURE[claim.one]}` and with `{MEASURE[claim.two]}`"
    return f"`make features` and `make svm`, with {both}"
