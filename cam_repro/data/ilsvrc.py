"""The one reader of ILSVRC's CLS-LOC tree: which images there are, their labels and their boxes."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import DataConfig
from cam_repro.files import replacing

_ILSVRC_VAL = re.compile(rb"ILSVRC2012_val_(\d{8})")
SUFFIXES = (".jpeg", ".jpg", ".png")


@dataclass(frozen=True)
class Split:
    """One split: N images in the order of ImageSets (the devkit's numbering), with labels and boxes.

    folder: of the images; files (N,) relative paths as bytes; labels (N,) class of each image, the line in the
    synset mapping; boxes (M,4) x1,y1,x2,y2 inclusive, in pixels of the stored image, those of image i at
    box_starts[i]:box_starts[i+1]; wnids (C,) and words (C,) of the classes.
    """

    folder: Path
    files: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    box_starts: np.ndarray
    wnids: list[str]
    words: list[str]

    def __len__(self) -> int:
        return len(self.files)

    def path(self, image: int) -> Path:
        return self.folder / self.files[image].decode()

    def true_boxes(self, image: int) -> np.ndarray:
        """(M,4): every box of the image's class; none for some images."""
        return self.boxes[self.box_starts[image] : self.box_starts[image + 1]]

    def subset(self, images: list[int]) -> Split:
        """These images alone, in this order."""
        boxes = [self.true_boxes(image) for image in images]
        starts = np.cumsum([0] + [len(of_image) for of_image in boxes])
        kept = {"files": self.files[images], "labels": self.labels[images], "boxes": np.concatenate(boxes)}
        return replace(self, **kept, box_starts=starts)

    def devkit_numbers(self) -> np.ndarray:
        """(N,): the devkit's 1-based image numbers, from ILSVRC's val file names, else the place in the split."""
        numbers = [_ILSVRC_VAL.search(file) for file in self.files.tolist()]
        return np.array([int(found[1]) if found else place for place, found in enumerate(numbers, 1)])

    def fingerprint(self) -> str:
        """Changes when images, labels, boxes or classes do, and with the size in bytes of any picture's file."""
        digest = hashlib.sha256("\n".join(self.wnids).encode())
        digest.update(np.array([_bytes_in(self.path(image)) for image in range(len(self))]).tobytes())
        for array in (self.files, self.labels, self.boxes, self.box_starts):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]


def _bytes_in(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def open_split(data: DataConfig, split: str, cache: Path) -> Split:
    """The train or val split of a tree, from the index in `cache` unless the tree has changed since."""
    root = checked_root(data)
    wnids, words = read_synset_mapping(Path(data.synset_mapping) if data.synset_mapping else root / _MAPPING)
    folder = root / "ILSVRC/Data/CLS-LOC" / split
    if not folder.is_dir():
        raise UserError(f"{folder} is not there: the tree at {root} has no {split} images; see data.root=")
    signature = _signature(root, split, wnids)
    key = hashlib.sha256(f"{root.resolve()}|{split}".encode()).hexdigest()[:16]
    index = cache / "index" / f"{key}.npz"
    arrays = _load_index(index, signature)
    if arrays is None:
        arrays = _build_index(root, split, wnids)
        with replacing(index) as temporary, temporary.open("wb") as file:
            np.savez(file, signature=np.array(signature), **arrays)
    return Split(folder, **arrays, wnids=wnids, words=words)


_MAPPING = "LOC_synset_mapping.txt"


def checked_root(data: DataConfig) -> Path:
    """The data root, or a UserError that says what was looked for and how to get it."""
    advice = f"{data.get}; or data=shapes, which needs nothing" if data.get else "data=shapes needs nothing"
    if data.root is None:
        raise UserError(f"data={data.name} has no root: {advice}")
    root = Path(data.root)
    for wanted in ("ILSVRC/Data/CLS-LOC", _MAPPING):
        if not (root / wanted).exists():
            raise UserError(f"no {wanted} under data.root={root}: {advice}")
    return root


def read_synset_mapping(path: Path) -> tuple[list[str], list[str]]:
    """wnids and words, one class a line: class i is line i."""
    try:
        lines = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the synset mapping {path}: {error}") from None
    wnids = [line[0] for line in lines]
    if len(set(wnids)) != len(wnids) or not wnids:
        raise UserError(f"{path} lists {len(wnids)} classes, {len(set(wnids))} different; expected one a line")
    return wnids, [line[1] if len(line) > 1 else line[0] for line in lines]


def _signature(root: Path, split: str, wnids: list[str]) -> str:
    """Changes with the class order, with files added or removed, and with any annotation's size or date."""
    digest = hashlib.sha256("\n".join(wnids).encode())
    images = root / "ILSVRC/Data/CLS-LOC" / split
    folders = [images, *sorted(Path(entry.path) for entry in os.scandir(images) if entry.is_dir())]
    files = [*folders, root / "LOC_val_solution.csv", _image_set(root, split)]
    for path in files:
        status = path.stat() if path.exists() else None
        digest.update(f"{path}|{status and (status.st_mtime_ns, status.st_size)}\n".encode())
    annotations = _annotations(root)
    if split == "val" and annotations.is_dir():
        for entry in sorted(os.scandir(annotations), key=lambda entry: entry.name):
            status = entry.stat()
            digest.update(f"{entry.name}|{status.st_mtime_ns}|{status.st_size}\n".encode())
    return digest.hexdigest()


def _image_set(root: Path, split: str) -> Path:
    return root / "ILSVRC/ImageSets/CLS-LOC" / ("train_cls.txt" if split == "train" else f"{split}.txt")


def _annotations(root: Path) -> Path:
    return root / "ILSVRC/Annotations/CLS-LOC/val"


def _load_index(path: Path, signature: str) -> dict[str, np.ndarray] | None:
    try:
        with np.load(path, allow_pickle=False) as index:
            if str(index["signature"]) == signature:
                return {name: index[name] for name in ("files", "labels", "boxes", "box_starts")}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass  # absent, damaged or of an older version: built anew
    return None


def _build_index(root: Path, split: str, wnids: list[str]) -> dict[str, np.ndarray]:
    folder = root / "ILSVRC/Data/CLS-LOC" / split
    files = _ordered(_scan(folder), _image_set(root, split))
    if not files:
        raise UserError(f"{folder} holds no images (*.JPEG); see data.root=")
    class_of = {wnid: number for number, wnid in enumerate(wnids)}
    if split == "train":
        labels, boxes = [_class_of_folder(folder, file, class_of) for file in files], [[] for _ in files]
    else:
        labels, boxes = _read_truth(root, folder, files, class_of)
    return {
        "files": np.array([file.encode() for file in files]),
        "labels": np.array(labels, np.int64),
        "boxes": np.array([box for of_image in boxes for box in of_image], np.int32).reshape(-1, 4),
        "box_starts": np.cumsum([0] + [len(of_image) for of_image in boxes]),
    }


def _scan(folder: Path) -> list[str]:
    """Relative paths of all images, in class folders or beside each other, sorted."""
    found = []
    for entry in tqdm(
        sorted(os.scandir(folder), key=lambda e: e.name),
        desc=f"index {folder.name}",
        leave=False,
        disable=None,
    ):
        if entry.is_dir():
            found += [f"{entry.name}/{e.name}" for e in os.scandir(entry.path) if e.name.lower().endswith(SUFFIXES)]
        elif entry.name.lower().endswith(SUFFIXES):
            found.append(entry.name)
    return sorted(found)


def _ordered(files: list[str], image_set: Path) -> list[str]:
    """The images that ImageSets lists, in its order; all of them where there is no list."""
    if not image_set.is_file():
        return files
    by_stem = {file.rpartition(".")[0]: file for file in files}
    listed = [line.split()[0] for line in image_set.read_text().splitlines() if line.strip()]
    missing = [stem for stem in listed if stem not in by_stem]
    if missing:
        raise UserError(
            f"{image_set} lists {len(missing)} images that are not there, first {missing[0]}; fetch them again"
        )
    return [by_stem[stem] for stem in listed]


def _class_of_folder(folder: Path, file: str, class_of: dict[str, int]) -> int:
    wnid = file.partition("/")[0]
    if wnid not in class_of:
        raise UserError(
            f"{folder / file} is in a class folder that is not in the synset mapping ({len(class_of)} classes)"
        )
    return class_of[wnid]


Truth = tuple[str, list[tuple[int, int, int, int]]]  # wnid, boxes of that class


def _read_truth(root: Path, folder: Path, files: list[str], class_of: dict[str, int]) -> tuple[list[int], list[list]]:
    from_csv = _read_solution(root / "LOC_val_solution.csv")
    annotations, has_xmls = _annotations(root), _annotations(root).is_dir()
    labels, boxes = [], []
    for file in tqdm(files, desc="index boxes", leave=False, disable=None):
        stem = Path(file).stem
        xml = annotations / f"{stem}.xml"
        truth = read_xml(xml) if has_xmls and xml.is_file() else None
        truth = truth or from_csv.get(stem) or _from_folder(file)
        if truth is None:
            raise UserError(f"{folder / file} has no label: neither {xml} nor LOC_val_solution.csv names its class")
        if truth[0] not in class_of:
            where = xml if xml.is_file() else f"LOC_val_solution.csv, image {stem}"
            raise UserError(f"{where}: class {truth[0]} is not in the synset mapping; see data.synset_mapping=")
        labels.append(class_of[truth[0]])
        boxes.append(truth[1])
    return labels, boxes


def _from_folder(file: str) -> Truth | None:
    return (file.partition("/")[0], []) if "/" in file else None


def read_xml(path: Path) -> Truth | None:
    """Class and boxes of an image's first class; None where the file has no object. Refuses XML with entities."""
    data = path.read_bytes()
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise UserError(f"{path} declares a document type or entities, which ILSVRC's annotations never do: refused")
    try:
        objects = ElementTree.fromstring(data).findall("object")
        found = [(o.findtext("name", "").strip(), _box_of(o)) for o in objects]
    except (ElementTree.ParseError, ValueError, TypeError) as error:
        raise UserError(f"{path} is not a readable annotation: {error}") from None
    if not found:
        return None
    wnid = found[0][0]
    return wnid, [box for name, box in found if name == wnid]


def _box_of(element: ElementTree.Element) -> tuple[int, int, int, int]:
    box = element.find("bndbox")
    if box is None:
        raise ValueError("an object without bndbox")
    x1, y1, x2, y2 = (int(float(box.findtext(key, "missing"))) for key in ("xmin", "ymin", "xmax", "ymax"))
    return x1, y1, x2, y2


def _read_solution(path: Path) -> dict[str, Truth]:
    """LOC_val_solution.csv: `ImageId,wnid x1 y1 x2 y2 wnid x1 …`."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return {row[0]: _parse_solution(path, line, row) for line, row in enumerate(rows, 2) if row}


def _parse_solution(path: Path, line: int, row: list[str]) -> Truth:
    words = row[1].split() if len(row) == 2 else []
    wnid, groups = (words[0] if words else ""), [words[i : i + 5] for i in range(0, len(words), 5)]
    try:
        if len(words) == 1:
            return wnid, []
        boxes = [(name, tuple(int(float(v)) for v in corners)) for name, *corners in groups]
        if not words or any(len(corners) != 4 for _, corners in boxes):
            raise ValueError("expected `wnid x1 y1 x2 y2` once or more")
    except ValueError as error:
        raise UserError(f"{path}, line {line}: {error}") from None
    return wnid, [corners for name, corners in boxes if name == wnid]
