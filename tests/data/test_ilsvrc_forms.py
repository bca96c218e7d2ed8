"""ILSVRC in every form in which it is distributed is the same images, classes and boxes."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from ilsvrc_forms import FORMS, add_all, without_kaggles_lists, write
from PIL import Image
from small_tree import write_xml

from cam_repro import UserError
from cam_repro.config import DataConfig
from cam_repro.data import open_split
from cam_repro.data.ilsvrc import IMAGES
from cam_repro.data.ilsvrc_lists import imagenet_classes
from cam_repro.data.loaders import BatchRequest, EvaluationCrops, decode
from cam_repro.data.split import Split
from cam_repro.data.storage import tar_members

TENCH = "n01440764"
GOLDFISH = "n01443537"
SIZE = "<size><width>{}</width><height>{}</height></size>"


def saved(path: Path, seed: int) -> tuple[int, int]:
    rng = np.random.default_rng(seed)
    width, height = rng.integers(20, 60, 2).tolist()
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, "JPEG")
    return width, height


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kaggle's tree of two of ILSVRC's classes: three train images each, five val images."""
    root = tmp_path_factory.mktemp("kaggle")
    for number, wnid in enumerate([TENCH, GOLDFISH]):
        for image in range(3):
            name = f"{wnid}_{10 * image + 7}.JPEG"
            saved(root / IMAGES / f"train/{wnid}" / name, 10 * number + image)
    for number in range(1, 6):
        name = f"ILSVRC2012_val_{9 * number:08d}"
        width, height = saved(root / IMAGES / f"val/{name}.JPEG", 100 + number)
        is_odd = number % 2 == 1
        box = (TENCH if is_odd else GOLDFISH, (0, 1, width - 1, 9))
        boxes = [box, box] if is_odd else [box]
        write_xml(root, name, *boxes, size=SIZE.format(width, height))
    return root


def opened(root: Path, split: str = "val", **options: object) -> Split:
    data = DataConfig(name="ilsvrc", root=str(root), **options)
    return open_split(data, split, root.parent / "cache")


def facts(split: Split) -> list[tuple]:
    """All that an evaluation takes of the images."""
    found = []
    for image in range(len(split)):
        wnid = split.wnids[split.labels[image]]
        boxes = split.true_boxes(image).tolist()
        found.append((split.path(image).stem, wnid, boxes, split.read(image).tobytes()))
    return found


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_images_classes_and_boxes(
    tree: Path, tmp_path: Path, form: str
) -> None:
    expected = without_kaggles_lists(tree, tmp_path / "kaggle")
    root = FORMS[form](tree, tmp_path / "form")
    for split in ("train", "val"):
        found = opened(root, split)
        assert facts(found) == facts(opened(expected, split))
        assert found.devkit_numbers().tolist() == opened(expected, split).devkit_numbers().tolist()
        word_of = dict(zip(*imagenet_classes(), strict=True))
        assert found.words == [word_of[wnid] for wnid in found.wnids]
        assert opened(root, split).fingerprint() == found.fingerprint()  # now from the index


def test_the_devkits_list_alone_gives_the_classes(tree: Path, tmp_path: Path) -> None:
    root = FORMS["image-net.org"](tree, tmp_path / "form")
    (root / "ILSVRC2012_bbox_val_v3.tgz").unlink()
    found = opened(root)
    assert [one[:2] for one in facts(found)] == [one[:2] for one in facts(opened(tree))]
    assert len(found.boxes) == 0
    with_boxes = opened(root, boxes=str(tree / "ILSVRC/Annotations"))
    assert facts(with_boxes) == facts(opened(tree))


def test_imagenet_v2s_folders_are_class_numbers(tree: Path, tmp_path: Path) -> None:
    for number in (0, 1, 107):
        saved(tmp_path / f"v2/{number}/{number}abc.jpeg", number)
    found = opened(tmp_path / "v2")
    assert [(name, wnid) for name, wnid, *_ in facts(found)] == [
        ("0abc", TENCH),
        ("1abc", GOLDFISH),
        ("107abc", imagenet_classes()[0][107]),
    ]


def test_a_batch_from_an_archive_is_that_of_the_files(tree: Path, tmp_path: Path) -> None:
    crops = EvaluationCrops("squash", 32, "bilinear")
    images = np.array([3, 0])
    expected = decode(BatchRequest.of(opened(tree), images, crops))
    for form in ("image-net.org", "parquet"):
        found = decode(BatchRequest.of(opened(FORMS[form](tree, tmp_path / form)), images, crops))
        assert found.pixels.equal(expected.pixels) and found.sizes.equal(expected.sizes)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_a_tar_are_where_tarfile_finds_them(tmp_path: Path, format: int) -> None:
    path = tmp_path / "some.tar"
    long = "/".join(["folder" * 9] * 3) + "/image.JPEG"  # longer than a header's 100 bytes
    with tarfile.open(path, "w", format=format) as archive:
        for name, size in (("a.JPEG", 0), (long, 700), ("später.JPEG", 512), ("b.JPEG", 513)):
            member = tarfile.TarInfo(name)
            member.size = size
            member.mtime = 1.5 if format == tarfile.PAX_FORMAT else 1
            archive.addfile(member, io.BytesIO(bytes(size)))
    with tarfile.open(path) as archive:
        expected = [(m.name.encode(), m.offset_data, m.size) for m in archive]
    assert [*tar_members(path)] == expected


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-11_000])


BROKEN = {
    "a tar cut off": (
        "image-net.org",
        lambda root: cut(root / "ILSVRC2012_img_val.tar"),
        "is cut off",
    ),
    "no tar": (
        "image-net.org",
        lambda root: write(root / "ILSVRC2012_img_val.tar", b"<html>" * 200),
        "is no tar, or a damaged one, at byte 0; fetch it again",
    ),
    "a compressed tar": (
        "image-net.org",
        lambda root: write(root / "ILSVRC2012_img_val.tar", b"\x1f\x8b" + bytes(600)),
        "is compressed, so no image can be read by its place; gunzip it",
    ),
    "a shard missing": (
        "parquet",
        lambda root: (root / "data/validation-00000-of-00002.parquet").unlink(),
        "lacks 1 of 00002 shards, the first validation-00000-of-00002.parquet",
    ),
    "a shard cut off": (
        "parquet",
        lambda root: cut(root / "data/validation-00001-of-00002.parquet"),
        "is no whole shard of images and labels",
    ),
    "an archive of boxes cut off": (
        "torchvision",
        lambda root: write(root / "ILSVRC2012_bbox_val_v3.tgz", b"\x1f\x8b" + bytes(60)),
        "is no whole archive of XMLs",
    ),
    "a folder that is no class": (
        "torchvision",
        lambda root: saved(root / "train/fish/a.JPEG", 1),
        "the folder fish is none of ILSVRC's classes",
    ),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_damaged_form_is_refused_in_one_line(tree: Path, tmp_path: Path, damage: str) -> None:
    form, harm, message = BROKEN[damage]
    root = FORMS[form](tree, tmp_path / "form")
    harm(root)
    with pytest.raises(UserError, match=message) as caught:
        opened(root)
    assert "\n" not in str(caught.value)


def test_several_images_of_one_name_in_an_archive_keep_their_classes(tmp_path: Path) -> None:
    saved(tmp_path / "x.JPEG", 1)
    content = (tmp_path / "x.JPEG").read_bytes()
    add_all(tmp_path / "my-val.tar", [(f"{wnid}/1.JPEG", content) for wnid in (GOLDFISH, TENCH)])
    found = opened(tmp_path)
    assert sorted(found.wnids[label] for label in found.labels) == [TENCH, GOLDFISH]


def test_an_image_that_is_there_twice_and_a_class_that_is_no_number_are_refused(
    tree: Path, tmp_path: Path
) -> None:
    root = FORMS["webdataset"](tree, tmp_path / "form")
    first = root / "imagenet1k-validation-0000.tar"
    (root / "imagenet1k-validation-0002.tar").write_bytes(first.read_bytes())
    with pytest.raises(UserError, match="3 images are there twice, first .*0000.tar/.*0002.tar/"):
        opened(root)
    (root / "imagenet1k-validation-0002.tar").unlink()
    add_all(first, [("a.jpg", b"x"), ("a.cls", b"tench")])
    with pytest.raises(UserError, match="a.cls holds b'tench', expected a class number"):
        opened(root)


def test_image_net_orgs_tar_of_another_task_is_no_part_of_train(tree: Path, tmp_path: Path) -> None:
    root = FORMS["image-net.org"](tree, tmp_path / "form")
    before = len(opened(root, "train"))
    train = root / "ILSVRC2012_img_train.tar"
    (root / "ILSVRC2012_img_train_t3.tar").write_bytes(train.read_bytes())
    assert len(opened(root, "train")) == before
