"""What a data set is, told without reading all of it, so that none is taken for another.

A training keeps the manifests of its images in its checkpoint. They are compared when the training
is resumed, and when its network is used under the name of its data set.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from tqdm import tqdm

from cam_repro.cores import in_threads
from cam_repro.data.split import Split

SAMPLE = 512  # images whose contents are compared
# Of a file that is not there, as behind a broken link, which a training passes over.
LOST_SIZE = -1
LOST_HASH = bytes(16)


@dataclass(frozen=True)
class Manifest:
    """The N images of a split as they were found.

    wnids (C,) of the classes; files (N,) relative paths as bytes; labels (N,) indices of wnids;
    sizes (N,) of the files in bytes, (0,) where nobody asked for them; hashes (S,16) of the
    contents of the images `sampled`.
    """

    wnids: np.ndarray
    files: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    hashes: np.ndarray

    def packed(self) -> bytes:
        """As bytes for a checkpoint: some 10 MB for 1.28 million images."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **vars(self))
        return buffer.getvalue()

    @classmethod
    def unpacked(cls, content: bytes) -> Manifest:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            kept = {field.name: arrays[field.name] for field in fields(cls)}
        return cls(**kept)


def sampled(images: int) -> np.ndarray:
    """The numbers (S,) of the images whose contents are compared, spread evenly over the split."""
    return np.linspace(0, images - 1, min(SAMPLE, images), dtype=np.int64)


def manifest_of(split: Split, with_sizes: bool = True) -> Manifest:
    """The manifest of a split, for which a sample of its images is read.

    with_sizes: every file's size is looked at too. Raises UserError for a file that is there and
    cannot be read.
    """

    def size_of(image: int) -> int:
        try:
            return split.images.size_and_time(image)[0]
        except FileNotFoundError:
            return LOST_SIZE

    def hash_of(image: int) -> bytes:
        try:
            return split.images.hash(image)
        except FileNotFoundError:
            return LOST_HASH

    sizes = np.empty(0, np.int64)
    if with_sizes:
        found = in_threads(size_of, range(len(split)))
        bar = tqdm(found, "sizes", len(split), unit=" files", leave=False, disable=None)
        sizes = np.fromiter(bar, np.int64, len(split))
    contents = b"".join(in_threads(hash_of, sampled(len(split)).tolist()))
    hashes = np.frombuffer(contents, np.uint8).reshape(-1, 16)
    wnids = np.array(split.wnids)
    return Manifest(wnids, split.files, split.labels, sizes, hashes)


def difference(before: Manifest, now: Manifest) -> str:
    """What differs between two manifests, in words with counts; empty where nothing does."""
    if before.wnids.tolist() != now.wnids.tolist():
        classes = _other_classes(before.wnids.tolist(), now.wnids.tolist())
        return f"{classes}; {len(now.files)} images, before {len(before.files)}"
    if not np.array_equal(before.files, now.files):
        return _other_files(before.files.tolist(), now.files.tolist())
    found = _counted("under another class", now.files[before.labels != now.labels])
    if len(before.sizes) and len(now.sizes):
        found += _counted("of another size", now.files[before.sizes != now.sizes])
    places = sampled(len(now.files))
    changed = places[(before.hashes != now.hashes).any(axis=1)]
    found += _counted(f"with other content, of {len(places)} compared", now.files[changed])
    return "; ".join(found)


def _other_classes(before: list[str], now: list[str]) -> str:
    new = [wnid for wnid in now if wnid not in set(before)]
    gone = [wnid for wnid in before if wnid not in set(now)]
    if not new and not gone:
        return f"the same {len(now)} classes in another order"
    said = f"{len(now)} classes, before {len(before)}"
    for what, wnids in (("new", new), ("gone", gone)):
        if wnids:
            said += f", {len(wnids)} {what} (first {wnids[0]})"
    return said


def _other_files(before: list[bytes], now: list[bytes]) -> str:
    """How images of the same classes differ; a new one with the name of a lost one was moved."""
    gone = sorted(set(before) - set(now))
    names = Counter(_name(file) for file in gone)
    moved = []
    new = []
    for file in sorted(set(now) - set(before)):
        if names[_name(file)]:
            names[_name(file)] -= 1
            moved.append(file)
        else:
            new.append(file)
    lost = [file for file in gone if names[_name(file)]]
    if not moved and not new and not lost:
        return f"the same {len(now)} images in another order"
    found = [f"{len(now)} images, before {len(before)}"]
    found += _counted("moved to another class or folder", moved)
    found += _counted("new", new)
    found += _counted("gone", lost)
    return "; ".join(found)


def _name(file: bytes) -> bytes:
    return file.rpartition(b"/")[2]


def _counted(what: str, files: Sequence[bytes]) -> list[str]:
    if not len(files):
        return []
    return [f"{len(files)} {what} (first {os.fsdecode(files[0])})"]
