"""The ten-class tree from tiny archives: what lands where, and that it is whole or not there."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
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
from cam_repro.distributed import DistributedContext

XML = """<annotation><size><width>12</width><height>8</height></size>
<object><name>{}</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>7</ymax></bndbox></object></annotation>
"""
VAL_NAMES = {
    wnid: [f"ILSVRC2012_val_{900 - 10 * i + j:08d}" for j in (0, 1)]
    for i, wnid in enumerate(CLASSES)
}
Files = dict[str, bytes]


def image_files() -> Files:
    """Imagenette's layout: each class has two train and two val images, one in either folder."""
    files = {"imagenette2/noisy_imagenette.csv": b"path\n", "imagenette2/val/.DS_Store": b"\0"}
    for label, wnid in enumerate(CLASSES):
        jpeg = io.BytesIO()
        Image.new("RGB", (12, 8), (20 * label,) * 3).save(jpeg, "JPEG")
        first_val, second_val = VAL_NAMES[wnid]
        names = {"train": [f"{wnid}_{9 + label}", first_val], "val": [f"{wnid}_100", second_val]}
        for folder, of_folder in names.items():
            for name in of_folder:
                files[f"imagenette2/{folder}/{wnid}/{name}.JPEG"] = jpeg.getvalue()
        files[f"imagenette2/train/{wnid}/._{wnid}_9.JPEG"] = b"of a Mac"
    return files


def box_files() -> Files:
    files = {"val/ILSVRC2012_val_00050000.xml": XML.format("n09999999").encode()}
    for wnid, names in VAL_NAMES.items():
        for name in names:
            files[f"val/{name}.xml"] = XML.format(wnid).encode()
    return files


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


def configured(
    folder: Path, images: bytes | None = None, boxes: Files | Path | None = None
) -> DataConfig:
    """The configuration that makes folder/tree/imagenette from these files or a folder of boxes."""
    images = images or tgz(image_files())
    (folder / "images.tgz").write_bytes(images)
    if not isinstance(boxes, Path):
        (folder / "boxes.tgz").write_bytes(tgz(box_files() if boxes is None else boxes))
        boxes = folder / "boxes.tgz"
    download = DownloadConfig(str(folder / "images.tgz"), md5(images), str(boxes))
    return DataConfig("imagenette", root=str(folder / "tree/imagenette"), download=download)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchiveServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    files = {"imagenette2.tgz": tgz(image_files()), "boxes.tgz": tgz(box_files())}
    with ArchiveServer(files) as server:
        yield server


def served(server: ArchiveServer, root: Path) -> list[str]:
    """The options that make the script get the server's archives."""
    options = ["data=imagenette", f"data.root={root}"]
    for kind, file in (("images", "imagenette2.tgz"), ("boxes", "boxes.tgz")):
        checksum = md5(server.files[file])
        options.append(f"data.download.{kind}={server.url(file)}")
        options.append(f"data.download.{kind}_checksum={checksum}")
    return options


def refusal(data: DataConfig) -> str:
    with pytest.raises(UserError) as error:
        make_imagenette(data)
    assert not Path(data.root).exists()
    assert not Path(f"{data.root}.making").exists()
    assert "\n" not in str(error.value)
    return str(error.value)


def contents(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_each_image_lands_in_ilsvrcs_own_split(tmp_path: Path) -> None:
    (tmp_path / "tree/imagenette").mkdir(parents=True)  # an empty folder is no hindrance
    root = make_imagenette(configured(tmp_path))
    train = []
    for label, wnid in enumerate(CLASSES):
        for number in sorted(["100", str(9 + label)]):
            train.append(f"{wnid}/{wnid}_{number}")
    val = sorted(name for names in VAL_NAMES.values() for name in names)
    lists = {"train_cls.txt": train, "val.txt": val}
    assert contents(root) == sorted(
        [f"ILSVRC/Data/CLS-LOC/train/{name}.JPEG" for name in train]
        + [f"ILSVRC/Data/CLS-LOC/val/{name}.JPEG" for name in val]
        + [f"ILSVRC/Annotations/CLS-LOC/val/{name}.xml" for name in val]
        + [f"ILSVRC/ImageSets/CLS-LOC/{file}" for file in lists]
        + ["LOC_synset_mapping.txt"]
    )
    mapping = (root / "LOC_synset_mapping.txt").read_text()
    assert mapping.startswith("n01440764 tench, Tinca tinca\nn02102040 English s")
    for file, names in lists.items():
        text = "".join(f"{name} {number}\n" for number, name in enumerate(names, 1))
        assert (root / "ILSVRC/ImageSets/CLS-LOC" / file).read_text() == text


def test_boxes_come_from_an_unpacked_folder(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(tgz(box_files()))) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    root = make_imagenette(configured(tmp_path, boxes=tmp_path / "unpacked"))
    assert len(list((root / "ILSVRC/Annotations/CLS-LOC/val").iterdir())) == 20


XML_OF_ONE = f"val/{VAL_NAMES['n03888257'][1]}.xml"


@pytest.mark.parametrize(
    ("images", "boxes", "message"),
    [
        (
            None,
            Path("/nowhere.tgz"),
            "/nowhere.tgz: it is not there; run again, or get ILSVRC2012_bbox",
        ),
        (
            None,
            {name: xml for name, xml in box_files().items() if name != XML_OF_ONE},
            ".xml is not there",
        ),
        (
            None,
            {**box_files(), XML_OF_ONE: XML.format("n01440764").encode()},
            "names n01440764, expected boxes of n03",
        ),
        (tgz(image_files())[:-300], None, "images.tgz is not a whole tar archive"),
    ],
    ids=["no boxes", "one missing", "other class", "cut off"],
)
def test_what_is_not_the_wanted_data_is_refused_by_name(
    tmp_path: Path, images: bytes | None, boxes: Files | Path | None, message: str
) -> None:
    assert message in refusal(configured(tmp_path, images, boxes))


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info


HARMFUL = {
    "parent": member("../../../train/n03888257/evil.JPEG"),
    "absolute": member("/tmp/train/n03888257/evil.JPEG"),
    "in the name": member("train/n03888257/../../evil.JPEG"),
    "link": member("train/n03888257/evil.JPEG", tarfile.SYMTYPE, "/etc/passwd"),
    "device": member("train/n03888257/evil.JPEG", tarfile.CHRTYPE),
}


@pytest.mark.parametrize("kind", HARMFUL)
def test_an_archive_writes_nothing_outside_its_folder(tmp_path: Path, kind: str) -> None:
    """A regular file lands where its class says, or nowhere; anything else is passed over."""
    root = make_imagenette(configured(tmp_path, tgz(image_files(), HARMFUL[kind])))
    assert {*tmp_path.rglob("evil*")} <= {root / "ILSVRC/Data/CLS-LOC/train/n03888257/evil.JPEG"}
    assert not any(
        [*folder.glob("evil*")]
        for folder in (tmp_path.parent, Path("/tmp"), Path("/tmp/train/n03888257"))
    )
    assert not any(path.is_symlink() for path in root.rglob("*"))


def test_a_wrong_checksum_is_refused_before_unpacking(tmp_path: Path) -> None:
    config = configured(tmp_path)
    wrong = replace(config.download, images_checksum=md5(b"other"))
    message = refusal(replace(config, download=wrong))
    assert "images.tgz: MD5 hash" in message and md5(b"other").removeprefix("md5:") in message


@pytest.mark.parametrize("name", ["notes.txt", "LOC_synset_mapping.txt"])
def test_something_else_at_the_root_is_left_alone(tmp_path: Path, name: str) -> None:
    root = tmp_path / "tree/imagenette"
    root.mkdir(parents=True)
    (root / name).write_text("n00000001 mine\n")
    with pytest.raises(UserError, match="holds something other than data=imagenette"):
        make_imagenette(configured(tmp_path))
    assert contents(root) == [name]


def test_a_full_disk_at_the_last_step_leaves_no_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(root: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(root))

    config = configured(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(imagenette, "write_lists", fail)
        said = refusal(config)
    assert "No space left on device" in said
    assert said.endswith("; free space or choose another folder")
    assert len(contents(make_imagenette(config))) == 63


def test_configuration_names_what_torchvision_knows() -> None:
    from torchvision.datasets import Imagenette

    download = OmegaConf.load(CONFIGS / "data/imagenette.yaml").data.download
    url, md5_sum = Imagenette._ARCHIVES["full"]
    assert (download.images, download.images_checksum) == (url, f"md5:{md5_sum}")
    assert list(Imagenette._WNID_TO_CLASS) == list(CLASSES)


def test_the_script_makes_a_tree_that_the_reader_takes(
    server: ArchiveServer, tmp_path: Path
) -> None:
    root = tmp_path / "data/imagenette"
    done, again = (run_script("data", tmp_path, *served(server, root)) for _ in range(2))
    assert done.returncode == 0 and f"data=imagenette is there: {root}" in done.stdout, done.stderr
    assert again.returncode == 0 and server.asked == ["boxes.tgz", "imagenette2.tgz"]
    assert {path.name for path in root.parent.iterdir()} == {"imagenette", "imagenette.lock"}

    made = DataConfig("imagenette", root=str(root))
    alone = DistributedContext(0, 1, torch.device("cpu"))
    train = load_split(made, "train", tmp_path, alone)
    val = load_split(made, "val", tmp_path, alone)
    assert np.bincount(train.labels).tolist() == np.bincount(val.labels).tolist() == [2] * 10
    assert val.wnids == list(CLASSES)
    assert all(val.path(i).name[:-5] in VAL_NAMES[val.wnids[val.labels[i]]] for i in range(20))
    assert val.true_boxes(3).tolist() == [[1, 2, 9, 7]]


def test_a_download_that_was_cut_off_is_one_line_and_the_next_start_ends_it(
    server: ArchiveServer, tmp_path: Path
) -> None:
    root = tmp_path / "data/imagenette"
    server.cut = {"imagenette2.tgz"}
    done = run_script("data", tmp_path, *served(server, root))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "cannot get" in lines[0]
    assert "data=imagenette data.download.images=FILE" in lines[0]
    assert not root.exists() and not root.with_name("imagenette.making").exists()
    assert run_script("data", tmp_path, *served(server, root)).returncode == 0
    # The boxes, which were whole, are not asked for again.
    assert server.asked == ["boxes.tgz", "imagenette2.tgz", "imagenette2.tgz"]


@pytest.mark.parametrize(
    ("address", "checksum", "said"),
    [
        ("/gone.tgz", None, "404 Client"),
        ("/boxes.tgz", md5(b"other"), "hash"),
        (":9/", None, "no connection"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(
    server: ArchiveServer, tmp_path: Path, address: str, checksum: str | None, said: str
) -> None:
    boxes = f"http://127.0.0.1{address}" if address.startswith(":") else server.url(address[1:])
    download = DownloadConfig(server.url("imagenette2.tgz"), md5(b""), boxes, checksum)
    message = refusal(DataConfig("imagenette", root=str(tmp_path / "set"), download=download))
    assert said in message and "image-net.org" in message


def test_data_that_nobody_may_download_says_how_to_come_by_it(tmp_path: Path) -> None:
    done = run_script("data", tmp_path, "data=ilsvrc")
    assert done.returncode == 1
    assert "error: data=ilsvrc cannot be downloaded here: set ILSVRC_ROOT" in done.stderr
