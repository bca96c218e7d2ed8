"""Damaged and hostile files in a data set: one line that names the file, or the documented way."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_tree import BOX, IMAGES, checked, opened, write_small_tree, write_xml

from cam_repro import UserError
from cam_repro.config import Config, DataConfig
from cam_repro.data import images
from cam_repro.data.check import check
from cam_repro.data.ilsvrc import ANNOTATIONS, SOLUTION
from cam_repro.data.ilsvrc_lists import IMAGE_SETS, MAPPING
from cam_repro.data.images import CorruptImage, examine, read_image, read_size


def encoded(image: Image.Image | None = None, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    if image is None:
        pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
        image = Image.fromarray(pixels)
    image.save(file, kind, **options)
    return file.getvalue()


ROTATED = Image.Exif()
ROTATED[images.ORIENTATION] = 6
UNREADABLE = {
    "empty": b"",
    "end missing": encoded()[:-2],
    "noise after the marker": b"\xff\xd8" + bytes(range(256)) * 4,
    "PostScript, which Pillow would run": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\nshowpage\n"
    ),
    "half a PNG": encoded(kind="PNG")[:900],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_small_tree(tmp_path / "tree")


@pytest.mark.parametrize("damage", UNREADABLE)
def test_a_damaged_image_is_refused_by_name_and_found_by_the_check(
    root: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("run"))
    path = root / IMAGES / "val/b.JPEG"
    path.write_bytes(UNREADABLE[damage])
    with pytest.raises(CorruptImage, match="b.JPEG: ") as caught:
        read_image(path)
    assert "\n" not in str(caught.value) and "object at" not in str(caught.value)
    error, report = checked(root)
    assert error and "1 unreadable image\n          b.JPEG: " in report


def test_a_header_of_4_billion_pixels_is_refused_before_decoding(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be 13 GB, asked for by a file of 1 kB."""
    data = bytearray(encoded())
    path = root / IMAGES / "val/b.JPEG"
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = 2 * (65500).to_bytes(2, "big")
    path.write_bytes(data)
    monkeypatch.setattr("simplejpeg.decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    for read in (read_image, read_size, examine):
        with pytest.raises(CorruptImage, match="b.JPEG: "):
            read(path)


def test_what_is_no_file_is_refused_by_name(root: Path) -> None:
    (root / "link.JPEG").symlink_to("nowhere")
    for path, said in (
        (root, "tree: Is a directory"),
        (root / "link.JPEG", "link.JPEG: No such file"),
    ):
        with pytest.raises(CorruptImage, match=said):
            read_image(path)


ODD = {
    "not RGB\n          b.JPEG: CMYK": encoded(Image.new("CMYK", (40, 30))),
    "not a JPEG\n          b.JPEG: PNG": encoded(kind="PNG"),
    "more than 8 bits\n          b.JPEG: I;16, scaled": encoded(Image.new("I;16", (40, 30)), "PNG"),
    "transparency\n          b.JPEG: RGBA, laid on white": encoded(
        Image.new("RGBA", (40, 30)), "PNG"
    ),
    "EXIF rotation\n          b.JPEG: orientation 6": encoded(exif=ROTATED),
    "errors: 0": encoded().replace(b"\xff\xd9", b"\xff\xd9rubbish after the end"),
}


@pytest.mark.parametrize("note", ODD)
def test_an_odd_but_whole_image_is_read_and_only_noted(root: Path, note: str) -> None:
    path = root / IMAGES / "val/b.JPEG"
    path.write_bytes(ODD[note])
    assert read_image(path).shape == (30, 40, 3)
    error, report = checked(root)
    assert error is None and note in report


XML = f"{ANNOTATIONS}/a.xml"
LIST = IMAGE_SETS["val"]
START = "ImageId,PredictionString\nc,n2\n"
OBJECT = "<annotation><object><name>{}</name>{}</object></annotation>"

LAUGHS = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "ha"}">' for i in range(10))
BOMB = (
    f"<!DOCTYPE annotation [{LAUGHS}]><annotation><object><name>&e9;</name></object></annotation>"
)
OUTSIDE = (
    '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    "<annotation><folder>&e;</folder></annotation>"
)
REMOTE = '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><annotation/>'
NO_XML = "a.xml is not a readable annotation"

TREES: dict[str, tuple[str, str | bytes, str]] = {  # a file, what is in it, and what is said of it
    "XML cut off": (XML, "<annotation><object><name>n2</na", NO_XML),
    "XML with another root": (XML, "<html/>", NO_XML + ".*<html> where <annotation> was expected"),
    "XML in a codec that is no text": (
        XML,
        "<?xml version='1.0' encoding='zlib'?><annotation/>",
        NO_XML,
    ),
    "entity bomb in UTF-16": (XML, BOMB.encode("utf-16"), "a.xml declares .*refused"),
    "external entity": (XML, OUTSIDE, "a.xml declares .*refused"),
    "external document type": (XML, REMOTE, "a.xml declares .*refused"),
    "box of no number": (
        XML,
        OBJECT.format("n2", BOX.format("nan", 0, 1, 1)),
        NO_XML + ".*'nan', '0'.* is no box",
    ),
    "object without box": (XML, OBJECT.format("n2", ""), NO_XML),
    "size of words": (XML, "<annotation><size><width>wide</width></size></annotation>", NO_XML),
    "class that is a path": (
        XML,
        OBJECT.format("../n1", BOX.format(0, 0, 1, 1)),
        "a.JPEG is of class ../n1, which is none of the 2 classes",
    ),
    "CSV without header": (SOLUTION, "c,n2\n", "csv, line 1: expected ImageId,Predic"),
    "CSV with three columns": (
        SOLUTION,
        START + "a,n1,n2\n",
        "csv, line 3: expected one line an image",
    ),
    "CSV with half a box": (
        SOLUTION,
        START + "a,n1 1 2 3 4 n1 5 6\n",
        "csv, line 3: .*'5', '6'. is no box",
    ),
    "CSV with an image twice": (
        SOLUTION,
        START + "a,n1\na,n2\n",
        "csv, line 4: expected one line an image",
    ),
    "CSV with a field without end": (
        SOLUTION,
        START + 'a,"' + "n1 " * 60000,
        "csv, line [23]: field larger",
    ),
    "list that leads out": (
        LIST,
        "a 1\n../../../../cache 2\n",
        "val.txt lists 1 images that are not there, first ../",
    ),
    "list with an image twice": (LIST, "a 1\nb 2\na 3\n", "val.txt lists 3 images, 2 different"),
    "list of nothing": (LIST, "\n", "val.txt lists 0 images"),
    "list that is not UTF-8": (LIST, b"\xff\xff 1\n", "val.txt is not UTF-8 text"),
    "mapping without classes": (MAPPING, "", "LOC_synset_mapping.txt lists 0 classes"),
    "mapping with a class twice": (
        MAPPING,
        "n1 cat\nn2 dog\nn1 cat\n",
        "mapping.txt lists 3 classes, 2 different",
    ),
}


@pytest.fixture(params=TREES)
def damage(root: Path, request: pytest.FixtureRequest) -> str:
    """Kind by kind, the tree with that damage in it."""
    file, content, _ = TREES[request.param]
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    return request.param


def test_a_damaged_tree_is_refused_in_one_line_that_names_the_file(root: Path, damage: str) -> None:
    with pytest.raises(UserError, match=TREES[damage][2]) as caught:
        opened(root)
    assert "\n" not in str(caught.value)


def test_the_check_goes_on_past_damage_and_reports_it(root: Path, damage: str) -> None:
    # Without the mapping no class is known, and the check ends as the reader does.
    if damage.startswith("mapping"):
        with pytest.raises(UserError, match=TREES[damage][2]):
            check(Config(data=DataConfig(name="tree", root=str(root)), runs=str(root.parent)))
        return
    error, report = checked(root)
    left_alone = damage.startswith("CSV")  # image c has its class from nowhere else
    assert error and f"errors: {1 + left_alone}\n" in report and "val   3 images" in report


def test_names_in_the_csv_that_are_no_image_of_the_tree_are_passed_over(root: Path) -> None:
    (root / SOLUTION).write_text(
        START + "../../../secret,n1 0 0 1 1\n/etc/passwd,n9 0 0 1 1\na,n2\n"
    )
    assert len(opened(root)) == 3


def test_the_file_name_in_an_annotation_is_never_opened(root: Path) -> None:
    write_xml(root, "a", ("n2", (1, 2, 3, 4)), size="<filename>../../../../etc/passwd</filename>")
    assert opened(root).path(0) == root / IMAGES / "val/a.JPEG"


def test_linked_folders_and_images_are_followed(root: Path) -> None:
    """The owner of the tree made the links: people keep data sets and classes elsewhere."""
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
    for image in range(3):
        assert read_image(split.path(image)).shape == (30, 40, 3)
