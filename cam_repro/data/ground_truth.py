"""Images and annotations brought together: each image's class and boxes, and contradictions.

A finding is its kind, and what was found in which file. Some kinds falsify every score: such
data is refused before an image is decoded. All others are only worth knowing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.cores import in_threads
from cam_repro.data.annotations import Annotation, Source, TrueBox, in_pixels
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
# A large data set has a few such boxes of its own and is scored with them. More of them mean that
# the annotations are those of other images, or of the same images at another size.
NOISE_KINDS = ("box outside the image", "annotation of another size")
MOST_NOISE = 0.001  # of the images


@dataclass
class Truth:
    """What is known of an image: its label, -1 where nothing tells it, and the boxes of its class.

    unknown: the name of its class, where the data set has no such class; left_out: how many of its
    boxes no prediction has to find, by the reason.
    """

    label: int
    unknown: str = ""
    boxes: list[TrueBox] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


class Annotations:
    """What several sources say of a listing's images; where two name an image the first counts."""

    def __init__(self, listing: Listing, sources: Sources) -> None:
        self.listing = listing
        self.sources = [*sources.boxes, *sources.classes]
        self.for_boxes = len(sources.boxes)
        self.with_difficult = sources.with_difficult
        self.label_of = _labels_by_name(listing.wnids, listing.words)
        self.keys = [_keys_by_stem(source) for source in self.sources]

    @cached_property
    def images_of(self) -> dict[str, list[int]]:
        """The images of each stem; not asked for where there are no annotations."""
        images_of = defaultdict(list)
        for image in range(len(self.listing.images)):
            images_of[stem_of(self._name(image))].append(image)
        return images_of

    def of(self, image: int) -> list[tuple[str, Annotation]]:
        """Of each source: the file that annotates an image, and the annotation.

        Both are empty where the source does not have the image.
        """
        found = []
        for source, keys in zip(self.sources, self.keys, strict=True):
            key = self._key(image, keys)
            if key is None:
                found.append(("", Annotation()))
            else:
                found.append((source.file_of(key), source.annotation(key)))
        return found

    def truth(self, image: int) -> Truth:
        """Class and boxes of an image.

        Raises CorruptImage, and UserError for a damaged annotation.
        """
        truth = Truth(int(self.listing.labels[image]))
        found = self.of(image)
        with_class = []
        for file, annotation in found:
            if annotation.class_name is not None:
                with_class.append((file, annotation))
        if truth.label < 0 and with_class:
            _, first = with_class[0]
            truth.label = self._label(first.class_name)
            if truth.label < 0:
                truth.unknown = first.class_name or "no name"
        truth.findings += self._other_classes(image, truth.label, with_class)
        of_boxes = found[: self.for_boxes]
        with_boxes = [(file, annotation) for file, annotation in of_boxes if file]
        if not with_boxes:
            return truth

        images = self.listing.images
        content = images.content(image)
        size = read_size(images.path(image), self.listing.upright, content)
        file, annotation = with_boxes[0]
        truth.findings += size_findings(file, annotation.size, size, self.listing.upright)
        for one in in_pixels(annotation, size):
            if not self._is_of(one.name, truth.label):
                continue
            if one.left_out and not (one.left_out == "difficult" and self.with_difficult):
                truth.left_out[one.left_out] += 1
            else:
                truth.boxes.append(one.box)
        image_file = self.listing.file(image)
        truth.findings += box_findings(image_file, truth.boxes, size)
        for other_file, other in with_boxes[1:]:
            boxes = []
            for one in other.objects:
                if self._is_of(one.name, truth.label):
                    boxes.append(one.box)
            if boxes and sorted(boxes) != sorted(truth.boxes):
                said = f"{file} has other boxes than {other_file}; those of {file} are taken"
                truth.findings.append(("boxes of another list", f"{image_file}: {said}"))
        return truth

    def shared(self) -> list[Finding]:
        """Images of one name in several folders, of which one annotation cannot tell all."""
        findings = []
        if not self.sources:
            return findings
        for stem, images in self.images_of.items():
            if len(images) == 1:
                continue
            for keys in self.keys:
                annotated = defaultdict(list)
                for image in images:
                    key = self._key(image, keys)
                    annotated[key].append(self.listing.file(image))
                annotated.pop(None, None)
                for first, *others in annotated.values():
                    if others:
                        what = f"{first}: {others[0]} has the same annotation, {stem}"
                        findings.append(("annotation of several images", what))
        return list(dict.fromkeys(findings))

    def refuse_strangers(self) -> None:
        """Raises UserError for a source of boxes that names none of the images."""
        images = self.listing.images
        sources = self.sources[: self.for_boxes]
        for source, keys in zip(sources, self.keys, strict=False):
            if not keys.keys() & self.images_of.keys():
                named = next(iter(source.known))
                raise UserError(
                    f"{source.path} names none of the {len(images):,} images in {images.folder}: "
                    f"it has {named}, the images are called {self.listing.file(0)}"
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
        """Which of a source's keys means an image: the path of one is the end of the other's.

        Where a name has one key and one image alone, their folders may differ.
        """
        name = self._name(image)
        stem = stem_of(name)
        candidates = keys.get(stem, [])
        ending = []
        for key in candidates:
            ends_with_key = f"/{name}".endswith(f"/{key}")
            ends_with_name = f"/{key}".endswith(f"/{name}")
            if ends_with_key or ends_with_name:
                ending.append(key)
        if len(ending) == 1:
            return ending[0]
        if len(candidates) == 1 and len(self.images_of[stem]) == 1:
            return candidates[0]
        return None

    def _is_of(self, class_name: str | None, label: int) -> bool:
        """Whether a box is of the image's class; one without a class is."""
        return class_name is None or self._label(class_name) == label

    def _label(self, class_name: str) -> int:
        """The class of a name as it is written, or else in any case; -1 where there is none."""
        in_lower_case = self.label_of.get(class_name.lower(), -1)
        return self.label_of.get(class_name, in_lower_case)

    def _other_classes(
        self, image: int, label: int, with_class: list[tuple[str, Annotation]]
    ) -> Iterator[Finding]:
        """Where an annotation tells another class than the folder, or than the first annotation."""
        if label < 0:
            return
        by_folder = self.listing.labels[image] >= 0
        for file, annotation in with_class if by_folder else with_class[1:]:
            names = [annotation.class_name, *(one.name for one in annotation.objects)]
            told = [name for name in names if name is not None]
            if any(self._is_of(name, label) for name in told):
                continue
            what = f"{self.listing.file(image)}: {file} says {annotation.class_name}"
            if self._label(annotation.class_name) < 0:
                what += f", which is none of the data's classes ({self.listing.wnids[0]}, …)"
            if by_folder:
                yield "class of another folder", what
            else:
                first_file = with_class[0][0]
                wnid = self.listing.wnids[label]
                yield "class of another list", f"{what}, {first_file} says {wnid}"


def assemble(
    listing: Listing, annotations: Annotations, command: str
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The arrays `labels`, `boxes` and `box_starts` of a Split, and how many boxes were left out.

    command: what to type to list everything that a UserError counts. Raises UserError for an image
    without a class, and for annotations that contradict their images.
    """
    images = listing.images
    count = len(images)
    if not annotations.sources:
        unlabelled = np.flatnonzero(listing.labels < 0)
        if len(unlabelled):
            path = images.path(unlabelled[0])
            raise UserError(f"{path} has no label: nothing names its class")
        return {"labels": listing.labels, **_packed([[]] * count)}, {}

    def truth_of(image: int) -> Truth:
        try:
            return annotations.truth(image)
        except CorruptImage as error:
            raise UserError(
                f"corrupt image {error}: an evaluation counts every image; fetch it again"
            ) from None

    annotations.refuse_strangers()
    labels: list[int] = []
    boxes: list[list[TrueBox]] = []
    left_out: Counter[str] = Counter()
    findings = annotations.shared()
    truths = in_threads(truth_of, range(count))
    bar = tqdm(truths, f"index {listing.name}", count, leave=False, disable=None)
    for image, truth in enumerate(bar):
        if truth.unknown:
            raise UserError(
                f"{images.path(image)} is of class {truth.unknown}, which is none of the "
                f"{len(listing.wnids)} classes of the data ({listing.wnids[0]}, …)"
            )
        if truth.label < 0:
            sources = " nor ".join(source.path.name for source in annotations.sources)
            raise UserError(f"{images.path(image)} has no label: neither {sources} names it")
        labels.append(truth.label)
        boxes.append(truth.boxes)
        left_out += truth.left_out
        findings += truth.findings
    refuse_contradictions(findings, count, images.folder, command)
    arrays = {"labels": np.array(labels, np.int64), **_packed(boxes)}
    return arrays, dict(left_out)


def _packed(boxes: list[list[TrueBox]]) -> dict[str, np.ndarray]:
    """Boxes one after the other; int32 where all are whole, so that old fingerprints stay."""
    flat = [box for of_image in boxes for box in of_image]
    is_whole = all(isinstance(edge, int) for box in flat for edge in box)
    kind = np.int32 if is_whole else np.float64
    array = np.array(flat, kind).reshape(-1, 4)
    return {"boxes": array, "box_starts": np.cumsum([0, *map(len, boxes)])}


def refuse_contradictions(findings: list[Finding], images: int, folder: Path, command: str) -> None:
    """UserError where annotations contradict their images, but for a few boxes of many images.

    command: what to type to list all that is counted.
    """
    wrong = [finding for finding in findings if finding[0] in CONTRADICTIONS]
    if not wrong:
        return
    kind, what = wrong[0]
    said = (
        f"{folder}: annotations that contradict their images or each other: {len(wrong):,}, "
        f"first {what} ({kind}); to list them all, type {command}"
    )
    kinds = {kind for kind, _ in wrong}
    if not kinds <= set(NOISE_KINDS) or len(wrong) > MOST_NOISE * images:
        raise UserError(said)
    tqdm.write(f"{said}; they are scored as they stand")


def size_findings(
    name: str, said: tuple[int, int] | None, size: tuple[int, int], upright: bool = False
) -> Iterator[Finding]:
    """Where the annotation `name` tells another (width, height) than the image has.

    Where width and height of an image as it is stored have only changed places, a program may have
    noted them turned by its EXIF tag, as in ILSVRC. An image that is read upright has the size that
    boxes are drawn on: another is that of other boxes.
    """
    if said is None or said == size:
        return
    is_turned = said == size[::-1] and not upright
    kind = "annotation of the turned size" if is_turned else "annotation of another size"
    yield kind, "{}: says {}×{}, the image has {}×{}".format(name, *said, *size)


def box_findings(file: str, boxes: list[TrueBox], size: tuple[int, int]) -> Iterator[Finding]:
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
    """The class that a name in an annotation means, its wnid or a word that no other class has.

    Names are as they are written, and in lower case where that leaves them apart.
    """
    labels = {}
    for name, having in labels_by_name(words).items():
        if len(having) == 1:
            labels[name] = having[0]
    in_lower_case = Counter(wnid.lower() for wnid in wnids)
    for label, wnid in enumerate(wnids):
        if in_lower_case[wnid.lower()] == 1:
            labels[wnid.lower()] = label
    return labels | {wnid: label for label, wnid in enumerate(wnids)}


def _keys_by_stem(source: Source) -> dict[str, list[str]]:
    keys = defaultdict(list)
    for key in source.known:
        keys[stem_of(key)].append(key)
    return keys
