"""What Zhou et al. published (CVPR 2016, arXiv 1512.04150), and whether their claims hold here.

All numbers are percentages. Tables 1 and 2 are keyed by this project's names, (model) and (model,
method), so that a result finds its row; `row_title` turns a key into the paper's wording.

A claim names two subjects and the range in which the second's metric minus the first's must lie.
Both must be of one recipe; several runs of a network by it, of other seeds, stand for it by their
mean. A claim holds where the 95 % interval of the difference, paired over images and, where there
are several runs, redrawn over them, lies in that range; is contradicted where it lies wholly
outside; else undecided. One run of each speaks of these two networks as they were trained, not of
all such.
"""

import re
from collections.abc import Mapping, Sequence
from math import inf
from statistics import mean, mode
from typing import Any, NamedTuple

from cam_repro.evaluation.record import read_correctness
from cam_repro.localization.errors import summarise
from cam_repro.localization.intervals import differences
from cam_repro.reporting.results import Result

VAL_IMAGES = 50_000  # of ILSVRC val
# Those that count for localization: all, or all but the devkit's 1,762 blacklisted ones.
LOCALIZED_IMAGES = (50_000, 48_238)


def _rows(table: str) -> list[list[str]]:
    """The cells of each line under the heading; two spaces or more stand between cells."""
    _, *lines = table.strip().splitlines()
    return [re.split(r"\s{2,}", line.strip()) for line in lines]


# Table 1: classification error, ILSVRC val.
TABLE1 = {
    model: (network, float(top1), float(top5))
    for model, network, top1, top5 in _rows("""
    model             network           top-1   top-5
    vgg_gap           VGGnet-GAP         33.4    12.2
    googlenet_gap     GoogLeNet-GAP      35.0    13.2
    alexnet_star_gap  AlexNet*-GAP       44.9    20.9
    alexnet_gap       AlexNet-GAP        51.1    26.3
    googlenet         GoogLeNet          31.9    11.3
    vgg               VGGnet             31.2    11.4
    alexnet           AlexNet            42.6    19.5
    nin               NIN                41.9    19.6
    googlenet_gmp     GoogLeNet-GMP      35.6    13.9
    """)
}

# Table 2: localization error, ILSVRC val.
TABLE2 = {
    (model, method): (float(top1), float(top5))
    for model, method, top1, top5 in _rows("""
    model             method    top-1   top-5
    googlenet_gap     cam       56.40   43.00
    vgg_gap           cam       57.20   45.14
    googlenet         cam       60.09   49.34
    alexnet_star_gap  cam       63.75   49.53
    alexnet_gap       cam       67.19   52.16
    nin               cam       65.47   54.19
    googlenet         backprop  61.31   50.55
    vgg               backprop  61.12   51.46
    alexnet           backprop  65.17   52.64
    googlenet_gmp     cam       57.78   45.26
    """)
}

# Table 3: top-5 localization error, ILSVRC test, whose labels are not public. "Backprop" is
# Simonyan et al.'s own number (arXiv 1312.6034); the last three were trained with boxes.
TABLE3 = {
    (network, supervision): float(top5)
    for network, supervision, top5 in _rows("""
    network                     supervision  top-5
    GoogLeNet-GAP (heuristics)  weakly        37.1
    GoogLeNet-GAP               weakly        42.9
    Backprop                    weakly        46.4
    GoogLeNet                   full          26.7
    OverFeat                    full          29.9
    AlexNet                     full          34.2
    """)
}

# Table 5's columns, each with the names that the data set goes by here.
DATA_SETS = {
    "SUN397": ("sun397",),
    "MIT Indoor67": ("indoor67", "mit_indoor67"),
    "Scene15": ("scene15",),
    "SUN Attribute": ("sun_attribute",),
    "Caltech101": ("caltech101",),
    "Caltech256": ("caltech256",),
    "Action40": ("action40", "stanford40"),
    "Event8": ("event8",),
}
# Accuracy (%) of a linear SVM on the features of a layer, in the order of the columns. That AlexNet
# has the same number twice is the paper's.
TABLE5 = {
    "fc7 from AlexNet": (42.61, 56.79, 84.23, 84.23, 87.22, 67.23, 54.92, 94.42),
    "ave pool from GoogLeNet": (51.68, 66.63, 88.02, 92.85, 92.05, 78.99, 72.03, 95.42),
    "gap from GoogLeNet-GAP": (51.31, 66.61, 88.30, 92.21, 91.98, 78.07, 70.62, 95.00),
}
# Table 4, CUB-200-2011, GoogLeNet-GAP: accuracy (%), and Fig. 7's share of boxes with IoU ≥ 0.5.
TABLE4 = {"full": 63.0, "crop": 67.8, "true_boxes": 70.5, "box_right": 41.0}


def column_of(data: str) -> str:
    """Of Table 5; empty for a data set that it does not have."""
    for column, names in DATA_SETS.items():
        if data.lower() in names:
            return column
    return ""


# Caffe's own networks, and the network of the paper whose rows are theirs.
CAFFE = {
    "vgg16_cam_caffe": "vgg_gap",
    "googlenet_cam_caffe": "googlenet_gap",
    "googlenet_gap_caffe": "googlenet_gap",
    "alexnetplus_cam_caffe": "alexnet_star_gap",
    "caffenet_gap": "alexnet_gap",
    "googlenet_caffe": "googlenet",
    "vgg16_caffe": "vgg",
    "caffenet": "alexnet",
    "nin_caffe": "nin",
    "googlenet_gmp_caffe": "googlenet_gmp",
}


def row_title(model: str, method: str = "cam") -> str:
    """The paper's wording for a model and method; a network not in the paper keeps its own name."""
    network, *_ = TABLE1.get(CAFFE.get(model, model), (model,))
    return network if method == "cam" else f"{method.capitalize()} on {network}"


def published(model: str, method: str = "cam") -> dict[str, float]:
    """metric -> its number in Tables 1 and 2, for those of a result file that the paper has.

    They imply P(box right | class right), top-1, the fairest target when the backbone is not the
    authors' own: since a localization is right only if the class is, it is (100 − loc error) / (100
    − cls error).
    """
    found = {}
    if model in TABLE1:
        _, found["cls_top1_error"], found["cls_top5_error"] = TABLE1[model]
    if (model, method) in TABLE2:
        found["loc_top1_error"], found["loc_top5_error"] = TABLE2[model, method]
        class_right = 100 - found["cls_top1_error"]
        class_and_box_right = 100 - found["loc_top1_error"]
        found["loc_given_cls"] = 100 * class_and_box_right / class_right
    return found


class Subject(NamedTuple):
    """Of whom a claim speaks."""

    network: str
    method: str = "cam"
    protocol: str = "paper"


class Claim(NamedTuple):
    """`metric` of `two` minus that of `one` lies in `range`, in percentage points."""

    says: str
    section: str
    metric: str
    one: Subject
    two: Subject
    range: tuple[float, float]

    def published(self, subject: Subject) -> float | None:
        """The paper's number of one of the two; of the release's boxes it is Table 3's."""
        if not (subject.protocol.startswith("release") and self.metric.startswith("loc")):
            return published(subject.network, subject.method).get(self.metric)
        if self.metric != "loc_top5_error":
            return None
        heuristics = " (heuristics)" if subject.protocol == "release_heuristics" else ""
        return TABLE3[f"GoogLeNet-GAP{heuristics}", "weakly"]


ORIGINAL = Subject("googlenet")
GAP = Subject("googlenet_gap")
GMP = Subject("googlenet_gmp")
BACKPROP = Subject("googlenet", "backprop")
BACKPROP_ON_GAP = Subject("googlenet_gap", "backprop")
RELEASE = Subject("googlenet_gap", protocol="release")
HEURISTICS = Subject("googlenet_gap", protocol="release_heuristics")
ALEXNET = Subject("alexnet_gap")
ALEXNET_STAR = Subject("alexnet_star_gap")

CLS_TOP1 = "cls_top1_error"
CLS_TOP5 = "cls_top5_error"
LOC_TOP1 = "loc_top1_error"
LOC_TOP5 = "loc_top5_error"
WORSE = (0.0, inf)
BETTER = (-inf, 0.0)

COST = "surgery for GAP costs some classification"
POOLING = "GAP localizes better than GMP"
SURGERY = "CAM after surgery is better than on the original"
CROPS = "(not said) the release's rule and crops beat the text's"
CLAIMS = (
    Claim(COST, "3.1", CLS_TOP1, ORIGINAL, GAP, WORSE),
    Claim("… no more than 2 points of it", "3.1", CLS_TOP5, ORIGINAL, GAP, (-inf, 2)),
    Claim(POOLING, "3.2", LOC_TOP1, GMP, GAP, BETTER),
    Claim(POOLING, "3.2", LOC_TOP5, GMP, GAP, BETTER),
    Claim(SURGERY, "3.2", LOC_TOP1, ORIGINAL, GAP, BETTER),
    Claim(SURGERY, "3.2", LOC_TOP5, ORIGINAL, GAP, BETTER),
    Claim("CAM is better than backprop: original", "3.2", LOC_TOP5, BACKPROP, ORIGINAL, BETTER),
    Claim("CAM is better than backprop: GAP", "3.2", LOC_TOP5, BACKPROP_ON_GAP, GAP, BETTER),
    Claim("two layers before GAP (AlexNet*) help", "3.1", CLS_TOP1, ALEXNET, ALEXNET_STAR, BETTER),
    Claim("tight and loose guesses beat loose ones", "3.2", LOC_TOP5, RELEASE, HEURISTICS, BETTER),
    Claim(CROPS, "–", LOC_TOP1, GAP, RELEASE, BETTER),
)

# Of a training: what two runs by one recipe may differ in.
NOT_OF_THE_RECIPE = {"seed", "commit", "epochs_done", "compile", "val_size"}

# Which networks take the places of GoogLeNet, or of AlexNet, in the claims; –: none.
FAMILIES = {
    family: {"googlenet": original, "googlenet_gap": gap, "googlenet_gmp": gmp}
    for family, original, gap, gmp in _rows("""
    family              original            GAP                     GMP
    GoogLeNet           googlenet           googlenet_gap           googlenet_gmp
    EfficientNet-Lite0  efficientnet_lite0  efficientnet_lite0_gap  efficientnet_lite0_gmp
    SqueezeNet          squeezenet          squeezenet_gap          –
    AlexNet             alexnet             alexnet_gap             alexnet_gmp
    Caffe's GoogLeNet   googlenet_caffe     googlenet_cam_caffe     googlenet_gmp_caffe
    """)
} | {
    family: {"alexnet_gap": gap, "alexnet_star_gap": star}
    for family, gap, star in _rows("""
    family              GAP                 two layers more, GAP
    AlexNet*            alexnet_gap         alexnet_star_gap
    Caffe's AlexNet*    caffenet_gap        alexnetplus_cam_caffe
    """)
}


def judged_claims(runs: Sequence[Result]) -> list[dict[str, Any]]:
    """Each claim of each family and recipe that has two results of the same images."""
    judged = []
    for family, networks in FAMILIES.items():
        by_recipe = _by_recipe([run for run in runs if run.model in networks.values()])
        for recipe in sorted(by_recipe):
            for claim in CLAIMS:
                ones = _runs_of(claim.one, by_recipe[recipe], networks)
                twos = _runs_of(claim.two, by_recipe[recipe], networks)
                data = {run.provenance["data"] for run in (*ones, *twos)}
                if ones and twos and len(data) == 1:
                    found = _judged(claim, family, recipe, ones, twos)
                    if found is not None:
                        judged.append(found)
    return judged


def _by_recipe(runs: Sequence[Result]) -> dict[str, list[Result]]:
    """Recipe -> its results: its name and, where those of a name differ, what they do unlike."""
    recipes = [{"name": "–"} | (run.provenance.get("training") or {}) for run in runs]
    found: dict[str, list[Result]] = {}
    for run, recipe in zip(runs, recipes, strict=True):
        others = [other for other in recipes if other["name"] == recipe["name"]]
        parts = [recipe["name"]]
        for key in sorted(recipe.keys() - NOT_OF_THE_RECIPE):
            if any(other.get(key) != recipe[key] for other in others):
                parts.append(f"{key}={recipe[key]}")
        found.setdefault(" ".join(parts), []).append(run)
    return found


def _runs_of(subject: Subject, runs: Sequence[Result], networks: Mapping[str, str]) -> list[Result]:
    """Those with per-image correctness beside them, of the settings that most of them have."""
    found = []
    for run in runs:
        of_subject = (
            run.model == networks.get(subject.network)
            and run.kind == "localization"
            and run.method == subject.method
            and run.protocol["name"] == subject.protocol
        )
        if of_subject and run.path.with_suffix(".npz").is_file():
            found.append(run)
    if not found:
        return []
    usual = mode(run.provenance.get("network") for run in found)
    return [run for run in found if run.provenance.get("network") == usual]


def _judged(
    claim: Claim, family: str, recipe: str, ones: Sequence[Result], twos: Sequence[Result]
) -> dict[str, Any] | None:
    """The claim by the runs of both subjects; None for a top-5 error of fewer than five classes."""
    metric = claim.metric
    of_ones = [read_correctness(run.path) for run in ones]
    of_twos = [read_correctness(run.path) for run in twos]
    shares_of_ones = [run.shares() for run in of_ones]
    shares_of_twos = [run.shares() for run in of_twos]
    found = differences(shares_of_ones, shares_of_twos, [metric])
    if metric not in found:
        return None
    difference, low, high = found[metric]
    return {
        "claim": claim.says,
        "section": claim.section,
        "family": family,
        "recipe": recipe,
        "metric": metric,
        "paper_one": claim.published(claim.one),
        "paper_two": claim.published(claim.two),
        "one": mean(summarise(run)[metric] for run in of_ones),
        "two": mean(summarise(run)[metric] for run in of_twos),
        "runs_one": len(ones),
        "runs_two": len(twos),
        "difference": difference,
        "low": low,
        "high": high,
        "verdict": verdict(low, high, claim.range),
    }


def verdict(low: float, high: float, within: tuple[float, float]) -> str:
    """Of the interval [low, high] of a difference and the range in which the claim wants it."""
    least, most = within
    if least < low and high < most:
        return "holds"
    return "contradicted" if high < least or low > most else "undecided"
