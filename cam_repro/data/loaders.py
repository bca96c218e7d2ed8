"""Pictures in batches: every random choice follows from (seed, epoch, image) alone, whoever decodes it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from cam_repro import UserError
from cam_repro.config import RecipeConfig
from cam_repro.cores import available_cores
from cam_repro.data.images import CorruptImage, read_image
from cam_repro.data.split import Split
from cam_repro.data.views import VIEWS, training_crop

AHEAD = 4  # batches that a decoding process keeps ready


@dataclass
class Batch:
    """pixels (N·V,3,H,W) uint8, channels last in memory, V crops a picture, or one black picture where N = 0, so that
    a network can be shown something; labels (N,); images (N,) their numbers in the split; sizes (N,2) width and
    height of the pictures as stored; corrupt: one line for each file left out."""

    pixels: torch.Tensor
    labels: torch.Tensor
    images: torch.Tensor
    sizes: torch.Tensor
    corrupt: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def pin_memory(self) -> Batch:
        """With what goes to the device in memory that it can copy from by itself; DataLoader asks for it by name."""
        return replace(self, pixels=self.pixels.pin_memory(), labels=self.labels.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """With pixels and labels on the device; the rest is asked for on the host."""
        pixels, labels = (tensor.to(device, non_blocking=True) for tensor in (self.pixels, self.labels))
        return replace(self, pixels=pixels, labels=labels)


Decoded = tuple[np.ndarray, int, int, tuple[int, int]]  # crops (V,size,size,3), label, number in the split, stored size


class _Pictures(Dataset):
    """take: of a picture (H,W,3) and its number in the split, the V crops (V,size,size,3) that are shown."""

    def __init__(self, split: Split, size: int, crops: int, take: Callable[[np.ndarray, int], np.ndarray]) -> None:
        self.split, self.size, self.crops, self.take = split, size, crops, take

    def __getitem__(self, image: int) -> Decoded | str:
        try:
            pixels = read_image(self.split.path(image))
        except CorruptImage as error:  # as a value: an exception would lose its type on the way out of a worker
            return str(error)
        return self.take(pixels, image), int(self.split.labels[image]), image, pixels.shape[1::-1]


def _collate(items: list[Decoded | str], size: int) -> Batch:
    corrupt = [item for item in items if isinstance(item, str)]
    whole = [item for item in items if not isinstance(item, str)]
    crops = [torch.from_numpy(item[0]) for item in whole] or [torch.zeros((1, size, size, 3), dtype=torch.uint8)]
    pixels = default_collate(crops).flatten(0, 1)  # in a worker written straight into the memory it shares
    labels, images = (torch.tensor([item[k] for item in whole], dtype=torch.int64) for k in (1, 2))
    sizes = torch.tensor([item[3] for item in whole], dtype=torch.int64).reshape(-1, 2)
    return Batch(pixels.permute(0, 3, 1, 2), labels, images, sizes, corrupt)


def _load(pictures: _Pictures, batches: list[np.ndarray], workers: int | None, pin: bool) -> Iterator[Batch]:
    """The batches, decoded by processes of their own, four of them ahead in each."""
    workers = min(available_cores() if workers is None else workers, len(batches))
    loader = DataLoader(
        pictures,
        batch_sampler=[batch.tolist() for batch in batches],
        num_workers=workers,
        collate_fn=partial(_collate, size=pictures.size),
        pin_memory=pin,
        prefetch_factor=AHEAD if workers else None,
        worker_init_fn=_leave_signals_to_the_parent,
        generator=torch.Generator(),  # its own: a loader would otherwise draw from the dropout's
    )
    try:
        yield from loader
    except RuntimeError as error:
        told = str(error)
        if not any(sign in told for sign in ("killed by signal", "exited unexpectedly", "</torch_")):
            raise
        line, shared = told.splitlines()[-1][:150], shutil.disk_usage("/dev/shm").total // 10**6
        needed = workers * AHEAD * max(map(len, batches)) * pictures.crops * pictures.size**2 * 3 // 10**6
        raise UserError(
            f"a decoding process failed ({line}): {workers} of them share {needed} MB of pictures in /dev/shm, which "
            f"has {shared}; give a container --ipc=host or --shm-size={2 * needed}m, or choose fewer with "
            f"data.workers={workers // 2}"
        ) from error


def _leave_signals_to_the_parent(_: int) -> None:
    """Ctrl-C and SIGTERM reach a whole process group, and the parent finishes its step and saves before it ends.

    In a group of its own a worker ends when the parent asks it to, as torch and Python do at exit and after an error.
    """
    os.setpgid(0, 0)


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches only; one short batch where the data set is smaller than that."""
    return max(1, images // batch_size)


def epoch_order(images: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The epoch's global batches of image numbers, the same on every machine and process."""
    order = np.random.default_rng((seed, epoch)).permutation(images)
    return [order[i * batch_size : (i + 1) * batch_size] for i in range(steps_per_epoch(images, batch_size))]


def training_batches(
    split: Split, recipe: RecipeConfig, size: int, seed: int, epoch: int,
    *, first_step: int = 0, rank: int = 0, world_size: int = 1, workers: int | None = None, pin: bool = False,
) -> Iterator[Batch]:  # fmt: skip
    """This process's share of each remaining global batch of the epoch."""
    order = epoch_order(len(split), recipe.batch_size, seed, epoch)[first_step:]

    def take(picture: np.ndarray, image: int) -> np.ndarray:
        return training_crop(picture, size, recipe, np.random.default_rng((seed, epoch, image)))[None]

    pictures = _Pictures(split, size, 1, take)
    return _load(pictures, [batch[rank::world_size] for batch in order], workers, pin)


def evaluation_batches(
    split: Split, size: int, batch_size: int,
    *, view: str = "squash", limit: int | None = None, rank: int = 0, world_size: int = 1, workers: int | None = None,
    pin: bool = False,
) -> Iterator[Batch]:  # fmt: skip
    """Every image of the split exactly once over all processes, whatever the remainder; refuses corrupt files."""
    mine = np.arange(len(split) if limit is None else min(limit, len(split)))[rank::world_size]
    batches = [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
    pictures = _Pictures(split, size, VIEWS[view].crops, lambda picture, _: VIEWS[view].take(picture, size))
    for batch in _load(pictures, batches, workers, pin):
        if batch.corrupt:
            raise UserError(f"corrupt image {batch.corrupt[0]}: an evaluation counts every image; fetch it again")
        yield batch


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Each batch on the device, copied by a stream of its own while the network is at work on the one before."""
    streams = torch.get_device_module(device)  # a processor's do nothing
    copying = streams.Stream()

    def copied() -> Batch | None:
        batch = next(batches, None)
        copying.wait_stream(streams.current_stream())  # the network may still read the memory that is used again
        with streams.stream(copying):
            return None if batch is None else batch.to(device)

    ready = copied()
    while ready is not None:
        streams.current_stream().wait_stream(copying)
        batch, ready = ready, copied()
        yield batch
