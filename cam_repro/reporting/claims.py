"""What the paper says of its networks, each sentence held against the results here, whatever comes out.

A claim names two results and the range in which the second's metric minus the first's must lie. Several runs of a
network (`name=…-seed1`) stand for it by their mean. A claim holds where the 95 % interval of the difference, paired
over images and, where there are several runs, redrawn over them, lies in that range; is contradicted where it lies
wholly outside; else undecided. One run of each speaks of these two networks as they were trained, not of all such.
"""

import re
from collections.abc import Sequence
from math import inf
from statistics import mean
from typing import Any, NamedTuple

from cam_repro.localization.errors import differences, summarise
from cam_repro.reporting import paper
from cam_repro.reporting.results import Result, read_judgements

Which = tuple[str, str, str]  # a network of the paper, a method, a protocol

FAMILIES = {  # which networks take the places of GoogLeNet, or of AlexNet, in the paper's sentences
    "GoogLeNet": {name: name for name in ("googlenet", "googlenet_gap", "googlenet_gmp")},
    "EfficientNet-Lite0": {f"googlenet{cut}": f"efficientnet_lite0{cut}" for cut in ("", "_gap", "_gmp")},
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
RELEASE, HEURISTICS = (("googlenet_gap", "cam", protocol) for protocol in ("release", "release_heuristics"))
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
    """A row for each claim and family whose two results are there with their judgements of the same images."""
    rows = []
    for family, networks in FAMILIES.items():
        for claim in CLAIMS:
            sides = [_runs_of(runs, networks, which) for which in (claim.one, claim.two)]
            if not all(sides) or len({run.provenance["data"] for side in sides for run in side}) > 1:
                continue
            judged = [[read_judgements(run.path) for run in side] for side in sides]
            if claim.metric not in (found := differences(*judged, [claim.metric])):
                continue  # of fewer than five classes
            difference, low, high = found[claim.metric]
            one, two = (mean(summarise(scored)[claim.metric] for scored in side) for side in judged)
            theirs = [_published(which, claim.metric) for which in (claim.one, claim.two)]
            rows.append({
                "claim": claim.says, "section": claim.section, "family": family, "metric": claim.metric,
                "paper_one": theirs[0], "paper_two": theirs[1], "one": one, "two": two,
                "runs_one": len(judged[0]), "runs_two": len(judged[1]),
                "difference": difference, "low": low, "high": high, "verdict": verdict(low, high, claim.range),
            })  # fmt: skip
    return rows


def _runs_of(runs: Sequence[Result], networks: dict[str, str], which: Which) -> list[Result]:
    """Those with judgements beside them; older results have none."""
    network, *way = which
    return [
        run for run in runs
        if run.kind == "localization" and [run.method, run.protocol["name"]] == way
        and run.model == networks.get(network) and re.fullmatch(rf"{run.model}(-seed\d+)?", run.name)
        and run.path.with_suffix(".npz").is_file()
    ]  # fmt: skip


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
    cells = [["claim", "§", "network", "error", "paper", "here", "difference", "95 % interval", "verdict"]]
    for row in rows:
        theirs = [f"{row[side]:.1f}" if row[side] is not None else "–" for side in ("paper_one", "paper_two")]
        runs = f" ({row['runs_one']} and {row['runs_two']} runs)" if max(row["runs_one"], row["runs_two"]) > 1 else ""
        cells.append([
            row["claim"], row["section"], row["family"] + runs, row["metric"].removesuffix("_error").replace("_", " "),
            " → ".join(theirs), f"{row['one']:.1f} → {row['two']:.1f}", f"{row['difference']:+.1f}",
            f"{row['low']:+.1f} … {row['high']:+.1f}", row["verdict"],
        ])  # fmt: skip
    return cells
