"""A network over a split, batch by batch: each image's best classes and their maps; kept on disk where they are small.

Kept maps let another box rule score the split again without the network.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.data import Split
from cam_repro.data.loaders import evaluation_batches
from cam_repro.data.views import VIEWS, normalise
from cam_repro.distributed import World
from cam_repro.files import replacing
from cam_repro.localization.methods import METHODS, predict
from cam_repro.networks import CamNetwork

GRADIENTS_TAKE = 4  # times the memory: every layer's output is kept for the way back


@dataclass
class MapBatch:
    """What a network says of n images.

    images (n,): their numbers in the split; classes (n,G): the G = min(5, C) best ones; sizes (n,2): width and
    height of the images as stored; maps: method -> (n,crops,G,h,w) float32, those classes' maps before upsampling;
    true_class_maps: method -> (n,crops,h,w).
    """

    images: np.ndarray
    classes: np.ndarray
    sizes: np.ndarray
    maps: dict[str, np.ndarray]
    true_class_maps: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.images)

    def pieces(self, length: int) -> Iterator[MapBatch]:
        """The same images, `length` at a time."""
        for start in range(0, len(self), length):
            part = slice(start, start + length)
            maps, of_true_class = (
                {method: of_method[part] for method, of_method in every.items()}
                for every in (self.maps, self.true_class_maps)
            )
            yield MapBatch(self.images[part], self.classes[part], self.sizes[part], maps, of_true_class)


def predict_split(
    network: CamNetwork, split: Split, view: str, size: int, methods: Sequence[str], world: World,
    *, batch_size: int = 32, workers: int | None = None,
) -> Iterator[MapBatch]:  # fmt: skip
    """This process's images of the split through the network, each image seen by one process."""
    network.eval()
    crops = VIEWS[view].crops
    through_the_network = any(METHODS[method].takes == "gradient of the pixels" for method in methods)
    pictures = max(1, batch_size // crops // (GRADIENTS_TAKE if through_the_network else 1))
    batches = evaluation_batches(
        split, size, pictures, view=view,
        rank=world.rank, world_size=world.size, workers=workers, pin=world.device.type == "cuda",
    )  # fmt: skip
    with closing(batches):
        for batch in batches:
            batch = batch.to(world.device)
            found = predict(network, normalise(batch.pixels), batch.labels, methods=methods, crops=crops)
            yield MapBatch(
                # Copies: views would keep the memory shared with the workers, and every class's order.
                images=batch.images.numpy().copy(),
                classes=found.classes.cpu().numpy().copy(),
                sizes=batch.sizes.numpy().copy(),
                maps={method: maps.cpu().numpy() for method, maps in found.maps.items()},
                true_class_maps={method: maps.cpu().numpy() for method, maps in found.true_class_maps.items()},
            )


class KeptMaps:
    """One network's maps of one split by one view: a file a method, its batches' arrays one after the other.

    float32, so that a second scoring has the very maps of the first: 4 kB an image for a network with 13×13 maps,
    40 kB for its ten crops. Maps as large as the picture (of the pixels' gradient) are not kept.
    """

    def __init__(self, folder: Path, identity: dict[str, object]) -> None:
        """identity: everything that decides the maps but the method; as JSON it names the files."""
        self.folder, self.identity = folder, identity

    def path(self, method: str) -> Path:
        text = json.dumps({**self.identity, "method": method}, sort_keys=True)
        return self.folder / f"{method}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.npy"

    def holds(self, method: str) -> bool:
        return self.path(method).is_file()

    def read(self, method: str) -> Iterator[MapBatch]:
        """The kept batches, in the split's order; other methods' may be of other lengths."""
        with self.path(method).open("rb") as file:
            end = os.fstat(file.fileno()).st_size
            while file.tell() < end:
                images, classes, sizes, maps, of_true_class = (np.load(file) for _ in range(5))
                yield MapBatch(images, classes, sizes, {method: maps}, {method: of_true_class})

    def keep(self, batches: Iterator[MapBatch], methods: Sequence[str]) -> Iterator[MapBatch]:
        """The batches, handed on; what was kept of them appears once the last has passed, unless the disk is full."""
        small = [method for method in methods if METHODS[method].has_small_maps]
        with closing(self._written(small)) as writer:
            for batch in chain([None], batches, [None]):
                try:
                    writer.send(batch)
                except StopIteration:  # the last was written, or none can be
                    pass
                except UserError as error:
                    tqdm.write(f"the maps are not kept, so another rule will need the network again: {error}")
                if batch is not None:
                    yield batch

    def _written(self, methods: Sequence[str]) -> Generator[None, MapBatch | None, None]:
        """Takes None to begin, each batch, and None at the end. Raises UserError where the disk takes no more."""
        with ExitStack() as stack:
            paths = {method: stack.enter_context(replacing(self.path(method))) for method in methods}
            files = {method: stack.enter_context(path.open("wb")) for method, path in paths.items()}
            while (batch := (yield)) is not None:
                for method, file in files.items():
                    maps, of_true_class = batch.maps[method], batch.true_class_maps[method]
                    for array in (batch.images, batch.classes, batch.sizes, maps, of_true_class):
                        np.save(file, array)
