"""Class and boxes of a val image: ILSVRC's XMLs and Kaggle's LOC_val_solution.csv, both read as untrusted text.

Names inside them (<filename>, ImageId) are compared with the files that are there and never made into a path.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from cam_repro import UserError
from cam_repro.data.untrusted import read_bytes, read_text

LARGEST_XML = 1 << 20  # bytes; ILSVRC's largest have some tens of kB
LARGEST_COORDINATE = 10**6  # pixels; a JPEG's side has 65,535 at most
SOLUTION_HEADER = ["ImageId", "PredictionString"]

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 inclusive, in pixels of the stored image
Truth = tuple[str, list[Box]]  # wnid, boxes of that class


@dataclass(frozen=True)
class Annotation:
    """What an XML says: size (width, height) of its image, none where it is left out; wnid and box of each object."""

    size: tuple[int, int] | None
    objects: list[tuple[str, Box]]

    def truth(self) -> Truth | None:
        """Class and boxes of the first object's class; none where the file has no object."""
        return _of_first_class(self.objects) if self.objects else None


def read_annotation(path: Path) -> Annotation:
    """Raises UserError for what is no annotation, or declares a document type (entities, external files)."""
    try:
        root = _parse(path, read_bytes(path, LARGEST_XML))
        if root.tag != "annotation":
            raise ValueError(f"<{root.tag[:40]}> where <annotation> was expected")
        return Annotation(_size_of(root), [_object_of(element) for element in root.iterfind("object")])
    except OSError as error:
        raise UserError(f"{path} is not a readable annotation: {error.strerror}") from None
    except (expat.ExpatError, ValueError, LookupError, OverflowError) as error:
        raise UserError(f"{path} is not a readable annotation: {error}; fetch it again") from None


def _parse(path: Path, data: bytes) -> Element:
    """The document's root. Expat reports a document type in whatever encoding, before any entity can be used."""

    def refuse(*_: object) -> NoReturn:
        raise UserError(f"{path} declares a document type or entities, which ILSVRC's annotations never do: refused")

    parser, tree = expat.ParserCreate(), TreeBuilder()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = tree.start, tree.end
    parser.CharacterDataHandler = tree.data
    parser.Parse(data, True)
    return tree.close()


def _size_of(root: Element) -> tuple[int, int] | None:
    size = root.find("size")
    return None if size is None else (_pixels(size, "width"), _pixels(size, "height"))


def _object_of(element: Element) -> tuple[str, Box]:
    box = element.find("bndbox")
    if box is None:
        raise ValueError("an object without bndbox")
    corners = _pixels(box, "xmin"), _pixels(box, "ymin"), _pixels(box, "xmax"), _pixels(box, "ymax")
    return element.findtext("name", "").strip(), corners


def _pixels(parent: Element, key: str) -> int:
    text = parent.findtext(key)
    if text is None:
        raise ValueError(f"<{parent.tag}> without <{key}>")
    return _coordinate(text)


def _coordinate(text: str) -> int:
    number = float(text)
    if not -LARGEST_COORDINATE <= number <= LARGEST_COORDINATE:  # also when it is not a number
        raise ValueError(f"{text.strip()[:40]} is no number of pixels")
    return int(number)


def read_solution(path: Path) -> dict[str, Truth]:
    """LOC_val_solution.csv: `ImageId,wnid x1 y1 x2 y2 wnid x1 …`; empty where there is no such file.

    It may name more images than the tree holds, as a subset's does. Raises UserError with the line.
    """
    if not path.is_file():
        return {}
    found: dict[str, Truth] = {}
    try:
        for line, row in enumerate(csv.reader(io.StringIO(read_text(path), newline="")), 1):
            if line == 1 and row != SOLUTION_HEADER:
                raise UserError(f"{path}, line 1: expected {','.join(SOLUTION_HEADER)}, not {','.join(row)[:60]}")
            if line > 1 and row:
                _add_solution(found, path, line, row)
    except csv.Error as error:
        raise UserError(f"{path} is not a readable CSV: {error}; fetch it again") from None
    return found


def _add_solution(found: dict[str, Truth], path: Path, line: int, row: list[str]) -> None:
    try:
        truth = _parse_solution(row)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}, line {line}: {error}") from None
    if row[0] in found:
        raise UserError(f"{path}, line {line}: image {row[0]} a second time; expected one line an image")
    found[row[0]] = truth


def _parse_solution(row: list[str]) -> Truth:
    words = row[1].split() if len(row) == 2 else []
    if len(words) == 1:
        return words[0], []
    if not words or len(words) % 5:
        raise ValueError("expected `wnid x1 y1 x2 y2` once or more")
    return _of_first_class([(words[i], _corners(words[i + 1 : i + 5])) for i in range(0, len(words), 5)])


def _corners(words: Sequence[str]) -> Box:
    x1, y1, x2, y2 = (_coordinate(word) for word in words)
    return x1, y1, x2, y2


def _of_first_class(objects: list[tuple[str, Box]]) -> Truth:
    first = objects[0][0]
    return first, [box for wnid, box in objects if wnid == first]
