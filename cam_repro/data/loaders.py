"""Images in batches: every random choice follows from (seed, epoch, image), whoever decodes it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from cam_repro import UserError
from cam_repro.config import RecipeConfig
from cam_repro.cores import available_cores, prepare_worker, worker_context
from cam_repro.data.images import CorruptImage, read_image
from cam_repro.data.split import Split
from cam_repro.data.storage import Files
from cam_repro.data.views import VIEWS, training_crop

AHEAD = 4  # batches that a decoding process keeps ready
SHARED_MEMORY = Path("/dev/shm")  # through which the decoding processes give their batches on Linux


@dataclass
class Batch:
    """N images with V crops each.

    pixels: (N·V,3,H,W) uint8, channels last in memory; one black image where N = 0, so that there
    is something to show to a network.
    labels: (N,).
    images: (N,) their numbers in the split.
    sizes: (N,2) width and height of the images as read.
    corrupt: one line for each file that was left out.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    images: torch.Tensor
    sizes: torch.Tensor
    corrupt: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes: the pixels through shared memory, the small tensors in the message.

        To open a tensor's shared memory takes longer than to copy a kilobyte.
        """
        small = (self.labels.numpy(), self.images.numpy(), self.sizes.numpy())
        return _received, (self.pixels, small, self.corrupt)

    def pin_memory(self) -> Batch:
        """Into memory that a device can copy from by itself; DataLoader calls it by this name."""
        return replace(self, pixels=self.pixels.pin_memory(), labels=self.labels.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """With pixels and labels on the device.

        From pinned memory a GPU copies by itself, while the host goes on.
        """
        # On Apple's GPUs the memory might be used again before it is copied.
        non_blocking = device.type == "cuda"
        pixels = self.pixels.to(device, non_blocking=non_blocking)
        labels = self.labels.to(device, non_blocking=non_blocking)
        return replace(self, pixels=pixels, labels=labels)


def _received(pixels: torch.Tensor, small: tuple[np.ndarray, ...], corrupt: list[str]) -> Batch:
    labels, images, sizes = map(torch.from_numpy, small)
    return Batch(pixels, labels, images, sizes, corrupt)


@dataclass(frozen=True)
class TrainingCrops:
    """One random crop, which depends on seed, epoch and the image's number in the split alone."""

    recipe: RecipeConfig
    size: int
    seed: int
    epoch: int
    interpolation: str

    def take(self, pixels: np.ndarray, image: int) -> np.ndarray:
        """Of an image (H,W,3) and its number -> (1,size,size,3)."""
        rng = np.random.default_rng((self.seed, self.epoch, image))
        return training_crop(pixels, self.size, self.recipe, rng, self.interpolation)[None]


@dataclass(frozen=True)
class EvaluationCrops:
    """The V crops of a view."""

    view: str  # a key of VIEWS
    size: int
    interpolation: str

    def take(self, pixels: np.ndarray, image: int) -> np.ndarray:
        """Of an image (H,W,3) -> (V,size,size,3)."""
        return VIEWS[self.view].take(pixels, self.size, self.interpolation)


@dataclass(frozen=True)
class BatchRequest:
    """A batch of N images with all that it depends on, so that any process can make it at any time.

    source: where the images are; upright: as in the split; images: (N,) their numbers in the split;
    labels: (N,).
    """

    source: Files
    upright: bool
    images: np.ndarray
    labels: np.ndarray
    crops: TrainingCrops | EvaluationCrops

    @classmethod
    def of(
        cls, split: Split, images: np.ndarray, crops: TrainingCrops | EvaluationCrops
    ) -> BatchRequest:
        labels = split.labels[images]
        return cls(split.images.take(images), split.upright, images, labels, crops)


def decode(request: BatchRequest) -> Batch:
    """The batch that was asked for, less the files that are corrupt."""
    crops = []
    sizes = []
    whole = []  # places in the request
    corrupt = []
    for place, image in enumerate(request.images.tolist()):
        path = request.source.path(place)
        try:
            pixels = read_image(path, request.upright, request.source.content(place))
        except CorruptImage as error:
            corrupt.append(str(error))
            continue
        crops.append(torch.from_numpy(request.crops.take(pixels, image)))
        sizes.append(pixels.shape[1::-1])
        whole.append(place)
    if not crops:
        side = request.crops.size
        crops.append(torch.zeros((1, side, side, 3), dtype=torch.uint8))
    pixels = default_collate(crops)  # in a worker, straight into the memory that it shares
    return Batch(
        pixels=pixels.flatten(0, 1).permute(0, 3, 1, 2),
        labels=torch.from_numpy(request.labels[whole]),
        images=torch.from_numpy(request.images[whole]),
        sizes=torch.tensor(sizes, dtype=torch.int64).reshape(-1, 2),
        corrupt=corrupt,
    )


class _Decoded(Dataset):
    """A data set whose items are batches, which a request takes in place of an item's number."""

    def __getitem__(self, request: BatchRequest) -> Batch:
        return decode(request)


class _Pass:
    """The requests of the current pass, which a DataLoader takes for its items' numbers."""

    requests: Iterable[BatchRequest] = ()

    def __iter__(self) -> Iterator[BatchRequest]:
        return iter(self.requests)


class Decoders:
    """Processes that decode batches until the `with` block ends.

    workers: how many; none: one a core; 0: this process decodes. pin: batches lie in memory that a
    GPU can copy from by itself.
    """

    def __init__(self, workers: int | None = None, pin: bool = False) -> None:
        self.workers = available_cores() if workers is None else workers
        self.current = _Pass()
        self.loader = DataLoader(
            _Decoded(),
            batch_size=None,  # an item is a batch already
            sampler=self.current,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            multiprocessing_context=worker_context() if self.workers else None,
            prefetch_factor=AHEAD if self.workers else None,
            worker_init_fn=prepare_worker,
            pin_memory=pin,
            # Its own: a loader would otherwise draw from the generator of the dropout.
            generator=torch.Generator(),
        )

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        del self.loader  # which asks its workers to end, and waits for them

    def batches(self, requests: Iterable[BatchRequest]) -> Iterator[Batch]:
        """The batch of each request, in their order; one pass at a time."""
        self.current.requests = requests
        try:
            yield from self.loader
        except RuntimeError as error:
            signs = ("killed by signal", "exited unexpectedly", "</torch_")
            if not any(sign in str(error) for sign in signs):
                raise
            raise UserError(self._why_one_failed(str(error))) from error

    def _why_one_failed(self, said: str) -> str:
        what = f"a decoding process failed ({said.splitlines()[-1][:150]})"
        if not SHARED_MEMORY.is_dir():  # macOS, which has no such limit
            return f"{what}; choose data.workers={self.workers // 2}"
        shared = shutil.disk_usage(SHARED_MEMORY).total // 10**6
        return (
            f"{what}; {self.workers} of them share images in {SHARED_MEMORY}, which has {shared} "
            f"MB: give a container --ipc=host, or choose data.workers={self.workers // 2}"
        )


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches only; one short batch where the data set is smaller than that."""
    return max(1, images // batch_size)


def epoch_order(images: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The epoch's global batches of image numbers, the same on every machine and process."""
    order = np.random.default_rng((seed, epoch)).permutation(images)
    starts = range(0, steps_per_epoch(images, batch_size) * batch_size, batch_size)
    return [order[start : start + batch_size] for start in starts]


def training_batches(
    split: Split,
    recipe: RecipeConfig,
    size: int,
    seed: int,
    epoch: int,
    *,
    interpolation: str = "bilinear",
    first_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    workers: int | None = None,
    pin: bool = False,
    decoders: Decoders | None = None,
) -> Iterator[Batch]:
    """This process's share of each remaining global batch of the epoch.

    interpolation: the filter that shrinks the images; a network has its own as an attribute.
    decoders: those of a whole run; none: `workers` of them, for this pass alone.
    """
    order = epoch_order(len(split), recipe.batch_size, seed, epoch)[first_step:]
    crops = TrainingCrops(recipe, size, seed, epoch, interpolation)
    mine = [batch[rank::world_size] for batch in order]
    yield from _decoded(split, mine, crops, workers, pin, decoders)


def evaluation_batches(
    split: Split,
    size: int,
    batch_size: int,
    *,
    view: str = "squash",
    interpolation: str = "bilinear",
    first: int = 0,
    rank: int = 0,
    world_size: int = 1,
    workers: int | None = None,
    pin: bool = False,
    decoders: Decoders | None = None,
) -> Iterator[Batch]:
    """Every image of the split exactly once over all processes, whatever the remainder.

    interpolation and decoders: as for `training_batches`. first: the first of this process's images
    that is still wanted. Raises UserError for a corrupt file.
    """
    mine = np.arange(rank, len(split), world_size)[first:]
    starts = range(0, len(mine), batch_size)
    batches = [mine[start : start + batch_size] for start in starts]
    crops = EvaluationCrops(view, size, interpolation)
    for batch in _decoded(split, batches, crops, workers, pin, decoders):
        if batch.corrupt:
            raise UserError(
                f"corrupt image {batch.corrupt[0]}: "
                "an evaluation counts every image; fetch it again"
            )
        yield batch


def _decoded(
    split: Split,
    batches: list[np.ndarray],
    crops: TrainingCrops | EvaluationCrops,
    workers: int | None,
    pin: bool,
    decoders: Decoders | None,
) -> Iterator[Batch]:
    """The batches of these image numbers, by the given decoders or by new ones."""
    requests = (BatchRequest.of(split, images, crops) for images in batches)
    if decoders is not None:
        yield from decoders.batches(requests)
        return
    needed = min(available_cores() if workers is None else workers, len(batches))
    with Decoders(needed, pin) as own:
        yield from own.batches(requests)
