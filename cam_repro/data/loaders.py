"""Pictures in batches: every random choice follows from (seed, epoch, image) alone, whoever decodes it."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from cam_repro import UserError
from cam_repro.config import RecipeConfig
from cam_repro.data.images import CorruptImage, read_image
from cam_repro.data.split import Split
from cam_repro.data.views import VIEWS, training_crop


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


class _Pictures(Dataset):
    def __init__(self, split: Split, size: int) -> None:
        self.split, self.size = split, size

    def prepare(self, image: int) -> tuple[np.ndarray, tuple[int, int]]:
        raise NotImplementedError

    def __getitem__(self, image: int) -> tuple[np.ndarray, int, int, tuple[int, int]] | str:
        try:
            pixels, size = self.prepare(image)
        except CorruptImage as error:  # as a value: an exception would lose its type on the way out of a worker
            return str(error)
        return pixels, int(self.split.labels[image]), image, size


class _TrainingPictures(_Pictures):
    def __init__(self, split: Split, recipe: RecipeConfig, size: int, seed: int, epoch: int) -> None:
        super().__init__(split, size)
        self.recipe, self.seed, self.epoch = recipe, seed, epoch

    def prepare(self, image: int) -> tuple[np.ndarray, tuple[int, int]]:
        pixels = read_image(self.split.path(image))
        rng = np.random.default_rng((self.seed, self.epoch, image))
        return training_crop(pixels, self.size, self.recipe, rng)[None], pixels.shape[1::-1]


class _EvaluationPictures(_Pictures):
    def __init__(self, split: Split, view: str, size: int) -> None:
        super().__init__(split, size)
        self.view = view

    def prepare(self, image: int) -> tuple[np.ndarray, tuple[int, int]]:
        pixels = read_image(self.split.path(image))
        return VIEWS[self.view].take(pixels, self.size), pixels.shape[1::-1]


def _collate(items: list[tuple[np.ndarray, int, int, tuple[int, int]] | str], size: int) -> Batch:
    corrupt = [item for item in items if isinstance(item, str)]
    whole = [item for item in items if not isinstance(item, str)]
    crops = [torch.from_numpy(item[0]) for item in whole] or [torch.zeros((1, size, size, 3), dtype=torch.uint8)]
    pixels = default_collate(crops).flatten(0, 1)  # in a worker written straight into the memory it shares
    labels, images = (torch.tensor([item[k] for item in whole], dtype=torch.int64) for k in (1, 2))
    sizes = torch.tensor([item[3] for item in whole], dtype=torch.int64).reshape(-1, 2)
    return Batch(pixels.permute(0, 3, 1, 2), labels, images, sizes, corrupt)


def worker_count(asked: int | None) -> int:
    return asked if asked is not None else min(16, len(os.sched_getaffinity(0)))


def _loader(pictures: _Pictures, batches: list[np.ndarray], workers: int | None, pin: bool) -> DataLoader:
    return DataLoader(
        pictures,
        batch_sampler=[batch.tolist() for batch in batches],
        num_workers=min(worker_count(workers), len(batches)),
        collate_fn=partial(_collate, size=pictures.size),
        pin_memory=pin,
        prefetch_factor=4 if worker_count(workers) and batches else None,
        worker_init_fn=_leave_signals_to_the_parent,
        generator=torch.Generator(),  # its own: a loader would otherwise draw from the dropout's
    )


def _leave_signals_to_the_parent(_: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # either reaches the whole group; the parent saves first
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def _end_workers() -> None:
    """Python, ending after an error, asks its workers to end with SIGTERM and would wait for ever."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise at the first and spare the others
    for worker in multiprocessing.active_children():
        worker.kill()


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches only; one short batch where the data set is smaller than that."""
    return max(1, images // batch_size)


def epoch_order(images: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The epoch's global batches of image numbers, the same on every machine and process."""
    order = np.random.default_rng((seed, epoch)).permutation(images)
    return [order[i * batch_size : (i + 1) * batch_size] for i in range(steps_per_epoch(images, batch_size))]


def training_batches(
    split: Split, recipe: RecipeConfig, size: int, seed: int, epoch: int,
    *, first_step: int = 0, rank: int = 0, world: int = 1, workers: int | None = None, pin: bool = False,
) -> Iterator[Batch]:  # fmt: skip
    """This process's share of each remaining global batch of the epoch."""
    order = epoch_order(len(split), recipe.batch_size, seed, epoch)[first_step:]
    pictures = _TrainingPictures(split, recipe, size, seed, epoch)
    return iter(_loader(pictures, [batch[rank::world] for batch in order], workers, pin))


def evaluation_batches(
    split: Split, size: int, batch_size: int,
    *, view: str = "squash", limit: int | None = None, rank: int = 0, world_size: int = 1, workers: int | None = None,
    pin: bool = False,
) -> Iterator[Batch]:  # fmt: skip
    """Every image of the split exactly once over all processes, whatever the remainder; refuses corrupt files."""
    mine = np.arange(len(split) if limit is None else min(limit, len(split)))[rank::world_size]
    batches = [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
    for batch in _loader(_EvaluationPictures(split, view, size), batches, workers, pin) if batches else ():
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
