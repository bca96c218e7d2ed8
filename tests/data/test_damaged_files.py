"""Every kind of damaged or hostile file in a data set: one line that names the file, or the documented way on."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_tree import IMAGES, opened, write_list, write_small_tree, write_xml

from cam_repro import UserError
from cam_repro.config import Config, DataConfig
from cam_repro.data import images
from cam_repro.data.check import check
from cam_repro.data.images import CorruptImage, read_image

Damage = Callable[[Path], object]


def encoded(picture: Image.Image | None = None, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    picture = picture or Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8))
    picture.save(file, kind, **options)
    return file.getvalue()


def jpeg_with_header_of(width: int, height: int) -> bytes:
    data = bytearray(encoded())
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def png_with_header_of(width: int, height: int) -> bytes:
    data = bytearray(encoded(kind="PNG"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def deep(mode: str) -> Image.Image:
    return Image.fromarray(np.full((30, 40), 9, np.uint16 if mode == "I;16" else np.float32))


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    return exif


UNREADABLE = {
    "empty": b"",
    "ten bytes": encoded()[:10],
    "half": encoded()[: len(encoded()) // 2],
    "end missing": encoded()[:-2],
    "headers only": encoded()[: encoded().index(b"\xff\xda")],
    "zeros": bytes(1000),
    "noise after the marker": b"\xff\xd8" + bytes(range(256)) * 4,
    "text": b"this is not a picture\n",
    "web page of an error": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "compressed": gzip.compress(encoded()),
    "PostScript, which Pillow would run": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\nshowpage\n",
    "half a PNG": encoded(kind="PNG")[:900],
    "16 bits a channel": encoded(deep("I;16"), "PNG"),
    "floating point": encoded(deep("F"), "TIFF"),
    "JPEG with a header of 4 billion pixels": jpeg_with_header_of(65500, 65500),
    "PNG with a header of 10 billion pixels": png_with_header_of(100000, 100000),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_small_tree(tmp_path / "tree")


def report_of(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[bool, str]:
    """Whether the check found no error, and its whole report."""
    runs = root.parent / "runs"
    config = Config(data=DataConfig(name="tree", root=str(root)), runs=str(runs))
    try:
        check(config)
        clean = True
    except UserError as error:
        assert "\n" not in str(error)
        clean = False
    capsys.readouterr()
    return clean, (runs / "tree/check.txt").read_text()


@pytest.mark.parametrize("decoder", ["simplejpeg", "pillow"])
@pytest.mark.parametrize("damage", UNREADABLE)
def test_a_damaged_picture_is_refused_by_name_and_found_by_the_check(
    root: Path, damage: str, decoder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if decoder == "pillow":
        monkeypatch.setattr(images, "simplejpeg", None)
    path = root / IMAGES / "val/b.JPEG"
    path.write_bytes(UNREADABLE[damage])
    with pytest.raises(CorruptImage, match="b.JPEG: ") as caught:
        read_image(path)
    assert "\n" not in str(caught.value) and "object at" not in str(caught.value)
    clean, report = report_of(root, capsys)
    assert not clean and "1 unreadable image\n          b.JPEG: " in report


@pytest.mark.parametrize("kind", ["folder", "link to nowhere"])
def test_what_is_no_file_of_a_picture_is_refused_by_name(root: Path, kind: str) -> None:
    path = root / IMAGES / "val/b.JPEG"
    path.unlink()
    path.mkdir() if kind == "folder" else path.symlink_to("nowhere")
    with pytest.raises(CorruptImage, match="b.JPEG: (Is a directory|No such file)"):
        read_image(path)


ODD = {
    "not RGB\n          b.JPEG: CMYK": encoded(Image.new("CMYK", (40, 30))),
    "not RGB\n          b.JPEG: L": encoded(Image.new("L", (40, 30))),
    "not a JPEG\n          b.JPEG: PNG": encoded(kind="PNG"),
    "not RGB\n          b.JPEG: P": encoded(Image.new("P", (40, 30)), "PNG", transparency=b"\0"),
    "EXIF rotation\n          b.JPEG: orientation 6": encoded(exif=rotated()),
    "errors: 0": encoded().replace(b"\xff\xd9", b"\xff\xd9rubbish after the end"),
}


@pytest.mark.parametrize("note", ODD)
def test_an_odd_but_whole_picture_is_read_and_only_noted(
    root: Path, note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / IMAGES / "val/b.JPEG"
    path.write_bytes(ODD[note])
    assert read_image(path).shape == (30, 40, 3)
    clean, report = report_of(root, capsys)
    assert clean and note in report


def xml(text: str | bytes) -> Damage:
    data = text if isinstance(text, bytes) else text.encode()
    return lambda root: write_xml(root, "a").write_bytes(data)


def box(*corners: object) -> Damage:
    return lambda root: write_xml(root, "a", ("n2", corners))


def csv(text: str | bytes) -> Damage:
    header = b"ImageId,PredictionString\nc,n2\n"
    data = header + text if isinstance(text, bytes) else header + text.encode()
    return lambda root: (root / "LOC_val_solution.csv").write_bytes(data)


def val_list(text: str | bytes) -> Damage:
    return lambda root: write_list(root, "val", text)


def mapping(text: str | bytes) -> Damage:
    data = text if isinstance(text, bytes) else text.encode()
    return lambda root: (root / "LOC_synset_mapping.txt").write_bytes(data)


LAUGHS = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "ha"}">' for i in range(10))
BOMB = f"<!DOCTYPE annotation [{LAUGHS}]><annotation><object><name>&e9;</name></object></annotation>"
OUTSIDE = '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation><folder>&e;</folder></annotation>'
REMOTE = '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><annotation/>'
UTF_7 = "<?xml version='1.0' encoding='utf-7'?>" + BOMB.replace("<", "+ADw-").replace("&", "+ACY-")
NO_XML = "a.xml is not a readable annotation"

TREES: dict[str, tuple[Damage, str]] = {
    "XML empty": (xml(""), NO_XML),
    "XML cut off": (xml("<annotation><object><name>n2</na"), NO_XML),
    "XML with two roots": (xml("<annotation/><annotation/>"), NO_XML),
    "XML with another root": (xml("<html/>"), NO_XML + ".*<html> where <annotation> was expected"),
    "XML not UTF-8": (xml(b"<annotation><folder>\xff\xfe\xfa</folder></annotation>"), NO_XML),
    "XML in no known encoding": (xml("<?xml version='1.0' encoding='nonsense'?><annotation/>"), NO_XML),
    "XML in a codec that is no text": (xml("<?xml version='1.0' encoding='zlib'?><annotation/>"), NO_XML),
    "XML with an unknown entity": (xml("<annotation><folder>&e;</folder></annotation>"), NO_XML),
    "entity bomb": (xml(BOMB), "a.xml declares .*refused"),
    "entity bomb in UTF-16": (xml(BOMB.encode("utf-16")), "a.xml declares .*refused"),
    "entity bomb in UTF-16, big-endian": (xml(b"\xfe\xff" + BOMB.encode("utf-16-be")), "a.xml declares .*refused"),
    "entity bomb in UTF-7": (xml(UTF_7), NO_XML),
    "external entity": (xml(OUTSIDE), "a.xml declares .*refused"),
    "external document type": (xml(REMOTE), "a.xml declares .*refused"),
    "box of words": (box("x", 0, 1, 1), NO_XML),
    "box of no number": (box("nan", 0, 1, 1), NO_XML + ".*nan is no number of pixels"),
    "box without end": (box(0, 0, "inf", 1), NO_XML + ".*inf is no number of pixels"),
    "box of 10^30": (box(0, 0, 10**30, 1), NO_XML + ".*is no number of pixels"),
    "box without a corner": (
        xml("<annotation><object><name>n2</name><bndbox><xmin>1</xmin></bndbox></object></annotation>"),
        NO_XML + ": <object> without bndbox/ymin",
    ),
    "object without box": (
        xml("<annotation><object><name>n2</name></object></annotation>"), NO_XML + ": <object> without bndbox/xmin",
    ),
    "size of words": (lambda root: write_xml(root, "a", size="<size><width>wide</width></size>"), NO_XML),
    "class nobody knows": (lambda root: write_xml(root, "a", ("n9", (0, 0, 1, 1))), "a.xml: class n9 is not in"),
    "class that is a path": (lambda root: write_xml(root, "a", ("../n1", (0, 0, 1, 1))), "a.xml: class ../n1 is not"),
    "CSV without header": (
        lambda root: (root / "LOC_val_solution.csv").write_text("c,n2\n"), "csv, line 1: expected ImageId,Predic",
    ),
    "CSV with three columns": (csv("a,n1,n2\n"), "csv, line 3: expected `wnid x1 y1 x2 y2`"),
    "CSV with no class": (csv("a,\n"), "csv, line 3: expected `wnid x1 y1 x2 y2`"),
    "CSV with half a box": (csv("a,n1 1 2 3 4 n1 5 6\n"), "csv, line 3: expected `wnid x1 y1 x2 y2`"),
    "CSV with a box of words": (csv("a,n1 1 2 3 x\n"), "csv, line 3: could not convert"),
    "CSV with an endless box": (csv("a,n1 1 2 3 inf\n"), "csv, line 3: inf is no number of pixels"),
    "CSV with an image twice": (csv("a,n1\na,n2\n"), "csv, line 4: image a a second time"),
    "CSV that is not UTF-8": (csv(b"a,n1 \xff\n"), "csv is not UTF-8 text"),
    "CSV with a field without end": (csv('a,"' + "n1 " * 60000), "csv, line [23]: field larger"),
    "list of an image that is not there": (val_list("a 1\nz 2\n"), "val.txt lists 1 images that are not there, .* z"),
    "list that leads out": (val_list("a 1\n../../../../../cache 2\n"), "val.txt lists 1 images that are not there"),
    "list with an absolute path": (val_list("/etc/passwd 1\n"), "val.txt lists 1 images that are not there"),
    "list with a NUL": (val_list(b"a\0 1\n"), "val.txt lists 1 images that are not there"),
    "list with an image twice": (val_list("a 1\nb 2\na 3\n"), "val.txt lists a more than once"),
    "list numbered with words": (val_list("a one\n"), "val.txt, line 1: expected `name number`, not 'a one'"),
    "list of three columns": (val_list("a 1\nb 2 3\n"), "val.txt, line 2: expected `name number`"),
    "list of nothing": (val_list("\n"), "val.txt lists no image"),
    "list that is not UTF-8": (val_list(b"\xff\xff 1\n"), "val.txt is not UTF-8 text"),
    "mapping without classes": (mapping(""), "LOC_synset_mapping.txt lists 0 classes"),
    "mapping with a class twice": (mapping("n1 cat\nn2 dog\nn1 cat\n"), "mapping.txt lists 3 classes, 2 different"),
    "mapping that is not UTF-8": (mapping(b"n1 c\xe2t\nn2 dog\n"), "LOC_synset_mapping.txt is not UTF-8 text"),
    "mapping with a path": (mapping("../../n1 cat\nn2 dog\n"), "mapping.txt: '../../n1' is no class name"),
    "mapping that is a folder": (
        lambda root: ((root / "LOC_synset_mapping.txt").unlink(), (root / "LOC_synset_mapping.txt").mkdir()),
        "cannot read .*LOC_synset_mapping.txt: Is a directory",
    ),
    "two files of one image": (
        lambda root: (
            write_list(root, "val", "a 1\n"), shutil.copy(root / IMAGES / "val/a.JPEG", root / IMAGES / "val/a.png"),
        ),
        "a.JPEG and a.png are two files of one image",
    ),
}  # fmt: skip
IN_THE_MAPPING = [kind for kind in TREES if kind.startswith("mapping")]


@pytest.mark.parametrize("kind", TREES)
def test_a_damaged_tree_is_refused_in_one_line_that_names_the_file(root: Path, kind: str) -> None:
    damage, message = TREES[kind]
    damage(root)
    with pytest.raises(UserError, match=message) as caught:
        opened(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in TREES if kind not in IN_THE_MAPPING])
def test_the_check_goes_on_past_damage_and_reports_it(
    root: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    TREES[kind][0](root)
    clean, report = report_of(root, capsys)
    left_alone = kind.startswith("CSV")  # image c has its class from nowhere else
    assert not clean and f"errors: {1 + left_alone}\n" in report
    assert f"val   {4 if kind.startswith('two files') else 3} images" in report


@pytest.mark.parametrize("kind", IN_THE_MAPPING)
def test_the_check_refuses_a_tree_without_readable_classes(root: Path, kind: str) -> None:
    damage, message = TREES[kind]
    damage(root)
    with pytest.raises(UserError, match=message):
        check(Config(data=DataConfig(name="tree", root=str(root)), runs=str(root.parent)))


def test_names_in_the_csv_that_are_no_image_of_the_tree_are_passed_over(root: Path) -> None:
    csv("../../../secret,n1 0 0 1 1\n/etc/passwd,n9 0 0 1 1\na,n1\n")(root)
    assert len(opened(root)) == 3


def test_the_file_name_in_an_annotation_is_never_opened(root: Path) -> None:
    write_xml(root, "a", ("n2", (1, 2, 3, 4)), size="<filename>../../../../etc/passwd</filename>")
    split = opened(root)
    assert split.path(0) == root / IMAGES / "val/a.JPEG"


def test_linked_folders_and_pictures_are_followed(root: Path) -> None:
    """Whoever owns the tree made the links: people keep data sets, classes and subsets elsewhere."""
    elsewhere = root.parent / "elsewhere"
    (root / IMAGES / "train/n1").rename(elsewhere)
    (root / IMAGES / "train/n1").symlink_to(elsewhere)
    (root / IMAGES / "train/n2/n2_9.JPEG").symlink_to(elsewhere / "n1_7.JPEG")
    linked = root.parent / "linked"
    linked.symlink_to(root)
    assert opened(linked, "train").labels.tolist() == [0, 1, 1]


def test_a_name_that_is_not_utf8_is_found_and_read(root: Path) -> None:
    odd = os.fsencode(root / IMAGES / "train/n1") + b"/\xff\n.JPEG"
    shutil.copy(root / IMAGES / "val/a.JPEG", os.fsdecode(odd))
    split = opened(root, "train")
    assert len(split) == 3
    assert {read_image(split.path(i)).shape for i in range(3)} == {(30, 40, 3)}
