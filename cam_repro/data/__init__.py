"""disk → image, label, boxes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cam_repro.config import DataConfig
from cam_repro.data.ilsvrc import open_split
from cam_repro.data.split import Split

if TYPE_CHECKING:  # torch is not needed to read a tree
    from cam_repro.distributed import World

__all__ = ["Split", "load_split"]


def load_split(data: DataConfig, split: str, cache: Path, world: World) -> Split:
    """The split of a data set: the leader makes the built-in one and the index where they are not there yet."""
    if not world.is_main:
        world.barrier()
    found = _load_split(data, split, cache)
    if world.is_main:
        world.barrier()
    return found


def _load_split(data: DataConfig, split: str, cache: Path) -> Split:
    if data.generate is not None and data.root is not None:
        from cam_repro.data.shapes import make_shapes

        make_shapes(Path(data.root), data.generate.seed, data.generate.train, data.generate.val)
    return open_split(data, split, cache)
