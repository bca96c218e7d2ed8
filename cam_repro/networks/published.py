"""Where published weights are, and how their file comes here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from cam_repro.networks.pixels import IMAGENET, Pixels


class Published(NamedTuple):
    """One file of published weights."""

    file: Callable[[], Path]  # fetches it on first use
    pixels: Pixels | None = None  # that it was trained on, where they are not the backbone's
    own_names: bool = False  # its layers are the backbone's in their order, but have names of its own


def is_published(weights: str) -> bool:
    """Whether weights= names published weights, not a file."""
    return weights == "DEFAULT" or weights.startswith("IMAGENET")


def of_torchvision(name: str) -> dict[str, Published]:
    """torchvision's files for one of its networks, IMAGENET1K_V1 first."""
    from torchvision.models import get_model_weights  # as slow to import as torch

    files = {}
    for version, weights in get_model_weights(name).__members__.items():
        views = weights.transforms()
        pixels = Pixels(tuple(views.mean), tuple(views.std))
        if version != "DEFAULT":
            files[version] = Published(partial(_download, weights.url), None if pixels == IMAGENET else pixels)
    return files


def _download(url: str) -> Path:
    """The file in torch's own cache of downloads; its name ends in the hash that it is checked against."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), path.stem.rpartition("-")[2])
    return path
