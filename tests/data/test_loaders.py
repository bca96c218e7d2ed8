"""Batches: the same whoever decodes them, each image once, corrupt files counted or refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st

from cam_repro import UserError
from cam_repro.config import DataConfig, RecipeConfig
from cam_repro.data.ilsvrc import open_split
from cam_repro.data.loaders import Batch, epoch_order, evaluation_batches, on_device, training_batches
from cam_repro.data.split import Split
from cam_repro.data.views import normalise, squash, training_crop

RECIPE = RecipeConfig(batch_size=8, crop="resized")


@pytest.fixture
def val(tiny_shapes: Path, tmp_path: Path) -> Split:
    return open_split(DataConfig(name="shapes", root=str(tiny_shapes)), "val", tmp_path)


def test_crops_depend_on_seed_epoch_and_image_alone(val: Split) -> None:
    one = torch.cat([b.pixels for b in training_batches(val, RECIPE, 32, seed=1, epoch=0, workers=0)])
    two = torch.cat([b.pixels for b in training_batches(val, RECIPE, 32, seed=1, epoch=0, workers=2)])
    other = torch.cat([b.pixels for b in training_batches(val, RECIPE, 32, seed=1, epoch=1, workers=0)])
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_resuming_in_an_epoch_continues_its_batches(val: Split) -> None:
    whole = [b.images for b in training_batches(val, RECIPE, 32, seed=1, epoch=0, workers=0)]
    rest = [b.images for b in training_batches(val, RECIPE, 32, seed=1, epoch=0, first_step=1, workers=0)]
    assert torch.equal(torch.cat(whole[1:]), torch.cat(rest))


def test_processes_share_each_global_batch(val: Split) -> None:
    alone = [b.images for b in training_batches(val, RECIPE, 32, seed=1, epoch=0, workers=0)]
    shares = [
        [b.images for b in training_batches(val, RECIPE, 32, seed=1, epoch=0, rank=rank, world=2, workers=0)]
        for rank in (0, 1)
    ]
    for whole, first, second in zip(alone, *shares, strict=True):
        assert sorted(whole.tolist()) == sorted(first.tolist() + second.tolist())


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 5))
def test_an_epoch_shows_no_image_twice(images: int, batch_size: int, epoch: int) -> None:
    shown = np.concatenate(epoch_order(images, batch_size, 0, epoch))
    assert len(set(shown.tolist())) == len(shown) == max(batch_size * (images // batch_size), min(images, batch_size))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_counts_each_image_once_whatever_the_remainder(val: Split, world: int) -> None:
    seen = [
        image
        for rank in range(world)
        for batch in evaluation_batches(val, 32, 7, rank=rank, world=world, workers=0)
        for image in batch.images.tolist()
    ]
    assert sorted(seen) == list(range(len(val)))


def test_sizes_are_those_of_the_stored_pictures(val: Split) -> None:
    batch = next(iter(evaluation_batches(val, 32, 20, workers=0)))
    assert len({tuple(size) for size in batch.sizes.tolist()}) > 5
    assert batch.pixels.shape == (20, 3, 32, 32)
    assert batch.pixels.is_contiguous(memory_format=torch.channels_last)


def test_the_way_to_the_device_keeps_every_batch_in_its_order(val: Split) -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    empty = Batch(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), nothing, nothing, nothing.reshape(0, 2), ["corrupt"])
    batches = [*evaluation_batches(val, 32, 7, workers=0), empty, *evaluation_batches(val, 32, 9, workers=0)]
    there = list(on_device(iter(batches), torch.device("cpu")))
    assert [batch.images.tolist() for batch in there] == [batch.images.tolist() for batch in batches]
    assert all(torch.equal(ours.pixels, batch.pixels) for ours, batch in zip(there, batches, strict=True))
    assert list(on_device(iter([]), torch.device("cpu"))) == []


def test_the_loader_pins_what_goes_to_a_gpu(val: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.data._utils.pin_memory import pin_memory

    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    batch = next(iter(evaluation_batches(val, 32, 7, workers=0)))
    assert torch.equal(pin_memory(batch).pixels, batch.pixels)
    assert [tensor.shape for tensor in pinned] == [batch.pixels.shape, batch.labels.shape]


def test_a_corrupt_file_is_skipped_in_training_and_refused_in_evaluation(tiny_shapes: Path, tmp_path: Path) -> None:
    root = shutil.copytree(tiny_shapes, tmp_path / "tree")
    split = open_split(DataConfig(name="shapes", root=str(root)), "val", tmp_path)
    split.path(3).write_bytes(b"\xff\xd8 not a picture")
    batches = list(training_batches(split, RECIPE, 32, seed=0, epoch=0, workers=0))
    lines = [line for batch in batches for line in batch.corrupt]
    assert 3 not in torch.cat([batch.images for batch in batches])
    assert all(split.path(3).name in line for line in lines)
    with pytest.raises(UserError, match=f"corrupt image .*{split.path(3).name}"):
        list(evaluation_batches(split, 32, 8, workers=0))


def test_squash_shows_the_whole_picture() -> None:
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 40:] = 200
    view = squash(picture, 20)
    assert view.shape == (20, 20, 3)
    assert view[:, :8].max() == 0 and view[:, 12:].min() == 200


@settings(deadline=None)
@given(st.integers(10, 200), st.integers(10, 200), st.integers(0, 100))
def test_crops_of_a_plain_picture_are_plain(width: int, height: int, seed: int) -> None:
    """A crop that left the picture would bring something else in."""
    picture = np.full((height, width, 3), 77, np.uint8)
    for crop in ("resized", "squash"):
        pixels = training_crop(picture, 16, RecipeConfig(crop=crop), np.random.default_rng(seed))
        assert pixels.shape == (16, 16, 3) and (pixels == 77).all()


def test_normalisation_is_imagenets() -> None:
    pixels = torch.tensor([124, 116, 104], dtype=torch.uint8).view(1, 3, 1, 1)
    assert normalise(pixels).abs().max() < 0.01


ENDS_IN_AN_ERROR = """
import sys
from pathlib import Path
from cam_repro.config import DataConfig
from cam_repro.data.ilsvrc import open_split
from cam_repro.data.loaders import evaluation_batches
split = open_split(DataConfig(name="shapes", root=sys.argv[1]), "val", Path(sys.argv[2]))
batches = iter(evaluation_batches(split, 32, 2, workers=2))
next(batches)
raise RuntimeError("in the middle")
"""


def test_a_program_that_ends_in_an_error_does_not_wait_for_its_workers(tiny_shapes: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDS_IN_AN_ERROR, str(tiny_shapes), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert done.returncode == 1 and done.stderr.endswith("RuntimeError: in the middle\n")
