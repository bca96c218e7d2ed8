"""Reads every file of a data set once: what would be refused or scored wrongly, and what is odd.

An error ends the check with exit code 1: a file that cannot be read, or files that contradict each
other. What a note tells of is read and scored as it stands, but is worth knowing. Of ILSVRC's
annotations only val's are read, as everywhere else.
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
from cam_repro.data.ilsvrc import Tree
from cam_repro.data.ilsvrc_lists import by_listed_name, read_image_set
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
PUBLISHED_IMAGES = {  # a file of configs/data -> the images of all its splits together
    "tinyimagenet": 109_993,  # without the 7 of train that stand in val too
    "stanford40": 9_532,
    "scene15": 4_485,
    "caltech101": 8_677,
    "cub": 11_788,
}
SHOWN = 3  # examples of each kind on the screen; the report has them all


class Summary(NamedTuple):
    """What a split has: images, how many of each class, boxes, and what was found."""

    images: int
    classes: Counter[str]
    boxes: int
    findings: list[Finding]


def check(config: Config) -> None:
    """Prints what is wrong with config.data, and writes all of it to check.txt.

    Raises UserError where something is wrong.
    """
    data = config.data
    layout = find_layout(data)
    start = time.perf_counter()
    names = layout.splits() if data.boxes is None else [data.split]
    splits = {name: check_split(data, layout, name) for name in names}
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
        if not split.images:  # a note, since the other split is enough for some work
            findings.append(("no images", name))
        boxes = f", {split.boxes:,} boxes" if split.boxes else ""
        classes = f"{split.images:,} images of {len(split.classes):,} classes"
        overview.append(f"  {name:5} {classes}{boxes}")
        findings += split.findings
    published = PUBLISHED_IMAGES.get(data.name, images)
    if images != published:
        findings.append(("wrong count", f"{images:,} images, expected {published:,}"))
    findings = list(dict.fromkeys(findings))  # what was passed over is said of each split
    everything = [*overview, *_listing(findings, None), *_class_table(layout, splits)]
    path = Path(config.runs) / data.name / "check.txt"
    report = write_text(path, "\n".join(everything) + "\n")
    print("\n".join([*overview, *_listing(findings, SHOWN)]))
    rate = images / seconds
    print(
        f"{images:,} images read in {seconds:.1f} s ({rate:,.0f} a second); "
        f"everything found: {report}"
    )
    errors = sum(kind in ERRORS for kind, _ in findings)
    if errors:
        raise UserError(
            f"errors in the data at {data.root}: {errors}, listed in {report}; "
            "mend or fetch these files again"
        )


def _class_table(layout: Layout, splits: dict[str, Summary]) -> list[str]:
    """How many images each class has in each split, a class a line."""
    header = "".join(f"{name:>8}" for name in splits)
    table = ["", f"{'class':12}{header}"]
    for wnid, name in zip(layout.wnids, layout.words, strict=True):
        counts = [split.classes[wnid] for split in splits.values()]
        columns = "".join(f"{count:>8}" for count in counts)
        table.append(f"{wnid:12}{columns}  {name}")
    return table


def check_split(data: DataConfig, layout: Layout, split: str) -> Summary:
    """Checks everything about a split of a data set."""
    findings: list[Finding] = []
    if isinstance(layout, Tree):
        if not layout.files(split):
            return Summary(0, Counter(), 0, [])
        findings += _listed_and_there(layout, split)
        listing = layout.listing(split, listed_only=False)
    else:
        listing = layout.listing(split)
    for kind, names in listing.remarks.items():
        findings += [(kind, name) for name in names]
    sources = find_sources(data, layout, split)
    of_boxes = [source for source in sources.boxes if _can_be_read(source, findings)]
    of_classes = [source for source in sources.classes if _can_be_read(source, findings)]
    sources = Sources(of_boxes, of_classes, sources.with_difficult)
    annotations = Annotations(listing, sources)
    findings += annotations.shared() + annotations.without_image()
    has_boxes = bool(sources.boxes)

    def check_one(image: int) -> tuple[Truth, list[Finding]]:
        return _check_image(listing, annotations, image, has_boxes)

    classes: Counter[str] = Counter()
    boxes = 0
    count = len(listing.images)
    checked = in_threads(check_one, range(count))
    bar = tqdm(checked, f"checking {split}", count, unit=" images", leave=False, disable=None)
    for truth, found in bar:
        findings += found
        boxes += len(truth.boxes)
        if truth.label >= 0:
            classes[listing.wnids[truth.label]] += 1
    findings += _wrong_counts(data, split, count, classes, listing.wnids)
    return Summary(count, classes, boxes, findings)


def _listed_and_there(layout: Tree, split: str) -> list[Finding]:
    """Where a list of ImageSets and the images on the disk differ."""
    image_set = layout.image_set(split)
    findings: list[Finding] = []
    if not image_set.is_file():
        return findings
    with _noting("unreadable list", image_set, image_set.name, findings):
        file_of = by_listed_name(layout.files(split))
        listed = dict.fromkeys(read_image_set(image_set))
        for name in listed:
            if name not in file_of:
                findings.append(("listed image missing", name))
        for name, file in file_of.items():
            if name not in listed:
                findings.append(("image not listed", file))
    return findings


def _can_be_read(source: Source, findings: list[Finding]) -> bool:
    """Whether a source of annotations can be read; if not, a finding says why."""
    with _noting("unreadable list", source.path, source.path.name, findings):
        return bool(source.known)
    return False


@contextmanager
def _noting(kind: str, path: Path, name: str, findings: list[Finding]) -> Iterator[None]:
    """Makes a finding of a file that is refused in the block, and lets the check go on."""
    try:
        yield
    except (UserError, CorruptImage) as error:
        reason = str(error).removeprefix(f"{path}").lstrip(":, ")
        findings.append((kind, f"{name}: {reason}"))


def _check_image(
    listing: Listing, annotations: Annotations, image: int, has_boxes: bool
) -> tuple[Truth, list[Finding]]:
    """Class and boxes of one image, and what was found in it and its annotations."""
    file = listing.file(image)
    path = listing.images.path(image)
    findings: list[Finding] = []
    is_whole = False  # both the image and its annotation
    with _noting("unreadable image", path, file, findings):
        content = listing.images.content(image)
        _, oddities = examine(path, listing.upright, content)
        for kind, what in oddities.items():
            findings.append((kind, f"{file}: {what}"))
        is_whole = True
    truth = Truth(int(listing.labels[image]))
    if not annotations.sources:
        return truth, findings
    try:
        truth = annotations.truth(image)
    except CorruptImage:
        pass  # a finding already
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
    for why, count in truth.left_out.items():
        findings.append(("box left out", f"{file}: {count} {why}"))
    return truth, findings


def _wrong_counts(
    data: DataConfig, split: str, images: int, classes: Counter[str], wnids: list[str]
) -> Iterator[Finding]:
    """Where ILSVRC's known numbers are not met, and which classes of other data have no image."""
    if data.name == "ilsvrc" and len(wnids) == 1000:
        expected = ILSVRC_IMAGES[split]
        if images != expected:
            yield "wrong count", f"{split}: {images:,} images, expected {expected:,}"
        usual = ILSVRC_IMAGES_A_CLASS[split]
        for wnid in wnids:
            count = classes[wnid]
            if count not in usual:
                found = f"{split} {wnid}: {count} images"
                yield "wrong count", f"{found}, expected {usual[0]} to {usual[-1]}"
        return
    empty = [wnid for wnid in wnids if not classes[wnid]]
    if empty:
        found = f"{len(empty)} of {len(wnids)}, first {empty[0]}"
        yield "class without images", f"{split}: {found}"


def _listing(findings: list[Finding], most: int | None) -> list[str]:
    """The findings by kind, errors first, at most so many of each kind."""
    by_kind = defaultdict(list)
    for kind, what in findings:
        by_kind[kind].append(_printable(what))
    errors = sorted(by_kind.keys() & ERRORS)
    notes = sorted(by_kind.keys() - ERRORS)
    lines = []
    for title, kinds in (("errors", errors), ("notes", notes)):
        total = sum(len(by_kind[kind]) for kind in kinds)
        lines.append(f"{title}: {total:,}")
        for kind in kinds:
            found = by_kind[kind]
            lines.append(f"  {len(found):7,} {kind}")
            lines += [f"          {what}" for what in found[:most]]
            if most is not None and len(found) > most:
                lines.append("          …")
    return lines


def _printable(text: str) -> str:
    """The text with other signs written out, since a file's name may hold any byte."""
    signs = [sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text]
    return "".join(signs)
