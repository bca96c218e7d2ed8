"""disk → image, label, boxes."""

from __future__ import annotations

from pathlib import Path

from cam_repro.config import DataConfig
from cam_repro.data.ilsvrc import Split, open_split

__all__ = ["Split", "load_split"]


def load_split(data: DataConfig, split: str, cache: Path) -> Split:
    """The split of a data set; the built-in one is made first if it is not there."""
    if data.generate is not None and data.root is not None:
        from cam_repro.data.shapes import make_shapes

        make_shapes(Path(data.root), data.generate.seed, data.generate.train, data.generate.val)
    return open_split(data, split, cache)
