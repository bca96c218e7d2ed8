"""The check of a data set: what is an error, what is a note, and what it leaves on the disk."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Script
from PIL import Image
from small_tree import IMAGES, SIZE, checked, opened, write_list, write_small_tree, write_xml

from cam_repro import UserError
from cam_repro.config import Config, DataConfig
from cam_repro.data.check import check
from cam_repro.data.images import ORIENTATION

SIZES = "<size><width>{}</width><height>{}</height></size>"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_small_tree(tmp_path / "tree")


def test_a_clean_tree_has_no_error_and_its_counts_in_the_report(root: Path) -> None:
    write_list(root, "train", "n1/n1_7 1\nn2/n2_3 2\n")
    error, report = checked(root)
    assert error is None
    assert "errors: 0\n" in report and "train 2 images of 2 classes\n" in report
    assert "val   3 images of 2 classes, 3 boxes\n" in report
    rows = [line.split() for line in report.splitlines() if line.startswith("n")][-2:]
    assert rows == [["n1", "1", "1", "cat,", "tom"], ["n2", "1", "2", "dog"]]


@pytest.mark.parametrize(
    ("corners", "size", "found"),
    [
        ((0, 9, 9, 0), SIZE, "reversed box\n          a.JPEG: box 0 9 9 0, image 40×30"),
        ((-1, 0, 9, 9), SIZE, "box outside the image\n          a.JPEG: box -1 0 9 9, image 40×30"),
        ((0, 0, 9, 31), SIZE, "box outside the image\n          a.JPEG: box 0 0 9 31, image 40×30"),
        (
            (1, 2, 3, 4),
            SIZES.format(500, 375),
            "annotation of another size\n          a.xml: says 500×375, the image has 40×30",
        ),
    ],
)
def test_an_annotation_that_cannot_be_is_an_error(
    root: Path, corners: tuple[int, ...], size: str, found: str
) -> None:
    write_xml(root, "a", ("n2", corners), size=size)
    error, report = checked(root)
    assert error is not None and "errors: 1\n" in report and found in report
    kind, what = found.split("\n          ")
    message = f": 1, first {what} ({kind}); to list them all, type make check-"
    with pytest.raises(UserError, match=re.escape(message)):
        opened(root)


def test_a_box_over_the_whole_image_is_right_and_one_pixel_more_is_noted(root: Path) -> None:
    write_xml(root, "a", ("n2", (0, 0, 39, 29)))
    assert "over the edge" not in checked(root)[1]
    write_xml(root, "a", ("n2", (1, 1, 40, 30)))
    error, report = checked(root)
    assert error is None
    assert "1 box one pixel over the edge\n          a.JPEG: box 1 1 40 30" in report


def test_a_size_turned_or_unknown_is_no_error_where_the_boxes_fit(root: Path) -> None:
    write_xml(root, "a", ("n2", (1, 2, 3, 4)), size=SIZES.format(30, 40))
    write_xml(root, "b", ("n1", (1, 2, 3, 4)), size=SIZES.format(0, 0))
    error, report = checked(root)
    assert error is None
    assert "1 annotation of the turned size\n          a.xml: says 30×40" in report
    assert opened(root).true_boxes(0).tolist() == [[1, 2, 3, 4]]


def test_an_annotation_of_another_class_than_the_folder_or_the_list_is_an_error(root: Path) -> None:
    (root / IMAGES / "val/n1").mkdir()
    (root / IMAGES / "val/a.JPEG").rename(root / IMAGES / "val/n1/a.JPEG")
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\nc,n2\nb,n2 1 1 2 2\n")
    error, report = checked(root)
    assert error is not None and "errors: 2\n" in report
    assert "1 class of another folder\n          n1/a.JPEG: a.xml says n2\n" in report
    assert "b.JPEG: LOC_val_solution.csv says n2, b.xml says n1\n" in report
    message = "val: annotations that contradict their images or each other: 2, first "
    with pytest.raises(UserError, match=message):
        opened(root)


def test_two_images_of_one_annotation_are_an_error(root: Path) -> None:
    for wnid in ("n1", "n2"):
        (root / IMAGES / "val" / wnid).mkdir()
        shutil.copy(root / IMAGES / "val/a.JPEG", root / IMAGES / "val" / wnid / "1.JPEG")
    # Without an annotation of that name their folders tell their classes.
    assert len(opened(root)) == 5
    write_xml(root, "1", ("n1", (1, 2, 3, 4)))
    error, report = checked(root)
    assert error is not None
    said = "n1/1.JPEG: n2/1.JPEG has the same annotation"
    assert f"1 annotation of several images\n          {said}, 1\n" in report
    with pytest.raises(UserError, match=f"first {said}"):
        opened(root)


def test_the_boxes_of_an_xml_go_before_those_of_the_list(root: Path) -> None:
    error, report = checked(root)
    assert error is None
    said = "a.xml has other boxes than LOC_val_solution.csv; those of a.xml are taken"
    assert f"a.JPEG: {said}" in report
    assert opened(root).true_boxes(0).tolist() == [[1, 2, 3, 4]]


def test_images_that_were_shrunk_are_noticed_without_a_size_in_the_annotations_and_in_place(
    root: Path,
) -> None:
    shutil.rmtree(root / "ILSVRC/Annotations")
    rows = "a,n2 1 2 30 20\nb,n1 1 1 2 2\nc,n2\n"
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + rows)
    assert len(opened(root)) == 3
    Image.new("RGB", (20, 15)).save(root / IMAGES / "val/a.JPEG")
    with pytest.raises(UserError, match=": 1, first a.JPEG: box 1 2 30 20, image 20×15"):
        opened(root)


def test_what_is_there_on_one_side_only_is_found(root: Path) -> None:
    write_xml(root, "gone", ("n2", (1, 2, 3, 4)))
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\nb,n1\nlost,n2\n")
    write_list(root, "train", "n1/n1_7 1\nn1/n1_8 2\n")
    error, report = checked(root)
    assert error is not None and "errors: 2\n" in report
    for line in (
        "1 listed image missing\n          n1/n1_8\n",
        "1 image without annotation\n          c.JPEG\n",
        "2 annotation without image\n          gone.xml\n          lost: in LOC_val_solution.csv\n",
        "1 image not listed\n          n2/n2_3.JPEG\n",
    ):
        assert line in report


def test_a_folder_of_classes_is_checked_too(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for wnid in ("cat", "dog", "fox"):
        (root / wnid).mkdir(parents=True)
        for number in range(1 if wnid == "fox" else 10):
            tags = exif if number == 3 else b""
            Image.new("RGB", (40, 30)).save(root / wnid / f"{number}.jpg", exif=tags)
    Image.new("RGBA", (8, 8)).save(root / "cat/clear.png")
    Image.new("I;16", (8, 8)).save(root / "cat/scan.png")
    (root / "dog/notes.txt").touch()
    data = DataConfig(name="pets", root=str(root), layout="folder")
    check(Config(data=data, runs=str(tmp_path)))
    report = (tmp_path / "pets/check.txt").read_text()
    for line in (
        "train 21 images of 3 classes\n",
        "val   2 images of 2 classes\n",
        "errors: 0\n",
        "2 EXIF rotation\n          cat/3.jpg: orientation 6, turned upright\n",
        "1 transparency\n          cat/clear.png: RGBA, laid on white\n",
        "1 more than 8 bits\n          cat/scan.png: I;16, scaled to 8 bits by its own range\n",
        "1 .txt files\n          dog/notes.txt\n",
        "1 classes of one image, which is for training\n          fox\n",
    ):
        assert line in report
    (root / "dog/2.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="errors in the data at .*pets: 1, listed in"):
        check(Config(data=data, runs=str(tmp_path)))
    assert "1 unreadable image\n          dog/2.jpg: " in (tmp_path / "pets/check.txt").read_text()


def test_ilsvrc_is_held_against_its_known_numbers(root: Path) -> None:
    names = [f"n{number}" for number in range(1, 1001)]
    (root / "LOC_synset_mapping.txt").write_text("\n".join(names))
    error, report = checked(root, name="ilsvrc")
    assert error is not None
    for line in (
        "train: 2 images, expected 1,281,167",
        "val: 3 images, expected 50,000",
        "train n1: 1 images, expected 732 to 1300",
        "val n2: 2 images, expected 50 to 50",
    ):
        assert line in report


def test_a_split_that_is_not_there_is_noted_and_none_at_all_refused(root: Path) -> None:
    (root / IMAGES / "train").rename(root / "elsewhere")
    error, report = checked(root)
    assert error is None and "1 no images\n" in report
    (root / IMAGES / "val").rename(root / "elsewhere2")
    with pytest.raises(UserError, match="holds no images .* in train or val; see data.root="):
        check(Config(data=DataConfig(name="tree", root=str(root)), runs=str(root)))


def test_damage_in_the_middle_that_decoders_read_past_is_noted(root: Path) -> None:
    path = root / IMAGES / "val/b.JPEG"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + data[len(data) // 2 + 200 :])
    error, report = checked(root)
    assert error is None and "1 doubtful JPEG data\n          b.JPEG: Corrupt JPEG data" in report


def test_the_screen_has_three_of_a_kind_and_the_report_all(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(9):
        write_xml(root, f"gone{number}", ("n2", (1, 2, 3, 4)))
    report = checked(root)[1]
    shown = capsys.readouterr().out
    assert "9 annotation without image" in shown and shown.count("gone") == 3
    assert report.count("gone") == 9
    assert str(root.parent / "runs/tree/check.txt") in shown


def test_odd_names_are_written_as_printable_text(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(root) / IMAGES / "train/n1/\udcff\n\x1b[31m.JPEG").write_bytes(b"")
    report = checked(root)[1]
    assert r"n1/\udcff\n\x1b[31m.JPEG: " in report
    assert "\x1b" not in capsys.readouterr().out


def test_the_script_ends_with_one_line_where_there_are_errors(script: Script, root: Path) -> None:
    (root / IMAGES / "val/a.JPEG").write_bytes(b"")
    options = [f"data.root={root}", "data.generate=null", "data.name=tree"]
    damaged = script("check_data", *options, tiny=False)
    assert damaged.returncode == 1
    assert damaged.stderr.strip().splitlines()[-1].startswith("error: errors in the data at ")
    assert "1 unreadable image" in damaged.stdout
