"""The published file of a trained network, as the scripts make and use it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from conftest import composed, write_checkpoint
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torchvision.transforms.functional import normalize

from cam_repro import UserError
from cam_repro.cam import show_images
from cam_repro.config import Config, ModelConfig, model_config
from cam_repro.data.views import IMAGENET_MEAN, IMAGENET_STD
from cam_repro.networks import build_network, read_weights
from cam_repro.networks.export import publish
from scripts.export import main as export_weights

WNIDS = [f"n0000000{label}" for label in range(6)]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run's folder as `make train` leaves it, as far as its weights and classes go; an image."""
    model, folder = model_config("squeezenet", input_size=64), tmp_path / "runs/shapes/squeezenet"
    trained_on = {"root": str(tmp_path)}
    write_checkpoint(
        folder / "checkpoint.pt",
        model,
        build_network(model, len(WNIDS)),
        WNIDS,
        trained_on=trained_on,
    )
    (tmp_path / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} thing\n" for wnid in WNIDS))
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)).save(
        tmp_path / "a.jpg"
    )
    return folder


def metadata_of(file: Path) -> dict[str, Any]:
    with safe_open(file, "pt") as opened:
        return json.loads(opened.metadata()["cam_repro"])


def options(folder: Path, *more: str) -> Config:
    return composed([f"runs={folder / 'runs'}", f"data.root={folder}", "device=cpu", *more])


def test_an_exported_network_is_used_like_its_checkpoint(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    export_weights(options(tmp_path, "model=squeezenet"))
    published, said = trained / "squeezenet-shapes.safetensors", capsys.readouterr().out
    assert f"sha256 {hashlib.sha256(published.read_bytes()).hexdigest()}" in said
    assert f"use it with weights={published}" in said
    about = metadata_of(published)
    assert (about["model"]["name"], about["data"], about["wnids"]) == (
        "squeezenet",
        "shapes",
        WNIDS,
    )

    answers = []
    for weights in ([], [f"weights={published}"]):
        show_images(options(tmp_path, "model=squeezenet", f"image={tmp_path / 'a.jpg'}", *weights))
        network, *answer, _ = capsys.readouterr().out.splitlines()
        assert "6 classes" in network
        answers.append(answer)
    assert answers[0] == answers[1] and sum("box" in line for line in answers[0]) == 5


def test_an_exported_file_says_what_a_stranger_needs(tmp_path: Path) -> None:
    """Here a stranger uses it, with timm and what the file says, without a line of this project."""
    model = ModelConfig("mine", "timm/test_resnet", native=True, input_size=96)
    network, start = build_network(model, 3).eval(), {"source": "weights=a.pth", "sha256": "12"}
    wnids, words = ["n02123045", "n1", "n2"], ["tabby", "one", "two"]
    checkpoint = write_checkpoint(
        tmp_path / "checkpoint.pt", model, network, wnids,
        words=words, interpolation="bicubic", starting_weights=start, training={"epochs_done": 3},
    )  # fmt: skip
    file = tmp_path / "mine.safetensors"
    publish(read_weights(checkpoint, ""), file, "pets")
    about = metadata_of(file)
    assert about["pixels"] == {"mean": [0.5] * 3, "std": [0.5] * 3, "order": "RGB"}
    assert (about["input_size"], about["interpolation"]) == (96, "bicubic")
    assert (about["wnids"], about["words"], about["data"]) == (wnids, words, "pets")
    assert (about["starting_weights"], about["training"]) == (start, {"epochs_done": 3})

    theirs = timm.create_model("test_resnet", num_classes=3).eval()
    layers = {}
    for name, tensor in load_file(file).items():
        layers[name.removeprefix("trunk.maps.model.").replace("classifier.", "fc.")] = tensor
    theirs.load_state_dict(layers)
    pixels = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        logits = theirs(normalize(pixels, about["pixels"]["mean"], about["pixels"]["std"]))
        ours = network(normalize(pixels, IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(ours, logits)


def test_what_an_old_checkpoint_does_not_say_is_filled_in(trained: Path, tmp_path: Path) -> None:
    old = read_weights(trained / "checkpoint.pt", "")
    publish(replace(old, wnids=["n02123045", "mine"]), tmp_path / "a.safetensors", "pets")
    about = metadata_of(tmp_path / "a.safetensors")
    assert about["words"] == ["tabby, tabby cat", "mine"]
    assert (about["interpolation"], about["starting_weights"]) == ("bilinear", None)
    assert about["pixels"]["mean"] == list(IMAGENET_MEAN)


def test_a_file_of_ours_brings_its_classes_and_its_settings(tmp_path: Path) -> None:
    model = model_config("alexnet_gap", pool="max", units=8, input_size=64)
    trained = build_network(model, 3)
    checkpoint = write_checkpoint(tmp_path / "checkpoint.pt", model, trained, ["n0", "n1", "n2"])
    publish(read_weights(checkpoint, ""), tmp_path / "own.safetensors", "pets")
    for file in (checkpoint, tmp_path / "own.safetensors"):
        network = build_network("alexnet_gap", weights=str(file))
        assert (network.num_classes, network.pool, network.untrained) == (3, "max", "")
        assert torch.equal(network.classifier_weight, trained.classifier_weight)
    with pytest.raises(UserError, match="was trained for 3 classes"):
        build_network("alexnet_gap", 1000, tmp_path / "own.safetensors")


def test_the_same_weights_give_the_same_file_in_any_memory_order(
    trained: Path, tmp_path: Path
) -> None:
    weights, file = read_weights(trained / "checkpoint.pt", ""), tmp_path / "a.safetensors"
    sha256 = publish(weights, file, "shapes")
    read = read_weights(file, "")
    assert (read.sha256, read.model, read.wnids) == (sha256, weights.model, WNIDS)
    assert all(torch.equal(read.tensors[key], of) for key, of in weights.tensors.items())
    convolutions = {key: of for key, of in weights.tensors.items() if of.ndim == 4}
    reordered = {key: of.to(memory_format=torch.channels_last) for key, of in convolutions.items()}
    assert publish(replace(weights, tensors=weights.tensors | reordered), file, "shapes") == sha256


def test_an_unfinished_training_is_exported_as_one(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    export_weights(options(tmp_path, "model=squeezenet"))
    assert "its training is" not in capsys.readouterr().out
    state = torch.load(trained / "checkpoint.pt", weights_only=True)
    torch.save({**state, "training": {"epochs": 8, "epochs_done": 2}}, trained / "checkpoint.pt")
    export_weights(options(tmp_path, "model=squeezenet"))
    assert (
        "its training is unfinished: 2 of 8 epochs; make train goes on with it"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["model=vgg_gap"], "vgg_gap is not trained on shapes"),
        (
            ["model=vgg_gap", "weights={}"],
            "checkpoint.pt is a squeezenet, not a vgg_gap; type model=squeezenet",
        ),
        (
            ["model=squeezenet", "weights=IMAGENET1K_V1"],
            "not trained on shapes: no IMAGENET1K_V1; first: make train",
        ),
    ],
)
def test_only_what_was_trained_here_is_exported(
    trained: Path, tmp_path: Path, given: list, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        export_weights(options(tmp_path, *(one.format(trained / "checkpoint.pt") for one in given)))


def test_a_setting_that_is_not_the_checkpoints_is_not_exported(
    trained: Path, tmp_path: Path
) -> None:
    config = options(tmp_path, "model=squeezenet", "model.input_size=96")
    config.typed = ["model.input_size"]
    with pytest.raises(UserError, match=r"checkpoint.pt was trained with model.input_size=64"):
        export_weights(config)
