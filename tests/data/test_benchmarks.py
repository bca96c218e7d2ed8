"""Data sets of this field in their own layouts: classes, splits and boxes of tiny trees."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cam_repro import UserError
from cam_repro.config import DataConfig
from cam_repro.data import load_classes, open_split
from cam_repro.data.split import Split


def image(path: Path, seed: int, size: tuple[int, int] = (64, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path, "JPEG")


def opened(layout: str, root: Path, split: str = "val") -> Split:
    data = DataConfig(name=layout, layout=layout, root=str(root), get="get it")
    return open_split(data, split, root / "cache")


def shown(split: Split) -> list[tuple[str, str, list]]:
    """Of each image its name, class and boxes."""
    rows = []
    for image in range(len(split)):
        wnid = split.wnids[split.labels[image]]
        rows.append((split.path(image).name, wnid, split.true_boxes(image).tolist()))
    return rows


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Two train images of each of two classes, and three val images, one of them in train too."""
    root = tmp_path / "tiny-imagenet-200"
    for number, wnid in enumerate(("n02", "n01")):
        for place in range(2):
            image(root / f"train/{wnid}/images/{wnid}_{place}.JPEG", 10 * number + place)
        lines = [f"{wnid}_{place}.JPEG\t{place}\t1\t62\t63\n" for place in range(2)]
        (root / f"train/{wnid}/{wnid}_boxes.txt").write_text("".join(lines))
    for place in range(3):
        image(root / f"val/images/val_{place}.JPEG", 100 + place)
    shutil.copy(root / "train/n01/images/n01_1.JPEG", root / "val/images/val_2.JPEG")
    lines = ["val_0.JPEG\tn02\t0\t32\t44\t62\n", "val_1.JPEG\tn01\t5\t5\t5\t9\n"]
    lines.append("val_2.JPEG\tn01\t0\t0\t63\t63\n")
    (root / "val/val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("n02\nn01\n")
    (root / "words.txt").write_text("n01\tfish\nn02\tbird, fowl\nn03\tcow\n")
    return root


def test_tiny_imagenet_has_boxes_in_train_and_val(tiny: Path) -> None:
    for root in (tiny, tiny.parent):  # the folder itself, or the one it was unpacked in
        val = opened("tinyimagenet", root)
        assert shown(val) == [
            ("val_0.JPEG", "n02", [[0, 32, 44, 62]]),
            ("val_1.JPEG", "n01", [[5, 5, 5, 9]]),
            ("val_2.JPEG", "n01", [[0, 0, 63, 63]]),
        ]
        assert val.wnids == ["n01", "n02"] and val.words == ["fish", "bird, fowl"]
    train = opened("tinyimagenet", tiny, "train")
    assert shown(train)[0] == ("n01_0.JPEG", "n01", [[0, 1, 62, 63]])


def test_train_images_that_stand_in_val_are_named_and_left_out(tiny: Path) -> None:
    train = opened("tinyimagenet", tiny, "train")
    kept = [train.path(one).name for one in range(len(train))]
    assert kept == ["n01_0.JPEG", "n02_0.JPEG", "n02_1.JPEG"]
    (names,) = train.remarks.values()
    assert names == ["train/n01/images/n01_1.JPEG"]
    assert opened("tinyimagenet", tiny, "train").remarks == train.remarks  # from the index


def test_stanford_40s_box_is_the_persons_and_its_class_the_action(tmp_path: Path) -> None:
    person = (
        "<annotation><object><name>person</name><action>{0}</action><bndbox><xmax>30</xmax>"
        "<xmin>2</xmin><ymax>40</ymax><ymin>3</ymin></bndbox></object></annotation>"
    )
    for number, action in enumerate(("running", "blowing_bubbles")):
        for split, place in (("train", 1), ("test", 2)):
            name = f"{action}_{place}"
            image(tmp_path / f"JPEGImages/{name}.jpg", 10 * number + place)
            xml = tmp_path / f"XMLAnnotations/{name}.xml"
            xml.parent.mkdir(exist_ok=True)
            xml.write_text(person.format(action))
            lists = tmp_path / "ImageSplits"
            lists.mkdir(exist_ok=True)
            (lists / f"{action}_{split}.txt").write_text(f"{name}.jpg\n")
    val = opened("stanford40", tmp_path)
    assert val.name == "test" and val.words == ["blowing bubbles", "running"]
    assert shown(val) == [
        ("blowing_bubbles_2.jpg", "blowing_bubbles", [[2, 3, 30, 40]]),
        ("running_2.jpg", "running", [[2, 3, 30, 40]]),
    ]
    assert len(opened("stanford40", tmp_path, "train")) == 2


def test_scene_15s_lists_are_its_splits(tmp_path: Path) -> None:
    for name in ("CALsuburb", "store"):
        for place in range(4):
            image(tmp_path / f"{name}/image_{place}.jpg", place)
    assert len(opened("scene15", tmp_path, "all")) == 8  # without lists: a folder of classes
    (tmp_path / "train.txt").write_text("store/image_0.jpg\nCALsuburb/image_1.jpg\n")
    (tmp_path / "test.txt").write_text("store/image_2.jpg\n")
    assert [row[:2] for row in shown(opened("scene15", tmp_path, "train"))] == [
        ("image_0.jpg", "store"),
        ("image_1.jpg", "CALsuburb"),
    ]
    assert len(opened("scene15", tmp_path, "all")) == 3
    assert opened("scene15", tmp_path).name == "test"


def test_caltech_101s_background_is_no_class(tmp_path: Path) -> None:
    for name in ("accordion", "airplanes", "BACKGROUND_Google"):
        for place in range(3):
            image(tmp_path / f"101_ObjectCategories/{name}/image_{place}.jpg", place)
    data = DataConfig(name="c", layout="caltech101", root=str(tmp_path))
    assert load_classes(data)[0] == ["accordion", "airplanes"]
    for split, count in (("train", 4), ("val", 2), ("all", 6)):
        assert len(opened("caltech101", tmp_path, split)) == count


@pytest.mark.parametrize("layout", ["tinyimagenet", "stanford40", "scene15", "caltech101"])
def test_a_folder_that_is_none_of_these_is_refused_in_one_line(tmp_path: Path, layout: str) -> None:
    with pytest.raises(UserError, match=r"data.root=.* does not hold .*: get it"):
        opened(layout, tmp_path)
    with pytest.raises(UserError, match=f"data={layout} has no root: get it"):
        open_split(DataConfig(name=layout, layout=layout, get="get it"), "val", tmp_path)


def test_a_split_that_there_is_not_is_refused(tiny: Path) -> None:
    with pytest.raises(UserError, match="data.split=test: .* has train, val"):
        opened("tinyimagenet", tiny, "test")
