"""Every file of a data set read once: what the reader would refuse or score wrongly (errors), and
what is odd.

An error ends the check with exit code 1: a file that cannot be read, or files that contradict each
other. A note is read and scored as it stands, but is worth knowing. Of ILSVRC's annotations only
val's are read, as in all the rest.
"""

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config, DataConfig
from cam_repro.cores import in_threads
from cam_repro.data import folder, ilsvrc, load_classes
from cam_repro.data.annotations import (
    CONTRADICTIONS,
    Finding,
    Truth,
    read_annotation,
    read_solution,
)
from cam_repro.data.images import CorruptImage, examine
from cam_repro.data.split import Split
from cam_repro.files import write_text

ERRORS = (
    "unreadable image", "unreadable annotation", "unreadable list", "listed image missing", "unknown class",
    "image without annotation", "wrong count", *CONTRADICTIONS,
)  # fmt: skip
ILSVRC_IMAGES = {"train": 1_281_167, "val": 50_000}
ILSVRC_IMAGES_A_CLASS = {"train": range(732, 1301), "val": range(50, 51)}
SHOWN = 3  # examples of each kind on the screen; the report has them all


class Summary(NamedTuple):
    """One split: how many images, of which classes where these are known, how many boxes, and what
    was found.
    """

    images: int
    classes: Counter[str]
    boxes: int
    findings: list[Finding]


def check(config: Config) -> None:
    """Print what is wrong with config.data, write all of it to check.txt; raises UserError when
    something is.
    """
    data = config.data
    wnids, words = load_classes(data)
    start = time.perf_counter()
    if data.layout == "folder":
        root = Path(data.root or "")
        splits = {
            name: check_folder(folder.open_split(data, name, Path()))
            for name in folder.splits_of(data)
        }
    else:
        root = ilsvrc.tree_root(data)
        splits = {name: check_split(data, root, name, wnids) for name in ("train", "val")}
    seconds = time.perf_counter() - start

    images = sum(split.images for split in splits.values())
    if not images:
        raise UserError(
            f"the tree at {root} holds no images (*.JPEG) in train or val; see data.root="
        )
    overview, findings = [f"{data.name} at {root}"], []
    for name, split in splits.items():
        boxes = f", {split.boxes:,} boxes" if data.layout == "ilsvrc" and name == "val" else ""
        overview.append(
            f"  {name:5} {split.images:,} images of {len(split.classes):,} classes{boxes}"
        )
        findings += split.findings
    findings = list(dict.fromkeys(findings))  # what was passed over is said of train and of val
    header = f"{'class':12}" + "".join(f"{name:>8}" for name in splits)
    table = ["", header]
    for wnid, name in zip(wnids, words, strict=True):
        counts = "".join(f"{split.classes[wnid]:>8}" for split in splits.values())
        table.append(f"{wnid:12}{counts}  {name}")
    everything = [*overview, *_listing(findings, None), *table]
    report = write_text(Path(config.runs) / data.name / "check.txt", "\n".join(everything) + "\n")
    print("\n".join([*overview, *_listing(findings, SHOWN)]))
    print(
        f"{images:,} images read in {seconds:.1f} s ({images / seconds:,.0f} a second); everything found: {report}"
    )
    if errors := sum(kind in ERRORS for kind, _ in findings):
        raise UserError(
            f"errors in the data at {root}: {errors}, listed in {report}; mend or fetch these files again"
        )


def check_folder(split: Split) -> Summary:
    """Everything about a split of a folder of images per class."""
    findings = [(kind, name) for kind, names in split.remarks.items() for name in names]
    examined = in_threads(partial(_examine, split), range(len(split)))
    for found in tqdm(
        examined, f"checking {split.name}", len(split), unit=" images", leave=False, disable=None
    ):
        findings += found
    classes = Counter(split.wnids[label] for label in split.labels)
    findings += [
        ("class without images", f"{split.name}: {wnid}")
        for wnid in split.wnids
        if not classes[wnid]
    ]
    return Summary(len(split), classes, 0, findings)


def _examine(split: Split, image: int) -> list[Finding]:
    """What is odd about an image that has no annotation."""
    findings: list[Finding] = []
    file = os.fsdecode(split.files[image])
    with _noting("unreadable image", split.path(image), file, findings):
        _, oddities = examine(split.path(image), split.upright)
        findings += [(kind, f"{file}: {what}") for kind, what in oddities.items()]
    return findings


def check_split(data: DataConfig, root: Path, split: str, wnids: list[str]) -> Summary:
    """Everything about the train or the val split of the tree at `root`, whose classes are `wnids`."""
    images, image_set = root / ilsvrc.IMAGES / split, root / ilsvrc.IMAGE_SETS[split]
    files = ilsvrc.scan_images(images)
    if not files:  # one split alone is enough for some work
        return Summary(0, Counter(), 0, [("no images", f"{images}")])
    findings: list[Finding] = []
    with_xml: set[str] = set()
    solution: dict[str, Truth] = {}
    if image_set.is_file():
        with _noting("unreadable list", image_set, image_set.name, findings):
            there, listed = (
                ilsvrc.by_listed_name(files),
                dict.fromkeys(ilsvrc.read_image_set(image_set)),
            )
            findings += [("listed image missing", name) for name in listed if name not in there]
            findings += [
                ("image not listed", file) for name, file in there.items() if name not in listed
            ]
    if split == "val":
        with_xml = ilsvrc.xml_stems(root)
        with _noting("unreadable list", root / ilsvrc.SOLUTION, ilsvrc.SOLUTION, findings):
            solution = read_solution(root / ilsvrc.SOLUTION)
    see = partial(
        _see, root=root, split=split, wnids=set(wnids), with_xml=with_xml, solution=solution
    )
    bar = tqdm(
        in_threads(see, files),
        f"checking {split}",
        len(files),
        unit=" images",
        leave=False,
        disable=None,
    )
    truths = []
    for truth, found in bar:
        truths += [truth] if truth else []
        findings += found
    findings += ilsvrc.shared_annotations(files, with_xml, solution)
    stems = {ilsvrc.stem_of(file) for file in files}
    findings += [("annotation without image", f"{stem}.xml") for stem in sorted(with_xml - stems)]
    alone = sorted(solution.keys() - stems - with_xml)
    findings += [("annotation without image", f"{stem}: in LOC_val_solution.csv") for stem in alone]
    classes = Counter(wnid for wnid, _ in truths)
    findings += _wrong_counts(data, split, len(files), classes, wnids)
    return Summary(len(files), classes, sum(len(boxes) for _, boxes in truths), findings)


@contextmanager
def _noting(kind: str, path: Path, name: str, findings: list[Finding]) -> Iterator[None]:
    """A file that is refused in the block is a finding, and the check goes on."""
    try:
        yield
    except (UserError, CorruptImage) as error:
        findings.append((kind, f"{name}: " + str(error).removeprefix(f"{path}").lstrip(":, ")))


def _see(
    file: str,
    root: Path,
    split: str,
    wnids: set[str],
    with_xml: set[str],
    solution: dict[str, Truth],
) -> tuple[Truth | None, list[Finding]]:
    """One image and its annotation: class and boxes, none where it has none; and what was found."""
    findings: list[Finding] = []
    image, stem, size, annotation = (
        root / ilsvrc.IMAGES / split / file,
        ilsvrc.stem_of(file),
        None,
        None,
    )
    with _noting("unreadable image", image, file, findings):
        size, oddities = examine(image)
        findings += [(kind, f"{file}: {what}") for kind, what in oddities.items()]
    if stem in with_xml:
        xml = root / ilsvrc.ANNOTATIONS / f"{stem}.xml"
        with _noting("unreadable annotation", xml, xml.name, findings):
            annotation = read_annotation(xml)
    truth = ilsvrc.truth_of(file, annotation, solution.get(stem))
    if truth is None:
        findings.append(("image without annotation", file))
    elif truth[0] not in wnids:
        findings.append(
            ("unknown class", f"{file}: {truth[0] or 'no name'} is not in the synset mapping")
        )
    if truth and split == "val" and not truth[1]:
        findings.append(("image without box", f"{file}: counts for classification only"))
    if size and split == "val":
        findings += ilsvrc.contradictions(file, annotation, solution.get(stem), size, wnids)
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
                yield (
                    "wrong count",
                    f"{split} {wnid}: {classes[wnid]} images, expected {usual[0]} to {usual[-1]}",
                )
    elif empty := [wnid for wnid in wnids if not classes[wnid]]:
        yield "class without images", f"{split}: {len(empty)} of {len(wnids)}, first {empty[0]}"


def _listing(findings: list[Finding], most: int | None) -> list[str]:
    """The findings by kind, errors first, at most so many of each kind."""
    by_kind = defaultdict(list)
    for kind, what in findings:
        by_kind[kind].append(
            "".join(c if c.isprintable() else ascii(c)[1:-1] for c in what)
        )  # any byte is in a name
    lines = []
    for title, kinds in (("errors", by_kind.keys() & ERRORS), ("notes", by_kind.keys() - ERRORS)):
        lines.append(f"{title}: {sum(len(by_kind[kind]) for kind in kinds):,}")
        for kind in sorted(kinds):
            lines += [
                f"  {len(by_kind[kind]):7,} {kind}",
                *(f"          {what}" for what in by_kind[kind][:most]),
            ]
            lines += ["          …"] if most is not None and len(by_kind[kind]) > most else []
    return lines
