"""The ten-class tree from tiny archives: what lands where, and that it is whole or not there."""

from __future__ import annotations

import hashlib
import io
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from archive_server import ArchiveServer, serving
from conftest import REPOSITORY, run_script
from omegaconf import OmegaConf
from PIL import Image

from cam_repro import UserError
from cam_repro.config import CONFIGS, DataConfig, DownloadConfig
from cam_repro.data import imagenette, load_split
from cam_repro.data.imagenette import CLASSES, make_imagenette
from cam_repro.distributed import World

XML = """<annotation><filename>{}</filename><size><width>12</width><height>8</height><depth>3</depth></size>
<object><name>{}</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>7</ymax></bndbox></object></annotation>
"""
VAL_NAMES = {wnid: [f"ILSVRC2012_val_{900 - 10 * i + j:08d}" for j in (0, 1)] for i, wnid in enumerate(CLASSES)}

ALONE = World(0, 1, torch.device("cpu"))

Files = dict[str, bytes]


def jpeg(label: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 12, 3), 20 * label, np.uint8)).save(file, "JPEG")
    return file.getvalue()


def image_files() -> Files:
    """Imagenette's layout: of each class two train and two val images, of each kind one in either folder."""
    files = {"imagenette2/noisy_imagenette.csv": b"path\n", "imagenette2/val/.DS_Store": b"\0"}
    for label, wnid in enumerate(CLASSES):
        names = ((f"{wnid}_{9 + label}", VAL_NAMES[wnid][0]), (f"{wnid}_100", VAL_NAMES[wnid][1]))
        for split, of_split in zip(("train", "val"), names, strict=True):
            files |= {f"imagenette2/{split}/{wnid}/{name}.JPEG": jpeg(label) for name in of_split}
        files[f"imagenette2/train/{wnid}/._{wnid}_9.JPEG"] = b"of a Mac"
    return files


def box_files() -> Files:
    names = {name: wnid for wnid, names in VAL_NAMES.items() for name in names}
    files = {f"val/{name}.xml": XML.format(name, wnid, 9).encode() for name, wnid in names.items()}
    return files | {"val/ILSVRC2012_val_00050000.xml": XML.format("ILSVRC2012_val_00050000", "n09999999", 3).encode()}


def tgz(files: Files) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


@pytest.fixture
def data(tmp_path: Path) -> Callable[..., DataConfig]:
    """data(images, boxes): the configuration that makes the tree from these files, packed or in a folder."""

    def configure(images: Files | None = None, boxes: Files | Path | None = None) -> DataConfig:
        packed = tgz(images or image_files())
        (tmp_path / "images.tgz").write_bytes(packed)
        if not isinstance(boxes, Path):
            (tmp_path / "boxes.tgz").write_bytes(tgz(box_files() if boxes is None else boxes))
            boxes = tmp_path / "boxes.tgz"
        download = DownloadConfig(str(tmp_path / "images.tgz"), md5(packed), str(boxes), timeout=10.0, tries=2)
        return DataConfig("imagenette", str(tmp_path / "tree/imagenette"), download=download)

    return configure


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchiveServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        server.files = {"i/imagenette2.tgz": tgz(image_files()), "b/boxes.tgz": tgz(box_files())}
        yield server


def served(server: ArchiveServer) -> list[str]:
    """The options that make the script get the server's archives."""
    options = {"images": server.url("i/imagenette2.tgz"), "boxes": server.url("b/boxes.tgz"), "tries": 2}
    options |= {f"{kind}_checksum": md5(server.files[path]) for kind, path in zip(options, server.files, strict=False)}
    return ["data=imagenette", *(f"data.download.{key}={value}" for key, value in options.items())]


def refusal(data: DataConfig) -> str:
    with pytest.raises(UserError) as error:
        make_imagenette(data)
    assert data.root is not None and not Path(data.root).exists()
    assert not Path(f"{data.root}.making").exists()
    return str(error.value)


def contents(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_each_image_lands_in_ilsvrcs_own_split(data: Callable[..., DataConfig]) -> None:
    root = make_imagenette(data())
    train = [f"{wnid}/{wnid}_{n}" for i, wnid in enumerate(CLASSES) for n in sorted(["100", str(9 + i)])]
    val = sorted(name for names in VAL_NAMES.values() for name in names)
    assert contents(root) == sorted(
        [f"ILSVRC/Data/CLS-LOC/train/{name}.JPEG" for name in train]
        + [f"ILSVRC/Data/CLS-LOC/val/{name}.JPEG" for name in val]
        + [f"ILSVRC/Annotations/CLS-LOC/val/{name}.xml" for name in val]
        + ["ILSVRC/ImageSets/CLS-LOC/train_cls.txt", "ILSVRC/ImageSets/CLS-LOC/val.txt", "LOC_synset_mapping.txt"]
    )
    assert (root / "LOC_synset_mapping.txt").read_text().splitlines()[:2] == [
        "n01440764 tench, Tinca tinca",
        "n02102040 English springer, English springer spaniel",
    ]
    lists = root / "ILSVRC/ImageSets/CLS-LOC"
    assert (lists / "train_cls.txt").read_text() == "".join(f"{name} {n}\n" for n, name in enumerate(train, 1))
    assert (lists / "val.txt").read_text() == "".join(f"{name} {n}\n" for n, name in enumerate(val, 1))


def test_nothing_is_left_beside_the_tree(data: Callable[..., DataConfig], tmp_path: Path) -> None:
    make_imagenette(data())
    assert sorted(path.name for path in (tmp_path / "tree").iterdir()) == ["imagenette", "imagenette.lock"]
    assert (tmp_path / "images.tgz").exists()  # the user's own


def test_made_tree_is_recognised_without_its_archives(data: Callable[..., DataConfig], tmp_path: Path, capsys) -> None:
    config = data()
    root = make_imagenette(config)
    (tmp_path / "images.tgz").unlink()
    made = (root / "LOC_synset_mapping.txt").stat().st_mtime_ns
    assert make_imagenette(config) == root
    assert "already there" in capsys.readouterr().out
    assert (root / "LOC_synset_mapping.txt").stat().st_mtime_ns == made


@pytest.mark.parametrize("folder", ["", "val", "ILSVRC/Annotations/CLS-LOC/val"])
def test_boxes_come_from_an_unpacked_folder(data: Callable[..., DataConfig], tmp_path: Path, folder: str) -> None:
    place = tmp_path / "unpacked" / folder
    place.mkdir(parents=True)
    for name, content in box_files().items():
        (place / Path(name).name).write_bytes(content)
    root = make_imagenette(data(boxes=tmp_path / "unpacked"))
    assert len(list((root / "ILSVRC/Annotations/CLS-LOC/val").iterdir())) == 20


def test_missing_boxes_say_where_to_get_them_and_what_to_type(data: Callable[..., DataConfig], tmp_path: Path) -> None:
    message = refusal(data(boxes=tmp_path / "nowhere.tgz"))
    assert "nowhere.tgz is not there" in message
    assert "ILSVRC2012_bbox_val_v3.tgz from image-net.org" in message and "args=data.download.boxes=FILE" in message


def test_boxes_that_lack_an_image_are_refused(data: Callable[..., DataConfig], tmp_path: Path) -> None:
    boxes = box_files()
    del boxes["val/ILSVRC2012_val_00000811.xml"]
    assert "no boxes of 1 of the 20 val images, first ILSVRC2012_val_00000811.xml" in refusal(data(boxes=boxes))
    (tmp_path / "empty").mkdir()
    assert "no boxes of 20 of the 20" in refusal(data(boxes=tmp_path / "empty"))


def test_boxes_of_another_class_are_refused(data: Callable[..., DataConfig]) -> None:
    name = VAL_NAMES["n03888257"][1]
    wrong = {f"val/{name}.xml": XML.format(name, "n01440764", 9).encode()}
    assert f"{name}.xml names n01440764, expected n03888257" in refusal(data(boxes=box_files() | wrong))


def test_entities_in_annotations_are_refused(data: Callable[..., DataConfig]) -> None:
    name = VAL_NAMES["n03888257"][1]
    bomb = {f"val/{name}.xml": b'<!DOCTYPE a [<!ENTITY b "boo">]><annotation>&b;</annotation>'}
    message = refusal(data(boxes=box_files() | bomb))
    assert "entities" in message and "boxes.tgz" in message


@pytest.mark.parametrize("split", ["train", "val"])
def test_archive_without_a_class_is_refused(data: Callable[..., DataConfig], split: str) -> None:
    of_split = f"n03888257/{'n03888257' if split == 'train' else 'ILSVRC2012'}"
    images = {name: content for name, content in image_files().items() if of_split not in name}
    assert f"has no {split} images of n03888257" in refusal(data(images))


def test_image_in_both_folders_is_refused(data: Callable[..., DataConfig]) -> None:
    twice = {f"imagenette2/train/n03888257/{VAL_NAMES['n03888257'][1]}.JPEG": b"x"}
    assert "twice" in refusal(data(image_files() | twice))


def test_archive_that_leaves_its_folder_is_refused(data: Callable[..., DataConfig], tmp_path: Path) -> None:
    """Even by a name that ends as an image's."""
    evil = {"../../imagenette2/train/n03888257/n03888257_1.JPEG": b"x"}
    assert "'../../imagenette2/train/n03888257/n03888257_1.JPEG' leads out" in refusal(data(image_files() | evil))
    assert not list(tmp_path.rglob("n03888257_1.JPEG"))


def test_wrong_checksum_is_refused_before_unpacking(data: Callable[..., DataConfig]) -> None:
    config = data()
    assert config.download is not None
    wrong = replace(config.download, images_checksum=md5(b"other"))
    assert f"expected {md5(b'other')}" in refusal(replace(config, download=wrong))


@pytest.mark.parametrize("name", ["notes.txt", "LOC_synset_mapping.txt"])
def test_something_else_at_the_root_is_left_alone(data: Callable[..., DataConfig], tmp_path: Path, name: str) -> None:
    config = data()
    root = tmp_path / "tree/imagenette"
    root.mkdir(parents=True)
    (root / name).write_text("n00000001 mine\n")
    with pytest.raises(UserError, match="holds something other than data=imagenette"):
        make_imagenette(config)
    assert contents(root) == [name]


def test_empty_folder_at_the_root_is_filled(data: Callable[..., DataConfig], tmp_path: Path) -> None:
    (tmp_path / "tree/imagenette").mkdir(parents=True)
    assert len(contents(make_imagenette(data()))) == 63


def test_failure_at_the_last_step_leaves_no_tree(data: Callable[..., DataConfig], monkeypatch) -> None:
    def fail(path: Path, names: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(imagenette, "write_list", fail)
    config = data()
    assert "No space left on device; free space" in refusal(config)
    monkeypatch.undo()
    assert len(contents(make_imagenette(config))) == 63


def test_left_over_of_a_killed_run_is_cleared(data: Callable[..., DataConfig], tmp_path: Path) -> None:
    stale = tmp_path / "tree/imagenette.making/ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"half")
    assert len(contents(make_imagenette(data()))) == 63


def test_configuration_names_what_torchvision_knows() -> None:
    from torchvision.datasets import Imagenette

    download = OmegaConf.load(CONFIGS / "data/imagenette.yaml").data.download
    url, md5_sum = Imagenette._ARCHIVES["full"]
    assert (download.images, download.images_checksum) == (url, f"md5:{md5_sum}")
    assert list(Imagenette._WNID_TO_CLASS) == list(CLASSES)


def test_script_makes_a_tree_that_the_reader_takes(server: ArchiveServer, tmp_path: Path) -> None:
    root = tmp_path / "data/imagenette"
    options = [*served(server), f"data.root={root}"]
    server.plan = ["half", "right", 503, "slow"]  # the boxes in two pieces, the images after a refusal
    done = run_script("get_data", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert f"made {root}: 20 train and 20 val images" in done.stdout
    asked = len(server.seen)
    again = run_script("get_data", tmp_path, *options)
    assert again.returncode == 0 and "already there" in again.stdout and len(server.seen) == asked

    data = DataConfig("imagenette", str(root))
    train, val = (load_split(data, split, tmp_path / "cache", ALONE) for split in ("train", "val"))
    assert np.bincount(train.labels).tolist() == np.bincount(val.labels).tolist() == [2] * 10
    assert val.wnids == list(CLASSES)
    assert all(val.path(i).name[:-5] in VAL_NAMES[val.wnids[val.labels[i]]] for i in range(20))
    assert val.true_boxes(3).tolist() == [[1, 2, 9, 7]]


def test_two_at_once_download_and_build_once(server: ArchiveServer, tmp_path: Path) -> None:
    (images, boxes), (of_images, of_boxes) = server.files, map(md5, server.files.values())
    download = DownloadConfig(server.url(images), of_images, server.url(boxes), of_boxes, timeout=20.0, tries=2)
    data = DataConfig("imagenette", str(tmp_path / "imagenette"), download=download)
    server.always = "slow"
    with ThreadPoolExecutor(2) as pool:
        roots = list(pool.map(make_imagenette, [data, data]))
    assert roots[0] == roots[1] and len(contents(roots[0])) == 63
    assert len(server.seen) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["imagenette", "imagenette.lock"]


def test_killed_download_goes_on(server: ArchiveServer, tmp_path: Path) -> None:
    options = [*served(server), f"data.root={tmp_path / 'data/imagenette'}"]
    server.plan = ["right", "stall"]
    script = str(REPOSITORY / "scripts/get_data.py")
    with subprocess.Popen([sys.executable, script, *options], stdout=subprocess.DEVNULL) as process:
        assert server.stalled.wait(60)
        part = wait_for_part(tmp_path / "data/imagenette.download", len(server.files["i/imagenette2.tgz"]) // 2)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "data/imagenette").exists()
    done = run_script("get_data", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert f"going on at {part:,} of" in done.stdout
    assert server.seen == [None, None, f"bytes={part}-"]


def wait_for_part(folder: Path, size: int) -> int:
    """The bytes on disk once the client has written all that the server sent."""
    for _ in range(2000):
        if [path.stat().st_size for path in folder.glob("*.part")] == [size]:
            return size
        time.sleep(0.01)
    raise AssertionError(f"the download never reached {size} bytes")


def test_script_says_what_is_wrong_in_one_line(server: ArchiveServer, tmp_path: Path) -> None:
    server.plan = ["right", "half"]
    done = run_script(
        "get_data", tmp_path, *served(server), f"data.root={tmp_path / 'data/imagenette'}", "data.download.tries=1"
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "truncated, found" in lines[0] and "args=data.download.images=FILE" in lines[0]
    assert not (tmp_path / "data/imagenette").exists()


def test_data_that_nobody_may_download_says_how_to_come_by_it(tmp_path: Path) -> None:
    done = run_script("get_data", tmp_path, "data=ilsvrc")
    assert done.returncode == 1
    assert "error: data=ilsvrc cannot be downloaded here: unpack Kaggle's" in done.stderr
