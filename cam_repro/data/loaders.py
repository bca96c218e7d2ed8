"""Pictures in batches: every random choice follows from (seed, epoch, image) alone, whoever decodes it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

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
        """With pixels and labels on the device; from pinned memory the copy is only asked for, and the host goes on."""
        pixels, labels = (tensor.to(device, non_blocking=True) for tensor in (self.pixels, self.labels))
        return replace(self, pixels=pixels, labels=labels)


@dataclass
class _Batches(Dataset):
    """Item: the batch of a list of image numbers. take: of a picture (H,W,3) and its number in the split, the V crops
    (V,size,size,3) that are shown."""

    split: Split
    size: int
    take: Callable[[np.ndarray, int], np.ndarray]

    def __getitem__(self, images: list[int]) -> Batch:
        crops, whole, sizes, corrupt = [], [], [], []
        for image in images:
            try:
                picture = read_image(self.split.path(image))
            except CorruptImage as error:
                corrupt.append(str(error))
                continue
            crops.append(torch.from_numpy(self.take(picture, image)))
            whole.append(image)
            sizes.append(picture.shape[1::-1])
        # In a worker, default_collate writes straight into the memory that it shares.
        pixels = default_collate(crops or [torch.zeros((1, self.size, self.size, 3), dtype=torch.uint8)]).flatten(0, 1)
        numbers, sizes = (torch.tensor(of, dtype=torch.int64) for of in (whole, sizes))
        labels = torch.from_numpy(self.split.labels[whole])
        return Batch(pixels.permute(0, 3, 1, 2), labels, numbers, sizes.reshape(-1, 2), corrupt)


def _load(dataset: _Batches, batches: list[np.ndarray], workers: int | None, pin: bool) -> Iterator[Batch]:
    """The batches, decoded by processes of their own, four of them ahead in each."""
    workers = min(available_cores() if workers is None else workers, len(batches))
    loader = DataLoader(
        dataset,
        batch_size=None,  # an item is a batch already
        sampler=[batch.tolist() for batch in batches],
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=AHEAD if workers else None,
        # Ctrl-C and SIGTERM reach a whole process group, and the parent ends its step and saves before it leaves. In a
        # group of its own a worker ends when the parent asks it to, as torch and Python do at exit and after an error.
        worker_init_fn=lambda _: os.setpgid(0, 0),
        generator=torch.Generator(),  # its own: a loader would otherwise draw from the dropout's
    )
    try:
        yield from loader
    except RuntimeError as error:
        if not any(sign in str(error) for sign in ("killed by signal", "exited unexpectedly", "</torch_")):
            raise
        shared = shutil.disk_usage("/dev/shm").total // 10**6
        raise UserError(
            f"a decoding process failed ({str(error).splitlines()[-1][:150]}); {workers} of them share pictures in "
            f"/dev/shm, which has {shared} MB: give a container --ipc=host, or choose data.workers={workers // 2}"
        ) from error


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches only; one short batch where the data set is smaller than that."""
    return max(1, images // batch_size)


def epoch_order(images: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The epoch's global batches of image numbers, the same on every machine and process."""
    order = np.random.default_rng((seed, epoch)).permutation(images)
    return [order[i * batch_size : (i + 1) * batch_size] for i in range(steps_per_epoch(images, batch_size))]


def training_batches(
    split: Split, recipe: RecipeConfig, size: int, seed: int, epoch: int,
    *, interpolation: str = "bilinear", first_step: int = 0,
    rank: int = 0, world_size: int = 1, workers: int | None = None, pin: bool = False,
) -> Iterator[Batch]:  # fmt: skip
    """This process's share of each remaining global batch of the epoch.

    interpolation: the filter that shrinks the images; a network has its own as an attribute.
    """
    order = epoch_order(len(split), recipe.batch_size, seed, epoch)[first_step:]

    def take(picture: np.ndarray, image: int) -> np.ndarray:
        rng = np.random.default_rng((seed, epoch, image))
        return training_crop(picture, size, recipe, rng, interpolation)[None]

    return _load(_Batches(split, size, take), [batch[rank::world_size] for batch in order], workers, pin)


def evaluation_batches(
    split: Split, size: int, batch_size: int,
    *, view: str = "squash", interpolation: str = "bilinear",
    rank: int = 0, world_size: int = 1, workers: int | None = None, pin: bool = False,
) -> Iterator[Batch]:  # fmt: skip
    """Every image of the split exactly once over all processes, whatever the remainder.

    Raises UserError for a corrupt file.

    interpolation: the filter that shrinks the images; a network has its own as an attribute.
    """
    mine = np.arange(len(split))[rank::world_size]
    batches = [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
    shown = _Batches(split, size, lambda picture, _: VIEWS[view].take(picture, size, interpolation))
    for batch in _load(shown, batches, workers, pin):
        if batch.corrupt:
            raise UserError(f"corrupt image {batch.corrupt[0]}: an evaluation counts every image; fetch it again")
        yield batch
