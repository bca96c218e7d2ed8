"""Results of evaluations: read back from records, compared, held against the paper's claims.

A claim of the paper names two subjects and the range in which the second's metric minus the first's
must lie. Both must be of one recipe; several runs of a network by it, of other seeds, stand for it
by their mean. A claim holds where the 95 % interval of the difference, paired over images and,
where there are several runs, redrawn over them, lies in that range; is contradicted where it lies
wholly outside; else undecided. One run of each speaks of these two networks as they were trained,
not of all such.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, mode
from typing import Any, NamedTuple

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.evaluation.record import (
    kind_of,
    read_correctness,
    read_record,
    read_shares,
    record_files,
)
from cam_repro.localization.errors import summarise
from cam_repro.localization.intervals import differences, percentages
from cam_repro.reporting import paper
from cam_repro.reporting.paper import Claim, Subject

# Of a training: what two runs by one recipe may differ in.
NOT_OF_THE_RECIPE = {"seed", "commit", "epochs_done", "compile"}


@dataclass(frozen=True)
class Result:
    """One evaluation, read from `path` and checked."""

    path: Path
    kind: str  # a key of METRIC_NAMES
    model: str
    name: str  # of the run: the network's, unless it was given another
    method: str
    data: str
    split: str
    images: int
    loc_images: int  # how many of them count for localization
    input_size: int  # pixels a side of what the network saw
    interpolation: str  # by which images were shrunk to that
    protocol: dict[str, Any]
    metrics: dict[str, float | None]
    confidence: dict[str, list[float]]
    thresholds: dict[str, float]  # of MaxBoxAcc: the best ones for the whole data set; else empty
    provenance: dict[str, Any]

    def interval(self, metric: str) -> tuple[float, float] | tuple[None, None]:
        """The ends of a metric's 95 % interval, where it has one."""
        return tuple(self.confidence.get(metric) or (None, None))

    @property
    def has_papers_weights(self) -> bool:
        """Whether it is a network of the paper not trained here, which only Caffe's files give."""
        return self.model in paper.CAFFE and not self.provenance.get("training")


def read_results(folder: Path, split: str = "val") -> list[Result]:
    """Every result of `results/<data>/` on a split, classifications first.

    Where there are results of one other split alone, as of a folder that has train/ and test/,
    these are meant. Raises UserError for the first file that is unfit.
    """
    results = [_result(path) for path in record_files(folder)]
    splits = {result.split for result in results}
    if split not in splits and len(splits) == 1:
        return results
    return [result for result in results if result.split == split]


def _result(path: Path) -> Result:
    record = read_record(path)
    usual = {"thresholds": {}, "loc_images": record["images"], "name": record["model"]}
    given = {key: value for key, value in (usual | record).items() if key in Result.__annotations__}
    return Result(path=path, kind=kind_of(path, record), **given)


# Results that can be compared.


def refuse_mixtures(runs: Sequence[Result]) -> None:
    """UserError for the first two of other images, or of other settings under one protocol's name.

    Equal baselines show that the images are the same ones.
    """
    first_of_kind: dict[str, Result] = {}
    first_of_protocol: dict[tuple[str, str], Result] = {}
    for run in runs:
        first = first_of_kind.setdefault(run.kind, run)
        _refuse_unlike(first, run, _images_of(first), _images_of(run))
        first = first_of_protocol.setdefault((run.kind, run.protocol["name"]), run)
        _refuse_unlike(first, run, _settings_of(first), _settings_of(run))


def _images_of(run: Result) -> dict[str, object]:
    """What two results of the same images agree in."""
    facts: dict[str, object] = {"data": run.data, "split": run.split, "images": run.images}
    if run.kind != "classification":
        facts["loc_images"] = run.loc_images
        facts["blacklist"] = run.provenance.get("blacklist") or "none"
        for metric, value in run.metrics.items():
            if metric.startswith("baseline_"):
                facts[metric] = value
    return facts


def _settings_of(run: Result) -> dict[str, object]:
    return {f"protocol.{key}": value for key, value in run.protocol.items()}


def _refuse_unlike(
    first: Result, run: Result, facts: Mapping[str, object], of_run: Mapping[str, object]
) -> None:
    unlike = []
    for key in sorted({*facts, *of_run}):
        expected = facts.get(key)
        found = of_run.get(key)
        if found != expected:
            unlike.append(f"{key} ({expected} against {found})")
    if unlike:
        raise UserError(
            f"{first.path} and {run.path} cannot share a table, they differ in "
            f"{', '.join(unlike)}; evaluate one like the other, or keep it in a folder of its own "
            "with results="
        )


def compare(config: Config) -> dict[str, tuple[float, float, float]]:
    """Print and return b − a of every metric of two records, with its interval, in points.

    Raises UserError for records without what was right on each image, of different kinds, or of
    other images than each other's.
    """
    if config.a is None or config.b is None:
        one = "results/shapes/one/localization-cam-paper.json"
        two = "results/shapes/two/localization-cam-paper.json"
        raise UserError(f"a= and b= are needed: make compare a={one} b={two}")
    images = []
    kinds = []
    shares = []
    for path in (Path(config.a), Path(config.b)):
        record = read_record(path)
        counted = record.get("loc_images", record["images"])
        data = f"data={record['data']} ({record['provenance']['data']})"
        images.append(f"{data}, {record['images']} images, {counted} of them counted")
        kinds.append(kind_of(path, record))
        shares.append(read_shares(path))
    if kinds[0] != kinds[1]:
        raise UserError(f"a= is a record of {kinds[0]}, b= of {kinds[1]}; give two of a kind")
    if images[0] != images[1]:
        both = " against ".join(images)
        raise UserError(f"a= and b= are of other images: {both}; evaluate one like the other")
    of_a = percentages(shares[0])
    of_b = percentages(shares[1])
    found = differences(shares[:1], shares[1:])
    print(f"a: {config.a}\nb: {config.b}\nthe same images for both: {images[0]}")
    for metric, (difference, low, high) in found.items():
        values = f"a {of_a[metric]:6.2f} %   b {of_b[metric]:6.2f} %   b - a {difference:+6.2f}"
        print(f"  {metric:28} {values}   95 % interval {low:+.2f} … {high:+.2f}")
    return found


# Results beside the paper's claims.


class JudgedClaim(NamedTuple):
    """A claim, and what was measured of its two subjects by one recipe; a line of claims.csv."""

    claim: str
    section: str
    family: str
    recipe: str
    metric: str
    paper_one: float | None
    paper_two: float | None
    one: float
    two: float
    runs_one: int
    runs_two: int
    difference: float
    low: float
    high: float
    verdict: str


def judged_claims(runs: Sequence[Result]) -> list[JudgedClaim]:
    """Each claim of each family and recipe that has two results of the same images."""
    judged = []
    for family, networks in paper.FAMILIES.items():
        by_recipe = _by_recipe([run for run in runs if run.model in networks.values()])
        for recipe in sorted(by_recipe):
            for claim in paper.CLAIMS:
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
) -> JudgedClaim | None:
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
    return JudgedClaim(
        claim=claim.says,
        section=claim.section,
        family=family,
        recipe=recipe,
        metric=metric,
        paper_one=claim.published(claim.one),
        paper_two=claim.published(claim.two),
        one=mean(summarise(run)[metric] for run in of_ones),
        two=mean(summarise(run)[metric] for run in of_twos),
        runs_one=len(ones),
        runs_two=len(twos),
        difference=difference,
        low=low,
        high=high,
        verdict=verdict(low, high, claim.range),
    )


def verdict(low: float, high: float, within: tuple[float, float]) -> str:
    """Of the interval [low, high] of a difference and the range in which the claim wants it."""
    least, most = within
    if least < low and high < most:
        return "holds"
    return "contradicted" if high < least or low > most else "undecided"
