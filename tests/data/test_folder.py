"""One's own images, a folder per class: classes from the names, a tenth held out, no boxes."""

from pathlib import Path

import pytest
from conftest import ALONE, TINY, composed, evaluated, run_script
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cam_repro import UserError
from cam_repro.cam import show_images
from cam_repro.config import DataConfig
from cam_repro.data import load_classes, load_split, open_split
from cam_repro.data.folder import held_out_of
from cam_repro.data.images import ORIENTATION
from cam_repro.data.loaders import evaluation_batches
from cam_repro.data.split import Split
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


def split_of(root: Path, split: str) -> Split:
    return open_split(DataConfig(name="pets", layout="folder", root=str(root)), split, root)


def opened(root: Path, split: str) -> tuple[list[str], list[int]]:
    found = split_of(root, split)
    assert found.true_boxes(0).shape == (0, 4)
    assert not found.box_starts.any() and len(found.boxes) == 0
    assert all(found.path(image).is_file() for image in range(len(found)))
    return [file.decode() for file in found.files.tolist()], found.labels.tolist()


def test_classes_are_the_sorted_names_of_the_folders_with_images(root: Path) -> None:
    data = DataConfig(name="pets", layout="folder", root=str(root))
    wnids, words = load_classes(data)
    assert wnids == words == ["cat", "dog"]


def test_a_tenth_of_each_class_is_held_out(tmp_path: Path) -> None:
    root = write(tmp_path / "pets", {"ant": 1, "bee": 2, "cat": 120, "dog": 14})
    train, labels = opened(root, "train")
    val, of_val = opened(root, "val")
    assert len({*train, *val}) == len(train) + len(val) == 137
    assert [of_val.count(label) for label in range(4)] == [0, 1, 12, 1]
    assert [labels.count(label) for label in range(4)] == [1, 1, 108, 13]
    assert split_of(root, "val").remarks["classes of one image, which is for training"] == ["ant"]


NAMES = st.sets(st.binary(min_size=1, max_size=6), min_size=1, max_size=60)


@given(NAMES, st.binary(min_size=1, max_size=6))
def test_an_image_that_is_added_moves_one_other_at_the_most(
    names: set[bytes], added: bytes
) -> None:
    before = held_out_of(list(names))
    after = held_out_of(list(names | {added}))
    assert len((before ^ after) - {added}) <= 1


@given(NAMES)
def test_what_is_held_out_does_not_depend_on_the_order_of_listing(names: set[bytes]) -> None:
    held_out = held_out_of(sorted(names))
    assert held_out == held_out_of(sorted(names, reverse=True)) and held_out <= names
    assert len(held_out) == (max(1, round(len(names) / 10 + 1e-9)) if len(names) > 1 else 0)


def test_train_and_val_folders_are_the_splits(tmp_path: Path) -> None:
    root = write(tmp_path / "pets/train", {"cat": 3, "dog": 2}).parent
    write(root / "val", {"dog": 2})
    assert opened(root, "train") == (
        [f"cat/{n}.jpg" for n in range(3)] + ["dog/0.jpg", "dog/1.jpg"],
        [0, 0, 0, 1, 1],
    )
    assert opened(root, "val") == (["dog/0.jpg", "dog/1.jpg"], [1, 1])
    write(root / "val", {"fox": 1})
    with pytest.raises(UserError, match="val/fox is a class that .*train does not have"):
        opened(root, "val")


@pytest.mark.parametrize(
    ("train", "other", "name"),
    [("Train", "Test", "test"), ("training", "valid", "val"), ("TRAIN", "Validation", "val")],
)
def test_the_usual_names_of_splits_are_known_in_any_case(
    tmp_path: Path, train: str, other: str, name: str
) -> None:
    root = write(tmp_path / "pets" / train, {"cat": 3, "dog": 2}).parent
    write(root / other, {"cat": 1, "dog": 1})
    assert len(opened(root, "train")[0]) == 5
    assert opened(root, "val") == (["cat/0.jpg", "dog/0.jpg"], [0, 1])
    assert split_of(root, "val").name == split_of(root, name).name == name
    assert split_of(root, "train").name == "train"


def test_val_and_test_beside_each_other_are_both_there(tmp_path: Path) -> None:
    root = write(tmp_path / "pets/train", {"cat": 3, "dog": 2}).parent
    write(root / "val", {"cat": 2})
    write(root / "test", {"dog": 1})
    assert opened(root, "val")[0] == ["cat/0.jpg", "cat/1.jpg"]
    assert opened(root, "test")[0] == ["dog/0.jpg"]
    files, _ = opened(root, "all")
    assert len(files) == 8 and "train/cat/0.jpg" in files


def test_a_class_may_have_the_name_of_a_split(tmp_path: Path) -> None:
    root = write(tmp_path / "vehicles", {"bus": 10, "train": 10})
    wnids, _ = load_classes(DataConfig(name="vehicles", layout="folder", root=str(root)))
    assert wnids == ["bus", "train"]


def test_a_test_set_is_taken_whole_whatever_its_folders_are_called(tmp_path: Path) -> None:
    root = write(tmp_path / "new", {"cat": 12, "dog": 8})
    assert len(opened(root, "val")[0]) == 2
    assert len(opened(root, "all")[0]) == 20 and split_of(root, "all").name == "all"
    alone = write(tmp_path / "later/test", {"dog": 3}).parent
    dogs = ["dog/0.jpg", "dog/1.jpg", "dog/2.jpg"]
    assert opened(alone, "test") == opened(alone, "val") == (dogs, [0, 0, 0])
    assert opened(alone, "all")[0] == [f"test/{dog}" for dog in dogs]
    message = r"no images in folders under .*later \(test can be evaluated on"
    with pytest.raises(UserError, match=message):
        opened(alone, "train")


def test_links_are_followed_and_none_leads_round_in_a_circle(tmp_path: Path) -> None:
    root = write(tmp_path / "pets", {"cat": 2, "dog": 2})
    elsewhere = write(tmp_path / "elsewhere", {"old": 3})
    (root / "fox").symlink_to(elsewhere)  # a class whose folder is a link, with a folder in it
    (root / "cat/more").symlink_to(elsewhere / "old")
    (root / "cat/round").symlink_to(root / "cat")
    (root / "cat/up").symlink_to(tmp_path)
    (root / "cat/self").symlink_to("self")
    (root / "cat/lost.jpg").symlink_to("nowhere.jpg")
    files, labels = opened(root, "all")
    assert files[:5] == [
        "cat/0.jpg",
        "cat/1.jpg",
        "cat/more/0.jpg",
        "cat/more/1.jpg",
        "cat/more/2.jpg",
    ]
    assert [labels.count(label) for label in range(3)] == [5, 2, 3]
    remarks = split_of(root, "all").remarks
    assert sorted(remarks["links to folders that are listed anyway"]) == ["cat/round", "cat/up"]
    assert remarks["links that lead nowhere"] == ["cat/lost.jpg"]


def test_what_is_passed_over_is_said_once_with_counts(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "fox").mkdir()
    (root / "fox/IMG_1.HEIC").touch()
    Image.new("RGB", (40, 30)).save(root / "beside.png")
    data = DataConfig(name="pets", layout="folder", root=str(root))
    split_of(root, "val")
    assert capsys.readouterr().out == ""
    for split in ("train", "val"):
        load_split(data, split, tmp_path, ALONE)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{root}: ")
    for part in (
        "hidden files and folders: 4 (.hidden)", ".txt files: 3 (cat/notes.txt)",
        ".heic files, to be converted to JPEG (heif-convert): 1 (fox/IMG_1.HEIC)",
        "classes without images: 2 (empty)", "images in no class folder: 1 (beside.png)",
    ):  # fmt: skip
        assert part in line


def test_images_of_more_than_8_bits_are_counted_once(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(20):
        Image.new("I;16", (8, 8), number).save(root / f"cat/scan{number}.png")
    data = DataConfig(name="pets", layout="folder", root=str(root))
    load_split(data, "train", tmp_path, ALONE)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "more than 8 bits" in line)
    assert line.startswith("train: ") and " of 90 images have more than 8 bits" in line


@pytest.mark.parametrize(
    ("folders", "given", "message"),
    [
        ({}, "nowhere", "is no folder; give it"),
        ({}, "", "no images in folders under .*<class>"),
        (
            {"cat": 3},
            "cat",
            "no images in folders under .*images in no class folder: 3.* type data.root=.*given$",
        ),
        ({"cat": 3}, "", "has one class, cat; two are needed"),
        (
            {"pets/cat": 3, "pets/dog": 3},
            "",
            "one folder of images, pets, .* has 2, cat, dog: if .* data.root=.*pets$",
        ),
        ({"a/b/cat": 3, "a/b/dog": 3}, "", "type data.root=.*/a/b$"),
        ({"a/train/cat": 3, "a/val/dog": 3}, "", "type data.root=.*/a$"),
        (
            {"train": 3, "test": 3},
            "",
            "the folders test and train, with images .* sort them into .*train/<class>/",
        ),
        (
            {"val/cat": 1, "valid/cat": 1, "dog": 1},
            "",
            "val and .*valid both look like the folder of val",
        ),
    ],
)
def test_what_is_no_folder_of_classes_is_said_in_one_line(
    tmp_path: Path, folders: dict[str, int], given: str, message: str
) -> None:
    (tmp_path / "given").mkdir()
    for name, count in folders.items():
        write(tmp_path / "given", {name: count})
    data = DataConfig(
        name="pets", layout="folder", root=str(tmp_path / "given" / given), get="give it"
    )
    with pytest.raises(UserError, match=message) as caught:
        open_split(data, "val", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_split_that_is_not_there_is_refused(root: Path) -> None:
    message = "data.split=test: .*pets has no folder test; choose data.split=all"
    with pytest.raises(UserError, match=message):
        opened(root, "test")


def test_own_images_are_upright(root: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.new("RGB", (40, 30)).save(root / "cat/0.jpg", exif=exif)
    split = split_of(root, "all")
    assert split.read(0).shape == (40, 30, 3) and split.read(1).shape == (30, 40, 3)
    batch = next(evaluation_batches(split, 32, 2, workers=0))
    assert batch.sizes.tolist() == [[30, 40], [40, 30]]


def test_own_images_go_the_whole_way_under_the_folders_name(root: Path, tmp_path: Path) -> None:
    """Two classes without boxes are trained, classified, shown and tabulated, but not localized."""
    small = [option for option in TINY if "generate" not in option]
    options = [
        "data=folder",
        f"data.root={root}",
        "model=squeezenet_gap",
        "model.units=8",
        "recipe=scratch",
        *small,
    ]
    done = run_script("train", tmp_path, *options, "model.input_size=64")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/pets/squeezenet_gap/checkpoint.pt").is_file()
    where = [f"{key}={tmp_path / key}" for key in ("runs", "results", "cache")]
    config = composed([*options, *where, "data.workers=0", "device=cpu", f"out={tmp_path / 'out'}"])
    (record,) = evaluated(config, "classification")
    assert record["metrics"]["cls_top5_error"] is None and record["images"] == 8
    config.data.split = "all"
    whole = evaluated(config, "classification")[0]
    assert whole["images"] == 80 and whole["split"] == "all"
    config.data.split = "val"
    advice = f"type make eval-classification data=folder data.root={root}"
    message = f"pets has no boxes, so nothing can be localized; {advice}"
    with pytest.raises(UserError, match=message):
        evaluated(config)
    table, _ = write_tables(tmp_path / "results", "pets")
    assert "cls top-1" in table.read_text() and "cls top-5" not in table.read_text()
    config.image = str(write(tmp_path / "new", {"dog": 3}) / "dog")
    assert len(show_images(config)) == 3 == len([*(tmp_path / "out").iterdir()])


def test_all_images_have_their_classes_where_training_lacks_one(tmp_path: Path) -> None:
    write(tmp_path / "train", {"cat": 2, "dog": 2})
    write(tmp_path / "test", {"ant": 1, "cat": 1})
    split = split_of(tmp_path, "all")
    assert split.wnids == ["ant", "cat", "dog"]
    for image in range(len(split)):
        assert split.path(image).parent.name == split.wnids[split.labels[image]]
