"""What the paper says of its networks, each sentence held against the results here, whatever comes
out.

A claim names two results and the range in which the second's metric minus the first's must lie.
Both must be of one recipe; several runs of a network by it, of other seeds, stand for it by their
mean. A claim holds where the 95 % interval of the difference, paired over images and, where there
are several runs, redrawn over them, lies in that range; is contradicted where it lies wholly
outside; else undecided. One run of each speaks of these two networks as they were trained, not of
all such.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import inf
from statistics import mean, mode
from typing import Any, NamedTuple

from cam_repro.evaluation.record import read_correctness
from cam_repro.localization.errors import summarise
from cam_repro.localization.intervals import differences
from cam_repro.reporting import paper
from cam_repro.reporting.results import Result

Which = tuple[str, str, str]  # a network of the paper, a method, a protocol

FAMILIES = {  # which networks take the places of GoogLeNet, or of AlexNet, in the paper's sentences
    "GoogLeNet": {name: name for name in ("googlenet", "googlenet_gap", "googlenet_gmp")},
    "EfficientNet-Lite0": {
        f"googlenet{cut}": f"efficientnet_lite0{cut}" for cut in ("", "_gap", "_gmp")
    },
    "SqueezeNet": {f"googlenet{cut}": f"squeezenet{cut}" for cut in ("", "_gap")},
    "AlexNet": {name: name for name in ("alexnet_gap", "alexnet_star_gap")},
    "Caffe's GoogLeNet": {
        "googlenet": "googlenet_caffe",
        "googlenet_gap": "googlenet_cam_caffe",
        "googlenet_gmp": "googlenet_gmp_caffe",
    },
    "Caffe's AlexNet": {"alexnet_gap": "caffenet_gap", "alexnet_star_gap": "alexnetplus_cam_caffe"},
}
ORIGINAL, GAP, GMP = (("googlenet" + cut, "cam", "paper") for cut in ("", "_gap", "_gmp"))
BACKPROP, BACKPROP_ON_GAP = (("googlenet" + cut, "backprop", "paper") for cut in ("", "_gap"))
RELEASE, HEURISTICS = (
    ("googlenet_gap", "cam", protocol) for protocol in ("release", "release_heuristics")
)
NOT_OF_THE_RECIPE = {"seed", "commit", "epochs_done", "compile"}
BETTER = (-inf, 0.0)  # of an error: the second's is lower


class Claim(NamedTuple):
    """`metric` of `two` minus that of `one` lies in `range`, in percentage points."""

    says: str
    section: str
    metric: str
    one: Which
    two: Which
    range: tuple[float, float]


CLAIMS = (
    Claim("surgery for GAP costs some classification", "3.1", "cls_top1_error", ORIGINAL, GAP, (0, inf)),
    Claim("… no more than 2 points of it", "3.1", "cls_top5_error", ORIGINAL, GAP, (-inf, 2)),
    Claim("GAP localizes better than GMP", "3.2", "loc_top1_error", GMP, GAP, BETTER),
    Claim("GAP localizes better than GMP", "3.2", "loc_top5_error", GMP, GAP, BETTER),
    Claim("CAM after surgery is better than on the original", "3.2", "loc_top1_error", ORIGINAL, GAP, BETTER),
    Claim("CAM after surgery is better than on the original", "3.2", "loc_top5_error", ORIGINAL, GAP, BETTER),
    Claim("CAM is better than backprop: original", "3.2", "loc_top5_error", BACKPROP, ORIGINAL, BETTER),
    Claim("CAM is better than backprop: GAP", "3.2", "loc_top5_error", BACKPROP_ON_GAP, GAP, BETTER),
    Claim("two layers before GAP (AlexNet*) help", "3.1", "cls_top1_error",
          ("alexnet_gap", "cam", "paper"), ("alexnet_star_gap", "cam", "paper"), BETTER),
    Claim("tight and loose guesses beat loose ones", "3.2", "loc_top5_error", RELEASE, HEURISTICS, BETTER),
    Claim("(not said) the release's rule and crops beat the text's", "–", "loc_top1_error", GAP, RELEASE, BETTER),
)  # fmt: skip


def claim_rows(runs: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each claim, family and recipe that has two results of the same images, each image's
    part among them.
    """
    rows = []
    for (family, recipe, alike), claim in product(_alike(runs), CLAIMS):
        sides = [_runs_of(alike, FAMILIES[family], which) for which in (claim.one, claim.two)]
        if not all(sides) or len({run.provenance["data"] for side in sides for run in side}) > 1:
            continue
        judged = [[read_correctness(run.path) for run in side] for side in sides]
        of_one = [correctness.shares() for correctness in judged[0]]
        of_two = [correctness.shares() for correctness in judged[1]]
        found = differences(of_one, of_two, [claim.metric])
        if claim.metric not in found:
            continue  # of fewer than five classes
        difference, low, high = found[claim.metric]
        one, two = (mean(summarise(each)[claim.metric] for each in side) for side in judged)
        theirs = [_published(which, claim.metric) for which in (claim.one, claim.two)]
        rows.append({
            "claim": claim.says, "section": claim.section, "family": family, "recipe": recipe, "metric": claim.metric,
            "paper_one": theirs[0], "paper_two": theirs[1], "one": one, "two": two,
            "runs_one": len(judged[0]), "runs_two": len(judged[1]),
            "difference": difference, "low": low, "high": high, "verdict": verdict(low, high, claim.range),
        })  # fmt: skip
    return rows


def _alike(runs: Sequence[Result]) -> Iterator[tuple[str, str, list[Result]]]:
    """(family, recipe, its results): a recipe by its name and, where those of a name differ, by
    what they do unlike.
    """
    for family, networks in FAMILIES.items():
        of_family = [run for run in runs if run.model in networks.values()]
        recipes = [{"name": "–"} | (run.provenance.get("training") or {}) for run in of_family]
        found: dict[str, list[Result]] = {}
        for run, mine in zip(of_family, recipes, strict=True):
            others = [other for other in recipes if other["name"] == mine["name"]]
            keys = sorted(
                key for key in mine if any(other.get(key) != mine[key] for other in others)
            )
            label = " ".join(
                [
                    mine["name"],
                    *(f"{key}={mine[key]}" for key in keys if key not in NOT_OF_THE_RECIPE),
                ]
            )
            found.setdefault(label, []).append(run)
        yield from ((family, label, found[label]) for label in sorted(found))


def _runs_of(runs: Sequence[Result], networks: dict[str, str], which: Which) -> list[Result]:
    """Those with per-image correctness beside them, of the settings that most of them have."""
    network, *way = which
    found = [
        run for run in runs
        if run.kind == "localization" and [run.method, run.protocol["name"]] == way
        and run.model == networks.get(network) and run.path.with_suffix(".npz").is_file()
    ]  # fmt: skip
    usual = mode(run.provenance.get("network") for run in found) if found else None
    return [run for run in found if run.provenance.get("network") == usual]


def _published(which: Which, metric: str) -> float | None:
    network, method, protocol = which
    if not (protocol.startswith("release") and metric.startswith("loc")):
        return paper.published(network, method).get(metric)
    title = "GoogLeNet-GAP (heuristics)" if protocol == "release_heuristics" else "GoogLeNet-GAP"
    return paper.TABLE3[title, "weakly"] if metric == "loc_top5_error" else None  # on ILSVRC test


def verdict(low: float, high: float, within: tuple[float, float]) -> str:
    """Of the interval [low, high] of a difference and the range in which the claim wants it."""
    least, most = within
    if least < low and high < most:
        return "holds"
    return "contradicted" if high < least or low > most else "undecided"


def claims_cells(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The table of claims.md, its heading first."""
    cells = [
        [
            "claim",
            "§",
            "network",
            "recipe",
            "error",
            "paper",
            "here",
            "difference",
            "95 % interval",
            "verdict",
        ]
    ]
    for row in rows:
        theirs = [
            f"{row[side]:.1f}" if row[side] is not None else "–"
            for side in ("paper_one", "paper_two")
        ]
        runs = (
            f" ({row['runs_one']} and {row['runs_two']} runs)"
            if max(row["runs_one"], row["runs_two"]) > 1
            else ""
        )
        error = row["metric"].removesuffix("_error").replace("_", " ")
        cells.append([
            row["claim"], row["section"], row["family"] + runs, row["recipe"], error,
            " → ".join(theirs), f"{row['one']:.1f} → {row['two']:.1f}", f"{row['difference']:+.1f}",
            f"{row['low']:+.1f} … {row['high']:+.1f}", row["verdict"],
        ])  # fmt: skip
    return cells
