"""Which network stands under the name of a data set, and when it is not that data set's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch
from conftest import composed, under, write_checkpoint
from PIL import Image

from cam_repro import UserError
from cam_repro.cam import show_images
from cam_repro.config import Config, model_config
from cam_repro.data import open_split
from cam_repro.evaluation import trained
from cam_repro.evaluation.spec import open_evaluations
from cam_repro.networks import build_network
from cam_repro.training.checkpoint import images_of

Of = Callable[..., Config]


def write_pets(root: Path, shade: int) -> Path:
    for split in ("train", "val"):
        for number, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for image in range(3):
                colour = (shade, 100 * number, image)
                Image.new("RGB", (40, 30), colour).save(root / split / name / f"{image}.bmp")
    return root


@pytest.fixture
def of(tmp_path: Path) -> Of:
    """of(root, …): settings for the data at `root`; SqueezeNet was trained on y/pets."""

    def settings(root: Path, *more: str) -> Config:
        words = [
            "data=folder",
            f"data.root={root}",
            "model=squeezenet_gap",
            "model.input_size=64",
            "model.units=8",
        ]
        places = [*under(tmp_path), f"image={root}", f"out={tmp_path / 'out'}"]
        return composed([*places, *words, "device=cpu", *more])

    data = settings(write_pets(tmp_path / "y/pets", 10))
    train, val = (open_split(data.data, split, tmp_path) for split in ("train", "val"))
    model = model_config("squeezenet_gap", input_size=64, units=8)
    write_checkpoint(
        tmp_path / "runs/pets/squeezenet_gap/checkpoint.pt",
        model,
        build_network(model, 2),
        ["cat", "dog"],
        trained_on=images_of(data, train, val),
        training={"epochs": 8, "epochs_done": 2},
    )
    return settings


def evaluate(config: Config) -> None:
    list(open_evaluations(config))


def show(config: Config) -> None:
    config.image = str(Path(config.image) / "val/cat")
    show_images(config)


def refusal(root: Path, what: str) -> str:
    checkpoint = root.parents[1] / "runs/pets/squeezenet_gap/checkpoint.pt"
    return (
        f"{checkpoint} was trained on the images of .*/y/pets, and {root} has others: {what}; "
        "choose those with data.root=, .* data.name=, or use that network all the same: "
        f"weights={checkpoint}"
    )


@pytest.mark.parametrize("use", [evaluate, show])
def test_a_network_trained_on_another_folder_of_that_name_is_refused_unless_its_file_is_named(
    of: Of, tmp_path: Path, use: Callable
) -> None:
    other = write_pets(tmp_path / "x/pets", 200)
    others = refusal(other, r"6 with other content, of 6 compared .first cat/0.bmp.")
    with pytest.raises(UserError, match=others):
        use(of(other))
    use(of(other, f"weights={tmp_path / 'runs/pets/squeezenet_gap/checkpoint.pt'}"))


@pytest.mark.parametrize("use", [evaluate, show])
def test_the_same_data_elsewhere_is_the_same(of: Of, tmp_path: Path, use: Callable) -> None:
    use(of(shutil.copytree(tmp_path / "y/pets", tmp_path / "x/pets")))


def test_a_folder_that_grew_is_refused_for_an_evaluation_and_still_answers_for_an_image(
    of: Of, tmp_path: Path
) -> None:
    root = tmp_path / "y/pets"
    shutil.copy(root / "train/cat/0.bmp", root / "train/cat/3.bmp")
    grown = refusal(root, r"7 images, before 6; 1 new .first cat/3.bmp.")
    with pytest.raises(UserError, match=grown):
        evaluate(of(root))
    show(of(root))
    shutil.copytree(root / "train/cat", root / "train/eel")
    new_class = refusal(root, r"3 classes, before 2, 1 new .first eel.; 11 images, before 6")
    with pytest.raises(UserError, match=new_class):
        show(of(root))


def test_a_checkpoint_answers_where_its_data_is_not(
    of: Of, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    image = shutil.copy(tmp_path / "y/pets/val/cat/0.bmp", tmp_path / "a.bmp")
    shutil.rmtree(tmp_path / "y")
    show_images(of(tmp_path / "y/pets", f"image={image}"))
    assert capsys.readouterr().out.count("box") == 2


def test_train_images_that_cannot_be_compared_are_said(
    of: Of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """As on a machine that has ILSVRC's val images alone."""
    no_images = mock.Mock(side_effect=UserError("train holds no images"))
    monkeypatch.setattr(trained, "open_split", no_images)
    evaluate(of(tmp_path / "y/pets"))
    said = capsys.readouterr().out
    cannot = "checkpoint.pt cannot be held against the images it was trained on"
    assert f"{cannot}: train holds no images" in said


def test_an_old_checkpoint_is_taken_as_it_is_and_an_unfinished_training_is_named(
    of: Of, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "runs/pets/squeezenet_gap/checkpoint.pt"
    root = write_pets(tmp_path / "x/pets", 200)
    state = torch.load(path, weights_only=True)
    del state["trained_on"]
    torch.save(state, path)
    evaluate(of(root))
    said = capsys.readouterr().out
    assert f"{path} does not say which images it was trained on: taken for those of {root}" in said
    assert f"{path} is of an unfinished training: 2 of 8 epochs" in said
