"""The ten-class tree from tiny archives: what lands where, and that it is whole or not there."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from archive_server import ArchiveServer
from conftest import run_script
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


def tgz(files: Files, *more: tarfile.TarInfo) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in more:
            tar.addfile(member)
    return packed.getvalue()


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


Configure = Callable[..., DataConfig]


@pytest.fixture
def data(tmp_path: Path) -> Configure:
    """data(images, boxes): the configuration that makes the tree from these files, packed or in a folder."""

    def configure(images: Files | bytes | None = None, boxes: Files | Path | None = None) -> DataConfig:
        packed = images if isinstance(images, bytes) else tgz(images or image_files())
        (tmp_path / "images.tgz").write_bytes(packed)
        if not isinstance(boxes, Path):
            (tmp_path / "boxes.tgz").write_bytes(tgz(box_files() if boxes is None else boxes))
            boxes = tmp_path / "boxes.tgz"
        download = DownloadConfig(str(tmp_path / "images.tgz"), md5(packed), str(boxes))
        return DataConfig("imagenette", root=str(tmp_path / "tree/imagenette"), download=download)

    return configure


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchiveServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ArchiveServer() as server:
        server.files = {"imagenette2.tgz": tgz(image_files()), "boxes.tgz": tgz(box_files())}
        yield server


def served(server: ArchiveServer, root: Path) -> list[str]:
    """The options that make the script get the server's archives."""
    options = {"images": server.url("imagenette2.tgz"), "boxes": server.url("boxes.tgz")}
    options |= {f"{kind}_checksum": md5(server.files[path]) for kind, path in zip(options, server.files, strict=False)}
    return ["data=imagenette", f"data.root={root}", *(f"data.download.{key}={value}" for key, value in options.items())]


def refusal(data: DataConfig) -> str:
    with pytest.raises(UserError) as error:
        make_imagenette(data)
    assert data.root is not None and not Path(data.root).exists()
    assert not Path(f"{data.root}.making").exists()
    return str(error.value)


def contents(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_each_image_lands_in_ilsvrcs_own_split(data: Configure, tmp_path: Path) -> None:
    (tmp_path / "tree/imagenette").mkdir(parents=True)  # an empty folder is no hindrance
    root = make_imagenette(data())
    train = [f"{wnid}/{wnid}_{n}" for i, wnid in enumerate(CLASSES) for n in sorted(["100", str(9 + i)])]
    val = sorted(name for names in VAL_NAMES.values() for name in names)
    lists = {"train_cls.txt": train, "val.txt": val}
    assert contents(root) == sorted(
        [f"ILSVRC/Data/CLS-LOC/train/{name}.JPEG" for name in train]
        + [f"ILSVRC/Data/CLS-LOC/val/{name}.JPEG" for name in val]
        + [f"ILSVRC/Annotations/CLS-LOC/val/{name}.xml" for name in val]
        + [f"ILSVRC/ImageSets/CLS-LOC/{file}" for file in lists]
        + ["LOC_synset_mapping.txt"]
    )
    assert (root / "LOC_synset_mapping.txt").read_text().startswith("n01440764 tench, Tinca tinca\nn02102040 English s")
    for file, names in lists.items():
        text = "".join(f"{name} {number}\n" for number, name in enumerate(names, 1))
        assert (root / "ILSVRC/ImageSets/CLS-LOC" / file).read_text() == text


def test_a_made_tree_stands_alone_and_is_recognised_without_its_archives(data: Configure, tmp_path: Path) -> None:
    config = data()
    root = make_imagenette(config)
    assert sorted(path.name for path in (tmp_path / "tree").iterdir()) == ["imagenette", "imagenette.lock"]
    (tmp_path / "images.tgz").unlink()  # the user's own, which nobody else has taken away
    made = (root / "LOC_synset_mapping.txt").stat().st_mtime_ns
    assert make_imagenette(config) == root
    assert (root / "LOC_synset_mapping.txt").stat().st_mtime_ns == made


def test_boxes_come_from_an_unpacked_folder(data: Configure, tmp_path: Path) -> None:
    for name, content in box_files().items():
        path = tmp_path / "unpacked" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    root = make_imagenette(data(boxes=tmp_path / "unpacked"))
    assert len(list((root / "ILSVRC/Annotations/CLS-LOC/val").iterdir())) == 20


NAME = VAL_NAMES["n03888257"][1]
BOMB = b'<!DOCTYPE a [<!ENTITY b "boo">]><annotation>&b;</annotation>'
OTHER = XML.format(NAME, "n01440764", 9).encode()


@pytest.mark.parametrize(
    ("images", "boxes", "message"),
    [
        (None, Path("/nowhere.tgz"), "/nowhere.tgz: it is not there; run again, or get ILSVRC2012_bbox"),
        (None, {name: xml for name, xml in box_files().items() if NAME not in name}, f"{NAME}.xml is not there"),
        (None, {**box_files(), f"val/{NAME}.xml": OTHER}, "names n01440764, expected boxes of n03888257"),
        (None, {**box_files(), f"val/{NAME}.xml": BOMB}, f"{NAME}.xml declares a document type or entities"),
        (tgz(image_files())[:-300], None, "images.tgz is not a whole tar archive"),
        (b"no archive at all", None, "images.tgz is not a whole tar archive"),
    ],
    ids=["no boxes", "one missing", "other class", "entities", "cut off", "text"],
)
def test_what_is_not_the_wanted_data_is_refused_by_name(
    data: Configure, images: Files | bytes | None, boxes: Files | Path | None, message: str
) -> None:
    text = refusal(data(images, boxes))
    assert message in text and "\n" not in text


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


HARMFUL = {
    "parent": member("../../../train/n03888257/evil.JPEG"),
    "absolute": member("/tmp/train/n03888257/evil.JPEG"),
    "in the name": member("train/n03888257/../../evil.JPEG"),
    "link": member("train/n03888257/evil.JPEG", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": member("train/n03888257/evil.JPEG", tarfile.LNKTYPE, "../../x"),
    "device": member("train/n03888257/evil.JPEG", tarfile.CHRTYPE),
    "folder": member("../../evil.JPEG", tarfile.DIRTYPE),
}


@pytest.mark.parametrize("kind", HARMFUL)
def test_an_archive_writes_nothing_outside_its_folder(data: Configure, tmp_path: Path, kind: str) -> None:
    """A regular file lands where its class says, or nowhere; anything else is passed over."""
    root = make_imagenette(data(tgz(image_files(), HARMFUL[kind])))
    assert {*tmp_path.rglob("evil*")} <= {root / "ILSVRC/Data/CLS-LOC/train/n03888257/evil.JPEG"}
    assert not any([*folder.glob("evil*")] for folder in (tmp_path.parent, Path("/tmp"), Path("/tmp/train/n03888257")))
    assert not any(path.is_symlink() for path in root.rglob("*"))


def test_a_wrong_checksum_is_refused_before_unpacking(data: Configure) -> None:
    config = data()
    wrong = replace(config.download, images_checksum=md5(b"other"))
    message = refusal(replace(config, download=wrong))
    assert "images.tgz: MD5 hash" in message and md5(b"other").removeprefix("md5:") in message


@pytest.mark.parametrize("name", ["notes.txt", "LOC_synset_mapping.txt"])
def test_something_else_at_the_root_is_left_alone(data: Configure, tmp_path: Path, name: str) -> None:
    config = data()
    root = tmp_path / "tree/imagenette"
    root.mkdir(parents=True)
    (root / name).write_text("n00000001 mine\n")
    with pytest.raises(UserError, match="holds something other than data=imagenette"):
        make_imagenette(config)
    assert contents(root) == [name]


def test_a_full_disk_at_the_last_step_leaves_no_tree(data: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(root))

    monkeypatch.setattr(imagenette, "write_lists", fail)
    config = data()
    said = refusal(config)
    assert "No space left on device" in said and said.endswith("; free space or choose another folder")
    monkeypatch.undo()
    assert len(contents(make_imagenette(config))) == 63


def test_configuration_names_what_torchvision_knows() -> None:
    from torchvision.datasets import Imagenette

    download = OmegaConf.load(CONFIGS / "data/imagenette.yaml").data.download
    url, md5_sum = Imagenette._ARCHIVES["full"]
    assert (download.images, download.images_checksum) == (url, f"md5:{md5_sum}")
    assert list(Imagenette._WNID_TO_CLASS) == list(CLASSES)


def test_the_script_makes_a_tree_that_the_reader_takes(server: ArchiveServer, tmp_path: Path) -> None:
    root = tmp_path / "data/imagenette"
    done = run_script("get_data", tmp_path, *served(server, root))
    assert done.returncode == 0, done.stderr
    assert f"data=imagenette is there: {root}" in done.stdout
    again = run_script("get_data", tmp_path, *served(server, root))
    assert again.returncode == 0 and server.asked == ["boxes.tgz", "imagenette2.tgz"]

    made = DataConfig("imagenette", root=str(root))
    train, val = (load_split(made, split, tmp_path, ALONE) for split in ("train", "val"))
    assert np.bincount(train.labels).tolist() == np.bincount(val.labels).tolist() == [2] * 10
    assert val.wnids == list(CLASSES)
    assert all(val.path(i).name[:-5] in VAL_NAMES[val.wnids[val.labels[i]]] for i in range(20))
    assert val.true_boxes(3).tolist() == [[1, 2, 9, 7]]


def test_a_download_that_was_cut_off_is_one_line_and_the_next_start_ends_it(
    server: ArchiveServer, tmp_path: Path
) -> None:
    root = tmp_path / "data/imagenette"
    server.plan = ["right", "half"]
    done = run_script("get_data", tmp_path, *served(server, root))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "cannot get" in lines[0] and "args=data.download.images=FILE" in lines[0]
    assert not root.exists() and not root.with_name("imagenette.making").exists()
    assert run_script("get_data", tmp_path, *served(server, root)).returncode == 0
    assert server.asked == ["boxes.tgz", "imagenette2.tgz", "imagenette2.tgz"]  # what was whole stayed


@pytest.mark.parametrize(("trouble", "said"), [(403, "403 Client"), ("nobody", "no connection"), ("other", "hash")])
def test_what_cannot_be_had_is_said_in_one_line(
    server: ArchiveServer, tmp_path: Path, trouble: str | int, said: str
) -> None:
    server.plan = [trouble] if isinstance(trouble, int) else []
    boxes = "http://127.0.0.1:9/boxes.tgz" if trouble == "nobody" else server.url("boxes.tgz")
    checksum = md5(b"other") if trouble == "other" else None
    download = DownloadConfig(server.url("imagenette2.tgz"), md5(b""), boxes, checksum)
    message = refusal(DataConfig("imagenette", root=str(tmp_path / "set"), download=download))
    assert said in message and "\n" not in message and "image-net.org" in message


def test_data_that_nobody_may_download_says_how_to_come_by_it(tmp_path: Path) -> None:
    done = run_script("get_data", tmp_path, "data=ilsvrc")
    assert done.returncode == 1
    assert "error: data=ilsvrc cannot be downloaded here: unpack Kaggle's" in done.stderr
