"""The training loop where its data or its numbers are bad."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cam_repro import UserError
from cam_repro.config import Config, DataConfig, RecipeConfig, model_config
from cam_repro.data import Split
from cam_repro.data.ilsvrc import open_split
from cam_repro.data.loaders import training_batches
from cam_repro.distributed import World
from cam_repro.training import checkpoint
from cam_repro.training.loop import Run, train

ALONE = World(0, 1, torch.device("cpu"))


def config(folder: Path, root: Path, model: str = "alexnet_gap", **recipe: object) -> Config:
    tiny = {"epochs": 1, "batch_size": 8, "sizes": [64], "optimizer": "sgd", "lr": 1e-3, "weight_decay": 0.0}
    return Config(
        model=replace(model_config(model), input_size=64), data=DataConfig(name="tiny", root=str(root), workers=0),
        recipe=RecipeConfig(name="tiny", **(tiny | recipe)), runs=str(folder / "runs"), cache=str(folder), device="cpu",
    )  # fmt: skip


def split_of(root: Path, folder: Path) -> Split:
    return open_split(DataConfig(name="tiny", root=str(root)), "val", folder)


@pytest.fixture
def broken(tiny_shapes: Path, tmp_path: Path) -> Path:
    """The tiny data set without one readable train picture."""
    root = shutil.copytree(tiny_shapes, tmp_path / "tree")
    for picture in (root / "ILSVRC/Data/CLS-LOC/train").glob("*/*.JPEG"):
        picture.write_bytes(b"\xff\xd8")
    return root


@pytest.mark.parametrize("model", ["alexnet_gap", "resnet18"])
def test_a_batch_without_a_readable_picture_is_a_step_without_gradient(
    broken: Path, tmp_path: Path, model: str
) -> None:
    """In a network with batch norm too, whose statistics stay what they are."""
    settings = config(tmp_path, broken, model)
    split = open_split(settings.data, "train", tmp_path)
    run = Run(settings, ALONE, tmp_path / "run", split, split)
    before = {key: value.clone() for key, value in run.network.state_dict().items()}
    batch = next(training_batches(split, settings.recipe, 64, seed=0, epoch=0, workers=0))
    assert len(batch) == 0 and len(batch.corrupt) == 8
    assert run._step(batch, run.network).tolist() == [0, 0, 0, 8]
    assert all(torch.equal(before[key], value) for key, value in run.network.state_dict().items())


def test_an_epoch_without_a_readable_picture_ends_the_run(broken: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not one train image of epoch 1 could be read"):
        train(config(tmp_path, broken))


def test_a_weight_that_is_not_finite_is_never_saved(tiny_shapes: Path, tmp_path: Path) -> None:
    settings = config(tmp_path, tiny_shapes)
    split = split_of(tiny_shapes, tmp_path)
    run = Run(settings, ALONE, tmp_path / "run", split, split)
    with torch.no_grad():
        next(run.network.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="a weight is not finite at step 0; lower recipe.lr"):
        run._state()


def test_other_data_under_the_same_settings_is_refused(tiny_shapes: Path, tmp_path: Path) -> None:
    settings = config(tmp_path, tiny_shapes)
    split = split_of(tiny_shapes, tmp_path)
    folder = tmp_path / "run"
    first = Run(settings, ALONE, folder, split, split)
    first._resume()
    checkpoint.save(folder, first._state())
    shorter = replace(split, files=split.files[:-1], labels=split.labels[:-1])
    with pytest.raises(UserError, match=r"was trained on 20 images of 10 classes, now there are 19 of 10"):
        Run(settings, ALONE, folder, shorter, split)._resume()
