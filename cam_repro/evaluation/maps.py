"""A network over a split, batch by batch: each image's best classes, and maps of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cam_repro.data import Split
from cam_repro.data.loaders import Batch, evaluation_batches
from cam_repro.data.views import VIEWS, normalise
from cam_repro.distributed import DistributedContext
from cam_repro.localization.methods import METHODS, Prediction, predict
from cam_repro.networks import CamNetwork

GRADIENTS_TAKE = 4  # times the memory: every layer's output is kept for the way back


@dataclass
class MapBatch:
    """What a network says of n images.

    images (n,): their numbers in the split; classes (n,G): the G = min(5, C) best ones; sizes
    (n,2): width and height of the images as read; maps: method -> (n,crops,G+1,h,w) float32, the
    maps of those classes and, last, of the true class, before they are enlarged.
    """

    images: np.ndarray
    classes: np.ndarray
    sizes: np.ndarray
    maps: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.images)

    def pieces(self, length: int) -> list[MapBatch]:
        """The same images, `length` at a time."""
        pieces = []
        for start in range(0, len(self), length):
            part = slice(start, start + length)
            maps = {}
            for method, of_method in self.maps.items():
                maps[method] = of_method[part]
            pieces.append(MapBatch(self.images[part], self.classes[part], self.sizes[part], maps))
        return pieces


def images_a_batch(batch_size: int, view: str, methods: Sequence[str]) -> int:
    """How many images of so many crops go through the network at once, at the same memory."""
    length = batch_size // VIEWS[view].crops
    if any(METHODS[method].of_pixels for method in methods):
        length //= GRADIENTS_TAKE
    return max(1, length)


def predictions(
    network: CamNetwork,
    split: Split,
    view: str,
    size: int,
    methods: Sequence[str],
    world: DistributedContext,
    *,
    batch_size: int = 32,
    first: int = 0,
    interpolation: str = "bilinear",
    workers: int | None = None,
    best_alone: bool = False,
) -> Iterator[tuple[Batch, torch.Tensor, Prediction]]:
    """This process's images of the split through the network, from its `first` one on.

    Each image is seen by one process, `batch_size` of them at a time, as crops of `size` pixels;
    with each batch there are its normalised crops, and what the network said of them. best_alone:
    of each image the best class alone, and no map of the true one.
    """
    network.eval()
    batches = evaluation_batches(
        split,
        size,
        batch_size,
        view=view,
        first=first,
        interpolation=interpolation,
        rank=world.rank,
        world_size=world.size,
        workers=workers,
        pin=world.device.type == "cuda",
    )
    for batch in batches:
        batch = batch.to(world.device)
        pixels = normalise(batch.pixels)
        crops = VIEWS[view].crops
        labels = None if best_alone else batch.labels
        count = 1 if best_alone else 5
        found = predict(network, pixels, labels, methods=methods, crops=crops, count=count)
        yield batch, pixels, found


def predict_split(
    network: CamNetwork,
    split: Split,
    view: str,
    size: int,
    methods: Sequence[str],
    world: DistributedContext,
    **options: Any,
) -> Iterator[MapBatch]:
    """The maps of `predictions`, of which it takes the arguments and options."""
    found_by_batch = predictions(network, split, view, size, methods, world, **options)
    for batch, _, found in found_by_batch:
        maps = {}
        for method, of_method in found.maps.items():
            maps[method] = of_method.cpu().numpy()
        # Copies: views would keep the memory shared with the workers, and every class's order.
        images = batch.images.numpy().copy()
        classes = found.classes.cpu().numpy().copy()
        sizes = batch.sizes.numpy().copy()
        yield MapBatch(images, classes, sizes, maps)
