"""The ten Imagenette classes as an ILSVRC CLS-LOC tree: Imagenette's full-size images, ILSVRC's val
boxes.

Imagenette (github.com/fastai/imagenette) has all of ILSVRC's pictures of these classes, but splits
them its own way; here those that ILSVRC has in val are val again (50 a class, as their boxes are
known), all others train.
"""

import gzip
import re
import shutil
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pooch
import requests
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import DataConfig, DownloadConfig
from cam_repro.data.annotations import read_annotation
from cam_repro.data.ilsvrc import (
    ANNOTATIONS,
    IMAGES,
    MAPPING,
    imagenet_classes,
    read_synset_mapping,
    write_lists,
)
from cam_repro.files import make_folder

CLASSES = (
    "n01440764", "n02102040", "n02979186", "n03000684", "n03028079", "n03394916", "n03417042", "n03425413", "n03445777",
    "n03888257",
)  # fmt: skip
IMAGE = re.compile(
    rf"(?:.*/)?(?:train|val)/(?P<wnid>{'|'.join(CLASSES)})/(?P<file>(?!\.)(?P<val>ILSVRC2012_val_\d{{8}})?[^/]*\.JPEG)"
)
IMAGES_ADVICE = (
    "get Imagenette's imagenette2.tgz another way "
    "and type make data data=imagenette data.download.images=FILE"
)
BOXES_ADVICE = (
    "get ILSVRC2012_bbox_val_v3.tgz from image-net.org (it may ask you to log in) "
    "and type make data data=imagenette data.download.boxes=FILE, or the folder it was unpacked to"
)


def make_imagenette(data: DataConfig) -> Path:
    """Makes the tree at data.root unless it is there: whole or not at all. What was downloaded
    waits beside the root.

    Raises UserError when something else is at the root, an archive cannot be had or is not what it
    must be.
    """
    if data.root is None or data.download is None:
        raise UserError(
            "data=imagenette needs data.root= and data.download: see configs/data/imagenette.yaml"
        )
    root = Path(data.root).resolve()
    downloads = root.with_name(f"{root.name}.download")

    def check_made() -> None:
        if not (root / MAPPING).is_file() or read_synset_mapping(root / MAPPING)[0] != [*CLASSES]:
            raise UserError(
                f"{root} holds something other than data=imagenette: move it or give another data.root="
            )

    make_folder(root, check_made, lambda making: _write_tree(making, downloads, data.download))
    shutil.rmtree(downloads, ignore_errors=True)
    print(f"data={data.name} is there: {root}")
    return root


def _write_tree(root: Path, downloads: Path, download: DownloadConfig) -> None:
    # The boxes first: they are small, and more likely to be refused.
    boxes = _fetch(download.boxes, download.boxes_checksum, downloads, BOXES_ADVICE)
    images = _fetch(download.images, download.images_checksum, downloads, IMAGES_ADVICE)
    names: dict[str, dict[str, str]] = {
        "train": {},
        "val": {},
    }  # of each split: name in ImageSets → wnid

    def place_image(name: str) -> Path | None:
        if not (found := IMAGE.fullmatch(name)):
            return None
        split = "val" if found["val"] else "train"
        place = Path(found["file"]) if found["val"] else Path(found["wnid"], found["file"])
        names[split][str(place.with_suffix(""))] = found["wnid"]
        return Path(IMAGES, split, place)

    def place_boxes(name: str) -> Path | None:
        file = Path(name)
        return (
            Path(ANNOTATIONS, file.name)
            if file.suffix == ".xml" and file.stem in names["val"]
            else None
        )

    _unpack(images, root, place_image)
    (root / ANNOTATIONS).mkdir(parents=True)
    if boxes.is_dir():
        for xml in boxes.rglob("*.xml"):
            if place := place_boxes(xml.name):
                shutil.copyfile(xml, root / place)
    else:
        _unpack(boxes, root, place_boxes)
    for name, wnid in names["val"].items():
        xml = root / ANNOTATIONS / f"{name}.xml"
        named = read_annotation(xml).class_name if xml.is_file() else None
        if named != wnid:
            found = f"names {named}" if named else "is not there, or has no object"
            raise UserError(
                f"{boxes}: {xml.name} {found}, expected boxes of {wnid}; {BOXES_ADVICE}"
            )
    words = dict(zip(*imagenet_classes(), strict=True))
    write_lists(root, {wnid: words[wnid] for wnid in CLASSES}, names)


def _fetch(address: str, checksum: str | None, downloads: Path, advice: str) -> Path:
    """The verified file: where it lies if it is a local one or a folder, else downloaded."""
    try:
        if re.match("https?://", address):
            bar = pooch.HTTPDownloader(progressbar=sys.stderr.isatty())
            return Path(
                pooch.retrieve(address, checksum, Path(address).name, downloads, downloader=bar)
            )
        local = Path(address)
        if not local.exists():
            raise ValueError("it is not there")
        if local.is_file():
            pooch.hashes.hash_matches(str(local), checksum, strict=True, source=address)
        return local
    except (
        requests.RequestException,
        ValueError,
    ) as error:  # ValueError: another checksum, or none of a known kind
        lost = isinstance(error, (requests.ConnectionError, requests.Timeout))
        reason = "no connection, or it was lost" if lost else error
        raise UserError(f"cannot get {address}: {reason}; run again, or {advice}") from None


def _unpack(archive: Path, root: Path, place: Callable[[str], Path | None]) -> None:
    """The regular files that `place` has a path under `root` for, and nothing else, whatever the
    archive says.
    """

    def wanted(member: tarfile.TarInfo, _: str) -> tarfile.TarInfo | None:
        path = place(member.name) if member.isfile() else None
        return path and tarfile.data_filter(member.replace(name=str(path), deep=False), str(root))

    try:
        with tarfile.open(archive) as tar:
            members = tqdm(tar, f"unpack {archive.name}", unit=" files", leave=False, disable=None)
            tar.extractall(root, members, filter=wanted)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{archive} is not a whole tar archive; get it again") from error
