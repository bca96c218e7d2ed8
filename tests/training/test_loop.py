"""Training from its first line to its last, where data, numbers or settings are bad."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ALONE, write_checkpoint
from PIL import Image
from torch._dynamo.testing import CompileCounter
from torch.optim.optimizer import register_optimizer_step_post_hook

from cam_repro import UserError
from cam_repro.config import Config, DataConfig, RecipeConfig, model_config
from cam_repro.data import open_split, views
from cam_repro.data.loaders import epoch_order, training_batches
from cam_repro.data.views import resize_map
from cam_repro.distributed import DistributedContext
from cam_repro.evaluation.maps import predict_split
from cam_repro.localization.boxes import paper_box
from cam_repro.localization.iou import area, best_iou
from cam_repro.networks import build_network
from cam_repro.training import validation
from cam_repro.training.loop import is_like_guessing, train, train_step
from cam_repro.training.preemption import Preemption
from cam_repro.training.solver import build_optimizer
from cam_repro.training.validation import validate


def config(folder: Path, root: Path, model: str = "squeezenet_gap", **recipe: object) -> Config:
    tiny = {
        "epochs": 1,
        "batch_size": 8,
        "sizes": [64],
        "optimizer": "sgd",
        "lr": 1e-3,
        "weight_decay": 0.0,
    }
    return Config(
        model=replace(model_config(model), input_size=64),
        data=DataConfig(name="tiny", root=str(root), workers=0),
        recipe=RecipeConfig(name="tiny", **(tiny | recipe)),
        runs=str(folder / "runs"),
        cache=str(folder),
        device="cpu",
        weights="none",
    )


@pytest.fixture
def broken(tiny_shapes: Path, tmp_path: Path) -> Path:
    """The tiny data set without one readable train image."""
    root = shutil.copytree(tiny_shapes, tmp_path / "tree")
    for image in (root / "ILSVRC/Data/CLS-LOC/train").glob("*/*.JPEG"):
        image.write_bytes(b"\xff\xd8")
    return root


@pytest.mark.parametrize("model", ["squeezenet_gap", "resnet18"])
def test_a_batch_without_a_readable_image_is_a_step_without_gradient(
    broken: Path, tmp_path: Path, model: str
) -> None:
    """In a network with batch norm too, whose statistics stay what they are."""
    settings = config(tmp_path, broken, model)
    split, network = open_split(settings.data, "train", tmp_path), build_network(settings.model, 10)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    batch = next(training_batches(split, settings.recipe, 64, seed=0, epoch=0, workers=0))
    assert len(batch) == 0 and len(batch.corrupt) == 8
    optimizer = build_optimizer(network, settings.recipe, fused=False)
    sums = train_step(network, optimizer, batch, settings.recipe, len(split), ALONE)
    assert sums.tolist() == [0, 0, 0, 8]
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_a_batch_of_which_one_image_can_be_read_is_a_step(broken: Path, tmp_path: Path) -> None:
    """At 32 pixels ResNet-18's last maps are 1×1: of one image its batch norm has no variance."""
    settings = config(tmp_path, broken, "resnet18", sizes=[32])
    split, network = open_split(settings.data, "train", tmp_path), build_network(settings.model, 10)
    first = split.path(epoch_order(len(split), 8, seed=0, epoch=0)[0][0])
    Image.new("RGB", (40, 30), "red").save(first, "JPEG")
    batch = next(training_batches(split, settings.recipe, 32, seed=0, epoch=0, workers=0))
    assert len(batch) == 1 and len(batch.corrupt) == 7
    optimizer = build_optimizer(network, settings.recipe, fused=False)
    sums = train_step(network, optimizer, batch, settings.recipe, len(split), ALONE)
    loss, _, shown, corrupt = sums.tolist()
    assert loss > 0 and (shown, corrupt) == (1, 7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": [16]}, r"recipe.sizes=\[16\] is too small for .* as it is takes 63 pixels"),
        ({"sizes": [64, 16], "size_starts": [0.0, 0.5]}, r"recipe.sizes=\[64,16\] is too small"),
        ({"sizes": [32], "batch_size": 1, "model": "resnet18"}, "batch norm of .* has no variance"),
    ],
)
def test_crops_that_the_network_does_not_take_are_refused_before_the_first_step(
    tiny_shapes: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(config(tmp_path, tiny_shapes, **({"model": "alexnet"} | settings)))
    assert not list((tmp_path / "runs").rglob("*.jsonl"))


def test_an_epoch_without_a_readable_image_ends_the_run(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(UserError, match="not one train image of the epoch could be read"):
        train(config(tmp_path, broken))
    assert capsys.readouterr().out.count("skipped: ") == 56  # of 60, in whole batches of 8


def test_a_corrupt_val_image_ends_the_run_by_name_before_the_first_step(
    tiny_shapes: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(tiny_shapes, tmp_path / "tree")
    settings = config(tmp_path, root)
    settings.eval_batch_size = 2  # the last image is not in the first batches, but its map is shown
    (root / "ILSVRC/Data/CLS-LOC/val/shapes_val_00000020.JPEG").write_bytes(b"\xff\xd8")
    with pytest.raises(UserError, match="corrupt image .*shapes_val_00000020"):
        train(settings)
    assert not (tmp_path / "runs/tiny/squeezenet_gap/checkpoint.pt").exists()


def test_other_settings_are_refused(tiny_shapes: Path, tmp_path: Path) -> None:
    train(config(tmp_path, tiny_shapes))
    with pytest.raises(UserError, match=r"other settings: recipe.label_smoothing 0.0 → 0.3;"):
        train(config(tmp_path, tiny_shapes, label_smoothing=0.3))


def stop_after_a_step(settings: Config) -> None:
    """As SIGTERM does."""
    asks = register_optimizer_step_post_hook(lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with asks, pytest.raises(UserError, match="stopped and saved at step 1"):
        train(settings)


def write_pets(root: Path, shade: int) -> Path:
    """Train and val images of two classes, whose names do not tell one shade from another."""
    for split, images in (("train", 30), ("val", 2)):
        for number, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for image in range(images):
                drawn = Image.new("RGB", (40, 30), (shade, 100 * number, image))
                drawn.save(root / split / name / f"{name}{image:02d}.bmp")
    return root


def of_pets(folder: Path, root: Path) -> Config:
    settings = config(folder, root, lr=1e-4)
    settings.data = DataConfig(name=root.name, layout="folder", root=str(root), workers=0)
    return settings


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose runs/images/ was stopped on v1/images after one step.

    Tests must not change it.
    """
    folder = tmp_path_factory.mktemp("stopped")
    stop_after_a_step(of_pets(folder, write_pets(folder / "v1/images", 10)))
    return folder


def checkpoint_of(folder: Path) -> Path:
    return folder / "runs/images/squeezenet_gap/checkpoint.pt"


def test_a_run_stopped_on_one_folder_does_not_go_on_with_another_of_its_name(
    stopped: Path, tmp_path: Path
) -> None:
    before = checkpoint_of(stopped).read_bytes()
    v2 = write_pets(tmp_path / "v2/images", 200)
    said = (
        f"was trained on the images of {stopped / 'v1/images'}, and {v2} has others: "
        r"60 with other content, of 60 compared \(first cat/cat00.bmp\); "
        "give the same images back with data.root=, or .* data.name=another weights="
    )
    with pytest.raises(UserError, match=said):
        train(of_pets(stopped, v2))
    assert checkpoint_of(stopped).read_bytes() == before


def test_images_that_were_moved_between_classes_are_other_data(
    stopped: Path, tmp_path: Path
) -> None:
    """As many images of as many classes as before."""
    root = shutil.copytree(stopped / "v1/images", tmp_path / "images")
    for image in sorted((root / "train/cat").iterdir())[:20]:
        image.rename(root / "train/dog" / image.name)
    moved = r"60 images, before 60; 20 moved to another class or folder \(first dog/cat00.bmp\);"
    with pytest.raises(UserError, match=moved):
        train(of_pets(stopped, root))


def test_a_run_goes_on_where_its_data_was_moved_to_and_says_other_val_images(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(stopped / "runs", tmp_path / "runs")
    root = shutil.copytree(stopped / "v1/images", tmp_path / "images")
    (root / "val/dog/dog01.bmp").unlink()
    train(of_pets(tmp_path, root))
    said = capsys.readouterr().out
    assert "resumes at step 1" in said and "trained 1 epochs" in said
    changed = "3 images, before 4; 1 gone (first dog/dog01"
    assert f"the val errors from here on are of other images: {changed}" in said


def test_an_old_checkpoint_without_its_images_is_taken_as_it_is_which_is_said(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(stopped / "runs", tmp_path / "runs")
    state = torch.load(checkpoint_of(tmp_path), weights_only=True)
    del state["trained_on"]
    torch.save(state, checkpoint_of(tmp_path))
    fewer = shutil.copytree(stopped / "v1/images", tmp_path / "fewer/images")
    (fewer / "train/dog/dog00.bmp").unlink()
    other = "was trained on 60 images of 2 classes, and .* has others: 59 images of 2 classes"
    with pytest.raises(UserError, match=other):
        train(of_pets(tmp_path, fewer))
    train(of_pets(tmp_path, stopped / "v1/images"))
    assert "does not say which images it was trained on: taken for" in capsys.readouterr().out
    trained_on = torch.load(checkpoint_of(tmp_path), weights_only=True)["trained_on"]
    assert trained_on["root"] == str(stopped / "v1/images")


def test_processes_that_find_different_images_are_refused(
    tiny_shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where each machine has a disk of its own."""
    monkeypatch.setattr(
        DistributedContext, "gather", lambda world, rows: [*rows, "of another machine"]
    )
    with pytest.raises(UserError, match="the processes find different images in data.root="):
        train(config(tmp_path, tiny_shapes))


def test_weights_are_said_and_not_read_again_where_a_checkpoint_is(
    tiny_shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    settings = config(tmp_path, tiny_shapes)
    weights = (train(settings) / "checkpoint.pt").rename(tmp_path / "first.pt")
    settings.weights, settings.runs = str(weights), str(tmp_path / "from weights")
    train(settings)
    assert f"starts from weights={weights}, sha256 " in capsys.readouterr().out
    weights.unlink()
    train(settings)
    assert "already trained (1 epochs)" in capsys.readouterr().out


def test_a_training_shrinks_its_images_as_its_weights_do_and_keeps_that(
    tiny_shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, filters = config(tmp_path, tiny_shapes), []

    def resize(image: np.ndarray, width: int, height: int, interpolation: str) -> np.ndarray:
        filters.append(interpolation)
        return np.zeros((height, width, 3), np.uint8)

    monkeypatch.setattr(views, "resize", resize)
    network, wnids = build_network(settings.model, 3), ["n0", "n1", "n2"]
    start = tmp_path / "start.pt"
    write_checkpoint(start, settings.model, network, wnids, interpolation="bicubic")
    settings.weights = str(start)
    checkpoint = train(settings) / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    assert {*filters} == {"bicubic"} and state["interpolation"] == "bicubic"
    sha256 = hashlib.sha256(start.read_bytes()).hexdigest()
    begun = {"source": f"weights={start}", "sha256": sha256}
    assert state["starting_weights"] == begun and len(state["words"]) == 10

    def go_on(state: dict[str, object]) -> set[str]:
        """The filters of a run that is ended once more from this state of its first step."""
        torch.save(state | {"progress": {"epoch": 0, "step": 1, "written": 1}}, checkpoint)
        filters.clear()
        train(settings)
        return {*filters}

    assert go_on(state) == {"bicubic"}
    assert torch.load(checkpoint, weights_only=True)["starting_weights"] == begun
    del state["interpolation"]  # as before it was kept
    assert go_on(state) == {"bilinear"}


def test_a_training_that_does_not_learn_is_said(
    tiny_shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    settings = config(tmp_path, tiny_shapes, lr=1e-8)
    train(settings)
    assert "the training loss has not left ln 10 = 2.3," in capsys.readouterr().out
    settings.model.conv_bias = 100.0  # a head on another scale than its trunk's
    settings.runs = str(tmp_path / "far")
    train(settings)
    assert "the first loss is" in capsys.readouterr().out


@pytest.mark.parametrize(("classes", "has_top5"), [(4, False), (5, True)])
def test_fewer_than_five_classes_have_no_top_5_error(
    tiny_shapes: Path, tmp_path: Path, classes: int, has_top5: bool
) -> None:
    settings = config(tmp_path, tiny_shapes)
    split = open_split(settings.data, "val", tmp_path)
    network = build_network(settings.model, classes)
    few = split.subset([image for image in range(len(split)) if split.labels[image] < classes])
    found = validate(network, few, settings, 64, ALONE, Preemption(ALONE))
    assert (found["val_top5_error"] is not None) == has_top5 and found["val_top1_error"] <= 100


def test_an_epoch_is_measured_on_images_of_the_size_that_is_asked_for(
    tiny_shapes: Path, tmp_path: Path
) -> None:
    settings = config(tmp_path, tiny_shapes, sizes=[48], val_size=96)
    train(settings)
    run = tmp_path / "runs/tiny/squeezenet_gap"
    (epoch,) = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    network = build_network(settings.model, weights=run / "checkpoint.pt")
    split = open_split(settings.data, "val", tmp_path)
    found = validate(network, split, settings, 96, ALONE, Preemption(ALONE))
    assert epoch["size"] == 48
    assert epoch["val_loss"] == pytest.approx(found["val_loss"], rel=1e-4)
    with pytest.raises(UserError, match="recipe.val_size=4 is too small"):
        train(config(tmp_path, tiny_shapes, val_size=4))


def test_a_validation_draws_the_boxes_that_an_evaluation_draws(
    tiny_shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path, tiny_shapes)
    split = open_split(settings.data, "val", tmp_path)
    monkeypatch.setattr(validation, "BOXED", len(split) // 2)
    torch.manual_seed(0)
    network = build_network(settings.model, len(split.wnids))
    right = []
    areas = []
    for batch in predict_split(network, split, "squash", 64, ["cam"], ALONE, workers=0):
        for place, image in enumerate(batch.images.tolist()):
            if image % 2:
                continue
            width, height = split.size(image)
            box = paper_box(resize_map(batch.maps["cam"][place, 0, -1], width, height))
            right.append(best_iou([box], split.true_boxes(image))[0] >= 0.5)
            areas.append(area(box) / (width * height))

    found = validate(network, split, settings, 64, ALONE, Preemption(ALONE))

    assert found["val_gt_known_loc"] == pytest.approx(100 * np.mean(right))
    assert found["val_box_area"] == pytest.approx(100 * np.mean(areas))
    network.pool = "none"  # as of AlexNet as it is
    network.classifier.register_forward_pre_hook(lambda _, maps: maps[0].mean((2, 3)))
    found = validate(network, split, settings, 64, ALONE, Preemption(ALONE))
    assert found["val_gt_known_loc"] is None and found["val_box_area"] is None


def test_an_error_far_below_a_guess_is_no_sign_that_nothing_is_learnt() -> None:
    labels = np.repeat(np.arange(6), 4)  # a guess is wrong on 83 %, with a standard error of 8
    assert is_like_guessing(83.0, labels)
    assert is_like_guessing(62.5, labels)
    assert not is_like_guessing(58.3, labels)
    of_one_class = np.array([0] * 90 + [1] * 10)
    assert is_like_guessing(10.0, of_one_class)
    assert not is_like_guessing(0.0, of_one_class)


def test_few_images_are_learnt_in_small_batches_and_the_classes_are_named(
    tiny_shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    settings = config(tmp_path, tiny_shapes, min_steps=10)
    train(settings)
    said = capsys.readouterr().out
    assert "1 epochs of 15 steps of 4 images" in said
    assert "the batch 4 images instead of 8, and the learning rate 0.0005 instead of 0.001" in said
    assert "classes: ladybird, watermelon slice, honeycomb, " in said


def test_what_is_evaluated_is_not_chosen_at_a_training(tiny_shapes: Path, tmp_path: Path) -> None:
    settings = config(tmp_path, tiny_shapes)
    settings.data.split = "train"
    with pytest.raises(UserError, match="data.split=train chooses what is evaluated; leave it out"):
        train(settings)


def test_a_validation_compiles_nothing_for_its_batches(tiny_shapes: Path, tmp_path: Path) -> None:
    """A compiled network is compiled for the batches of training alone, which have one size."""
    settings, counter = config(tmp_path, tiny_shapes), CompileCounter()
    settings.eval_batch_size = 16  # of 20 images: the second batch is short
    split, network = open_split(settings.data, "val", tmp_path), build_network(settings.model, 10)
    network.compile(backend=counter)
    validate(network, split, settings, 64, ALONE, Preemption(ALONE))
    assert counter.frame_count == 0
    network(torch.zeros(2, 3, 64, 64))
    assert counter.frame_count == 1
