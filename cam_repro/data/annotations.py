"""Class and boxes of a val image: ILSVRC's XMLs and Kaggle's LOC_val_solution.csv, both read as untrusted text.

Names inside them (<filename>, ImageId) are compared with the files that are there and never made into a path.
"""

import csv
import io
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from cam_repro import UserError
from cam_repro.files import read_text

LARGEST_COORDINATE = 10**6  # pixels; a JPEG's side has 65,535 at most
SOLUTION_HEADER = ["ImageId", "PredictionString"]

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 inclusive, in pixels of the stored image
Truth = tuple[str, list[Box]]  # wnid, boxes of that class


class Annotation(NamedTuple):
    """What an XML says: size (width, height) of its image, none where it is left out; wnid and box of each object."""

    size: tuple[int, int] | None
    objects: list[tuple[str, Box]]

    def truth(self) -> Truth | None:
        """Class and boxes of the first object's class; none where the file has no object."""
        return _of_first_class(self.objects) if self.objects else None


def read_annotation(path: Path) -> Annotation:
    """Raises UserError for what is no annotation, or declares a document type (entities, external files)."""
    try:
        root = fromstring(path.read_bytes(), forbid_dtd=True)
        if root.tag != "annotation":
            raise ValueError(f"<{root.tag[:40]}> where <annotation> was expected")
        size = None if root.find("size") is None else _pixels(root, "size", "width", "height")
        objects = [
            (element.findtext("name", "").strip(), _pixels(element, "bndbox", "xmin", "ymin", "xmax", "ymax"))
            for element in root.iterfind("object")
        ]
        return Annotation(size, objects)
    except DefusedXmlException:
        raise UserError(f"{path} declares a document type or entities, as no annotation of ILSVRC: refused") from None
    except (ParseError, OSError, ValueError, LookupError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} is not a readable annotation: {reason}; fetch it again") from None


def _pixels(element: Element, part: str, *keys: str) -> tuple[int, ...]:
    texts = [element.findtext(f"{part}/{key}") for key in keys]
    if None in texts:
        raise ValueError(f"<{element.tag}> without {part}/{keys[texts.index(None)]}")
    return tuple(map(_coordinate, texts))


def _coordinate(text: str) -> int:
    number = float(text)
    if not abs(number) <= LARGEST_COORDINATE:  # also when it is not a number
        raise ValueError(f"{text.strip()[:40]} is no number of pixels")
    return int(number)


def read_solution(path: Path) -> dict[str, Truth]:
    """LOC_val_solution.csv: `ImageId,wnid x1 y1 x2 y2 wnid x1 …`; empty where there is no such file.

    It may name more images than the tree holds, as a subset's does. Raises UserError with the line.
    """
    if not path.is_file():
        return {}
    rows = csv.reader(io.StringIO(read_text(path), newline=""))
    found: dict[str, Truth] = {}
    try:
        if (header := next(rows, [])) != SOLUTION_HEADER:
            raise ValueError(f"expected {','.join(SOLUTION_HEADER)}, not {','.join(header)[:60]}")
        for row in filter(None, rows):
            truth = _parse_solution(row)
            if row[0] in found:
                raise ValueError(f"image {row[0]} a second time; expected one line an image")
            found[row[0]] = truth
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}, line {rows.line_num}: {error}; fetch it again") from None
    return found


def _parse_solution(row: list[str]) -> Truth:
    words = row[1].split() if len(row) == 2 else []
    if len(words) == 1:
        return words[0], []
    if not words or len(words) % 5:
        raise ValueError("expected `wnid x1 y1 x2 y2` once or more")
    return _of_first_class([(words[i], tuple(map(_coordinate, words[i + 1 : i + 5]))) for i in range(0, len(words), 5)])


def _of_first_class(objects: list[tuple[str, Box]]) -> Truth:
    first = objects[0][0]
    return first, [box for wnid, box in objects if wnid == first]
