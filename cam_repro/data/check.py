"""Every file of an ILSVRC tree read once: what the reader would refuse or score wrongly (errors), and what is odd.

An error ends the check with exit code 1: a file that cannot be read, or files that contradict each other. A note is
read and scored as it stands, but is worth knowing. Of ILSVRC's annotations only val's are read, as in all the rest.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config, DataConfig
from cam_repro.cores import in_threads
from cam_repro.data import ilsvrc, load_classes
from cam_repro.data.annotations import Box, Truth, read_annotation, read_solution
from cam_repro.data.images import CorruptImage, examine
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


class Finding(NamedTuple):
    kind: str
    where: str  # a file, a class or a split
    what: str = ""

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.what else self.where
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)  # any byte may be in a file's name


@dataclass
class Summary:
    """One split: images of each class in the tree and in its list (none: there is no list); boxes; what was found."""

    split: str
    images: int
    findings: list[Finding] = field(default_factory=list)
    in_tree: Counter[str] = field(default_factory=Counter)
    listed: Counter[str] | None = None
    boxes: int = 0


def check(config: Config) -> None:
    """Print what is wrong with config.data, write all of it to check.txt; raises UserError when something is."""
    data = config.data
    if data.layout != "ilsvrc":
        raise UserError(f"the check knows ILSVRC's layout alone; data={data.name} has data.layout={data.layout}")
    wnids, words = load_classes(data)
    root = ilsvrc.tree_root(data)
    start = time.perf_counter()
    train, val = (check_split(data, root, split, wnids) for split in ("train", "val"))
    seconds = time.perf_counter() - start
    images, findings = train.images + val.images, train.findings + val.findings
    if not images:
        raise UserError(f"the tree at {root} holds no images (*.JPEG) in train or val; see data.root=")
    overview = [
        f"{data.name} at {root}",
        f"  train {train.images:,} images of {len(train.in_tree):,} classes",
        f"  val   {val.images:,} images of {len(val.in_tree):,} classes, {val.boxes:,} boxes",
    ]
    everything = [*overview, *_listing(findings, None), *_class_table([train, val], wnids, words)]
    report = write_text(Path(config.runs) / data.name / "check.txt", "\n".join(everything) + "\n")
    print("\n".join([*overview, *_listing(findings, SHOWN)]))
    print(f"{images:,} images read in {seconds:.1f} s ({images / seconds:,.0f} a second); everything found: {report}")
    if errors := sum(finding.kind in ERRORS for finding in findings):
        raise UserError(f"errors in the data at {root}: {errors}, listed in {report}; mend or fetch these files again")


def check_split(data: DataConfig, root: Path, split: str, wnids: list[str]) -> Summary:
    """Everything about the train or the val split of the tree at `root`, whose classes are `wnids`."""
    folder = root / ilsvrc.IMAGES / split
    files = ilsvrc.scan_images(folder) if folder.is_dir() else []
    summary = Summary(split, len(files))
    if not files:  # one split alone is enough for some work
        summary.findings.append(Finding("no images", f"{folder}"))
        return summary
    findings, image_set = summary.findings, root / ilsvrc.IMAGE_SETS[split]
    solution: dict[str, Truth] = {}
    with_xml: set[str] = set()
    with _noting("list", image_set, findings):
        there = ilsvrc.by_listed_name(files)
        if image_set.is_file():
            names = ilsvrc.read_image_set(image_set)
            findings += [Finding("listed image missing", name) for name in names if name not in there]
            listed = set(names)
            findings += [Finding("image not listed", file) for name, file in there.items() if name not in listed]
            summary.listed = Counter(name.partition("/")[0] for name in names)
    if split == "val":
        with_xml = ilsvrc.xml_stems(root)
        with _noting("list", root / ilsvrc.SOLUTION, findings):
            solution = read_solution(root / ilsvrc.SOLUTION)
        summary.listed = Counter(wnid for wnid, _ in solution.values()) if solution else None
    see = partial(_see, root=root, split=split, wnids=frozenset(wnids), with_xml=with_xml, solution=solution)
    bar = tqdm(in_threads(see, files), f"checking {split}", len(files), unit=" images", leave=False, disable=None)
    for wnid, boxes, found in bar:
        summary.in_tree.update([wnid] if wnid else [])
        summary.boxes += boxes
        findings += found
    stems = {ilsvrc.stem_of(file) for file in files}
    alone = [(f"{stem}.xml", "") for stem in sorted(with_xml - stems)]
    alone += [(stem, "in LOC_val_solution.csv") for stem in sorted(solution.keys() - stems - with_xml)]
    findings += [Finding("annotation without image", *where) for where in alone]
    findings += _wrong_counts(data, summary, wnids)
    return summary


@contextmanager
def _noting(what: str, path: Path, findings: list[Finding], name: str = "") -> Iterator[None]:
    """A file that is refused in the block is a finding, and the check goes on."""
    try:
        yield
    except (UserError, CorruptImage) as error:
        reason = str(error).removeprefix(f"{path}").lstrip(":, ")
        findings.append(Finding(f"unreadable {what}", name or path.name, reason))


def _see(
    file: str, root: Path, split: str, wnids: frozenset[str], with_xml: set[str], solution: dict[str, Truth]
) -> tuple[str | None, int, list[Finding]]:
    """One image and its annotation: its class, none where unknown; the number of its boxes; what was found."""
    findings: list[Finding] = []
    image, path = None, root / ilsvrc.IMAGES / split / file
    with _noting("image", path, findings, file):
        image = examine(path)
        oddities = {
            "doubtful JPEG data": image.doubt,
            "EXIF rotation": "" if image.orientation == 1 else f"orientation {image.orientation}, ignored",
            "not RGB": "" if image.mode == "RGB" else image.mode,
            "not a JPEG": "" if image.format in ("JPEG", "MPO") else image.format,
        }
        findings += [Finding(kind, file, what) for kind, what in oddities.items() if what]
    size, stem, annotation = image and image.size, ilsvrc.stem_of(file), None
    if stem in with_xml:
        xml = root / ilsvrc.ANNOTATIONS / f"{stem}.xml"
        with _noting("annotation", xml, findings):
            annotation = read_annotation(xml)
        if annotation and not annotation.size:
            findings.append(Finding("annotation without size", xml.name))
        elif annotation and size and annotation.size != size:
            said, stored = ("×".join(map(str, pair)) for pair in (annotation.size, size))
            findings.append(Finding("annotation of another size", xml.name, f"says {said}, the image has {stored}"))
    truth = (annotation and annotation.truth()) or solution.get(stem) or ilsvrc.truth_from_folder(file)
    if truth is None:
        if annotation or stem not in with_xml:  # an unreadable one is found already
            findings.append(Finding("image without annotation", file))
        return None, 0, findings
    wnid, boxes = truth
    if wnid not in wnids:
        findings.append(Finding("unknown class", file, f"{wnid or 'no name'} is not in the synset mapping"))
    if split == "val":
        findings += _box_findings(file, boxes, size)
    return wnid, len(boxes), findings


def _box_findings(file: str, boxes: list[Box], size: tuple[int, int] | None) -> Iterator[Finding]:
    if not boxes:
        yield Finding("image without box", file, "counts for classification only")
    for x1, y1, x2, y2 in boxes:
        where = f"box {x1} {y1} {x2} {y2}" + (f", image {size[0]}×{size[1]}" if size else "")
        if x2 < x1 or y2 < y1:
            yield Finding("reversed box", file, where)
        elif size and (x1 < 0 or y1 < 0 or x2 > size[0] or y2 > size[1]):
            yield Finding("box outside the image", file, where)
        elif size and (x2 == size[0] or y2 == size[1]):
            yield Finding("box one pixel over the edge", file, where)


def _wrong_counts(data: DataConfig, summary: Summary, wnids: list[str]) -> Iterator[Finding]:
    """Against ILSVRC's known numbers; of another data set only which classes have none."""
    split = summary.split
    if data.name == "ilsvrc" and len(wnids) == 1000:
        if summary.images != ILSVRC_IMAGES[split]:
            yield Finding("wrong count", split, f"{summary.images:,} images, expected {ILSVRC_IMAGES[split]:,}")
        usual = ILSVRC_IMAGES_A_CLASS[split]
        for wnid in wnids:
            if (count := summary.in_tree[wnid]) not in usual:
                yield Finding("wrong count", f"{split} {wnid}", f"{count} images, expected {usual[0]} to {usual[-1]}")
    elif empty := [wnid for wnid in wnids if not summary.in_tree[wnid]]:
        yield Finding("class without images", split, f"{len(empty)} of {len(wnids)}, first {empty[0]}")


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
