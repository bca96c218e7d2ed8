"""Masks of objects in images, as the WSOL benchmark keeps OpenImages': files beside the images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from cam_repro import UserError

IGNORED = 255  # in a mask: pixels that count neither for nor against a map


class MaskFiles(NamedTuple):
    """The masks of an image: one of each object, and maybe one of what is ignored."""

    objects: tuple[Path, ...]
    ignored: Path | None


@dataclass(frozen=True)
class Masks:
    """The masks of N images, as relative paths in `folder`, in bytes.

    files: (M,) of objects, those of image i at starts[i]:starts[i+1]; ignored: (N,) of what is
    ignored, b"" where there is none.
    """

    folder: Path
    files: np.ndarray
    starts: np.ndarray
    ignored: np.ndarray

    def take(self, images: list[int]) -> Masks:
        """The masks of these images alone, in this order."""
        parts = [self.files[self.starts[image] : self.starts[image + 1]] for image in images]
        starts = np.cumsum([0, *map(len, parts)])
        files = np.concatenate(parts) if parts else self.files[:0]
        return Masks(self.folder, files, starts, self.ignored[images])

    def of(self, image: int) -> MaskFiles:
        start = self.starts[image]
        end = self.starts[image + 1]
        objects = [self.folder / os.fsdecode(file) for file in self.files[start:end].tolist()]
        ignored = os.fsdecode(self.ignored[image])
        return MaskFiles(tuple(objects), self.folder / ignored if ignored else None)


def read_mask(files: MaskFiles, side: int) -> np.ndarray:
    """(side,side) uint8: 1 on objects, else IGNORED on what is ignored, else 0.

    Source: `get_mask` of the benchmark's evaluation.py. Raises UserError for a file that cannot be
    read.
    """
    mask = np.zeros((side, side), np.uint8)
    if files.ignored is not None:
        mask[_read(files.ignored, side)] = IGNORED
    for file in files.objects:
        mask[_read(file, side)] = 1
    return mask


def _read(file: Path, side: int) -> np.ndarray:
    grey = cv2.imread(os.fspath(file), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise UserError(f"{file} is no readable mask; fetch it again")
    return cv2.resize(grey, (side, side), interpolation=cv2.INTER_NEAREST) > 0
