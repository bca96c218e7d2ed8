"""The records of evaluations, read back for tables, claims, figures and the report page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cam_repro.evaluation.record import kind_of, read_record, record_files


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
    given = {key: value for key, value in (usual | record).items() if key in Result.__annotations__}
    return Result(path=path, kind=kind_of(path, record), **given)
