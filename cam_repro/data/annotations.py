"""Class and boxes of a val image: ILSVRC's XMLs and Kaggle's LOC_val_solution.csv, both read as
untrusted text.

Names inside them (<filename>, ImageId) are compared with the files that are there and never made
into a path.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from cam_repro import UserError
from cam_repro.files import read_text

EDGES = ("xmin", "ymin", "xmax", "ymax")
LARGEST_COORDINATE = 10**6  # pixels; a JPEG's side has 65,535 at most

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 inclusive, in pixels of the stored image
Truth = tuple[str, list[Box]]  # wnid, boxes of that class
Finding = tuple[str, str]  # a kind, and what was found of which file

# Kinds of findings of which each makes a score wrong; all others are only worth knowing.
CONTRADICTIONS = (
    "reversed box", "box outside the image", "annotation of another size", "annotation of several images",
    "class of another folder", "class of another list",
)  # fmt: skip


class Annotation(NamedTuple):
    """What an XML says: size (width, height) of its image, none where it is left out or 0; class
    and boxes of its first object's class, none where it has no object."""

    size: tuple[int, int] | None
    truth: Truth | None


def read_annotation(path: Path) -> Annotation:
    """Raises UserError for what is no annotation, or declares a document type (entities, external
    files).
    """
    try:
        root = fromstring(path.read_bytes(), forbid_dtd=True)
        if root.tag != "annotation":
            raise ValueError(f"<{root.tag[:40]}> where <annotation> was expected")
        size = None
        if root.find("size") is not None:
            size = int(root.findtext("size/width", "")), int(root.findtext("size/height", ""))
        if size == (0, 0):  # as some programs write where they do not know it
            size = None
        objects = [
            (
                one.findtext("name", "").strip(),
                _box([one.findtext(f"bndbox/{edge}", "") for edge in EDGES]),
            )
            for one in root.iterfind("object")
        ]
        return Annotation(size, _of_first_class(objects) if objects else None)
    except DefusedXmlException:
        raise UserError(
            f"{path} declares a document type or entities, as no annotation of ILSVRC: refused"
        ) from None
    except (ParseError, OSError, ValueError, LookupError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} is not a readable annotation: {reason}; fetch it again") from None


def read_solution(path: Path) -> dict[str, Truth]:
    """LOC_val_solution.csv: `ImageId,wnid x1 y1 x2 y2 wnid x1 …`; empty where there is no such
    file.

    It may name more images than the tree holds, as a subset's does. Raises UserError with the line.
    """
    if not path.is_file():
        return {}
    rows = csv.reader(read_text(path).splitlines())
    found: dict[str, Truth] = {}
    try:
        if next(rows, []) != ["ImageId", "PredictionString"]:
            raise ValueError("expected ImageId,PredictionString")
        for row in filter(None, rows):
            image, words = row[0], row[1].split() if len(row) == 2 else []
            if image in found or not words:
                raise ValueError(
                    "expected one line an image: `image,wnid x1 y1 x2 y2`, with any number of boxes"
                )
            objects = [
                (words[i], _box(words[i + 1 : i + 5]))
                for i in range(0, len(words), 5)
                if len(words) > 1
            ]
            found[image] = _of_first_class(objects) if objects else (words[0], [])
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}, line {rows.line_num}: {error}; fetch it again") from None
    return found


def size_findings(
    name: str, said: tuple[int, int] | None, size: tuple[int, int]
) -> Iterator[Finding]:
    """Where the annotation `name` speaks of an image of another (width, height): its boxes lie
    elsewhere.

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


def _box(corners: list[str]) -> Box:
    """Raises ValueError for what are no four numbers of pixels."""
    numbers = [float(corner) for corner in corners]
    if len(numbers) != 4 or not all(
        abs(number) <= LARGEST_COORDINATE for number in numbers
    ):  # nor for nan
        raise ValueError(f"{corners}"[:100] + " is no box x1 y1 x2 y2")
    return tuple(map(int, numbers))


def _of_first_class(objects: list[tuple[str, Box]]) -> Truth:
    first = objects[0][0]
    return first, [box for wnid, box in objects if wnid == first]
