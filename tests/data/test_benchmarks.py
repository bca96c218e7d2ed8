"""Data sets of this field in their own layouts: classes, splits and boxes of tiny trees."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from archive_server import ArchiveServer
from conftest import run_script, says, succeeds
from PIL import Image

from cam_repro import UserError
from cam_repro.config import Config, DataConfig
from cam_repro.data import load_classes, open_split
from cam_repro.data.check import check
from cam_repro.data.masks import read_mask
from cam_repro.data.split import Split
from cam_repro.evaluation.metric import ImageFacts
from cam_repro.evaluation.metrics import PxAP
from cam_repro.localization.max_box_acc import MAP_SIDE


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


def test_make_data_downloads_and_unpacks_tiny_imagenet(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    archive = Path(shutil.make_archive(str(tmp_path / "tiny"), "zip", tiny.parent, tiny.name))
    root = tmp_path / "data/tiny-imagenet-200"
    with ArchiveServer({"tiny.zip": archive.read_bytes(), "other.zip": b"no zip"}) as server:
        options = ["data=tinyimagenet", f"data.root={root}"]
        options.append(f"data.download.images={server.url('tiny.zip')}")
        wrong = [*options, "data.download.images_checksum=md5:" + 32 * "0"]
        assert "cannot get" in says(run_script("data", tmp_path, *wrong)) and not root.exists()
        wrong[-2] = f"data.download.images={server.url('other.zip')}"
        wrong[-1] = f"data.download.images_checksum=md5:{hashlib.md5(b'no zip').hexdigest()}"
        assert "is not a whole zip archive" in says(run_script("data", tmp_path, *wrong))
        assert not root.exists() and not Path(f"{root}.making").exists()
        checksum = hashlib.md5(archive.read_bytes()).hexdigest()
        options.append(f"data.download.images_checksum=md5:{checksum}")
        assert f"data=tinyimagenet is there: {root}" in succeeds(
            run_script("data", tmp_path, *options)
        )
        asked = len(server.asked)
        succeeds(run_script("data", tmp_path, *options))
        assert len(server.asked) == asked  # it is there already
    assert len(opened("tinyimagenet", root)) == 3
    assert not (root.parent / "tiny-imagenet-200.download").exists()


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


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def test_cubs_boxes_are_the_benchmarks(tmp_path: Path) -> None:
    root = tmp_path / "CUB_200_2011"
    names = [
        "001.Black_footed_Albatross/a.jpg",
        "001.Black_footed_Albatross/b.jpg",
        "002.Gull/c.jpg",
    ]
    for number, name in enumerate(names):
        image(root / "images" / name, number, (500, 400))
    write(root / "images.txt", *(f"{number} {name}" for number, name in enumerate(names, 1)))
    write(root / "classes.txt", "1 001.Black_footed_Albatross", "2 002.Gull")
    write(root / "image_class_labels.txt", "1 1", "2 1", "3 2")
    write(root / "train_test_split.txt", "1 0", "2 1", "3 0")
    write(
        root / "bounding_boxes.txt", "1 60.0 27.0 325.0 304.0", "2 1 1 2 2", "3 0.0 2.0 30.0 20.0"
    )
    test = opened("cub200", tmp_path)
    assert test.name == "test" and test.words == ["Black footed Albatross", "Gull"]
    assert shown(test) == [
        ("a.jpg", "001.Black_footed_Albatross", [[60, 27, 385, 331]]),  # as metadata/CUB has it
        ("c.jpg", "002.Gull", [[0, 2, 30, 22]]),
    ]
    assert len(opened("cub200", tmp_path, "train")) == 1


@pytest.fixture
def openimages(tmp_path: Path) -> DataConfig:
    """The benchmark's lists of two classes with masks: an image a class in each of its splits."""
    lists, root = tmp_path / "metadata/OpenImages", tmp_path / "dataset/OpenImages"
    for split in ("train", "val", "test"):
        labels, masks = [], []
        for label, name in enumerate(("01226z", "0bt_c3")):
            file = f"{split}/{name}/image{label}"
            image(root / f"{file}.jpg", label, (60, 40))
            labels.append(f"{file}.jpg,{label}")
            for number in range(2):
                mask = np.zeros((40, 60), np.uint8)
                mask[10 * number : 10 * number + 10, :30] = 255
                Image.fromarray(mask).save(root / f"{file}_m{number}.png")
                ignored = f"{file}_ignore.png" if number == 0 else ""
                masks.append(f"{file}.jpg,{file}_m{number}.png,{ignored}")
            mask = np.zeros((40, 60), np.uint8)
            mask[:, 15:45] = 255
            Image.fromarray(mask).save(root / f"{file}_ignore.png")
        write(lists / split / "class_labels.txt", *labels)
        if split != "train":
            write(lists / split / "localization.txt", *masks)
    return DataConfig(name="OpenImages", layout="wsol", root=str(root), lists=str(lists))


def test_the_benchmarks_lists_have_masks_with_what_is_ignored(
    openimages: DataConfig, tmp_path: Path
) -> None:
    for _ in range(2):  # read, and from the index
        test = open_split(openimages, "test", tmp_path / "cache")
        assert [row[:2] for row in shown(test)] == [
            ("image0.jpg", "01226z"),
            ("image1.jpg", "0bt_c3"),
        ]
        mask = read_mask(test.masks.of(1), 40)
        assert mask.shape == (40, 40)
        assert (mask[:20, :20] == 1).all()  # 30 of 60 columns, and of two objects 20 of 40 rows
        assert (mask[20:, 10:30] == 255).all() and (mask[:20, 20:30] == 255).all()
        assert (mask[:, 30:] == 0).all() and (mask[20:, :10] == 0).all()
    assert open_split(openimages, "train", tmp_path / "cache").masks is None
    test.masks.of(0).objects[0].write_bytes(b"")
    with pytest.raises(UserError, match="image0_m0.png is no readable mask"):
        read_mask(test.masks.of(0), 40)


def test_px_ap_of_the_benchmarks_lists_is_that_of_their_masks(
    openimages: DataConfig, tmp_path: Path
) -> None:
    """A map that is the first image's mask, and the same for the second."""
    test = open_split(openimages, "test", tmp_path / "cache")
    metric = PxAP("bilinear")
    assert metric.lacks(test) == "" and metric.lacks(replace(test, masks=None)) == "masks"
    heatmap = (read_mask(test.masks.of(0), MAP_SIDE) == 1).astype(np.float32)
    rows = []
    for one in range(2):
        facts = ImageFacts((60, 40), test.true_boxes(one), test.masks.of(one))
        rows.append(metric.of_image(heatmap[None, None], facts)["histograms"])
    scores = metric.compute({"histograms": np.stack(rows)}, test, frozenset())
    assert scores.metrics["px_ap"] == 100
    counted_pixels = (read_mask(test.masks.of(0), MAP_SIDE) != 255).mean()
    assert scores.metrics["baseline_whole_image"] == pytest.approx(
        100 * heatmap.mean() / counted_pixels
    )


def test_lists_of_boxes_are_read_as_boxes(openimages: DataConfig, tmp_path: Path) -> None:
    path = Path(openimages.lists) / "val/localization.txt"
    write(path, "val/01226z/image0.jpg,1,2,30,20", "val/0bt_c3/image1.jpg,0,0,9,9")
    val = open_split(openimages, "val", tmp_path / "cache")
    assert val.masks is None and [row[2] for row in shown(val)] == [
        [[1, 2, 30, 20]],
        [[0, 0, 9, 9]],
    ]


def test_a_data_set_that_is_not_whole_is_an_error_of_the_check(tiny: Path, tmp_path: Path) -> None:
    data = DataConfig(name="tinyimagenet", layout="tinyimagenet", root=str(tiny))
    with pytest.raises(UserError, match="errors in the data at .*: 1, listed in"):
        check(Config(data=data, runs=str(tmp_path)))
    report = (tmp_path / "tinyimagenet/check.txt").read_text()
    assert "1 wrong count\n          6 images, expected 109,993\n" in report
    assert "train 3 images of 2 classes, 3 boxes\n" in report
    check(Config(data=replace(data, name="a part of it"), runs=str(tmp_path)))


def test_a_corrected_list_of_classes_or_masks_is_noticed(
    openimages: DataConfig, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    assert len(open_split(openimages, "test", cache).masks.of(0).objects) == 2
    lists = Path(openimages.lists) / "test"
    lines = (lists / "localization.txt").read_text().splitlines()
    write(lists / "localization.txt", *lines[1:])
    assert len(open_split(openimages, "test", cache).masks.of(0).objects) == 1
    labels = (lists / "class_labels.txt").read_text().splitlines()
    write(lists / "class_labels.txt", labels[0].replace(",0", ",1"), labels[1])
    assert open_split(openimages, "test", cache).labels.tolist() == [1, 1]


def test_the_benchmarks_lists_without_a_training_image_of_a_class_are_refused(
    openimages: DataConfig, tmp_path: Path
) -> None:
    lists = Path(openimages.lists) / "train/class_labels.txt"
    write(lists, "train/01226z/image0.jpg,0", "train/0bt_c3/image1.jpg,2")
    with pytest.raises(UserError, match="class_labels.txt has no image of some class below 2"):
        open_split(openimages, "train", tmp_path / "cache")


def test_some_of_the_images_keep_their_own_masks(openimages: DataConfig, tmp_path: Path) -> None:
    test = open_split(openimages, "test", tmp_path / "cache")
    turned = test.subset([1, 0])
    assert [turned.masks.of(image) for image in (0, 1)] == [
        test.masks.of(image) for image in (1, 0)
    ]
    assert len(test.subset([1]).masks.starts) == 2
