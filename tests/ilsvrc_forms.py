"""A small ILSVRC in each form in which it is distributed, made of Kaggle's tree."""

import io
import json
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy.io import savemat

from cam_repro.data.annotations import read_annotation
from cam_repro.data.ilsvrc import ANNOTATIONS, IMAGES, SOLUTION
from cam_repro.data.ilsvrc_lists import MAPPING, imagenet_classes


def images_of(tree: Path, split: str) -> list[tuple[str, str, bytes]]:
    """Each image of Kaggle's tree: its path in the split, its wnid, its bytes."""
    found = []
    folder = tree / IMAGES / split
    for path in sorted(folder.rglob("*.JPEG")):
        if split == "train":
            wnid = path.parent.name
        else:
            wnid = read_annotation(tree / ANNOTATIONS / f"{path.stem}.xml").class_name
        found.append((str(path.relative_to(folder)), wnid, path.read_bytes()))
    return found


def torchvision(tree: Path, root: Path, flat_val: bool = False) -> Path:
    """train/<wnid>/ and val/<wnid>/, as the well-known script sorts them; or val as unpacked."""
    for split in ("train", "val"):
        for name, wnid, content in images_of(tree, split):
            folder = "" if flat_val and split == "val" else wnid
            write(root / split / folder / Path(name).name, content)
    write(root / "val/._hidden.JPEG", b"what macOS leaves")
    if not flat_val:
        write(root / "val/n01440764/._hidden.JPEG", b"what macOS leaves")
    return _with_boxes(tree, root)


def image_net_org(tree: Path, root: Path) -> Path:
    """ILSVRC2012_img_val.tar, the tar of tars of train, the devkit, and the archive of boxes."""
    root.mkdir(parents=True)
    val = [(name, content) for name, _, content in images_of(tree, "val")]
    add_all(root / "ILSVRC2012_img_val.tar", val)
    by_class: dict[str, list[tuple[str, bytes]]] = {}
    for name, wnid, content in images_of(tree, "train"):
        by_class.setdefault(wnid, []).append((Path(name).name, content))
    inner = {}
    for wnid, images in by_class.items():
        add_all(root / "inner.tar", images)
        inner[f"{wnid}.tar"] = (root / "inner.tar").read_bytes()
    (root / "inner.tar").unlink()
    add_all(root / "ILSVRC2012_img_train.tar", inner.items())
    write_devkit(tree, root / "ILSVRC2012_devkit_t12.tar.gz")
    return _with_boxes(tree, root)


def parquet(tree: Path, root: Path) -> Path:
    """Hugging Face's shards, whose images carry their class in their names."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    numbers = {wnid: number for number, wnid in enumerate(imagenet_classes()[0])}
    for split, shard in (("train", "train"), ("val", "validation")):
        images = []
        labels = []
        for name, wnid, content in images_of(tree, split):
            stem = Path(name).stem
            images.append({"bytes": content, "path": f"{stem}_{wnid}.JPEG"})
            labels.append(numbers[wnid])
        middle = len(labels) // 2
        for half, rows in enumerate((slice(None, middle), slice(middle, None))):
            table = pa.table({"image": images[rows], "label": labels[rows]})
            path = root / f"data/{shard}-0000{half}-of-00002.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_table(table, path, row_group_size=2)
    return _with_boxes(tree, root)


def webdataset(tree: Path, root: Path) -> Path:
    """Shards of key.jpg beside key.cls and key.json."""
    numbers = {wnid: number for number, wnid in enumerate(imagenet_classes()[0])}
    for split, shard in (("train", "train"), ("val", "validation")):
        for half in range(2):
            files = []
            for name, wnid, content in images_of(tree, split)[half::2]:
                key = Path(name).stem
                number = numbers[wnid]
                files.append((f"{key}.jpg", content))
                files.append((f"{key}.cls", str(number).encode()))
                files.append((f"{key}.json", json.dumps({"label": number}).encode()))
            root.mkdir(parents=True, exist_ok=True)
            add_all(root / f"imagenet1k-{shard}-{half:04d}.tar", files)
    return _with_boxes(tree, root)


FORMS = {
    "torchvision": torchvision,
    "torchvision, val flat": lambda tree, root: torchvision(tree, root, flat_val=True),
    "image-net.org": image_net_org,
    "parquet": parquet,
    "webdataset": webdataset,
}


def write_devkit(tree: Path, path: Path) -> None:
    """meta.mat with the devkit's own numbers, and the list of val, of which the tree has some."""
    wnids = imagenet_classes()[0]
    kinds = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O"), ("num_children", "f8")]
    rows = [(len(wnids) - place, wnid, "words", 0) for place, wnid in enumerate(wnids)]
    meta = io.BytesIO()
    savemat(meta, {"synsets": np.array(rows, kinds)[:, None]})
    truth = [1] * 50_000
    for name, wnid, _ in images_of(tree, "val"):
        number = int(Path(name).stem[-8:])
        truth[number - 1] = len(wnids) - wnids.index(wnid)
    text = "".join(f"{number}\n" for number in truth).encode()
    inside = "ILSVRC2012_devkit_t12/data"
    files = [
        (f"{inside}/meta.mat", meta.getvalue()),
        (f"{inside}/ILSVRC2012_validation_ground_truth.txt", text),
    ]
    add_all(path, files, mode="w:gz")


def write_box_archive(tree: Path, path: Path) -> None:
    files = []
    for xml in sorted((tree / ANNOTATIONS).glob("*.xml")):
        files.append((f"bbox/val/{xml.name}", xml.read_bytes()))
    add_all(path, files, mode="w:gz")


def _with_boxes(tree: Path, root: Path) -> Path:
    write_box_archive(tree, root / "ILSVRC2012_bbox_val_v3.tgz")
    return root


def add_all(tar: Path, files: Iterable[tuple[str, bytes]], mode: str = "w") -> None:
    with tarfile.open(tar, mode) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def without_kaggles_lists(tree: Path, root: Path) -> Path:
    """Kaggle's tree of ILSVRC's classes needs no list of them."""
    shutil.copytree(tree, root)
    for name in (MAPPING, SOLUTION):
        (root / name).unlink(missing_ok=True)
    return root
