"""Two data sets of one name: what tells them apart, and in which words."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cam_repro.data import manifest
from cam_repro.data.manifest import Manifest, difference, manifest_of, sampled
from cam_repro.data.split import Split
from cam_repro.data.storage import Files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """40 images of cats and 40 of dogs, of which only names, sizes and bytes matter here."""
    for kind in ("cat", "dog"):
        folder = tmp_path / "pets" / kind
        folder.mkdir(parents=True)
        for number in range(40):
            (folder / f"{kind}{number:02d}.jpg").write_bytes(bytes([number]) * 100)
    return tmp_path / "pets"


def found(root: Path, with_sizes: bool = True) -> Manifest:
    """The manifest of every image in a folder per class."""
    wnids = sorted(folder.name for folder in root.iterdir())
    files = sorted(os.fsencode(image.relative_to(root)) for image in root.glob("*/*"))
    labels = np.array([wnids.index(os.fsdecode(file).partition("/")[0]) for file in files])
    images = Files(root, np.array(files))
    boxes = np.empty((0, 4), np.int32)
    starts = np.zeros(len(files) + 1, np.int64)
    split = Split(images, labels, boxes, starts, wnids, wnids)
    return manifest_of(split, with_sizes)


def test_a_copy_elsewhere_is_the_same_data_and_a_manifest_is_read_as_it_was_packed(
    root: Path, tmp_path: Path
) -> None:
    before = found(root)
    copied = shutil.copytree(root, tmp_path / "elsewhere")
    assert difference(Manifest.unpacked(before.packed()), found(copied)) == ""
    assert difference(before, found(copied, with_sizes=False)) == ""


def move_twenty(root: Path) -> None:
    for image in sorted((root / "cat").iterdir())[:20]:
        image.rename(root / "dog" / image.name)


def swap_classes(root: Path) -> None:
    (root / "cat").rename(root / "third")
    (root / "dog").rename(root / "cat")
    (root / "third").rename(root / "dog")


CHANGES = {
    "20 moved": (
        move_twenty,
        "80 images, before 80; 20 moved to another class or folder (first dog/cat00.jpg)",
    ),
    "one more": (
        lambda root: (root / "dog/new.jpg").write_bytes(b"new"),
        "81 images, before 80; 1 new (first dog/new.jpg)",
    ),
    "one less": (
        lambda root: (root / "dog/dog07.jpg").unlink(),
        "79 images, before 80; 1 gone (first dog/dog07.jpg)",
    ),
    "another size": (
        lambda root: (root / "dog/dog07.jpg").write_bytes(b"short"),
        "1 of another size (first dog/dog07.jpg); "
        "1 with other content, of 80 compared (first dog/dog07.jpg)",
    ),
    "other content": (
        lambda root: (root / "dog/dog07.jpg").write_bytes(b"x" * 100),
        "1 with other content, of 80 compared (first dog/dog07.jpg)",
    ),
    "another class": (
        lambda root: (root / "cat").rename(root / "bird"),
        "2 classes, before 2, 1 new (first bird), 1 gone (first cat); 80 images, before 80",
    ),
    "classes swapped": (
        swap_classes,
        "80 images, before 80; 80 moved to another class or folder (first cat/dog00.jpg)",
    ),
}


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=CHANGES)
def test_every_change_is_said_with_counts_and_the_first_image(
    root: Path, change, said: str
) -> None:
    before = found(root)
    change(root)
    assert difference(before, found(root)) == said


def test_labels_that_a_list_gives_are_compared_too(root: Path) -> None:
    """As of ILSVRC's val images, which lie in one folder."""
    before = found(root)
    labels = before.labels.copy()
    labels[[3, 5]] = 1
    now = replace(before, labels=labels)
    assert difference(before, now) == "2 under another class (first cat/cat03.jpg)"


def test_another_order_of_images_or_classes_is_other_data(root: Path) -> None:
    """A network's outputs are numbers of classes, and batches are drawn by numbers of images."""
    before = found(root)
    turned = replace(
        before,
        files=before.files[::-1],
        labels=before.labels[::-1],
        sizes=before.sizes[::-1],
    )
    assert difference(before, turned) == "the same 80 images in another order"
    other = replace(before, wnids=before.wnids[::-1], labels=1 - before.labels)
    assert difference(before, other).startswith("the same 2 classes in another order")


def test_of_many_images_a_sample_spread_over_all_is_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "SAMPLE", 5)
    assert sampled(80).tolist() == [0, 19, 39, 59, 79] and sampled(3).tolist() == [0, 1, 2]
    before = found(root)
    inside = root / "cat/cat19.jpg"
    outside = root / "cat/cat20.jpg"
    assert before.hashes.shape == (5, 16) and len(np.unique(before.hashes, axis=0)) > 2
    outside.write_bytes(b"x" * 100)
    assert difference(before, found(root)) == ""  # what a manifest cannot see, and says so
    inside.write_bytes(b"x" * 100)
    said = difference(before, found(root))
    assert said == "1 with other content, of 5 compared (first cat/cat19.jpg)"


def test_a_link_that_leads_nowhere_is_one_more_thing_to_compare(root: Path, tmp_path: Path) -> None:
    image = root / "cat/cat00.jpg"
    image.unlink()
    image.symlink_to(tmp_path / "nowhere.jpg")
    before = found(root)
    assert before.sizes[0] == -1
    shutil.copy(root / "cat/cat01.jpg", tmp_path / "nowhere.jpg")
    assert difference(before, found(root)).startswith("1 of another size (first cat/cat00.jpg)")
