"""What a layout on the disk tells of a data set: its classes, its splits, and their images."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from cam_repro.config import DataConfig, names_in
from cam_repro.data.annotations import Source
from cam_repro.data.masks import Masks
from cam_repro.data.storage import Files


@dataclass(frozen=True)
class Listing:
    """The images of a split as a layout lists them.

    labels (N,): the class of each, an index of wnids (C,); -1 where its annotation alone tells it.
    name: of the split; remarks: what was passed over or is odd, a kind -> the files or classes.
    """

    images: Files
    labels: np.ndarray
    wnids: list[str]
    words: list[str]
    name: str
    upright: bool = False
    remarks: dict[str, list[str]] = field(default_factory=dict)
    masks: Masks | None = None

    def file(self, image: int) -> str:
        return os.fsdecode(self.images.names[image])


@dataclass(frozen=True)
class Sources:
    """Where annotations are: sources of boxes and of classes alone, in order of precedence.

    with_difficult: boxes called difficult count like all others, as in the ILSVRC devkit.
    """

    boxes: Sequence[Source] = ()
    classes: Sequence[Source] = ()
    with_difficult: bool = False

    def files(self) -> list[Path]:
        return [file for source in (*self.boxes, *self.classes) for file in source.files]


class Layout(Protocol):
    """A data set on the disk; LAYOUTS has the ways to find one.

    found: its form in words, empty where there is nothing to say; wnids and words (C,): of its
    classes, in the order of a network's outputs.
    """

    found: str
    wnids: list[str]
    words: list[str]

    def splits(self) -> list[str]:
        """Which of train, val and test there are."""

    def listing(self, split: str) -> Listing:
        """The images of "train", "val", "test" or "all". Raises UserError where there are none."""

    def sources(self, split: str) -> Sources:
        """The annotations that lie in the layout itself."""

    def watched(self, split: str) -> list[Path] | None:
        """Files and folders that change with the listing; none where it is quickly made again."""


def check_command(data: DataConfig) -> str:
    """What to type to list everything that is wrong with a data set."""
    chosen = data.name if data.name in names_in("data") else data.layout
    words = ["make", "check-data", f"data={chosen}", f"data.root={data.root}"]
    if data.boxes is not None:
        words.append(f"data.boxes={data.boxes}")
    return shlex.join(words)
