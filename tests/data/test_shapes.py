"""The built-in data set: the tree on the disk, whole or not there, with boxes that are worth a test."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from cam_repro import UserError
from cam_repro.data import drawing, shapes
from cam_repro.data.shapes import make_shapes

Box = tuple[int, ...]


class Annotation(NamedTuple):
    name: str
    wnid: str
    size: tuple[int, int]
    boxes: list[Box]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("shapes") / "set", train=30, val=200)


@pytest.fixture(scope="module")
def annotations(tree: Path) -> list[Annotation]:
    return [read_annotation(path) for path in sorted((tree / "ILSVRC/Annotations/CLS-LOC/val").glob("*.xml"))]


def read_annotation(path: Path) -> Annotation:
    xml = ET.parse(path).getroot()
    size = tuple(int(xml.findtext(f"size/{side}")) for side in ("width", "height"))
    boxes = [tuple(int(b.findtext(k)) for k in ("xmin", "ymin", "xmax", "ymax")) for b in xml.iter("bndbox")]
    (wnid,) = {item.findtext("name") for item in xml.iter("object")}
    return Annotation(xml.findtext("filename"), wnid, size, boxes)


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def iou(a: Box, b: Box) -> float:
    shared = np.prod([max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + 1) for i in (0, 1)])
    areas = sum((box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b))
    return shared / (areas - shared)


# --- the tree -----------------------------------------------------------------------------------------------


def test_the_lists_name_every_picture_once_and_number_them(tree: Path) -> None:
    for split, file, count in (("train", "train_cls.txt", 30), ("val", "val.txt", 200)):
        lines = [line.split() for line in (tree / "ILSVRC/ImageSets/CLS-LOC" / file).read_text().splitlines()]
        folder = tree / "ILSVRC/Data/CLS-LOC" / split
        there = sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.JPEG"))
        assert [name for name, _ in lines] == there
        assert [int(number) for _, number in lines] == list(range(1, count + 1))


def test_train_pictures_lie_in_their_class_s_folder_under_its_name(tree: Path) -> None:
    wnids = [line.split(" ")[0] for line in (tree / "LOC_synset_mapping.txt").read_text().splitlines()]
    assert len(wnids) == 10 and all(re.fullmatch(r"n9\d{7}", wnid) for wnid in wnids)
    for wnid in wnids:
        names = sorted(path.name for path in (tree / "ILSVRC/Data/CLS-LOC/train" / wnid).iterdir())
        assert names == [f"{wnid}_{n}.JPEG" for n in (1, 2, 3)]


def test_every_val_picture_has_an_annotation_of_its_own_size_and_classes_are_balanced(
    tree: Path, annotations: list[Annotation]
) -> None:
    for name, _, size, _ in annotations:
        with Image.open(tree / "ILSVRC/Data/CLS-LOC/val" / f"{name}.JPEG") as image:
            assert (image.size, image.mode) == (size, "RGB")
    wnids = [annotation.wnid for annotation in annotations]
    assert {wnid: wnids.count(wnid) for wnid in wnids} == {f"n{90000001 + i}": 20 for i in range(10)}


# --- boxes --------------------------------------------------------------------------------------------------


def test_boxes_lie_inside_the_picture_and_are_a_quarter_to_three_quarters_of_its_side(
    annotations: list[Annotation],
) -> None:
    for _, _, size, boxes in annotations:
        for x1, y1, x2, y2 in boxes:
            assert 0 <= x1 < x2 < size[0] and 0 <= y1 < y2 < size[1]
            assert 0.25 <= max(x2 - x1 + 1, y2 - y1 + 1) / min(size) <= 0.75


def test_one_or_two_objects_that_do_not_cover_each_other(annotations: list[Annotation]) -> None:
    counts = [len(boxes) for *_, boxes in annotations]
    assert set(counts) == {1, 2} and 0.04 < counts.count(2) / len(counts) < 0.2
    assert all(iou(*boxes) == 0 for *_, boxes in annotations if len(boxes) == 2)


@pytest.mark.parametrize(("share", "most"), [(1.0, 0.1), (0.75, 0.25)], ids=["whole image", "centred box"])
def test_a_box_that_never_looks_is_rarely_right(annotations: list[Annotation], share: float, most: float) -> None:
    def guess(width: int, height: int) -> Box:
        margins = width * (1 - share) / 2, height * (1 - share) / 2
        return (*margins, width - 1 - margins[0], height - 1 - margins[1])

    right = [any(iou(guess(*size), box) >= 0.5 for box in boxes) for _, _, size, boxes in annotations]
    assert np.mean(right) <= most


@pytest.mark.parametrize("kind", drawing.KINDS, ids=lambda kind: kind.words.split(",")[0])
def test_boxes_are_tight_around_the_object_s_opaque_pixels(kind: drawing.Kind) -> None:
    rng = np.random.default_rng(0)
    for longer_side in (50, 90, 130):
        thing, _ = drawing.object_of(kind, longer_side, rng)
        on_black, on_white = np.zeros((3, 200, 200), np.float32), np.ones((3, 200, 200), np.float32)
        box = drawing.draw(on_black, thing, 100.3, 99.6, np.random.default_rng(1))
        drawing.draw(on_white, thing, 100.3, 99.6, np.random.default_rng(1))
        opaque = drawing.box_of((on_white - on_black).max(axis=0) < 0.05)
        slack = np.array(opaque) - box
        assert (slack[:2] >= 0).all() and (slack[2:] <= 0).all() and np.abs(slack).max() <= 2
        assert abs(max(box[2] - box[0], box[3] - box[1]) + 1 - longer_side) <= 0.03 * longer_side + 1


def test_distractors_wear_no_class_s_texture_and_class_colours_only_on_other_silhouettes() -> None:
    rng = np.random.default_rng(0)
    things = [drawing.distractor(256, 200, rng)[0] for _ in range(200)]
    assert {thing.texture for thing in things} == {drawing.plain, drawing.striped}
    for thing in things:
        if thing.silhouette not in drawing.DECOYS:
            (colour,) = thing.colours
            assert colour.max() - colour.min() < 0.4 * colour.max(), "a class's silhouette must be muted"


# --- determinism --------------------------------------------------------------------------------------------


def test_a_picture_depends_on_seed_split_and_index_alone(tree: Path, tmp_path: Path) -> None:
    pictures = {n: d for n, d in files_of(tree).items() if n.endswith((".JPEG", ".xml"))}
    smaller = files_of(make_shapes(tmp_path / "smaller", train=10, val=10))
    assert {n: d for n, d in smaller.items() if n.endswith((".JPEG", ".xml"))}.items() <= pictures.items()
    other = files_of(make_shapes(tmp_path / "other", seed=1, train=10, val=10))
    assert not any(pictures[name] == data for name, data in other.items() if name.endswith(".JPEG"))
    assert len({data for name, data in pictures.items() if name.endswith(".JPEG")}) == 230


# --- whole or not there -------------------------------------------------------------------------------------


def failing_after(count: int, error: BaseException) -> object:
    """A _write_picture that raises at its `count`-th picture."""
    written = []

    def write(root: Path, *picture: object) -> None:
        written.append(picture)
        if len(written) > count:
            raise error
        (root / "half-made").touch()

    return write


def test_an_interrupted_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_write_picture", failing_after(5, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        make_shapes(tmp_path / "set", train=20, val=10)
    assert [path.name for path in tmp_path.iterdir()] == ["set.lock"]


def start_making(root: Path, train: int) -> subprocess.Popen[bytes]:
    program = f"from cam_repro.data.shapes import make_shapes as m; m({str(root)!r}, 0, {train}, 10)"
    environment = {**os.environ, "PYTHONPATH": str(Path(shapes.__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL)


def test_a_killed_start_leaves_nothing_at_the_root_and_the_next_one_succeeds(tmp_path: Path) -> None:
    root, deadline = tmp_path / "set", time.monotonic() + 20
    process = start_making(root, train=5000)
    while not list(tmp_path.glob("set.making/**/*.JPEG")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not root.exists() and list(tmp_path.glob("set.making"))
    make_shapes(root, train=10, val=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "set.lock"]


def test_two_starts_at_once_both_end_with_the_one_data_set(tmp_path: Path) -> None:
    processes = [start_making(tmp_path / "set", train=40) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "set.lock"]
    assert len(list((tmp_path / "set").rglob("*.JPEG"))) == 50


# --- a user's mistakes --------------------------------------------------------------------------------------


def complaint(root: Path, **parameters: int) -> str:
    with pytest.raises(UserError) as error:
        make_shapes(root, **{"train": 10, "val": 10, **parameters})
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("change", [{"seed": 1}, {"train": 31}, {"val": 299}], ids=str)
def test_other_parameters_are_refused_with_both_and_the_way_out(tree: Path, change: dict[str, int]) -> None:
    before = files_of(tree)
    text = complaint(tree, **{"train": 30, "val": 200, **change})
    ((name, value),) = change.items()
    assert f"'{name}': {value}" in text and "'seed': 0, 'train': 30, 'val': 200" in text and "data.root=" in text
    assert files_of(tree) == before


def test_what_is_not_ours_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    for root in (tmp_path, tmp_path / "holiday.jpg"):
        text = complaint(root)
        assert str(root) in text and "data.root=" in text and "rm" not in text.split()
    assert files_of(tmp_path) == {"holiday.jpg": b"precious"}


def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(shapes, "_write_picture", failing_after(3, full))
    assert "No space left on device" in complaint(tmp_path / "set")
    assert not (tmp_path / "set").exists() and not list(tmp_path.glob("*.making"))
