"""What everything else sees of a data set, whatever its layout: images with labels and boxes."""

from __future__ import annotations

import hashlib
import io
import re
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.cores import in_threads
from cam_repro.data.images import read_image, read_size
from cam_repro.data.masks import Masks
from cam_repro.data.storage import Files
from cam_repro.files import read_bytes, replacing

_ILSVRC_VAL = re.compile(rb"ILSVRC2012_val_(\d{8})")
_KEPT = np.dtype([("size", np.int64), ("time", np.int64), ("hash", "V16")])  # of one image


@dataclass(frozen=True)
class Split:
    """N images in an order (ILSVRC's: the devkit's numbering), with labels and boxes.

    images: where their bytes are.
    labels: (N,) class of each image, an index of wnids.
    boxes: (M,4) x1,y1,x2,y2 inclusive, in pixels of the image as `read` gives it; those of image i
    are at box_starts[i]:box_starts[i+1].
    wnids, words: (C,) of the classes.
    hashes: the file that keeps the images' hashes; none: each fingerprint takes them anew.
    upright: images are turned by their EXIF tag, else they are taken as stored.
    name: which part of the data set this is, "train", "val", "test" or "all".
    remarks: what was passed over or is odd in the folder, a kind → the files or classes.
    left_out: boxes that no prediction has to find, counted by reason.
    masks: of the objects, where the data set has them.
    form: how the data lies on the disk, in words; empty where that is not worth a line.
    """

    images: Files
    labels: np.ndarray
    boxes: np.ndarray
    box_starts: np.ndarray
    wnids: list[str]
    words: list[str]
    hashes: Path | None = None
    upright: bool = False
    name: str = "val"
    remarks: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    masks: Masks | None = None
    form: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def folder(self) -> Path:
        return self.images.folder

    @property
    def files(self) -> np.ndarray:
        """(N,) relative paths of the images, as bytes."""
        return self.images.names

    def path(self, image: int) -> Path:
        """The image's file, or, for messages, its archive followed by its name in it."""
        return self.images.path(image)

    def read(self, image: int) -> np.ndarray:
        """(H,W,3) uint8 RGB, the pixels that its boxes are drawn on. Raises CorruptImage."""
        return read_image(self.path(image), self.upright, self.images.content(image))

    def size(self, image: int) -> tuple[int, int]:
        """Width and height of what `read` gives. Raises CorruptImage."""
        return read_size(self.path(image), self.upright, self.images.content(image))

    def true_boxes(self, image: int) -> np.ndarray:
        """(M,4): every box of the image's class; none for some images."""
        start = self.box_starts[image]
        end = self.box_starts[image + 1]
        return self.boxes[start:end]

    def subset(self, images: list[int]) -> Split:
        """These images alone, in this order."""
        boxes = [self.true_boxes(image) for image in images]
        starts = np.cumsum([0] + [len(of_image) for of_image in boxes])
        return replace(
            self,
            images=self.images.take(images),
            labels=self.labels[images],
            boxes=np.concatenate(boxes),
            box_starts=starts,
            hashes=None,
            masks=None if self.masks is None else self.masks.take(images),
        )

    def answered_by(self, wnids: list[str], words: list[str]) -> Split:
        """The same images under a network's classes (C,), in its order.

        Raises UserError for a class that the network does not know.
        """
        label_of = {wnid: label for label, wnid in enumerate(wnids)}
        unknown = [wnid for wnid in self.wnids if wnid not in label_of]
        if unknown:
            raise UserError(
                f"the network does not know {len(unknown)} of the data's {len(self.wnids)} "
                f"classes, {unknown[0]} among them; it has {len(wnids)} ({wnids[0]}, …): train it "
                "on this data first, or choose other weights="
            )
        new_labels = np.array([label_of[wnid] for wnid in self.wnids], np.int64)
        return replace(self, labels=new_labels[self.labels], wnids=wnids, words=words)

    def devkit_numbers(self) -> np.ndarray:
        """(N,): the devkit's 1-based image numbers, from the names of ILSVRC's val files.

        An image of another name has its place in the split.
        """
        numbers = []
        for place, file in enumerate(self.files.tolist(), 1):
            found = _ILSVRC_VAL.search(file)
            numbers.append(int(found[1]) if found else place)
        return np.array(numbers)

    def fingerprint(self) -> str:
        """Changes when images, their contents, labels, boxes or classes do.

        An image is read once, and again only where its file's size or date has changed. The date is
        that of the last change of any kind, which unpacking or copying cannot set back. Raises
        UserError for a lost file.
        """
        digest = self._listing()
        digest.update(np.ascontiguousarray(self._hashes()["hash"]).tobytes())
        return digest.hexdigest()[:16]

    def listing(self) -> str:
        """Changes when images, labels, boxes or classes do; no file is looked at."""
        return self._listing().hexdigest()

    def _listing(self) -> hashlib._Hash:
        digest = hashlib.sha256("\n".join(self.wnids).encode())
        for array in (self.files, self.labels, self.boxes, self.box_starts):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest

    def _hashes(self) -> np.ndarray:
        """(N,) of _KEPT: every image's content, hashed unless its file is as it was."""
        files = self.files.tolist()
        arrays = load_arrays(self.hashes) if self.hashes else {}
        kept = {}
        if arrays:
            names = arrays["files"].tolist()
            kept = dict(zip(names, arrays["kept"].tolist(), strict=True))

        def hashed(image: int) -> tuple[int, int, bytes]:
            size, time = self.images.size_and_time(image)
            before = kept.get(files[image])
            if before and before[:2] == (size, time):
                return before
            return size, time, self.images.hash(image)

        try:
            found = in_threads(hashed, range(len(self)))
            bar = tqdm(found, "fingerprint", len(self), unit=" files", leave=False, disable=None)
            now = np.fromiter(bar, _KEPT, len(self))
        except FileNotFoundError as error:
            reason = f"{error.filename}: {error.strerror}"
            raise UserError(f"cannot read {reason}; fetch it again") from None
        before = [kept.get(file) for file in files]
        if self.hashes and before != now.tolist():
            save_arrays(self.hashes, files=self.files, kept=now)
        return now


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """What `save_arrays` kept there; empty where it is absent or damaged.

    Raises UserError where the system fails to read it.
    """
    try:
        with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as arrays:
            return dict(arrays)
    except (FileNotFoundError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        return {}


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
