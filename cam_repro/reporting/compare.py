"""Two results on the same images: the differences of their metrics, each with its paired interval."""

from __future__ import annotations

from pathlib import Path

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data import load_split
from cam_repro.distributed import join_world
from cam_repro.evaluation.score import image_sizes, scored_file
from cam_repro.localization.errors import difference_intervals, summarise
from cam_repro.reporting.results import predictions_of, read_record


def compare(config: Config) -> dict[str, tuple[float, list[float]]]:
    """Print and return b − a of every error that the guesses beside two localization results decide, with its interval.

    In percentage points. Raises UserError for results without guesses, or of other images than the data's.
    """
    if config.a is None or config.b is None:
        raise UserError("a= and b= are needed: make compare a=results/…/localization-cam-paper.json b=…")
    with join_world("cpu") as world:
        split = load_split(config.data, "val", Path(config.cache), world)
    fingerprint, sizes, scored = split.fingerprint(), image_sizes(split), []
    for path in (Path(config.a), Path(config.b)):
        record, guesses = read_record(path), predictions_of(path)
        found = record["data"], record["provenance"]["data"]
        if found != (config.data.name, fingerprint):
            raise UserError(
                f"{path} is of other images, data={found[0]} ({found[1]}), than data={config.data.name} is now "
                f"({fingerprint}); give its data=, or evaluate again"
            )
        if not guesses.is_file():
            raise UserError(f"{path} has no guesses beside it ({guesses.name}); give a localization-….json of boxes")
        scored.append(scored_file(config, guesses, record.get("labels", "mapping"), split, sizes))
    one, two, intervals = summarise(scored[0]), summarise(scored[1]), difference_intervals(*scored)
    print(f"a: {config.a}\nb: {config.b}\n{len(split)} images of {config.data.name}, the same for both:")
    for metric, (low, high) in intervals.items():
        values = f"a {one[metric]:6.2f} %   b {two[metric]:6.2f} %   b - a {two[metric] - one[metric]:+6.2f}"
        print(f"  {metric:20} {values}   95 % interval {low:+.2f} … {high:+.2f}")
    return {metric: (two[metric] - one[metric], interval) for metric, interval in intervals.items()}
