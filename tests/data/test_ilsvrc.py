"""The tree reader: labels, boxes and the index, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cam_repro import UserError
from cam_repro.config import DataConfig
from cam_repro.data import ilsvrc
from cam_repro.data.ilsvrc import open_split

BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


def write_xml(root: Path, name: str, *objects: tuple[str, tuple[int, int, int, int]]) -> Path:
    path = root / f"ILSVRC/Annotations/CLS-LOC/val/{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = "".join(f"<object><name>{wnid}</name>{BOX.format(*box)}</object>" for wnid, box in objects)
    path.write_text(f"<annotation>{found}</annotation>")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, two train and three val images; XMLs with one box, two boxes, none."""
    root = tmp_path / "tree"
    for file in ("train/n1/n1_7.JPEG", "train/n2/n2_3.JPEG", "val/a.JPEG", "val/b.JPEG", "val/c.JPEG"):
        path = root / "ILSVRC/Data/CLS-LOC" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(path, "JPEG")
    (root / "LOC_synset_mapping.txt").write_text("n1 cat, tom\nn2 dog\n")
    write_xml(root, "a", ("n2", (1, 2, 3, 4)))
    write_xml(root, "b", ("n1", (0, 0, 9, 9)), ("n1", (5, 5, 20, 20)), ("n2", (1, 1, 2, 2)))
    write_xml(root, "c")
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\nc,n2\na,n1 0 0 1 1 \n")
    return root


def opened(root: Path, split: str = "val", **changes: str) -> ilsvrc.Split:
    return open_split(DataConfig(name="tree", root=str(root), **changes), split, root.parent / "cache")


def test_train_labels_are_the_class_folders(root: Path) -> None:
    split = opened(root, "train")
    assert [split.path(i).name for i in range(2)] == ["n1_7.JPEG", "n2_3.JPEG"]
    assert split.labels.tolist() == [0, 1]
    assert split.words == ["cat, tom", "dog"]


def test_every_box_of_the_images_class_is_read_from_xml(root: Path) -> None:
    split = opened(root)
    assert split.labels.tolist() == [1, 0, 1]
    assert split.true_boxes(0).tolist() == [[1, 2, 3, 4]]
    assert split.true_boxes(1).tolist() == [[0, 0, 9, 9], [5, 5, 20, 20]]  # not the other class's box
    assert split.true_boxes(2).tolist() == []


def test_boxes_come_from_the_csv_where_there_are_no_xmls(root: Path) -> None:
    shutil.rmtree(root / "ILSVRC/Annotations")
    (root / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\na,n1 0 0 1 1 n1 2 2 3 3 \nb,n2 4 5 6 7 \nc,n1 \n"
    )
    split = opened(root)
    assert split.labels.tolist() == [0, 1, 0]
    assert split.true_boxes(0).tolist() == [[0, 0, 1, 1], [2, 2, 3, 3]]
    assert split.true_boxes(2).tolist() == []


def test_the_image_set_gives_order_and_membership(root: Path) -> None:
    listing = root / "ILSVRC/ImageSets/CLS-LOC/val.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("c 1\na 2\n")
    assert [opened(root).path(i).stem for i in range(2)] == ["c", "a"]
    listing.write_text("c 1\n../../../../secret 2\n")
    with pytest.raises(UserError, match="lists 1 images that are not there"):
        opened(root)


def test_the_index_is_built_once_and_again_when_the_tree_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(root).fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(ilsvrc, "_build_index", lambda *_: pytest.fail("built again"))
        assert opened(root).fingerprint() == first
    write_xml(root, "a", ("n2", (1, 2, 30, 4)))
    assert opened(root).true_boxes(0).tolist() == [[1, 2, 30, 4]]
    (root / "ILSVRC/Data/CLS-LOC/val/b.JPEG").unlink()
    assert len(opened(root)) == 2


def test_images_have_the_devkits_numbers_also_in_a_subset(root: Path) -> None:
    folder = root / "ILSVRC/Data/CLS-LOC/val"
    (folder / "b.JPEG").rename(folder / "ILSVRC2012_val_00049999.JPEG")
    write_xml(root, "ILSVRC2012_val_00049999", ("n1", (0, 0, 9, 9)))
    assert opened(root).devkit_numbers().tolist() == [49999, 2, 3]


def test_a_damaged_index_is_built_anew(root: Path) -> None:
    before = opened(root)
    (index,) = (root.parent / "cache/index").glob("*.npz")
    index.write_bytes(index.read_bytes()[:40])
    assert np.array_equal(opened(root).files, before.files)


def test_another_class_order_renumbers_the_labels(root: Path, tmp_path: Path) -> None:
    mapping = tmp_path / "network.txt"
    mapping.write_text("n0 fish\nn2 dog\nn1 cat\n")
    assert opened(root, synset_mapping=str(mapping)).labels.tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: shutil.rmtree(root / "ILSVRC"), "no ILSVRC/Data/CLS-LOC under data.root=.*data=shapes"),
        (lambda root: (root / "LOC_synset_mapping.txt").unlink(), "no LOC_synset_mapping.txt under"),
        (lambda root: (root / "LOC_synset_mapping.txt").write_text("n1 a\nn1 b\n"), "2 classes, 1 different"),
        (lambda root: (root / "LOC_synset_mapping.txt").write_text("n1 a\n"), r"a.xml: class n2 is not in the synset"),
        (lambda root: write_xml(root, "a").write_text("<annotation><obj"), "a.xml is not a readable annotation"),
        (lambda root: write_xml(root, "a").write_text("<!DOCTYPE x [<!ENTITY e 'x'>]><annotation/>"), "refused"),
        (lambda root: write_xml(root, "a", ("n1", ("x", 0, 1, 1))), "a.xml is not a readable annotation"),
        (lambda root: (root / "LOC_val_solution.csv").unlink(), "c.JPEG has no label"),
        (lambda root: (root / "LOC_val_solution.csv").write_text("h\nc,n1 1 2\n"), "csv, line 2: expected"),
        (lambda root: shutil.rmtree(root / "ILSVRC/Data/CLS-LOC/val"), "val is not there"),
    ],
)
def test_a_broken_tree_is_refused_by_name(root: Path, damage, message: str) -> None:
    damage(root)
    with pytest.raises(UserError, match=message) as caught:
        opened(root)
    assert "\n" not in str(caught.value)


def test_a_class_folder_outside_the_mapping_is_refused(root: Path) -> None:
    (root / "LOC_synset_mapping.txt").write_text("n2 dog\n")
    with pytest.raises(UserError, match="n1_7.JPEG is in a class folder that is not in the synset mapping"):
        opened(root, "train")


def test_no_root_says_how_to_get_the_data() -> None:
    with pytest.raises(UserError, match="has no root: unpack it; or data=shapes"):
        open_split(DataConfig(name="ilsvrc", get="unpack it"), "val", Path("cache"))
