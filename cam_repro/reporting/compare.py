"""Two results on the same images: the differences of their metrics, each with its paired interval."""

from pathlib import Path

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.localization.errors import differences, summarise
from cam_repro.reporting.results import read_judgements, read_record


def compare(config: Config) -> dict[str, tuple[float, float, float]]:
    """Print and return b − a of every metric of two localization results, with its interval, in percentage points.

    Raises UserError for results without judgements, or of other images than each other's.
    """
    if config.a is None or config.b is None:
        raise UserError("a= and b= are needed: make compare a=results/…/localization-cam-paper.json b=…")
    paths = Path(config.a), Path(config.b)
    images = [
        f"data={record['data']} ({record['provenance']['data']}), {record.get('loc_images')} of them for localization"
        for record in map(read_record, paths)
    ]
    judged = [read_judgements(path) for path in paths]
    if images[0] != images[1]:
        raise UserError(f"a= and b= are of other images: {' against '.join(images)}; evaluate one like the other")
    one, two, found = *map(summarise, judged), differences(judged[:1], judged[1:])
    print(f"a: {config.a}\nb: {config.b}\n{len(judged[0].counted)} images, the same for both: {images[0]}")
    for metric, (difference, low, high) in found.items():
        values = f"a {one[metric]:6.2f} %   b {two[metric]:6.2f} %   b - a {difference:+6.2f}"
        print(f"  {metric:20} {values}   95 % interval {low:+.2f} … {high:+.2f}")
    return found
