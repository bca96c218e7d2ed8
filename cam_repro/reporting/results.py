"""Results of evaluations: read back from records, compared, and what they say of each image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data import Split
from cam_repro.data.split import load_arrays
from cam_repro.evaluation.record import kind_of, read_record, read_shares, record_files
from cam_repro.localization.intervals import differences, percentages

EXPLANATIONS = ("pointing", "faithfulness", "randomisation")  # kinds of the table of methods
MATRIX_CLASSES = 30  # more do not fit beside each other on a page
PAIRS_SHOWN = 20


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
    known = usual | record
    given = {key: known[key] for key in Result.__annotations__ if key in known}
    return Result(path=path, kind=kind_of(path, record), **given)


# Results that can be compared.


def refuse_mixtures(runs: Sequence[Result]) -> None:
    """UserError for the first two of other images, or of other settings under one protocol's name.

    Equal baselines show that the images are the same ones. Of the costly metrics there may be
    several draws of images, of which a table takes one.
    """
    first_of_kind: dict[tuple[str, object], Result] = {}
    first_of_protocol: dict[tuple[str, str], Result] = {}
    for run in runs:
        drawn = run.protocol.get("images") if run.kind in EXPLANATIONS else None
        first = first_of_kind.setdefault((run.kind, drawn), run)
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


# What a classification answered for each image.


@dataclass(frozen=True)
class Answers:
    """What a network said of N images.

    labels (N,) and guesses (N,G), the best first, in the network's numbers of classes; names (C,)
    of these, no two the same.
    """

    labels: np.ndarray
    guesses: np.ndarray
    names: list[str]

    @property
    def right(self) -> np.ndarray:
        """(N,): whether the best guess is the image's class."""
        return self.guesses[:, 0] == self.labels


def read_answers(result: Result, split: Split, words: Sequence[str]) -> Answers:
    """What a classification of the split's images found, from the .npz beside its JSON.

    The split has the network's classes, whose words (C,) are given. Raises UserError where the file
    is not there, or of other images.
    """
    path = result.path.with_suffix(".npz")
    arrays = load_arrays(path)
    same_files = np.array_equal(arrays.get("files"), split.files)
    same_labels = np.array_equal(arrays.get("labels"), split.labels)
    if not (same_files and same_labels and "classes" in arrays):
        raise UserError(
            f"{path}, which class each image was taken for, is not there, damaged or of other "
            "images; evaluate again with force=true"
        )
    return Answers(arrays["labels"], arrays["classes"], class_names(words, split.wnids))


def class_names(words: Sequence[str], wnids: Sequence[str]) -> list[str]:
    """The first name of each class, with its wnid where another has the same, as ILSVRC's crane."""
    firsts = [first_name(of_class) for of_class in words]
    names = []
    for name, wnid in zip(firsts, wnids, strict=True):
        names.append(f"{name} ({wnid})" if firsts.count(name) > 1 else name)
    return names


def first_name(words: str) -> str:
    """Of a class: the first of its names, as "ladybird" of "ladybird, ladybug"."""
    return words.split(",")[0]


class ConfusionMatrix(NamedTuple):
    """columns: classes; rows: a class, and how many of its images were taken for each column's."""

    columns: list[str]
    rows: list[tuple[str, list[int]]]


def confusion_matrix(answers: Answers) -> ConfusionMatrix | None:
    """Of the images' classes, a row and a column each; None where they do not fit on a page.

    A last column is for any other answer, such as a network of 1000 classes has to images of ten.
    """
    classes = np.unique(answers.labels)
    if len(classes) > MATRIX_CLASSES:
        return None
    counts = np.zeros((len(classes), len(classes) + 1), int)
    for row, label in enumerate(classes):
        guesses = answers.guesses[answers.labels == label, 0]
        counts[row, :-1] = (guesses[:, None] == classes).sum(0)
        counts[row, -1] = len(guesses) - counts[row].sum()
    names = [answers.names[label] for label in classes]
    columns = [*names, "any other class"]
    if not counts[:, -1].any():
        columns.pop()
        counts = counts[:, :-1]
    return ConfusionMatrix(columns, list(zip(names, counts.tolist(), strict=True)))


def confused_pairs(answers: Answers) -> list[list[str]]:
    """Which class was taken for which other how often, most frequent first, below a heading."""
    wrong = ~answers.right
    if not wrong.any():
        return []
    labels = answers.labels[wrong]
    wrong_answers = np.stack([labels, answers.guesses[wrong, 0]], axis=1)
    pairs, counts = np.unique(wrong_answers, axis=0, return_counts=True)
    cells = [["true class", "taken for", "images", "of the class’s images"]]
    for place in np.argsort(-counts, kind="stable")[:PAIRS_SHOWN]:
        label, guess = pairs[place]
        share = 100 * counts[place] / (answers.labels == label).sum()
        names = [answers.names[label], answers.names[guess]]
        cells.append([*names, str(counts[place]), f"{share:.1f} %"])
    return cells
