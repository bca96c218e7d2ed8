"""Images and annotations brought together: each image's class and boxes, and where the two disagree.

A finding is a kind and what was found of which file. Some kinds make all scores wrong: such data is
refused before an image is decoded. All others are only worth knowing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.cores import in_threads
from cam_repro.data.annotations import Annotation, Box, Source, in_pixels
from cam_repro.data.classes import labels_by_name
from cam_repro.data.images import CorruptImage, read_size
from cam_repro.data.layout import Listing, Sources

Finding = tuple[str, str]

CONTRADICTIONS = (
    "reversed box",
    "box outside the image",
    "annotation of another size",
    "annotation of several images",
    "class of another folder",
    "class of another list",
)
# A large data set has a few such boxes of its own, and is scored with them; more mean that the
# annotations are those of other images, or of the same at another size.
NOISE_KINDS = ("box outside the image", "annotation of another size")
MOST_NOISE = 0.001  # of the images


@dataclass
class Truth:
    """What is known of an image: its label, -1 where nothing tells it, and the boxes of its class.

    unknown: its class, where the data set has none of that name; left_out: how many of its boxes
    no prediction has to find, by the reason.
    """

    label: int
    unknown: str = ""
    boxes: list[Box] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


class Annotations:
    """What several sources say of a listing's images; of two that speak of one the first counts."""

    def __init__(self, listing: Listing, sources: Sources) -> None:
        self.listing = listing
        self.sources = [*sources.boxes, *sources.classes]
        self.for_boxes = len(sources.boxes)
        self.with_difficult = sources.with_difficult
        self.label_of = _labels_by_name(listing.wnids, listing.words)
        self.keys = [_keys_by_stem(source) for source in self.sources]
        self.images_of = defaultdict(list)  # stem -> images
        for image in range(len(listing.images)):
            self.images_of[stem_of(self._name(image))].append(image)

    def of(self, image: int) -> list[tuple[str, Annotation]]:
        """Each source's annotation of an image, an empty one where it has none, and its file."""
        found = []
        for source, keys in zip(self.sources, self.keys, strict=True):
            key = self._key(image, keys)
            if key is None:
                found.append(("", Annotation()))
            else:
                found.append((source.file_of(key), source.annotation(key)))
        return found

    def truth(self, image: int) -> Truth:
        """Class and boxes of an image. Raises CorruptImage, and UserError for a damaged annotation."""
        truth = Truth(int(self.listing.labels[image]))
        found = self.of(image)
        told = [
            (file, annotation) for file, annotation in found if annotation.class_name is not None
        ]
        if truth.label < 0 and told:
            class_name = told[0][1].class_name
            truth.label = self.label_of.get(class_name.lower(), -1)
            truth.unknown = "" if truth.label >= 0 else class_name or "no name"
        truth.findings += self._other_classes(image, truth.label, told)
        with_boxes = [(file, annotation) for file, annotation in found[: self.for_boxes] if file]
        if not with_boxes:
            return truth

        images = self.listing.images
        size = read_size(images.path(image), self.listing.upright, images.content(image))
        file, annotation = with_boxes[0]
        truth.findings += size_findings(file, annotation.size, size)
        for one in in_pixels(annotation, size):
            if not self._is_of(one.name, truth.label):
                continue
            if one.left_out and not (one.left_out == "difficult" and self.with_difficult):
                truth.left_out[one.left_out] += 1
            else:
                truth.boxes.append(one.box)
        truth.findings += box_findings(self.listing.file(image), truth.boxes, size)
        for other_file, other in with_boxes[1:]:
            boxes = [one.box for one in other.objects if self._is_of(one.name, truth.label)]
            if boxes and sorted(boxes) != sorted(truth.boxes):
                said = f"{file} has other boxes than {other_file}; those of {file} are taken"
                truth.findings.append(
                    ("boxes of another list", f"{self.listing.file(image)}: {said}")
                )
        return truth

    def shared(self) -> list[Finding]:
        """Images of one name in several folders, which cannot all be what its one annotation says."""
        findings = []
        for stem, images in self.images_of.items():
            for keys in self.keys if len(images) > 1 else ():
                annotated = defaultdict(list)
                for image in images:
                    annotated[self._key(image, keys)].append(self.listing.file(image))
                annotated.pop(None, None)
                for first, *others in annotated.values():
                    if others:
                        what = f"{first}: {others[0]} has the same annotation, {stem}"
                        findings.append(("annotation of several images", what))
        return list(dict.fromkeys(findings))

    def refuse_strangers(self) -> None:
        """UserError for boxes of which none is of an image that is there."""
        for source, keys in zip(self.sources[: self.for_boxes], self.keys, strict=False):
            if not keys.keys() & self.images_of.keys():
                raise UserError(
                    f"{source.path} names none of the {len(self.listing.images):,} images in "
                    f"{self.listing.images.folder}: it has {next(iter(source.known))}, the images are "
                    f"called {self.listing.file(0)}"
                )

    def without_image(self) -> list[Finding]:
        """Annotations of images that are not there."""
        findings = []
        for source, keys in zip(self.sources, self.keys, strict=True):
            for stem in sorted(keys.keys() - self.images_of.keys()):
                file = source.file_of(keys[stem][0])
                what = file if file.startswith(stem) else f"{stem}: in {file}"
                findings.append(("annotation without image", what))
        return findings

    def _name(self, image: int) -> str:
        return self.listing.file(image).rpartition(".")[0]

    def _key(self, image: int, keys: dict[str, list[str]]) -> str | None:
        """Which of a source's keys is the image's: one path is the end of the other.

        Where there is one key and one image of a name, their folders may differ: boxes lie beside
        the images or elsewhere.
        """
        name = self._name(image)
        stem = stem_of(name)
        candidates = keys.get(stem, [])
        ending = []
        for key in candidates:
            if f"/{name}".endswith(f"/{key}") or f"/{key}".endswith(f"/{name}"):
                ending.append(key)
        if len(ending) == 1:
            return ending[0]
        if len(candidates) == 1 and len(self.images_of[stem]) == 1:
            return candidates[0]
        return None

    def _is_of(self, class_name: str | None, label: int) -> bool:
        """Whether a box is of the image's class; one without a class is."""
        return class_name is None or self.label_of.get(class_name.lower()) == label

    def _other_classes(
        self, image: int, label: int, told: list[tuple[str, Annotation]]
    ) -> Iterator[Finding]:
        """Where an annotation tells another class than the image's folder, or than one before it."""
        if label < 0:
            return
        by_folder = self.listing.labels[image] >= 0
        for file, annotation in told if by_folder else told[1:]:
            names = [annotation.class_name, *(one.name for one in annotation.objects)]
            if any(name is not None and self._is_of(name, label) for name in names):
                continue
            what = f"{self.listing.file(image)}: {file} says {annotation.class_name}"
            if by_folder:
                yield "class of another folder", what
            else:
                yield (
                    "class of another list",
                    f"{what}, {told[0][0]} says {self.listing.wnids[label]}",
                )


def assemble(
    listing: Listing, annotations: Annotations, command: str
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The arrays `labels`, `boxes` and `box_starts` of a Split, and how many boxes were left out.

    command: what lists all that a UserError counts. Raises UserError for an
    image without a class, and for annotations that contradict their images.
    """
    count = len(listing.images)
    folder = listing.images.folder
    if not annotations.sources:
        unlabelled = np.flatnonzero(listing.labels < 0)
        if len(unlabelled):
            raise UserError(
                f"{listing.images.path(unlabelled[0])} has no label: nothing names its class"
            )
        return {"labels": listing.labels, **_packed([[]] * count)}, {}

    def look_at(image: int) -> Truth:
        try:
            return annotations.truth(image)
        except CorruptImage as error:
            raise UserError(
                f"corrupt image {error}: an evaluation counts every image; fetch it again"
            ) from None

    annotations.refuse_strangers()
    labels: list[int] = []
    boxes: list[list[Box]] = []
    left_out: Counter[str] = Counter()
    findings = annotations.shared()
    looked_at = in_threads(look_at, range(count))
    for image, truth in enumerate(
        tqdm(looked_at, f"index {listing.name}", count, leave=False, disable=None)
    ):
        if truth.unknown:
            raise UserError(
                f"{listing.images.path(image)} is of class {truth.unknown}, which is none of the "
                f"{len(listing.wnids)} classes of the data ({listing.wnids[0]}, …)"
            )
        if truth.label < 0:
            sources = " nor ".join(source.path.name for source in annotations.sources)
            raise UserError(
                f"{listing.images.path(image)} has no label: neither {sources} names it"
            )
        labels.append(truth.label)
        boxes.append(truth.boxes)
        left_out += truth.left_out
        findings += truth.findings
    refuse_contradictions(findings, count, folder, command)
    return {"labels": np.array(labels, np.int64), **_packed(boxes)}, dict(left_out)


def _packed(boxes: list[list[Box]]) -> dict[str, np.ndarray]:
    """Boxes one after the other: whole numbers as int32, so that the fingerprint of data stays."""
    flat = [box for of_image in boxes for box in of_image]
    is_whole = all(isinstance(edge, int) for box in flat for edge in box)
    array = np.array(flat, np.int32 if is_whole else np.float64).reshape(-1, 4)
    return {"boxes": array, "box_starts": np.cumsum([0, *map(len, boxes)])}


def refuse_contradictions(findings: list[Finding], images: int, folder: Path, command: str) -> None:
    """UserError where annotations contradict their images, but for a few boxes of many images.

    command: what to type to list all that is counted.
    """
    wrong = [(kind, what) for kind, what in findings if kind in CONTRADICTIONS]
    if not wrong:
        return
    kind, what = wrong[0]
    said = (
        f"{folder}: annotations that contradict their images or each other: {len(wrong):,}, "
        f"first {what} ({kind}); to list them all, type {command}"
    )
    is_noise = all(kind in NOISE_KINDS for kind, _ in wrong) and len(wrong) <= MOST_NOISE * images
    if not is_noise:
        raise UserError(said)
    tqdm.write(f"{said}; they are scored as they stand")


def size_findings(
    name: str, said: tuple[int, int] | None, size: tuple[int, int]
) -> Iterator[Finding]:
    """Where the annotation `name` speaks of an image of another (width, height).

    Of width and height alone that change places, a program that turned the image by its EXIF tag
    may be the reason; the boxes tell whether they fit the image as it is stored.
    """
    if said is None or said == size:
        return
    kind = "annotation of the turned size" if said == size[::-1] else "annotation of another size"
    yield kind, "{}: says {}×{}, the image has {}×{}".format(name, *said, *size)


def box_findings(file: str, boxes: list[Box], size: tuple[int, int]) -> Iterator[Finding]:
    """Boxes that cannot be those of an image of (width, height).

    A corner counts from 0 in some annotations and from 1 in others, so that one pixel over the edge
    is right.
    """
    width, height = size
    for x1, y1, x2, y2 in boxes:
        where = f"{file}: box {x1} {y1} {x2} {y2}, image {width}×{height}"
        if x2 < x1 or y2 < y1:
            yield "reversed box", where
        elif x1 < 0 or y1 < 0 or x2 > width or y2 > height:
            yield "box outside the image", where
        elif x2 == width or y2 == height:
            yield "box one pixel over the edge", where


def stem_of(name: str) -> str:
    """An image's name without the folders."""
    return name.rpartition("/")[2]


def _labels_by_name(wnids: list[str], words: list[str]) -> dict[str, int]:
    """The class that a name in an annotation means: its wnid, or a word that no other class has."""
    labels = {}
    for name, having in labels_by_name(words).items():
        if len(having) == 1:
            labels[name] = having[0]
    return labels | {wnid.lower(): label for label, wnid in enumerate(wnids)}


def _keys_by_stem(source: Source) -> dict[str, list[str]]:
    keys = defaultdict(list)
    for key in source.known:
        keys[stem_of(key)].append(key)
    return keys
