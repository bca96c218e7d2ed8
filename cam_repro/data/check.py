"""Every file of a data set read once: what would be refused or scored wrongly, and what is odd.

An error ends the check with exit code 1: a file that cannot be read, or files that contradict each
other. A note is read and scored as it stands, but is worth knowing. Of ILSVRC's annotations only
val's are read, as in all the rest.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config, DataConfig
from cam_repro.cores import in_threads
from cam_repro.data import find_layout, find_sources
from cam_repro.data.annotations import Source
from cam_repro.data.ground_truth import CONTRADICTIONS, Annotations, Finding, Truth
from cam_repro.data.ilsvrc import Tree, by_listed_name, read_image_set
from cam_repro.data.images import CorruptImage, examine
from cam_repro.data.layout import Layout, Listing, Sources
from cam_repro.files import write_text

ERRORS = (
    "unreadable image",
    "unreadable annotation",
    "unreadable list",
    "listed image missing",
    "unknown class",
    "image without annotation",
    "wrong count",
    *CONTRADICTIONS,
)
ILSVRC_IMAGES = {"train": 1_281_167, "val": 50_000}
ILSVRC_IMAGES_A_CLASS = {"train": range(732, 1301), "val": range(50, 51)}
SHOWN = 3  # examples of each kind on the screen; the report has them all


class Summary(NamedTuple):
    """One split: how many images, of which classes, how many boxes, and what was found."""

    images: int
    classes: Counter[str]
    boxes: int
    findings: list[Finding]


def check(config: Config) -> None:
    """Print what is wrong with config.data, and write all of it to check.txt.

    Raises UserError where something is wrong.
    """
    data = config.data
    layout = find_layout(data)
    start = time.perf_counter()
    splits = {name: check_split(data, layout, name) for name in layout.splits()}
    seconds = time.perf_counter() - start

    images = sum(split.images for split in splits.values())
    if not images:
        raise UserError(
            f"the tree at {data.root} holds no images (*.JPEG) in train or val; see data.root="
        )
    overview = [f"{data.name} at {data.root}"]
    if layout.found:
        overview.append(f"  {layout.found}")
    findings = []
    for name, split in splits.items():
        if not split.images:  # the other one is enough for some work
            findings.append(("no images", name))
        boxes = f", {split.boxes:,} boxes" if split.boxes else ""
        classes = f"{split.images:,} images of {len(split.classes):,} classes"
        overview.append(f"  {name:5} {classes}{boxes}")
        findings += split.findings
    findings = list(dict.fromkeys(findings))  # what was passed over is said of train and of val
    header = f"{'class':12}" + "".join(f"{name:>8}" for name in splits)
    table = ["", header]
    for wnid, name in zip(layout.wnids, layout.words, strict=True):
        counts = "".join(f"{split.classes[wnid]:>8}" for split in splits.values())
        table.append(f"{wnid:12}{counts}  {name}")
    everything = [*overview, *_listing(findings, None), *table]
    report = write_text(Path(config.runs) / data.name / "check.txt", "\n".join(everything) + "\n")
    print("\n".join([*overview, *_listing(findings, SHOWN)]))
    rate = f"{images:,} images read in {seconds:.1f} s ({images / seconds:,.0f} a second)"
    print(f"{rate}; everything found: {report}")
    if errors := sum(kind in ERRORS for kind, _ in findings):
        raise UserError(
            f"errors in the data at {data.root}: {errors}, listed in {report}; "
            "mend or fetch these files again"
        )


def check_split(data: DataConfig, layout: Layout, split: str) -> Summary:
    """Everything about a split of a data set."""
    findings: list[Finding] = []
    if isinstance(layout, Tree):
        if not layout.files(split):
            return Summary(0, Counter(), 0, [])
        findings += _listed_and_there(layout, split)
        listing = layout.listing(split, listed_only=False)
    else:
        listing = layout.listing(split)
    findings += [(kind, name) for kind, names in listing.remarks.items() for name in names]
    sources = find_sources(data, layout, split)
    sources = Sources(
        [source for source in sources.boxes if _can_be_read(source, findings)],
        [source for source in sources.classes if _can_be_read(source, findings)],
        sources.with_difficult,
    )
    annotations = Annotations(listing, sources)
    findings += annotations.shared() + annotations.without_image()
    has_boxes = bool(sources.boxes)

    def look_at(image: int) -> tuple[Truth, list[Finding]]:
        return _look_at(listing, annotations, image, has_boxes)

    classes: Counter[str] = Counter()
    boxes = 0
    looked_at = in_threads(look_at, range(len(listing.images)))
    count = len(listing.images)
    for truth, found in tqdm(
        looked_at, f"checking {split}", count, unit=" images", leave=False, disable=None
    ):
        findings += found
        boxes += len(truth.boxes)
        if truth.label >= 0:
            classes[listing.wnids[truth.label]] += 1
    findings += _wrong_counts(data, split, count, classes, listing.wnids)
    return Summary(count, classes, boxes, findings)


def _listed_and_there(layout: Tree, split: str) -> list[Finding]:
    """Where a list of ImageSets and the images that are there differ."""
    image_set = layout.image_set(split)
    findings: list[Finding] = []
    if not image_set.is_file():
        return findings
    with _noting("unreadable list", image_set, image_set.name, findings):
        there = by_listed_name(layout.files(split))
        listed = dict.fromkeys(read_image_set(image_set))
        findings += [("listed image missing", name) for name in listed if name not in there]
        unlisted = [file for name, file in there.items() if name not in listed]
        findings += [("image not listed", file) for file in unlisted]
    return findings


def _can_be_read(source: Source, findings: list[Finding]) -> bool:
    with _noting("unreadable list", source.path, source.path.name, findings):
        return bool(source.known)
    return False


@contextmanager
def _noting(kind: str, path: Path, name: str, findings: list[Finding]) -> Iterator[None]:
    """A file that is refused in the block is a finding, and the check goes on."""
    try:
        yield
    except (UserError, CorruptImage) as error:
        findings.append((kind, f"{name}: " + str(error).removeprefix(f"{path}").lstrip(":, ")))


def _look_at(
    listing: Listing, annotations: Annotations, image: int, has_boxes: bool
) -> tuple[Truth, list[Finding]]:
    """One image and its annotations: class and boxes, and what was found."""
    file = listing.file(image)
    path = listing.images.path(image)
    findings: list[Finding] = []
    is_whole = False  # the image and its annotation
    with _noting("unreadable image", path, file, findings):
        _, oddities = examine(path, listing.upright, listing.images.content(image))
        findings += [(kind, f"{file}: {what}") for kind, what in oddities.items()]
        is_whole = True
    truth = Truth(int(listing.labels[image]))
    if not annotations.sources:
        return truth, findings
    try:
        truth = annotations.truth(image)
    except CorruptImage:
        pass  # it is said above
    except UserError as error:
        findings.append(("unreadable annotation", str(error)))
        is_whole = False
    findings += truth.findings
    if truth.unknown:
        findings.append(("unknown class", f"{file}: {truth.unknown} is none of the classes"))
    elif truth.label < 0 and is_whole:
        findings.append(("image without annotation", file))
    elif has_boxes and not truth.boxes:
        findings.append(("image without box", f"{file}: counts for classification only"))
    findings += [
        ("box left out", f"{file}: {count} {why}") for why, count in truth.left_out.items()
    ]
    return truth, findings


def _wrong_counts(
    data: DataConfig, split: str, images: int, classes: Counter[str], wnids: list[str]
) -> Iterator[Finding]:
    """Against ILSVRC's known numbers; of another data set only which classes have none."""
    if data.name == "ilsvrc" and len(wnids) == 1000:
        if images != ILSVRC_IMAGES[split]:
            yield "wrong count", f"{split}: {images:,} images, expected {ILSVRC_IMAGES[split]:,}"
        usual = ILSVRC_IMAGES_A_CLASS[split]
        for wnid in wnids:
            if classes[wnid] not in usual:
                found = f"{split} {wnid}: {classes[wnid]} images"
                yield "wrong count", f"{found}, expected {usual[0]} to {usual[-1]}"
        return
    empty = [wnid for wnid in wnids if not classes[wnid]]
    if empty:
        yield "class without images", f"{split}: {len(empty)} of {len(wnids)}, first {empty[0]}"


def _listing(findings: list[Finding], most: int | None) -> list[str]:
    """The findings by kind, errors first, at most so many of each kind."""
    by_kind = defaultdict(list)
    for kind, what in findings:
        # Any byte may be in a file's name.
        printable = [sign if sign.isprintable() else ascii(sign)[1:-1] for sign in what]
        by_kind[kind].append("".join(printable))
    lines = []
    for title, kinds in (("errors", by_kind.keys() & ERRORS), ("notes", by_kind.keys() - ERRORS)):
        lines.append(f"{title}: {sum(len(by_kind[kind]) for kind in kinds):,}")
        for kind in sorted(kinds):
            found = by_kind[kind]
            lines.append(f"  {len(found):7,} {kind}")
            lines += [f"          {what}" for what in found[:most]]
            if most is not None and len(found) > most:
                lines.append("          …")
    return lines
