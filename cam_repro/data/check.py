"""Every file of a tree read once: what the reader would refuse or score wrongly (errors), and what is odd (notes).

An error ends the check with exit code 1: a file that cannot be read, or files that contradict each other. A note is
read and scored as it stands, but is worth knowing. Of ILSVRC's annotations only val's are read, as in all the rest.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config, DataConfig
from cam_repro.data import ilsvrc
from cam_repro.data.annotations import Box, Truth, read_annotation, read_solution
from cam_repro.data.images import CorruptImage, Examination, examine
from cam_repro.data.shapes import available_cores, follow_parent, make_shapes
from cam_repro.files import write_text

ERRORS = (
    "unreadable image", "unreadable annotation", "unreadable list", "listed image missing", "unknown class",
    "image without annotation", "annotation of another size", "reversed box", "box outside the image", "wrong count",
)  # fmt: skip
NOTES = (
    "doubtful JPEG data", "EXIF rotation", "not RGB", "not a JPEG", "box one pixel over the edge", "image without box",
    "annotation without size", "annotation without image", "image not listed", "class without images", "no images",
)  # fmt: skip
ILSVRC_IMAGES = {"train": 1_281_167, "val": 50_000}
ILSVRC_IMAGES_A_CLASS = {"train": range(732, 1301), "val": range(50, 51)}
SHOWN = 3  # examples of each kind on the screen; the report has them all


@dataclass(frozen=True)
class Finding:
    kind: str
    where: str  # a file, a class or a split
    what: str = ""

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.what else self.where
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)  # any byte may be in a file's name


@dataclass(frozen=True)
class Place:
    """Where a split's files are: all that a process needs to know beside an image's name."""

    split: str
    root: Path
    wnids: frozenset[str]
    with_xml: frozenset[str]  # stems of the XMLs there are


@dataclass(frozen=True)
class Seen:
    """One image: its class, none where unknown; its boxes; what was found."""

    wnid: str | None
    boxes: int
    findings: list[Finding]


@dataclass
class Summary:
    """One split: images of each class in the tree and in its list (none: there is no list); boxes; what was found."""

    split: str
    images: int
    findings: list[Finding]
    in_tree: Counter[str] = field(default_factory=Counter)
    listed: Counter[str] | None = None
    boxes: int = 0

    def add(self, image: Seen) -> None:
        if image.wnid is not None:
            self.in_tree[image.wnid] += 1
        self.boxes += image.boxes
        self.findings += image.findings


def check(config: Config) -> None:
    """Print what is wrong with config.data, write all of it to check.txt; raises UserError when something is."""
    data = config.data
    if data.generate is not None and data.root is not None:
        make_shapes(Path(data.root), data.generate.seed, data.generate.train, data.generate.val)
    root = ilsvrc.checked_root(data)
    wnids, words = ilsvrc.read_synset_mapping(ilsvrc.mapping_file(data))
    start = time.perf_counter()
    summaries = [check_split(data, root, split, wnids) for split in ("train", "val")]
    seconds = time.perf_counter() - start
    images = sum(summary.images for summary in summaries)
    if not images:
        raise UserError(f"the tree at {root} holds no images (*.JPEG) in train or val; see data.root=")
    findings = [finding for summary in summaries for finding in summary.findings]
    overview = _overview(data, root, summaries)
    report = write_text(
        Path(config.runs) / data.name / "check.txt",
        "\n".join([*overview, *_listing(findings, None), *_class_table(summaries, wnids, words)]) + "\n",
    )
    print("\n".join([*overview, *_listing(findings, SHOWN)]))
    print(f"{images:,} images read in {seconds:.1f} s ({images / seconds:,.0f} a second); everything found: {report}")
    if errors := sum(finding.kind in ERRORS for finding in findings):
        raise UserError(f"errors in the data at {root}: {errors}, listed in {report}; mend or fetch these files again")


def check_split(data: DataConfig, root: Path, split: str, wnids: list[str]) -> Summary:
    """Everything about the train or the val split of the tree at `root`, whose classes are `wnids`."""
    folder, of_val = ilsvrc.images_folder(root, split), split == "val"
    files = ilsvrc.scan_images(folder) if folder.is_dir() else []
    summary = Summary(split, len(files), [] if files else [Finding("no images", f"{folder}")])
    names = _check_list(root, split, files, summary) if files else None
    solution = _read_solution(root, summary) if of_val else {}
    with_xml = ilsvrc.names_in(ilsvrc.annotations_folder(root), ".xml") if of_val else set()
    if of_val and solution:
        summary.listed = Counter(wnid for wnid, _ in solution.values())
    elif not of_val and names is not None:
        summary.listed = Counter(name.partition("/")[0] for name in names)
    place = Place(split, root, frozenset(wnids), frozenset(with_xml))
    workers = available_cores() if data.workers is None else data.workers
    with closing(_see_all(place, files, solution, workers)) as images:
        for image in tqdm(images, f"checking {split}", len(files), unit=" images", leave=False, disable=None):
            summary.add(image)
    if files:  # one split alone is enough for some work
        summary.findings += _annotations_alone(files, with_xml, solution)
        summary.findings += _wrong_counts(data, summary, wnids)
    return summary


def _check_list(root: Path, split: str, files: list[str], summary: Summary) -> list[str] | None:
    """The names in the split's list, held against the files; none where there is no (readable) list."""
    image_set = ilsvrc.image_set_file(root, split)
    try:
        there = ilsvrc.by_listed_name(files)
        names = ilsvrc.read_image_set(image_set) if image_set.is_file() else None
    except UserError as error:
        summary.findings.append(Finding("unreadable list", image_set.name, str(error)))
        return None
    if names is not None:
        listed = set(names)
        summary.findings += [Finding("listed image missing", name) for name in names if name not in there]
        summary.findings += [Finding("image not listed", file) for name, file in there.items() if name not in listed]
    return names


def _read_solution(root: Path, summary: Summary) -> dict[str, Truth]:
    path = ilsvrc.solution_file(root)
    try:
        return read_solution(path)
    except UserError as error:
        summary.findings.append(Finding("unreadable list", path.name, str(error)))
        return {}


def _see_all(place: Place, files: list[str], solution: dict[str, Truth], workers: int) -> Generator[Seen, None, None]:
    """Every image, in the files' order, looked at by this process alone or by several."""
    jobs = ((file, solution.get(ilsvrc.stem_of(file))) for file in files)
    if workers < 2 or len(files) < 2:
        yield from map(partial(_see, place), jobs)
        return
    # fork, as for data=shapes: the children decode and parse, and wait for no lock of another thread.
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(workers, context, initializer=follow_parent)
    try:
        yield from pool.map(partial(_see, place), jobs, chunksize=32)
    except BrokenProcessPool:
        raise UserError("a checking process was ended from outside (out of memory?); try data.workers=1") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _see(place: Place, job: tuple[str, Truth | None]) -> Seen:
    """One image and its annotation; `job` is its name and what LOC_val_solution.csv says of it."""
    file, from_csv = job
    path = ilsvrc.images_folder(place.root, place.split) / file
    findings: list[Finding] = []
    size = None
    try:
        examination = examine(path)
        size = examination.size
        findings += [Finding(kind, file, what) for kind, what in _oddities(examination)]
    except CorruptImage as error:
        findings.append(Finding("unreadable image", file, str(error).removeprefix(f"{path}: ")))
    truth = _annotation_of(place, file, size, findings) or from_csv or ilsvrc.truth_from_folder(file)
    if truth is None:
        known = any(finding.kind == "unreadable annotation" for finding in findings)
        return Seen(None, 0, findings if known else [*findings, Finding("image without annotation", file)])
    wnid, boxes = truth
    if wnid not in place.wnids:
        findings.append(Finding("unknown class", file, f"{wnid or 'no name'} is not in the synset mapping"))
    if place.split == "val":
        findings += _box_findings(file, boxes, size)
    return Seen(wnid, len(boxes), findings)


def _oddities(image: Examination) -> Iterator[tuple[str, str]]:
    if image.doubt:
        yield "doubtful JPEG data", image.doubt
    if image.orientation != 1:
        yield "EXIF rotation", f"orientation {image.orientation}, ignored as the boxes do"
    if image.mode != "RGB":
        yield "not RGB", image.mode
    if image.format not in ("JPEG", "MPO"):
        yield "not a JPEG", image.format


def _annotation_of(place: Place, file: str, size: tuple[int, int] | None, findings: list[Finding]) -> Truth | None:
    """The truth in the image's XML, if it has a readable one with an object."""
    stem = ilsvrc.stem_of(file)
    if stem not in place.with_xml:
        return None
    path = ilsvrc.annotations_folder(place.root) / f"{stem}.xml"
    try:
        annotation = read_annotation(path)
    except UserError as error:
        findings.append(Finding("unreadable annotation", path.name, str(error).removeprefix(f"{path} ")))
        return None
    if annotation.size is None:
        findings.append(Finding("annotation without size", path.name))
    elif size is not None and annotation.size != size:
        said, stored = ("×".join(map(str, pair)) for pair in (annotation.size, size))
        findings.append(Finding("annotation of another size", path.name, f"says {said}, the image has {stored}"))
    return annotation.truth()


def _box_findings(file: str, boxes: list[Box], size: tuple[int, int] | None) -> Iterator[Finding]:
    if not boxes:
        yield Finding("image without box", file, "counts for classification only")
    for x1, y1, x2, y2 in boxes:
        where = f"box {x1} {y1} {x2} {y2}"
        if x2 < x1 or y2 < y1:
            yield Finding("reversed box", file, where)
        elif size is None:
            continue
        elif x1 < 0 or y1 < 0 or x2 > size[0] or y2 > size[1]:
            yield Finding("box outside the image", file, f"{where}, image {size[0]}×{size[1]}")
        elif x2 == size[0] or y2 == size[1]:
            yield Finding("box one pixel over the edge", file, f"{where}, image {size[0]}×{size[1]}")


def _annotations_alone(files: list[str], with_xml: set[str], solution: dict[str, Truth]) -> Iterator[Finding]:
    stems = {ilsvrc.stem_of(file) for file in files}
    for stem in sorted(with_xml - stems):
        yield Finding("annotation without image", f"{stem}.xml")
    for stem in sorted(solution.keys() - stems - with_xml):
        yield Finding("annotation without image", stem, "in LOC_val_solution.csv")


def _wrong_counts(data: DataConfig, summary: Summary, wnids: list[str]) -> Iterator[Finding]:
    """Against ILSVRC's known numbers; of another data set only which classes have none."""
    split, is_ilsvrc = summary.split, data.name == "ilsvrc" and len(wnids) == 1000
    if is_ilsvrc and summary.images != ILSVRC_IMAGES[split]:
        yield Finding("wrong count", split, f"{summary.images:,} images, expected {ILSVRC_IMAGES[split]:,}")
    usual = ILSVRC_IMAGES_A_CLASS[split]
    for wnid in wnids if is_ilsvrc else ():
        if (count := summary.in_tree[wnid]) not in usual:
            yield Finding("wrong count", f"{split} {wnid}", f"{count} images, expected {usual[0]} to {usual[-1]}")
    empty = [wnid for wnid in wnids if not summary.in_tree[wnid]]
    if empty and not is_ilsvrc:
        yield Finding("class without images", split, f"{len(empty)} of {len(wnids)}, first {empty[0]}")


def _overview(data: DataConfig, root: Path, summaries: list[Summary]) -> list[str]:
    lines = [f"{data.name} at {root}"]
    for summary in summaries:
        boxes = f", {summary.boxes:,} boxes" if summary.split == "val" else ""
        lines.append(f"  {summary.split:5} {summary.images:,} images of {len(summary.in_tree):,} classes{boxes}")
    return lines


def _listing(findings: list[Finding], most: int | None) -> list[str]:
    """The findings by kind, errors first, at most so many of each kind."""
    by_kind = defaultdict(list)
    for finding in findings:
        by_kind[finding.kind].append(finding)
    lines = []
    for title, kinds in (("errors", ERRORS), ("notes", NOTES)):
        lines.append(f"{title}: {sum(len(by_kind[kind]) for kind in kinds):,}")
        for kind in filter(by_kind.get, kinds):
            lines.append(f"  {len(by_kind[kind]):7,} {kind}")
            lines += [f"          {finding}" for finding in by_kind[kind][:most]]
            if most is not None and len(by_kind[kind]) > most:
                lines.append("          …")
    return lines


def _class_table(summaries: list[Summary], wnids: list[str], words: list[str]) -> list[str]:
    """Images of each class: in the train tree and ImageSets' list, in the val tree and LOC_val_solution.csv."""
    columns = [counts for summary in summaries for counts in (summary.in_tree, summary.listed)]
    rows = ["", f"{'class':12}{'train':>8}{'listed':>8}{'val':>8}{'in CSV':>8}"]
    for wnid, name in zip(wnids, words, strict=True):
        cells = "".join(f"{'-' if counts is None else counts[wnid]:>8}" for counts in columns)
        rows.append(f"{wnid:12}{cells}  {name}")
    return rows
