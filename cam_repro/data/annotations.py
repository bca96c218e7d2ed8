"""Annotations, which tell images' classes and boxes: one reader a format.

A reader is one function and one line in `_format_of`. It gives the annotations of all images that
its file names. All files are read as untrusted text: names inside them are compared with those of
the images on the disk and never made into a path.

Boxes are x1, y1, x2, y2 in pixels, both corners inclusive and counted from 0, unless a format says
otherwise; a coordinate with a fraction keeps it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
import zlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cam_repro import UserError
from cam_repro.data.images import SUFFIXES
from cam_repro.files import read_text

EDGES = ("xmin", "ymin", "xmax", "ymax")
LARGEST_COORDINATE = 10**6  # pixels; a JPEG's side has 65,535 at most
CORNERS = {  # data.box_corners -> what is added to both coordinates of the first and last corner
    "0-inclusive": (0, 0),
    "1-inclusive": (-1, -1),
    "0-exclusive": (0, -1),
    "1-exclusive": (-1, -2),
}

# What a format keeps beside its boxes: sizes, and the names of classes.
LISTS_BESIDE = ("image_sizes.txt", "class-descriptions-boxable.csv", "classes.txt")
Known = dict[str, "Annotation | Path"]  # by an image's name without its suffix
# x1, y1, x2, y2, both corners inclusive, in pixels of the stored image.
TrueBox = tuple[float, float, float, float]


class Object(NamedTuple):
    """A box of an image.

    name: of its class, none where the source has no classes; left_out: why no prediction has to
    find the box (difficult, crowd, group of), empty for all other boxes.
    """

    box: TrueBox
    name: str | None = None
    left_out: str = ""


class Annotation(NamedTuple):
    """What one source says of an image.

    objects: its boxes; name: its class where the source says it without a box; size: width and
    height, none where they are left out; relative: the edges are shares of the image's sides.
    """

    objects: list[Object] = []  # noqa: RUF012  never changed
    name: str | None = None
    size: tuple[int, int] | None = None
    relative: bool = False

    @property
    def class_name(self) -> str | None:
        """The image's class: the one that is said, or that of its first object."""
        if self.name is not None or not self.objects:
            return self.name
        return self.objects[0].name


class Source:
    """Annotations by the image's name without its suffix, read from `path` when first asked for.

    read: the format's reader, path -> the annotations, or the file of each for XMLs in a folder;
    corners: a key of CORNERS; pattern: of the files that are read in a folder.
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[Path], Known],
        corners: str | None = None,
        pattern: str = "**/*",
    ) -> None:
        self.path = path
        self.pattern = pattern
        self.read = read
        self.corners = corners or "0-inclusive"

    @cached_property
    def known(self) -> Known:
        """Raises UserError for a damaged file, and for one without annotations."""
        found = self.read(self.path)
        if not found:
            raise UserError(f"{self.path} holds no annotation of any image")
        return found

    @property
    def files(self) -> list[Path]:
        """The files that the annotations are read from, lists of classes and sizes among them."""
        folder = self.path.parent if self.path.is_file() else self.path
        files = [self.path]
        if not self.path.is_file():
            inside = self.path.glob(self.pattern)
            files = [file for file in inside if file.suffix in (".xml", ".txt", ".mat")]
        for place in (folder, folder.parent, folder.parent.parent):
            files += [place / name for name in LISTS_BESIDE if (place / name).is_file()]
            files += place.glob("*.y*ml")
        return files

    def annotation(self, name: str) -> Annotation:
        """The annotation of an image in `known`. Raises UserError for a file that is none."""
        found = self.known[name]
        if isinstance(found, Path):
            found = read_annotation(found)
        to_first, to_last = CORNERS[self.corners]
        if to_first == to_last == 0:
            return found
        objects = []
        for one in found.objects:
            x1, y1, x2, y2 = one.box
            box = (x1 + to_first, y1 + to_first, x2 + to_last, y2 + to_last)
            objects.append(one._replace(box=box))
        return found._replace(objects=objects)

    def file_of(self, name: str) -> str:
        """Where an image's annotation stands, for messages."""
        found = self.known[name]
        return found.name if isinstance(found, Path) else self.path.name


def open_annotations(path: Path, corners: str | None = None) -> Source:
    """The annotations at `path`, whose format is found by looking.

    corners: a key of CORNERS, for formats that do not fix it themselves: XMLs and one's own CSV.
    Raises UserError for what is in none of the formats.
    """
    if not path.exists():
        raise UserError(f"data.boxes={path} is not there; give a file or folder of boxes")
    format_name, read = _format_of(path)
    if corners is not None and read not in (read_xml_folder, read_xml_archive, read_csv):
        raise UserError(
            f"data.box_corners={corners}: {format_name} says itself how corners are counted"
        )
    return Source(path, read, corners)


def _format_of(path: Path) -> tuple[str, Callable[[Path], Known]]:
    """The format's name and its reader."""
    if path.is_dir():
        if (path / "localization.txt").is_file():
            return "the WSOL benchmark's metadata", read_wsol
        if any(path.rglob("*.xml")):
            return "a folder of XMLs", read_xml_folder
        if any(path.rglob("*.txt")):
            return "a folder of YOLO's text files", read_yolo
        raise UserError(f"{path} holds neither XMLs, nor localization.txt, nor YOLO's text files")
    name = path.name.lower()
    if name.endswith((".tgz", ".tar.gz", ".tar")):
        return "an archive of XMLs", read_xml_archive
    if name == "localization.txt":
        return "the WSOL benchmark's metadata", read_wsol
    if name.endswith(".json"):
        return "COCO's JSON", read_coco
    if name.endswith(".csv"):
        header = _header(path)
        if header == ["ImageId", "PredictionString"]:
            return "Kaggle's CSV", read_solution
        if {"ImageID", "LabelName", "XMin"} <= set(header):
            return "OpenImages' CSV", read_openimages
        return "a CSV", read_csv
    raise UserError(
        f"{path} is in no format of boxes that is known: a folder or .tgz of XMLs, COCO's .json, "
        "a .csv (Kaggle's, OpenImages' or image,x1,y1,x2,y2,class), the WSOL benchmark's "
        "localization.txt, or a folder of YOLO's .txt"
    )


# Pascal VOC's XMLs, which ILSVRC's are too


def read_xml_folder(path: Path) -> Known:
    """XMLs at any depth, each read when its image is asked for."""
    known = {}
    for file in sorted(path.rglob("*.xml")):
        if not file.name.startswith("."):
            name = file.relative_to(path).with_suffix("")
            known[_bare(os.fspath(name))] = file
    return known


def read_xml_archive(path: Path) -> Known:
    """A tar of XMLs, as image-net.org's ILSVRC2012_bbox_val_v3.tgz, read whole."""
    known = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if not member.isfile() or name.startswith(".") or not name.endswith(".xml"):
                    continue
                content = archive.extractfile(member).read()
                image = _bare(member.name.removesuffix(".xml"))
                known[image] = parse_annotation(content, path / name)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is no whole archive of XMLs: {reason}; fetch it again") from None
    return known


def read_annotation(path: Path) -> Annotation:
    """An XML file. Raises UserError for what is no annotation, or declares a document type."""
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path} is not a readable annotation: {reason}; fetch it again") from None
    return parse_annotation(content, path)


def parse_annotation(content: bytes, path: Path) -> Annotation:
    """An XML's bytes; `path` names it in messages."""
    try:
        root = fromstring(content, forbid_dtd=True)
        if root.tag != "annotation":
            raise ValueError(f"<{root.tag[:40]}> where <annotation> was expected")
        size = None
        if root.find("size") is not None:
            width = root.findtext("size/width", "")
            height = root.findtext("size/height", "")
            size = (int(width), int(height))
        if size == (0, 0):  # as some programs write where they do not know it
            size = None
        objects = []
        for one in root.iterfind("object"):
            corners = [one.findtext(f"bndbox/{edge}", "") for edge in EDGES]
            name = one.findtext("name", "").strip()
            is_difficult = one.findtext("difficult", "0").strip() == "1"
            left_out = "difficult" if is_difficult else ""
            objects.append(Object(parse_box(corners), name, left_out))
        return Annotation(objects, size=size)
    except DefusedXmlException:
        raise UserError(
            f"{path} declares a document type or entities, as no annotation of ILSVRC: refused"
        ) from None
    except (ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path} is not a readable annotation: {error}; fetch it again") from None


# Tables


def read_solution(path: Path) -> Known:
    """Kaggle's LOC_val_solution.csv: `ImageId,wnid x1 y1 x2 y2 wnid x1 …`.

    It may name images that are not there, as beside a subset. A UserError names the line.
    """
    known: dict[str, Annotation] = {}
    rows = _rows(path)
    with _line_named(path, rows):
        if next(rows, []) != ["ImageId", "PredictionString"]:
            raise ValueError("expected ImageId,PredictionString")
        for row in filter(None, rows):
            image = row[0]
            words = row[1].split() if len(row) == 2 else []
            if image in known or not words:
                raise ValueError(
                    "expected one line an image: `image,wnid x1 y1 x2 y2`, with any number of boxes"
                )
            objects = []
            for start in range(0, len(words), 5) if len(words) > 1 else ():
                name, *corners = words[start : start + 5]
                objects.append(Object(parse_box(corners), name))
            known[image] = Annotation(objects, name=words[0])
    return known


IMAGE_COLUMNS = ("image", "image_id", "file", "filename", "file_name", "path")
CLASS_COLUMNS = ("class", "label", "name", "wnid", "category")
CORNER_COLUMNS = (("x1", "y1", "x2", "y2"), EDGES, ("x0", "y0", "x1", "y1"))


def read_csv(path: Path) -> Known:
    """One's own table of a box a line: image, x1, y1, x2, y2 (or xmin …) and maybe class."""
    rows = _rows(path)
    header = [word.strip().lower() for word in next(rows, [])]
    image_column = next((name for name in IMAGE_COLUMNS if name in header), None)
    complete = [names for names in CORNER_COLUMNS if set(names) <= set(header)]
    corner_columns = complete[0] if complete else None
    class_column = next((name for name in CLASS_COLUMNS if name in header), None)
    if image_column is None or corner_columns is None:
        found = ",".join(header)[:80]
        raise UserError(
            f"{path} begins with {found}; expected a header image,x1,y1,x2,y2,class "
            "(class may be left out)"
        )
    known: dict[str, Annotation] = {}
    with _line_named(path, rows):
        for row in filter(None, rows):
            if len(row) != len(header):
                raise ValueError(f"{len(row)} values, the header has {len(header)}")
            said = dict(zip(header, row, strict=True))
            box = parse_box([said[column] for column in corner_columns])
            name = said[class_column].strip() if class_column else ""
            _add(known, said[image_column].strip(), Object(box, name or None))
    edges = [edge for found in known.values() for one in found.objects for edge in one.box]
    if edges and max(edges) <= 1 and any(edge != int(edge) for edge in edges):
        raise UserError(
            f"{path} has edges from 0 to 1, as shares of the sides; write them in pixels"
        )
    return known


def read_openimages(path: Path) -> Known:
    """OpenImages' boxes, whose edges are shares of the sides, with LabelName and IsGroupOf."""
    names = _openimages_names(path.with_name("class-descriptions-boxable.csv"))
    known: dict[str, Annotation] = {}
    lines = read_text(path).splitlines()
    rows = csv.DictReader(lines)
    with _line_named(path, rows):
        for row in rows:
            box = parse_box([row[edge] for edge in ("XMin", "YMin", "XMax", "YMax")])
            label = row["LabelName"]
            name = names.get(label, label)
            left_out = "group of" if row.get("IsGroupOf") == "1" else ""
            _add(known, row["ImageID"], Object(box, name, left_out), relative=True)
    return known


def _openimages_names(path: Path) -> dict[str, str]:
    """Of each label the class's name; empty where the file is not there."""
    if not path.is_file():
        return {}
    rows = csv.reader(read_text(path).splitlines())
    return dict(row for row in rows if len(row) == 2)


def read_wsol(path: Path) -> Known:
    """The WSOL benchmark's localization.txt (image,x1,y1,x2,y2), with image_sizes.txt beside it."""
    folder = path if path.is_dir() else path.parent
    sizes: dict[str, tuple[int, int]] = {}
    sizes_file = folder / "image_sizes.txt"
    if sizes_file.is_file():
        rows = _rows(sizes_file)
        with _line_named(sizes_file, rows):
            for image, width, height in filter(None, rows):
                sizes[image] = int(width), int(height)
    known: dict[str, Annotation] = {}
    boxes_file = folder / "localization.txt"
    rows = _rows(boxes_file)
    with _line_named(boxes_file, rows):
        for image, *corners in filter(None, rows):
            _add(known, image, Object(parse_box(corners)), size=sizes.get(image))
    return known


def read_coco(path: Path) -> Known:
    """COCO's JSON: images, annotations (x, y, width, height) and categories, whose ids are names.

    A box covers the pixels from x on, width of them.
    """
    try:
        whole = json.loads(read_text(path))
        categories = {one["id"]: str(one["name"]) for one in whole["categories"]}
        images = {one["id"]: one for one in whole["images"]}
        objects: dict[Any, list[Object]] = {number: [] for number in images}
        for one in whole["annotations"]:
            x, y, width, height = parse_box(one["bbox"])
            left_out = "crowd" if one.get("iscrowd") else ""
            box = (x, y, x + width - 1, y + height - 1)
            number = one["category_id"]
            if number not in categories:
                raise ValueError(f"an annotation has category_id {number}, which no category has")
            if one["image_id"] not in objects:
                raise ValueError(
                    f"an annotation has image_id {one['image_id']}, which no image has"
                )
            objects[one["image_id"]].append(Object(box, categories[number], left_out))
        known = {}
        for number, image in images.items():
            size = None
            if image.get("width") and image.get("height"):
                size = int(image["width"]), int(image["height"])
            name = _bare(_without_suffix(image["file_name"]))
            if name in known:
                raise ValueError(f"two images are called {image['file_name']}")
            known[name] = Annotation(objects[number], size=size)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not COCO's JSON of boxes: {error}") from None
    except KeyError as error:
        raise UserError(f"{path} is not COCO's JSON of boxes: {error} is missing") from None
    return known


def read_yolo(path: Path) -> Known:
    """YOLO's text files: `class x y width height` a line, x and y of the centre, all as shares.

    The classes are those of classes.txt, or of a .yaml with `names`, in the folder or in one of the
    two above it.
    """
    names, names_file = _yolo_names(path)
    known: dict[str, Annotation] = {}
    for file in sorted(path.rglob("*.txt")):
        if file.name.startswith(".") or file == names_file:
            continue
        lines = [line.replace("\t", " ").strip() for line in read_text(file).splitlines()]
        rows = csv.reader(lines, delimiter=" ", skipinitialspace=True)
        objects = []
        with _line_named(file, rows):
            for row in filter(None, rows):
                number, *numbers = row
                if len(numbers) not in (4, 5):  # of detections the fifth is a confidence
                    raise ValueError(
                        f"{len(row)} values, expected class x y width height; polygons are no boxes"
                    )
                if not number.isdecimal():
                    raise ValueError(f"{number!r} is no class number")
                if names and not 0 <= int(number) < len(names):
                    raise ValueError(f"class {number} of {len(names)} in {names_file}")
                x, y, width, height = parse_box(numbers[:4])
                box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
                objects.append(Object(box, names[int(number)] if names else None))
        name = _bare(os.fspath(file.relative_to(path).with_suffix("")))
        known[name] = Annotation(objects, relative=True)
    return known


def _yolo_names(folder: Path) -> tuple[list[str], Path | None]:
    """The names of the classes, and the file that lists them; none where there is no such file."""
    for place in (folder, folder.parent, folder.parent.parent):
        if (place / "classes.txt").is_file():
            lines = read_text(place / "classes.txt").splitlines()
            return [line.strip() for line in lines if line.strip()], place / "classes.txt"
        for file in sorted(place.glob("*.y*ml")):
            try:
                names = OmegaConf.to_container(OmegaConf.create(read_text(file))).get("names")
            except (OmegaConfBaseException, ValueError, AttributeError):
                continue
            if names:
                if not isinstance(names, list):
                    names = [names[key] for key in sorted(names, key=int)]
                return list(map(str, names)), file
    return [], None


# What the readers share


def in_pixels(annotation: Annotation, size: tuple[int, int]) -> list[Object]:
    """The objects with boxes in pixels of an image of (width, height).

    An edge that is a share of a side is written with six digits only. Where a whole pixel lies
    within their precision, it is that pixel. The last pixel is the one before the right edge.
    """
    if not annotation.relative:
        return annotation.objects
    width, height = size
    objects = []
    for one in annotation.objects:
        edges = []
        for share, side in zip(one.box, (width, height, width, height), strict=True):
            edge = share * side
            is_whole = abs(edge - round(edge)) <= 1.5e-6 * side
            edges.append(round(edge) if is_whole else edge)
        left, top, right, bottom = edges
        box = (left, top, right - 1, bottom - 1)
        objects.append(one._replace(box=box))
    return objects


def _add(known: dict[str, Annotation], image: str, one: Object, **facts: Any) -> None:
    """Adds a box of an image; facts: what its annotation says besides, should this be the first."""
    name = _bare(_without_suffix(image))
    if name not in known:
        known[name] = Annotation([], **facts)
    known[name].objects.append(one)


def _bare(name: str) -> str:
    """A path inside an annotation, on whatever system it was written, without what leads to it."""
    return name.replace("\\", "/").removeprefix("./").strip("/")


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in SUFFIXES else name


def _header(path: Path) -> list[str]:
    return next(_rows(path), [])


def _rows(path: Path) -> Any:
    return csv.reader(io.StringIO(read_text(path)))


class _line_named:
    """Makes a UserError of what is wrong in a line of a table, which names the line."""

    def __init__(self, path: Path, rows: Any) -> None:
        self.path = path
        self.rows = rows

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, ValueError | LookupError | TypeError | csv.Error):
            said = f"{error} is missing" if isinstance(error, KeyError) else error
            raise UserError(f"{self.path}, line {self.rows.line_num}: {said}; mend it") from None


def parse_box(numbers: list[Any]) -> TrueBox:
    """The numbers of a box, which may be text; whole ones become int.

    Raises ValueError for what are no four numbers.
    """
    found = [float(number) for number in numbers]
    are_pixels = all(abs(number) <= LARGEST_COORDINATE for number in found)  # not so for NaN
    if len(found) != 4 or not are_pixels:
        raise ValueError(f"{numbers}"[:100] + " is no box x1 y1 x2 y2")
    return tuple(int(number) if number == int(number) else number for number in found)
