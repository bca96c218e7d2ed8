"""The ten Imagenette classes as an ILSVRC CLS-LOC tree, with ILSVRC's boxes of val.

Imagenette (github.com/fastai/imagenette) has all of ILSVRC's images of these classes at full size,
but splits them its own way. Here those that ILSVRC has in val are val again (50 a class, as their
boxes are known), and all others are train.
"""

import gzip
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import DataConfig, DownloadConfig
from cam_repro.data.annotations import read_annotation
from cam_repro.data.download import fetch
from cam_repro.data.ilsvrc import ANNOTATIONS, IMAGES
from cam_repro.data.ilsvrc_lists import (
    MAPPING,
    imagenet_classes,
    read_synset_mapping,
    write_lists,
)
from cam_repro.files import make_folder

CLASSES = (
    "n01440764", "n02102040", "n02979186", "n03000684", "n03028079",
    "n03394916", "n03417042", "n03425413", "n03445777", "n03888257",
)  # fmt: skip
# An image in the archive: its class, its file, and whether ILSVRC has it in val.
IMAGE = re.compile(
    rf"(?:.*/)?(?:train|val)/(?P<wnid>{'|'.join(CLASSES)})/"
    r"(?P<file>(?!\.)(?P<val>ILSVRC2012_val_\d{8})?[^/]*\.JPEG)"
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
    """Makes the tree at data.root, whole or not at all, unless it is there.

    What was downloaded waits beside the root until then. Raises UserError when something else is at
    the root, or an archive cannot be had or is not what it must be.
    """
    if data.root is None or data.download is None or data.download.boxes is None:
        raise UserError(
            "data=imagenette needs data.root= and data.download: see configs/data/imagenette.yaml"
        )
    root = Path(data.root).resolve()
    downloads = root.with_name(f"{root.name}.download")

    def check_made() -> None:
        mapping = root / MAPPING
        if not mapping.is_file() or read_synset_mapping(mapping)[0] != list(CLASSES):
            raise UserError(
                f"{root} holds something other than data=imagenette: "
                "move it or give another data.root="
            )

    make_folder(root, check_made, lambda making: _write_tree(making, downloads, data.download))
    shutil.rmtree(downloads, ignore_errors=True)
    print(f"data={data.name} is there: {root}")
    return root


def _write_tree(root: Path, downloads: Path, download: DownloadConfig) -> None:
    # The boxes first: they are small, and more likely to be refused.
    boxes = fetch(download.boxes, download.boxes_checksum, downloads, BOXES_ADVICE)
    images = fetch(download.images, download.images_checksum, downloads, IMAGES_ADVICE)
    # Of each split: an image's name in ImageSets → its wnid.
    names: dict[str, dict[str, str]] = {"train": {}, "val": {}}

    def place_image(name: str) -> Path | None:
        found = IMAGE.fullmatch(name)
        if found is None:
            return None
        wnid = found["wnid"]
        file = Path(found["file"])
        if found["val"]:
            split = "val"
        else:
            split = "train"
            file = Path(wnid, file)
        names[split][str(file.with_suffix(""))] = wnid
        return Path(IMAGES, split, file)

    def place_boxes(name: str) -> Path | None:
        file = Path(name)
        if file.suffix == ".xml" and file.stem in names["val"]:
            return Path(ANNOTATIONS, file.name)
        return None

    _unpack(images, root, place_image)
    (root / ANNOTATIONS).mkdir(parents=True)
    if boxes.is_dir():
        for xml in boxes.rglob("*.xml"):
            place = place_boxes(xml.name)
            if place is not None:
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
    words_of = dict(zip(*imagenet_classes(), strict=True))
    classes = {wnid: words_of[wnid] for wnid in CLASSES}
    write_lists(root, classes, names)


def _unpack(archive: Path, root: Path, place: Callable[[str], Path | None]) -> None:
    """Unpacks the regular files that `place` has a path under `root` for, and nothing else."""

    def wanted(member: tarfile.TarInfo, _: str) -> tarfile.TarInfo | None:
        path = place(member.name) if member.isfile() else None
        if path is None:
            return None
        renamed = member.replace(name=str(path), deep=False)
        return tarfile.data_filter(renamed, str(root))

    try:
        with tarfile.open(archive) as tar:
            members = tqdm(tar, f"unpack {archive.name}", unit=" files", leave=False, disable=None)
            tar.extractall(root, members, filter=wanted)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{archive} is not a whole tar archive; get it again") from error
