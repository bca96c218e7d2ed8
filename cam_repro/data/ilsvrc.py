"""The one reader of ILSVRC's CLS-LOC tree: which images there are, their labels and their boxes.

Only names found by listing the tree's folders become paths; names written in its lists are looked up among them, so
no list can lead out of the tree. Links in the tree are followed: whoever owns the tree put them there.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import DataConfig
from cam_repro.data.annotations import Truth, read_annotation, read_solution
from cam_repro.data.split import Split
from cam_repro.data.untrusted import read_text
from cam_repro.files import replacing

_WNID = re.compile(r"[\w-]+")
SUFFIXES = (".jpeg", ".jpg", ".png")


def open_split(data: DataConfig, split: str, cache: Path) -> Split:
    """The train or val split of a tree, from the index in `cache` unless the tree has changed since."""
    root = checked_root(data)
    wnids, words = read_synset_mapping(mapping_file(data))
    folder = images_folder(root, split)
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
_INDEX_FORMAT = "2"  # of the cached index: another one, or other rules of reading, make it anew


def mapping_file(data: DataConfig) -> Path:
    return Path(data.synset_mapping) if data.synset_mapping else Path(data.root or "") / _MAPPING


def images_folder(root: Path, split: str) -> Path:
    return root / "ILSVRC/Data/CLS-LOC" / split


def annotations_folder(root: Path) -> Path:
    return root / "ILSVRC/Annotations/CLS-LOC/val"


def solution_file(root: Path) -> Path:
    return root / "LOC_val_solution.csv"


def image_set_file(root: Path, split: str) -> Path:
    return root / "ILSVRC/ImageSets/CLS-LOC" / ("train_cls.txt" if split == "train" else f"{split}.txt")


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
    lines = [line.split(maxsplit=1) for line in read_text(path).splitlines() if line.strip()]
    wnids = [line[0] for line in lines]
    if len(set(wnids)) != len(wnids) or not wnids:
        raise UserError(f"{path} lists {len(wnids)} classes, {len(set(wnids))} different; expected one a line")
    odd = [wnid for wnid in wnids if not _WNID.fullmatch(wnid)]
    if odd:
        raise UserError(f"{path}: {odd[0][:40]!r} is no class name; expected letters, digits, - and _, as n01440764")
    return wnids, [line[1] if len(line) > 1 else line[0] for line in lines]


def _signature(root: Path, split: str, wnids: list[str]) -> str:
    """Changes with the class order, with files added or removed, and with any annotation's size or date."""
    digest = hashlib.sha256("\n".join([_INDEX_FORMAT, *wnids]).encode())
    images = images_folder(root, split)
    folders = [images, *sorted(Path(entry.path) for entry in os.scandir(images) if entry.is_dir())]
    files = [*folders, solution_file(root), image_set_file(root, split)]
    for path in files:
        status = path.stat() if path.exists() else None
        digest.update(os.fsencode(f"{path}|{status and (status.st_mtime_ns, status.st_size)}\n"))
    annotations = annotations_folder(root)
    if split == "val" and annotations.is_dir():
        for entry in sorted(os.scandir(annotations), key=lambda entry: entry.name):
            status = entry.stat()
            digest.update(os.fsencode(f"{entry.name}|{status.st_mtime_ns}|{status.st_size}\n"))
    return digest.hexdigest()


def _load_index(path: Path, signature: str) -> dict[str, np.ndarray] | None:
    try:
        with np.load(path, allow_pickle=False) as index:
            if str(index["signature"]) == signature:
                return {name: index[name] for name in ("files", "labels", "boxes", "box_starts")}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass  # absent, damaged or of an older version: built anew
    return None


def _build_index(root: Path, split: str, wnids: list[str]) -> dict[str, np.ndarray]:
    folder = images_folder(root, split)
    files = _ordered(scan_images(folder), image_set_file(root, split))
    if not files:
        raise UserError(f"{folder} holds no images (*.JPEG); see data.root=")
    class_of = {wnid: number for number, wnid in enumerate(wnids)}
    if split == "train":
        labels, boxes = [_class_of_folder(folder, file, class_of) for file in files], [[] for _ in files]
    else:
        labels, boxes = _read_truth(root, folder, files, class_of)
    return {
        "files": np.array([os.fsencode(file) for file in files]),
        "labels": np.array(labels, np.int64),
        "boxes": np.array([box for of_image in boxes for box in of_image], np.int32).reshape(-1, 4),
        "box_starts": np.cumsum([0] + [len(of_image) for of_image in boxes]),
    }


def scan_images(folder: Path) -> list[str]:
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
    by_name = by_listed_name(files)
    listed = read_image_set(image_set)
    missing = [name for name in listed if name not in by_name]
    if missing:
        raise UserError(
            f"{image_set} lists {len(missing)} images that are not there, first {missing[0]}; fetch them again"
        )
    return [by_name[name] for name in listed]


def by_listed_name(files: list[str]) -> dict[str, str]:
    """Files by their name without suffix, as ImageSets and annotations name them. Raises UserError for twins."""
    found: dict[str, str] = {}
    for file in files:
        twin = found.setdefault(file.rpartition(".")[0], file)
        if twin is not file:
            raise UserError(f"{twin} and {file} are two files of one image; delete one of them")
    return found


def read_image_set(path: Path) -> list[str]:
    """The names in a list of `name number` lines (the number may be left out). Raises UserError with the line."""
    lines = [line.split() for line in read_text(path).splitlines()]
    for number, words in enumerate(lines, 1):
        if len(words) > 2 or (len(words) == 2 and not words[1].isdecimal()):
            raise UserError(f"{path}, line {number}: expected `name number`, not {' '.join(words)[:60]!r}")
    names = [words[0] for words in lines if words]
    if not names:
        raise UserError(f"{path} lists no image; fetch it again, or delete it to take every image there is")
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise UserError(f"{path} lists {twice} more than once; each image must be there once")
    return names


def _class_of_folder(folder: Path, file: str, class_of: dict[str, int]) -> int:
    wnid = file.partition("/")[0]
    if wnid not in class_of:
        raise UserError(
            f"{folder / file} is in a class folder that is not in the synset mapping ({len(class_of)} classes)"
        )
    return class_of[wnid]


def _read_truth(root: Path, folder: Path, files: list[str], class_of: dict[str, int]) -> tuple[list[int], list[list]]:
    from_csv = read_solution(solution_file(root))
    annotations = annotations_folder(root)
    with_xml = names_in(annotations, ".xml")
    labels, boxes = [], []
    for file in tqdm(files, desc="index boxes", leave=False, disable=None):
        stem = stem_of(file)
        xml = annotations / f"{stem}.xml"
        truth = read_xml(xml) if stem in with_xml else None
        truth = truth or from_csv.get(stem) or truth_from_folder(file)
        if truth is None:
            raise UserError(f"{folder / file} has no label: neither {xml} nor LOC_val_solution.csv names its class")
        if truth[0] not in class_of:
            where = xml if stem in with_xml else f"{solution_file(root)}, image {stem}"
            raise UserError(f"{where}: class {truth[0]} is not in the synset mapping; see data.synset_mapping=")
        labels.append(class_of[truth[0]])
        boxes.append(truth[1])
    return labels, boxes


def read_xml(path: Path) -> Truth | None:
    """Class and boxes of the first object's class in an annotation; none where it has no object."""
    return read_annotation(path).truth()


def names_in(folder: Path, suffix: str) -> set[str]:
    """Names without suffix of the folder's files of one kind; none where there is no such folder."""
    if not folder.is_dir():
        return set()
    return {entry.name.removesuffix(suffix) for entry in os.scandir(folder) if entry.name.endswith(suffix)}


def stem_of(file: str) -> str:
    """The image's name in its annotation: neither class folder nor suffix."""
    return file.rpartition("/")[2].rpartition(".")[0]


def truth_from_folder(file: str) -> Truth | None:
    return (file.partition("/")[0], []) if "/" in file else None
