"""What every room sees of a data set: images in an order, with labels and boxes, whatever its layout on disk."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

_ILSVRC_VAL = re.compile(rb"ILSVRC2012_val_(\d{8})")


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
        return self.folder / os.fsdecode(self.files[image])

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
        folder = os.fsencode(self.folder)
        digest.update(np.array([_bytes_in(folder + b"/" + file) for file in self.files.tolist()], np.int64).tobytes())
        for array in (self.files, self.labels, self.boxes, self.box_starts):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]


def _bytes_in(path: bytes) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  a Path for each of a million files would double the time
    except OSError:
        return -1
