"""Two records on the same images: the differences of their metrics, each with its paired interval."""

from pathlib import Path

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.evaluation.record import kind_of, read_record, read_shares
from cam_repro.localization.intervals import differences, percentages


def compare(config: Config) -> dict[str, tuple[float, float, float]]:
    """Print and return b − a of every metric of two records, with its interval, in percentage
    points.

    Raises UserError for records without what was right on each image, of different kinds, or of
    other images than each other's.
    """
    if config.a is None or config.b is None:
        one, two = (f"results/shapes/{name}/localization-cam-paper.json" for name in ("one", "two"))
        raise UserError(f"a= and b= are needed: make compare a={one} b={two}")
    paths = (Path(config.a), Path(config.b))
    images = []
    kinds = []
    shares = []
    for path in paths:
        record = read_record(path)
        counted = record.get("loc_images", record["images"])
        data = f"data={record['data']} ({record['provenance']['data']})"
        images.append(f"{data}, {record['images']} images, {counted} of them counted")
        kinds.append(kind_of(path, record))
        shares.append(read_shares(path))
    if kinds[0] != kinds[1]:
        raise UserError(f"a= is a record of {kinds[0]}, b= of {kinds[1]}; give two of a kind")
    if images[0] != images[1]:
        raise UserError(
            f"a= and b= are of other images: {' against '.join(images)}; evaluate one like the other"
        )
    of_a = percentages(shares[0])
    of_b = percentages(shares[1])
    found = differences(shares[:1], shares[1:])
    print(f"a: {config.a}\nb: {config.b}\nthe same images for both: {images[0]}")
    for metric, (difference, low, high) in found.items():
        values = f"a {of_a[metric]:6.2f} %   b {of_b[metric]:6.2f} %   b - a {difference:+6.2f}"
        print(f"  {metric:28} {values}   95 % interval {low:+.2f} … {high:+.2f}")
    return found
