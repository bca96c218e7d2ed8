"""disk → image, label, boxes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cam_repro.config import DataConfig
from cam_repro.data.ilsvrc import Split, open_split

if TYPE_CHECKING:  # torch is not needed to read a tree
    from cam_repro.devices import Team

__all__ = ["Split", "load_split"]


def load_split(data: DataConfig, split: str, cache: Path, us: Team) -> Split:
    """The split of a data set: the leader makes the built-in one and the index where they are not there yet."""
    if not us.leads:
        us.wait()
    found = _load_split(data, split, cache)
    if us.leads:
        us.wait()
    return found


def _load_split(data: DataConfig, split: str, cache: Path) -> Split:
    if data.generate is not None and data.root is not None:
        from cam_repro.data.shapes import make_shapes

        make_shapes(Path(data.root), data.generate.seed, data.generate.train, data.generate.val)
    return open_split(data, split, cache)
