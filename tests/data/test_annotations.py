"""Boxes in every format that is read: the same boxes, to the digit, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ilsvrc_forms import add_all
from PIL import Image

from cam_repro import UserError
from cam_repro.config import Config, DataConfig
from cam_repro.data import open_split
from cam_repro.data.annotations import Annotation, Object, in_pixels, open_annotations
from cam_repro.data.check import check
from cam_repro.data.images import ORIENTATION
from cam_repro.data.split import Split

SIZES = {"cat/a": (40, 30), "cat/b": (50, 20), "dog/a": (33, 61)}  # two images are called a
BOXES = {
    "cat/a": [(3, 4, 20, 29), (0, 0, 39, 29)],
    "cat/b": [(7, 1, 49, 19)],
    "dog/a": [(1, 2, 32, 60)],
}
CATEGORIES = {90: "dog", 17: "cat"}  # COCO's ids are names and leave gaps
COLUMNS = "image,x1,y1,x2,y2,class"


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    for name, size in SIZES.items():
        path = root / f"val/{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(path)
    return root


def write_coco(root: Path, crowd: bool = False) -> Path:
    images = []
    annotations = []
    for number, (name, (width, height)) in enumerate(SIZES.items(), 1000):
        file = f"{name}.jpg"
        images.append({"id": number, "file_name": file, "width": width, "height": height})
        category = next(key for key, word in CATEGORIES.items() if name.startswith(word))
        for x1, y1, x2, y2 in BOXES[name]:
            bbox = [x1, y1, x2 - x1 + 1, y2 - y1 + 1]
            one = {"image_id": number, "category_id": category, "bbox": bbox, "iscrowd": 0}
            annotations.append(one)
    if crowd:
        annotations[0]["iscrowd"] = 1
    categories = [{"id": key, "name": word} for key, word in CATEGORIES.items()]
    path = root / "boxes.json"
    whole = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(whole))
    return path


def write_csv(root: Path, first: int = 0, last: int = 0) -> Path:
    lines = [COLUMNS]
    for name, boxes in BOXES.items():
        for x1, y1, x2, y2 in boxes:
            corners = (x1 + first, y1 + first, x2 + last, y2 + last)
            lines.append(f"val/{name}.jpg,{','.join(map(str, corners))},{name[:3]}")
    path = root / "boxes.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_voc(root: Path) -> Path:
    """One XML an image, of corners that count from 1."""
    for name, boxes in BOXES.items():
        path = root / f"xml/{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(voc(name, boxes, SIZES[name]))
    return root / "xml"


def voc(name: str, boxes: list, size: tuple[int, int], difficult: int = 0) -> str:
    objects = ""
    for box in boxes:
        edges = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        corners = "".join(f"<{edge}>{at + 1}</{edge}>" for edge, at in edges.items())
        flag = f"<difficult>{difficult}</difficult>"
        objects += f"<object><name>{name[:3]}</name>{flag}<bndbox>{corners}</bndbox></object>"
    width, height = size
    size_tag = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation>{size_tag}{objects}</annotation>"


def write_voc_archive(root: Path) -> Path:
    files = [(f"{name}.xml", voc(name, BOXES[name], SIZES[name]).encode()) for name in SIZES]
    add_all(root / "xml.tgz", files, mode="w:gz")
    return root / "xml.tgz"


def write_wsol(root: Path) -> Path:
    folder = root / "metadata"
    folder.mkdir(parents=True)
    rows = []
    for name, boxes in BOXES.items():
        rows += [f"val/{name}.jpg,{x1},{y1},{x2},{y2}" for x1, y1, x2, y2 in boxes]
    (folder / "localization.txt").write_text("\n".join(rows) + "\n")
    sizes = [f"val/{name}.jpg,{width},{height}" for name, (width, height) in SIZES.items()]
    (folder / "image_sizes.txt").write_text("\n".join(sizes) + "\n")
    return folder


def yolo(box: tuple[float, ...], size: tuple[int, int]) -> str:
    """Centre and sides as shares of the image's, with the usual six digits."""
    x1, y1, x2, y2 = box
    width, height = size
    shares = ((x1 + x2 + 1) / 2 / width, (y1 + y2 + 1) / 2 / height,
              (x2 + 1 - x1) / width, (y2 + 1 - y1) / height)  # fmt: skip
    return " ".join(f"{share:.6f}" for share in shares)


def write_yolo(root: Path) -> Path:
    (root / "labels").mkdir()
    (root / "labels/classes.txt").write_text("cat\ndog\n")
    for name, boxes in BOXES.items():
        number = ["cat", "dog"].index(name[:3])
        path = root / f"labels/{name}.txt"
        path.parent.mkdir(exist_ok=True)
        lines = [f"{number} {yolo(box, SIZES[name])}\n" for box in boxes]
        path.write_text("".join(lines))
    return root / "labels"


def write_openimages(root: Path) -> Path:
    """Its ids name images without folders, so that of two images called a neither is meant."""
    header = (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf"
    )
    lines = [header]
    for name, boxes in BOXES.items():
        width, height = SIZES[name]
        for x1, y1, x2, y2 in boxes:
            edges = (x1 / width, (x2 + 1) / width, y1 / height, (y2 + 1) / height)
            shares = ",".join(f"{edge:.6f}" for edge in edges)
            lines.append(f"{name},xclick,/m/{name[:3]},1,{shares},0,0,0")
    path = root / "validation-annotations-bbox.csv"
    path.write_text("\n".join(lines) + "\n")
    (root / "class-descriptions-boxable.csv").write_text("/m/cat,Cat\n/m/dog,Dog\n")
    return path


WRITERS = {
    "COCO": (write_coco, None),
    "CSV": (write_csv, None),
    "CSV of corners from 1, the last one outside": (
        lambda root: write_csv(root, 1, 2),
        "1-exclusive",
    ),
    "Pascal VOC": (write_voc, "1-inclusive"),
    "an archive of XMLs": (write_voc_archive, "1-inclusive"),
    "WSOL": (write_wsol, None),
    "YOLO": (write_yolo, None),
    "OpenImages": (write_openimages, None),
}


def with_boxes(pets: Path, boxes: Path, corners: str | None = None) -> Split:
    data = DataConfig(
        name="pets", root=str(pets), layout="folder", boxes=str(boxes), box_corners=corners
    )
    return open_split(data, "val", pets.parent / "cache")


def boxes_of(split: Split) -> dict[str, list]:
    return {
        str(split.path(image).relative_to(split.folder).with_suffix("")): [
            tuple(box) for box in split.true_boxes(image).tolist()
        ]
        for image in range(len(split))
    }


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_boxes_to_the_digit(
    pets: Path, tmp_path: Path, kind: str
) -> None:
    write, corners = WRITERS[kind]
    split = with_boxes(pets, write(tmp_path), corners)
    assert boxes_of(split) == BOXES
    assert split.boxes.dtype == np.int32


sides = st.integers(2, 5000)


@given(st.data(), sides, sides)
def test_a_box_in_shares_with_six_digits_comes_back_to_the_pixel(
    data: st.DataObject, width: int, height: int
) -> None:
    x1 = data.draw(st.integers(0, width - 1))
    y1 = data.draw(st.integers(0, height - 1))
    x2 = data.draw(st.integers(x1, width - 1))
    y2 = data.draw(st.integers(y1, height - 1))
    x, y, w, h = map(float, yolo((x1, y1, x2, y2), (width, height)).split())
    shares = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    (found,) = in_pixels(Annotation([Object(shares)], relative=True), (width, height))
    assert found.box == (x1, y1, x2, y2)


def test_a_fraction_of_a_pixel_stays_one(pets: Path, tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text(f"{COLUMNS}\ncat/a.jpg,10.5,2,20,8.25,cat\n")
    split = with_boxes(pets, path)
    assert split.true_boxes(0).tolist() == [[10.5, 2, 20, 8.25]]
    assert split.boxes.dtype == np.float64


def test_boxes_of_other_classes_are_not_the_images(pets: Path, tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text(f"{COLUMNS}\ncat/b.jpg,1,2,3,4,cat\ncat/b.jpg,5,5,6,6,dog\n")
    assert boxes_of(with_boxes(pets, path))["cat/b"] == [(1, 2, 3, 4)]


def test_crowds_and_difficult_boxes_are_kept_apart_and_counted(pets: Path, tmp_path: Path) -> None:
    split = with_boxes(pets, write_coco(tmp_path, crowd=True))
    assert boxes_of(split)["cat/a"] == BOXES["cat/a"][1:] and split.left_out == {"crowd": 1}
    path = tmp_path / "xml/cat/b.xml"
    path.parent.mkdir(parents=True)
    path.write_text(voc("cat/b", BOXES["cat/b"], SIZES["cat/b"], difficult=1))
    split = with_boxes(pets, tmp_path / "xml", "1-inclusive")
    assert len(split.boxes) == 0 and split.left_out == {"difficult": 1}


def changed(**changes: object):
    """COCO's file with some of its parts replaced."""

    def write(root: Path) -> Path:
        path = write_coco(root)
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return path

    return write


def table(*lines: str):
    def write(root: Path) -> Path:
        path = root / "boxes.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def twice_in_coco(root: Path) -> Path:
    path = write_coco(root)
    whole = json.loads(path.read_text())
    whole["images"].append(whole["images"][0] | {"id": 1})
    path.write_text(json.dumps(whole))
    return path


def polygons(root: Path) -> Path:
    labels = write_yolo(root)
    (labels / "cat/a.txt").write_text("0 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6\n")
    return labels


BAD = {
    "not there": (lambda root: root / "nowhere", "nowhere is not there; give a file or folder"),
    "no known format": (
        lambda root: (root / "boxes.xlsx", (root / "boxes.xlsx").touch())[0],
        "is in no format of boxes that is known",
    ),
    "an empty folder": (
        lambda root: (root / "none", (root / "none").mkdir())[0],
        "holds neither XMLs, nor localization.txt, nor YOLO's",
    ),
    "other categories": (
        changed(categories=[{"id": 90, "name": "cow"}, {"id": 17, "name": "pig"}]),
        "cat/a.jpg: boxes.json says pig, which is none of the data's classes .cat, …",
    ),
    "a category without a name": (
        changed(categories=[]),
        "boxes.json is not COCO's JSON.* has category_id 17, which no category has",
    ),
    "no COCO": (changed(images=5), "is not COCO's JSON of boxes"),
    "another header": (
        table("a,b,c", "1,2,3"),
        "begins with a,b,c; expected a header image,x1,y1,x2,y2",
    ),
    "a line too short": (
        table(COLUMNS, "cat/a.jpg,1,2,3"),
        "boxes.csv, line 2: 4 values, the header has 6",
    ),
    "a word for a number": (
        table(COLUMNS, "cat/a.jpg,1,2,3,x,cat"),
        "boxes.csv, line 2: could not convert",
    ),
    "a box outside": (
        table(COLUMNS, "cat/a.jpg,1,2,41,20,cat"),
        "box 1 2 41 20, image 40×30 .box outside",
    ),
    "shares in place of pixels": (
        table(COLUMNS, "cat/a.jpg,0.1,0.1,0.9,0.9,cat"),
        "has edges from 0 to 1, .*shares of the sides; write them in pixels",
    ),
    "an image twice": (twice_in_coco, "two images are called cat/a.jpg"),
    "polygons in YOLO's form": (polygons, "line 1: 9 values, expected class x y width height"),
    "only a header": (table(COLUMNS), "holds no annotation of any image"),
    "no image of these": (table(COLUMNS, "cow.jpg,1,2,3,4,cat"), "names none of the 3 images"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_set_of_boxes_is_refused_in_one_line(
    pets: Path, tmp_path: Path, kind: str
) -> None:
    write, message = BAD[kind]
    with pytest.raises(UserError, match=message) as caught:
        with_boxes(pets, write(tmp_path))
    assert "\n" not in str(caught.value)


def test_sizes_that_contradict_are_refused(pets: Path, tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    path.write_text(path.read_text().replace('"width": 40', '"width": 80'))
    with pytest.raises(UserError, match="boxes.json: says 80×30, the image has 40×30"):
        with_boxes(pets, path)


def test_corners_are_counted_as_the_format_says(pets: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="box_corners=1-inclusive: COCO's JSON says itself"):
        with_boxes(pets, write_coco(tmp_path), "1-inclusive")
    data = DataConfig(name="pets", root=str(pets), layout="folder", box_corners="1-inclusive")
    with pytest.raises(UserError, match="is about data.boxes=, which is not given"):
        open_split(data, "val", tmp_path)


def test_a_source_is_read_when_first_asked(tmp_path: Path) -> None:
    source = open_annotations(write_csv(tmp_path))
    source.path.write_text("image,x1,y1,x2,y2\nz.jpg,1,2,3,4\n")
    assert [*source.known] == ["z"]


def test_boxes_are_those_of_the_split_that_is_evaluated(pets: Path, tmp_path: Path) -> None:
    """Also of the training images, and of all; a training itself takes none."""
    (pets / "val").rename(pets / "train")
    boxes = write_csv(tmp_path)
    boxes.write_text(boxes.read_text().replace("val/", ""))
    data = DataConfig(name="pets", root=str(pets), layout="folder", boxes=str(boxes))
    for split in ("all", "train"):
        chosen = replace(data, split=split)
        assert len(open_split(chosen, split, tmp_path / split).boxes) > 0
        check(Config(data=chosen, runs=str(tmp_path)))
        assert f"  {split:5} " in (tmp_path / "pets/check.txt").read_text()
    assert len(open_split(data, "train", tmp_path).boxes) == 0


def test_a_class_is_meant_by_its_own_spelling_where_two_differ_in_case(tmp_path: Path) -> None:
    for name in ("Cat", "cat"):
        (tmp_path / f"pets/val/{name}").mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(tmp_path / f"pets/val/{name}/{name}.jpg")
    path = tmp_path / "boxes.csv"
    path.write_text(f"{COLUMNS}\ncat.jpg,1,2,3,4,cat\nCat.jpg,5,6,7,8,Cat\n")
    split = with_boxes(tmp_path / "pets", path)
    assert boxes_of(split) == {"Cat/Cat": [(5, 6, 7, 8)], "cat/cat": [(1, 2, 3, 4)]}


def test_folders_of_ilsvrcs_wnids_have_its_words(tmp_path: Path) -> None:
    for wnid in ("n01440764", "n01443537"):
        (tmp_path / f"pets/val/{wnid}").mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(tmp_path / f"pets/val/{wnid}/{wnid}.jpg")
    path = tmp_path / "boxes.csv"
    path.write_text(f"{COLUMNS}\nn01440764.jpg,1,2,3,4,Tench\n")
    split = with_boxes(tmp_path / "pets", path)
    boxes = {split.wnids[split.labels[image]]: split.true_boxes(image).tolist() for image in (0, 1)}
    assert boxes == {"n01440764": [[1, 2, 3, 4]], "n01443537": []}
    assert split.words[split.wnids.index("n01443537")].startswith("goldfish")


def test_a_size_that_is_that_of_the_image_before_it_was_turned_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for name in ("cat", "dog"):
        (tmp_path / f"pets/val/{name}").mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(tmp_path / f"pets/val/{name}/{name}1.jpg", exif=exif)
    path = tmp_path / "xml"
    path.mkdir()
    (path / "cat1.xml").write_text(voc("cat", [(1, 2, 9, 9)], (40, 30)))
    with pytest.raises(UserError, match="cat1.xml: says 40×30, the image has 30×40"):
        with_boxes(tmp_path / "pets", path)


def test_an_empty_class_cell_is_a_box_without_a_class(pets: Path, tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text(f"{COLUMNS}\ncat/b.jpg,1,2,3,4,cat\ncat/b.jpg,5,5,6,6,\n")
    assert boxes_of(with_boxes(pets, path))["cat/b"] == [(1, 2, 3, 4), (5, 5, 6, 6)]
