"""The ten Imagenette classes as an ILSVRC CLS-LOC tree: Imagenette's full-size images, ILSVRC's val boxes.

Imagenette (github.com/fastai/imagenette) has all of ILSVRC's pictures of these classes, but splits them its own way;
here those that ILSVRC has in val are val again (50 a class, as their boxes are known), all others train.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from cam_repro import UserError
from cam_repro.config import DataConfig, DownloadConfig
from cam_repro.data.annotations import read_annotation
from cam_repro.data.download import Source, disk, fetch, unpack
from cam_repro.data.shapes import locked

CLASSES = {
    "n01440764": "tench, Tinca tinca",
    "n02102040": "English springer, English springer spaniel",
    "n02979186": "cassette player",
    "n03000684": "chain saw, chainsaw",
    "n03028079": "church, church building",
    "n03394916": "French horn, horn",
    "n03417042": "garbage truck, dustcart",
    "n03425413": "gas pump, gasoline pump, petrol pump, island dispenser",
    "n03445777": "golf ball",
    "n03888257": "parachute, chute",
}
TRAIN = Path("ILSVRC/Data/CLS-LOC/train")
VAL = Path("ILSVRC/Data/CLS-LOC/val")
ANNOTATIONS = Path("ILSVRC/Annotations/CLS-LOC/val")
LISTS = Path("ILSVRC/ImageSets/CLS-LOC")
MAPPING = Path("LOC_synset_mapping.txt")
XML_FOLDERS = (".", "val", "Annotations/CLS-LOC/val", "ILSVRC/Annotations/CLS-LOC/val")
IMAGE = re.compile(r"(?:n\d{8}_\d+|(?P<val>ILSVRC2012_val_\d{8}))\.JPEG")

IMAGES_ADVICE = "get Imagenette's imagenette2.tgz another way and add args=data.download.images=FILE"
BOXES_ADVICE = (
    "get ILSVRC2012_bbox_val_v3.tgz from image-net.org (it may ask you to log in) "
    "and add args=data.download.boxes=FILE, or the folder it was unpacked to"
)


def make_imagenette(data: DataConfig) -> Path:
    """Makes the tree at data.root unless it is there: whole or not at all. What was downloaded waits beside the root.

    Raises UserError when something else is at the root, an archive cannot be had or is not what it must be.
    """
    if data.root is None or data.download is None:
        raise UserError("data=imagenette needs data.root= and data.download: see configs/data/imagenette.yaml")
    root = Path(data.root).resolve()
    if is_made(root):
        print(f"data={data.name} is already there: {root}")
        return root
    with disk(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        with locked(root.with_name(f"{root.name}.lock")):
            if not is_made(root):
                make_once(root, data.download)
    return root


def is_made(root: Path) -> bool:
    """Whether a tree of these ten classes is at the root; UserError if something else is."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    mapping = root / MAPPING
    if mapping.is_file() and all((root / folder).is_dir() for folder in (TRAIN, VAL)):
        found = [line.split()[0] for line in mapping.read_text(encoding="utf-8").splitlines() if line.strip()]
        if sorted(found) == list(CLASSES):
            return True
    raise UserError(f"{root} holds something other than data=imagenette: move it away or give another data.root=")


def make_once(root: Path, download: DownloadConfig) -> None:
    """Downloads beside the root, builds there too, and gives the result its name at the end."""
    downloads, making = (root.with_name(f"{root.name}.{purpose}") for purpose in ("download", "making"))
    boxes = Source("data.download.boxes", download.boxes, download.boxes_checksum, BOXES_ADVICE)
    images = Source("data.download.images", download.images, download.images_checksum, IMAGES_ADVICE)
    # The boxes first: they are small, and more likely to be refused.
    boxes_at, images_at = (get(source, downloads, download) for source in (boxes, images))
    shutil.rmtree(making, ignore_errors=True)  # left by one that was killed: the lock is ours
    try:
        making.mkdir()
        counts = write_tree(making, images_at, boxes_at)
        os.sync()  # before the name: a power cut must not leave a whole tree of empty files
        making.rename(root)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    shutil.rmtree(downloads, ignore_errors=True)
    print(f"made {root}: {counts['train']:,} train and {counts['val']:,} val images")


def get(source: Source, folder: Path, download: DownloadConfig) -> Path:
    """The archive's file, or the folder of XMLs that stands for one."""
    local = source.local()
    if source.key == "data.download.boxes" and local is not None and local.is_dir():
        return local
    return fetch(source, folder, download.timeout, download.tries)


def write_tree(root: Path, images: Path, boxes: Path) -> Counter[str]:
    """Fills `root`; returns the number of images of each split."""
    placed = unpack(images, root, place_image)
    wnid_of = {where.stem: name.parent.name for where, name in placed.items() if where.parent == VAL}
    train = [f"{where.parent.name}/{where.stem}" for where in placed if where.parent != VAL]
    for split, wnids in (("train", [name[:9] for name in train]), ("val", wnid_of.values())):
        if missing := sorted(set(CLASSES) - set(wnids)):
            raise UserError(
                f"{images} has no {split} images of {missing[0]} ({len(missing)} classes lack them); "
                f"expected Imagenette's */train/<wnid>/*.JPEG and */val/<wnid>/*.JPEG; {IMAGES_ADVICE}"
            )
    add_boxes(root, boxes, wnid_of)
    write_list(root / LISTS / "train_cls.txt", train)
    write_list(root / LISTS / "val.txt", wnid_of)
    with disk(root):
        (root / MAPPING).write_text("".join(f"{wnid} {words}\n" for wnid, words in CLASSES.items()), encoding="utf-8")
    return Counter(train=len(train), val=len(wnid_of))


def place_image(name: PurePosixPath) -> Path | None:
    """*/{train,val}/<wnid>/<image>.JPEG goes to the split that ILSVRC has the image in."""
    split, wnid = ("", "", *name.parts)[-3:-1]
    image = IMAGE.fullmatch(name.name)
    if split not in ("train", "val") or wnid not in CLASSES or not image:
        return None
    return VAL / name.name if image["val"] else TRAIN / wnid / name.name


def place_xml_of(stems: Iterable[str]) -> Callable[[PurePosixPath], Path | None]:
    wanted = {f"{stem}.xml" for stem in stems}
    return lambda name: ANNOTATIONS / name.name if name.name in wanted else None


def add_boxes(root: Path, boxes: Path, wnid_of: dict[str, str]) -> None:
    """The annotations of the val images, from an archive or a folder, each of its image's class."""
    if boxes.is_dir():
        copy_xmls(boxes, root, wnid_of)
    else:
        unpack(boxes, root, place_xml_of(wnid_of))
    missing = sorted(stem for stem in wnid_of if not (root / ANNOTATIONS / f"{stem}.xml").is_file())
    if missing:
        raise UserError(
            f"{boxes} has no boxes of {len(missing)} of the {len(wnid_of)} val images, "
            f"first {missing[0]}.xml; {BOXES_ADVICE}"
        )
    for stem, wnid in wnid_of.items():
        try:
            truth = read_annotation(root / ANNOTATIONS / f"{stem}.xml").truth()
        except UserError as error:  # names a path that is gone by the time it is read
            raise UserError(f"from {boxes}: {error}") from None
        if truth is None or truth[0] != wnid:
            found = truth[0] if truth else "no object"
            raise UserError(f"{boxes}: {stem}.xml names {found}, expected {wnid}; {BOXES_ADVICE}")


def copy_xmls(folder: Path, root: Path, stems: Iterable[str]) -> None:
    with disk(root):
        (root / ANNOTATIONS).mkdir(parents=True)
        for stem in stems:
            for place in XML_FOLDERS:
                if (xml := folder / place / f"{stem}.xml").is_file():
                    shutil.copyfile(xml, root / ANNOTATIONS / xml.name)
                    break


def write_list(path: Path, names: Iterable[str]) -> None:
    """As ILSVRC's: a name without suffix and its running number."""
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name} {number}\n" for number, name in enumerate(sorted(names), 1)))
