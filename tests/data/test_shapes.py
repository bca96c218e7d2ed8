"""The built-in data set: a tree on the disk that is whole or not there, with boxes worth a test."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_tree import checked

from cam_repro import UserError
from cam_repro.data import shapes, synthetic
from cam_repro.data.annotations import Annotation, read_annotation
from cam_repro.data.shapes import make_shapes
from cam_repro.localization.errors import box_iou


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("shapes") / "set", train=30, val=120)


@pytest.fixture(scope="module")
def annotations(tree: Path) -> list[Annotation]:
    return [
        read_annotation(path)
        for path in sorted((tree / "ILSVRC/Annotations/CLS-LOC/val").glob("*.xml"))
    ]


def boxes_of(annotation: Annotation) -> list[tuple[int, ...]]:
    return [one.box for one in annotation.objects]


def files_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_the_check_of_a_data_set_finds_nothing_in_lists_images_and_annotations(
    tree: Path,
) -> None:
    error, report = checked(tree)
    assert error is None and "errors: 0\nnotes: 0\n" in report
    rows = [line.split()[:3] for line in report.splitlines() if line.startswith("n9")]
    assert rows == [[f"n{90000001 + label}", "3", "12"] for label in range(10)]


def test_images_are_named_and_numbered_as_ilsvrcs(tree: Path) -> None:
    for file, name in (
        ("train_cls.txt", r"(n9000\d{4})/\1_[123]"),
        ("val.txt", r"shapes_val_\d{8}"),
    ):
        lines = [
            line.split()
            for line in (tree / "ILSVRC/ImageSets/CLS-LOC" / file).read_text().splitlines()
        ]
        assert all(re.fullmatch(name, listed) for listed, _ in lines)
        assert [int(number) for _, number in lines] == list(range(1, len(lines) + 1))


def test_images_have_one_large_object_or_two_that_do_not_cover_each_other(
    annotations: list[Annotation],
) -> None:
    for annotation in annotations:
        for x1, y1, x2, y2 in boxes_of(annotation):
            assert 0.25 <= max(x2 - x1 + 1, y2 - y1 + 1) / min(annotation.size) <= 0.75
    pairs = [boxes for boxes in map(boxes_of, annotations) if len(boxes) == 2]
    assert {*map(len, map(boxes_of, annotations))} == {1, 2}
    assert 0.04 < len(pairs) / len(annotations) < 0.2
    assert all(box_iou(*np.array(boxes)) == 0 for boxes in pairs)


@pytest.mark.parametrize(
    ("share", "most"), [(1.0, 0.1), (0.75, 0.25)], ids=["whole image", "centred box"]
)
def test_a_box_that_never_looks_is_rarely_right(
    annotations: list[Annotation], share: float, most: float
) -> None:
    right = []
    for annotation in annotations:
        margin = np.array(annotation.size) * (1 - share) / 2
        guess = np.concatenate([margin, np.array(annotation.size) - 1 - margin])
        right.append(any(box_iou(guess, np.array(box)) >= 0.5 for box in boxes_of(annotation)))
    assert np.mean(right) <= most


def test_boxes_are_tight_around_what_is_opaque(monkeypatch: pytest.MonkeyPatch) -> None:
    pasted = []
    paste = synthetic.paste

    def paste_and_note(image: Image.Image, *thing: object) -> None:
        pasted.append(thing)
        paste(image, *thing)

    monkeypatch.setattr(synthetic, "paste", paste_and_note)
    for label in range(10):
        image, boxes = synthetic.draw_image(label, np.random.default_rng(label))
        for (thing, left, top), box in zip(pasted[-len(boxes) :], boxes, strict=True):
            rows, columns = np.nonzero(np.array(thing)[..., 3] >= 128)
            assert box == (
                left + columns.min(),
                top + rows.min(),
                left + columns.max(),
                top + rows.max(),
            )
            assert min(box) >= 0 and box[2] < image.shape[1] and box[3] < image.shape[0]


@pytest.mark.parametrize("words", synthetic.SKETCHES)
def test_a_thing_is_as_long_as_asked(words: str) -> None:
    for seed, longer_side in enumerate((50, 90, 130)):
        thing = synthetic.turned(
            synthetic.SKETCHES[words], longer_side, np.random.default_rng(seed)
        )
        x1, y1, x2, y2 = synthetic.opaque_box(thing)
        assert longer_side - 2 <= max(x2 - x1, y2 - y1) <= longer_side


def test_distractors_wear_no_class_s_pattern_and_bright_colours_only_on_other_outlines() -> None:
    for seed in range(100):
        thing = synthetic.distractor(60, np.random.default_rng(seed))
        (_, colour), *others = thing.convert("RGB").getcolors()
        of_class = np.random.default_rng(seed).random() < 0.5
        assert not others and (not of_class or max(colour) - min(colour) <= 60)


def test_an_image_depends_on_seed_split_and_index_alone(tree: Path, tmp_path: Path) -> None:
    whole = files_of(tree)
    smaller = files_of(make_shapes(tmp_path / "smaller", train=10, val=10))
    other = files_of(make_shapes(tmp_path / "other", seed=1, train=10, val=10))
    for name, content in smaller.items():
        if name.endswith((".JPEG", ".xml")):
            assert whole[name] == content
        if name.endswith(".JPEG"):
            assert other[name] != content
    assert len({content for name, content in whole.items() if name.endswith(".JPEG")}) == 150


def start_making(root: Path, train: int) -> subprocess.Popen[bytes]:
    program = (
        f"from cam_repro.data.shapes import make_shapes as m; m({str(root)!r}, 0, {train}, 10)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(shapes.__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL
    )


def test_a_killed_start_leaves_nothing_at_the_root_and_the_next_one_succeeds(
    tmp_path: Path,
) -> None:
    root = tmp_path / "set"
    deadline = time.monotonic() + 20
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


def complaint(root: Path, **parameters: int) -> str:
    with pytest.raises(UserError) as error:
        make_shapes(root, **{"train": 10, "val": 10, **parameters})
    assert "\n" not in str(error.value)
    return str(error.value)


def test_other_parameters_are_refused_with_both_and_the_way_out(tree: Path) -> None:
    before = files_of(tree)
    text = complaint(tree, train=31, val=120)
    for parameters in (
        "'seed': 0, 'train': 30, 'val': 120",
        "'seed': 0, 'train': 31, 'val': 120",
        "data.root=",
    ):
        assert parameters in text
    assert files_of(tree) == before


def test_what_is_not_ours_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    for root in (tmp_path, tmp_path / "holiday.jpg"):
        text = complaint(root)
        assert str(root) in text and "data.root=" in text and "rm" not in text.split()
    assert files_of(tmp_path) == {"holiday.jpg": b"precious"}
