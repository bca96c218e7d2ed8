"""The tree reader: labels, boxes and the index, and what it refuses."""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_tree import ANNOTATIONS, IMAGES, opened, write_list, write_small_tree, write_xml

from cam_repro import UserError, data, files
from cam_repro.config import DataConfig
from cam_repro.data import open_split
from cam_repro.data.ground_truth import refuse_contradictions
from cam_repro.data.split import Split


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_small_tree(tmp_path / "tree")


def test_train_labels_are_the_class_folders(root: Path) -> None:
    split = opened(root, "train")
    assert split.files.tolist() == [b"n1/n1_7.JPEG", b"n2/n2_3.JPEG"]
    assert split.labels.tolist() == [0, 1] and split.words == ["cat, tom", "dog"]


def test_every_box_of_the_images_class_is_read_from_xml(root: Path) -> None:
    split = opened(root)
    assert split.labels.tolist() == [1, 0, 1]
    assert split.true_boxes(0).tolist() == [[1, 2, 3, 4]]
    # The third box is of the other class.
    assert split.true_boxes(1).tolist() == [[0, 0, 9, 9], [5, 5, 20, 20]]
    assert split.true_boxes(2).tolist() == []


def test_boxes_come_from_the_csv_where_there_are_no_xmls(root: Path) -> None:
    shutil.rmtree(root / "ILSVRC/Annotations")
    rows = "a,n1 0 0 1 1 n1 2 2 3 3 \nb,n2 4 5 6 7 \nc,n1 \n"
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + rows)
    split = opened(root)
    assert split.labels.tolist() == [0, 1, 0]
    assert split.true_boxes(0).tolist() == [[0, 0, 1, 1], [2, 2, 3, 3]]
    assert split.true_boxes(2).tolist() == []


def test_the_image_set_gives_order_and_membership(root: Path) -> None:
    write_list(root, "val", "c 1\na\n")  # the number may be left out
    assert opened(root).files.tolist() == [b"c.JPEG", b"a.JPEG"]


def test_the_index_is_built_once_and_again_when_the_tree_changes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(root).fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(data, "assemble", lambda *_: pytest.fail("built again"))
        assert opened(root).fingerprint() == first
    write_xml(root, "a", ("n2", (1, 2, 30, 4)))
    assert opened(root).true_boxes(0).tolist() == [[1, 2, 30, 4]]
    (root / "ILSVRC/Data/CLS-LOC/val/b.JPEG").unlink()
    assert len(opened(root)) == 2


def add_train_image(root: Path) -> None:
    shutil.copy(root / IMAGES / "val/a.JPEG", root / IMAGES / "train/n1/n1_8.JPEG")


@pytest.mark.parametrize(
    ("change", "images"),
    [
        (add_train_image, 3),
        (lambda root: (root / IMAGES / "train/n1/n1_7.JPEG").unlink(), 1),
        (lambda root: write_list(root, "train", "n2/n2_3 1\n"), 1),
        (lambda root: (root / "LOC_synset_mapping.txt").write_text("n2 dog\nn1 cat\n"), 2),
    ],
)
@pytest.mark.parametrize("linked", [False, True])
def test_any_change_of_the_train_tree_is_noticed(
    root: Path, change, images: int, linked: bool
) -> None:
    if linked:
        (root / IMAGES / "train/n1").rename(root / "elsewhere")
        (root / IMAGES / "train/n1").symlink_to(root / "elsewhere")
    before = opened(root, "train").fingerprint()
    change(root)
    assert len(opened(root, "train")) == images
    assert opened(root, "train").fingerprint() != before


def kept(root: Path) -> Split:
    """The val split with its images' hashes kept in a file."""
    return replace(opened(root), hashes=root.parent / "cache/hashes.npz")


def test_the_fingerprint_changes_with_an_images_content_alone(root: Path) -> None:
    before = kept(root).fingerprint()
    path = root / IMAGES / "val/a.JPEG"
    content = bytearray(path.read_bytes())
    path.write_bytes(content)  # at another time
    assert kept(root).fingerprint() == opened(root).fingerprint() == before
    content[-3] ^= 1
    path.write_bytes(content)
    assert kept(root).fingerprint() == opened(root).fingerprint() != before


def test_an_image_is_read_for_the_fingerprint_only_when_its_size_or_date_changed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept(root).fingerprint()
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read again"))
    assert kept(root).fingerprint() == before
    (root / IMAGES / "val/a.JPEG").touch()
    with pytest.raises(pytest.fail.Exception, match="read again"):
        kept(root).fingerprint()


def set_date_back(path: Path, before: os.stat_result) -> None:
    """As unpacking an archive or copying with dates does."""
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat()[:8] == before[:8] and path.stat().st_size == before.st_size


def test_other_contents_of_the_same_size_and_date_are_noticed(root: Path) -> None:
    before = kept(root).fingerprint()
    image = root / IMAGES / "val/a.JPEG"
    status = image.stat()
    content = bytearray(image.read_bytes())
    content[-3] ^= 1
    image.write_bytes(content)
    set_date_back(image, status)
    assert kept(root).fingerprint() != before
    xml = root / ANNOTATIONS / "a.xml"
    status = xml.stat()
    write_xml(root, "a", ("n2", (2, 1, 4, 3)))
    set_date_back(xml, status)
    assert opened(root).true_boxes(0).tolist() == [[2, 1, 4, 3]]


def test_an_index_and_hashes_that_cannot_be_read_are_not_made_anew(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(root).fingerprint()
    index = (root.parent / "cache").rglob("*.npz")
    before = {file: file.read_bytes() for file in index}
    assert len(before) == 2
    monkeypatch.setattr(files, "WAITS", ())
    for file in before:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", unreadable(file))
            message = f"cannot read {file}: Input/output error; it is left as it is"
            with pytest.raises(UserError, match=message):
                kept(root).fingerprint()
    assert {file: file.read_bytes() for file in before} == before


def unreadable(file: Path) -> Callable[[Path], bytes]:
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path == file:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    return refuse


def test_a_damaged_index_and_damaged_hashes_are_made_anew(root: Path) -> None:
    before = kept(root).fingerprint()
    files = [*(root.parent / "cache").rglob("*.npz")]
    assert len(files) == 2
    for file in files:
        file.write_bytes(file.read_bytes()[:40])
    assert kept(root).fingerprint() == before


def test_an_image_that_is_lost_is_named(root: Path) -> None:
    split = opened(root)
    split.path(1).unlink()
    with pytest.raises(UserError, match="cannot read .*b.JPEG: No such file"):
        split.fingerprint()


def test_images_have_the_devkits_numbers_also_in_a_subset(root: Path) -> None:
    folder = root / "ILSVRC/Data/CLS-LOC/val"
    (folder / "b.JPEG").rename(folder / "ILSVRC2012_val_00049999.JPEG")
    write_xml(root, "ILSVRC2012_val_00049999", ("n1", (0, 0, 9, 9)))
    assert opened(root).devkit_numbers().tolist() == [49999, 2, 3]


def test_under_a_networks_classes_labels_are_renumbered_by_wnid(root: Path) -> None:
    split = opened(root)
    answered = split.answered_by(["n0", "n2", "n1"], ["fish", "dog", "cat"])
    before = [split.wnids[label] for label in split.labels]
    assert [answered.wnids[label] for label in answered.labels] == before
    assert answered.labels.tolist() == [1, 2, 1]
    with pytest.raises(UserError, match="does not know 1 of the data's 2 classes, n1"):
        split.answered_by(["n0", "n2"], ["fish", "dog"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda root: shutil.rmtree(root / "ILSVRC"),
            "data.root=.* holds ILSVRC in none of its forms .*data=shapes",
        ),
        (
            lambda root: (root / "LOC_synset_mapping.txt").unlink(),
            "no LOC_synset_mapping.txt under",
        ),
        (lambda root: (root / "LOC_val_solution.csv").unlink(), "c.JPEG has no label"),
        (lambda root: shutil.rmtree(root / "ILSVRC/Data/CLS-LOC/val"), "val holds no images"),
    ],
)
def test_a_broken_tree_is_refused_by_name(root: Path, damage, message: str) -> None:
    damage(root)
    with pytest.raises(UserError, match=message) as caught:
        opened(root)
    assert "\n" not in str(caught.value)


def test_no_root_says_how_to_get_the_data() -> None:
    with pytest.raises(UserError, match="has no root: unpack it; or data=shapes"):
        open_split(DataConfig(name="ilsvrc", get="unpack it"), "val", Path("cache"))


def test_a_few_odd_boxes_of_many_images_are_said_and_more_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    outside = ("box outside the image", "a.JPEG: box -1 0 9 9, image 40×30")
    arguments = (Path("val"), "make check-data")
    refuse_contradictions([outside] * 50, 50_000, *arguments)
    assert "contradict their images or each other: 50, first a.JPEG" in capsys.readouterr().out
    with pytest.raises(UserError, match="each other: 51, first a.JPEG: box -1 0 9 9"):
        refuse_contradictions([outside] * 51, 50_000, *arguments)
    with pytest.raises(UserError, match=r"\(reversed box\)"):
        refuse_contradictions([("reversed box", "a.JPEG")], 50_000, *arguments)
