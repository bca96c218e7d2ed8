"""One's own pictures, a folder per class: classes from the names, a tenth held out, no boxes."""

from pathlib import Path

import pytest
from conftest import TINY, composed, evaluated, run_script
from PIL import Image

from cam_repro import UserError
from cam_repro.cam import show_images
from cam_repro.config import DataConfig
from cam_repro.data.folder import open_split, read_classes
from cam_repro.reporting.tables import write_tables


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "pets", {"dog": 40, "cat": 40, "empty": 0, ".hidden": 3})


def write(root: Path, classes: dict[str, int]) -> Path:
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (40, 30), (3 * number, 90, 200)).save(root / name / f"{number}.jpg")
        (root / name / "notes.txt").touch()
        (root / name / "._0.jpg").write_bytes(b"of a Mac")
    return root


def opened(root: Path, split: str) -> tuple[list[str], list[int]]:
    found = open_split(DataConfig(name="pets", root=str(root)), split, root)
    assert found.true_boxes(0).shape == (0, 4) and not found.box_starts.any() and len(found.boxes) == 0
    assert all(found.path(image).is_file() for image in range(len(found)))
    return [file.decode() for file in found.files.tolist()], found.labels.tolist()


def test_classes_are_the_sorted_names_of_the_folders_with_pictures(root: Path) -> None:
    assert read_classes(DataConfig(name="pets", root=str(root))) == (["cat", "dog"], ["cat", "dog"])


def test_about_a_tenth_is_held_out_and_stays_so_when_pictures_are_added(root: Path) -> None:
    (train, labels), (val, _) = opened(root, "train"), opened(root, "val")
    assert len({*train, *val}) == len(train) + len(val) == 80 and 3 <= len(val) <= 16
    assert labels == [int(file.startswith("dog/")) for file in train]
    write(root, {"ant": 20})
    assert {*val} <= {*opened(root, "val")[0]} and {*train} <= {*opened(root, "train")[0]}


def test_train_and_val_folders_are_the_splits(tmp_path: Path) -> None:
    root = write(tmp_path / "pets/train", {"cat": 3, "dog": 2}).parent
    write(root / "val", {"dog": 2})
    assert opened(root, "train") == ([f"cat/{n}.jpg" for n in range(3)] + ["dog/0.jpg", "dog/1.jpg"], [0, 0, 0, 1, 1])
    assert opened(root, "val") == (["dog/0.jpg", "dog/1.jpg"], [1, 1])
    write(root / "val", {"fox": 1})
    with pytest.raises(UserError, match="val/fox is a class that .*train does not have"):
        opened(root, "val")


@pytest.mark.parametrize("given", ["nowhere", "."])
def test_what_is_no_folder_of_classes_is_said_in_one_line(tmp_path: Path, given: str) -> None:
    with pytest.raises(UserError, match="is no folder; give it|no pictures in folders under .*<class>"):
        open_split(DataConfig(name="pets", root=str(tmp_path / given), get="give it"), "val", tmp_path)


def test_own_pictures_go_the_whole_way_under_the_folders_name(root: Path, tmp_path: Path) -> None:
    """Two classes without boxes: trained, classified, looked at, tabulated; localization says what is missing."""
    small = [option for option in TINY if "generate" not in option]
    options = ["data=folder", f"data.root={root}", "model=squeezenet_gap", "model.units=8", "recipe=scratch", *small]
    done = run_script("train", tmp_path, *options, "model.input_size=64")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/pets/squeezenet_gap/checkpoint.pt").is_file()
    where = [f"{key}={tmp_path / key}" for key in ("runs", "results", "cache")]
    config = composed([*options, *where, "data.workers=0", "device=cpu", f"out={tmp_path / 'out'}"])
    (record,) = evaluated(config, "classification")
    assert record["metrics"]["cls_top5_error"] is None
    with pytest.raises(UserError, match="data=pets has no boxes, so nothing can be localized; make eval-class"):
        evaluated(config)
    table, _ = write_tables(tmp_path / "results", "pets")
    assert "cls top-1" in table.read_text() and "cls top-5" not in table.read_text()
    config.image = str(write(tmp_path / "new", {"dog": 3}) / "dog")
    assert len(show_images(config)) == 3 == len([*(tmp_path / "out").iterdir()])
