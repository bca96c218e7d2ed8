"""Batch norms that were folded into their convolutions, and what training makes of them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ALONE, tiny_config
from torch import nn
from torchvision.models import resnet18

from cam_repro.config import model_config
from cam_repro.data import open_split
from cam_repro.data.loaders import Batch, Decoders
from cam_repro.data.views import normalise
from cam_repro.networks import build_network
from cam_repro.training.folded_norms import folded_norms, restore_statistics, unfold_batch_norm
from cam_repro.training.loop import train


class Tiny(nn.Module):
    """Two folded norms behind convolutions of which one has a channel that is always the same."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, bias=False),
            nn.BatchNorm2d(6, eps=1e-3),
            nn.ReLU(),
            nn.Conv2d(6, 5, 3, bias=False),
            nn.BatchNorm2d(5),
        )
        self.layers[3].weight.data[2] = 0
        for norm in (self.layers[1], self.layers[4]):
            fold(norm)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


def fold(norm: nn.BatchNorm2d) -> None:
    nn.init.constant_(norm.running_var, 1 - norm.eps)
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.normal_(norm.bias)


def batch_of(images: int) -> Batch:
    pixels = torch.randint(0, 256, (images, 3, 20, 20), dtype=torch.uint8)
    numbers = torch.arange(images)
    return Batch(pixels, numbers, numbers, numbers, [])


def test_statistics_keep_the_outputs_of_evaluation_and_give_training_mode_the_same() -> None:
    torch.manual_seed(0)
    network = Tiny()
    batches = [batch_of(7), batch_of(3)]
    pixels = normalise(torch.cat([batch.pixels for batch in batches]))
    folded = deepcopy(network)
    with torch.no_grad():
        before = folded.eval()(pixels)
        broken = folded.train()(pixels)
    assert (broken - before).norm() > 0.1 * before.norm()

    norms = folded_norms(network)
    nobody = replace(batch_of(1), labels=torch.arange(0))  # its image is a black one
    assert len(norms) == 2 and restore_statistics(norms, network, [*batches, nobody], ALONE) == 10
    assert network.training and folded_norms(network) == []
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(pixels), before, rtol=0, atol=1e-5)
        torch.testing.assert_close(network.train()(pixels), before, rtol=0, atol=1e-4)


def test_norms_that_are_new_or_trained_are_left_alone() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2), nn.BatchNorm2d(2, affine=False))
    assert folded_norms(network) == []
    for norm in network:
        norm.running_var.fill_(1 - norm.eps)
    network[1].running_mean[1] = 1e-3
    assert folded_norms(network) == [network[0]]


def test_a_training_from_folded_weights_says_it_and_begins_where_the_weights_are(
    tiny_shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = resnet18()
    for module in whole.modules():
        if isinstance(module, nn.BatchNorm2d):
            fold(module)
    path = tmp_path / "folded.pth"
    torch.save(whole.state_dict(), path)
    options = ["model=resnet18", f"weights={path}", "recipe.epochs=1", "recipe.lr=1e-8"]
    sizes = ["recipe.sizes=[32]", "recipe.size_starts=[0]"]
    config = tiny_config(tmp_path, tiny_shapes, *options, *sizes, "model.input_size=32")
    run = train(config)
    said = "20 batch norms of these weights are folded into their convolutions"
    out = capsys.readouterr().out
    assert out.count(said) == 1 and "the statistics of 48 training images" in out
    trained = build_network(model_config("resnet18"), weights=run / "checkpoint.pt").eval()
    images = torch.randn(2, 3, 32, 32)
    start = build_network("resnet18", weights=path).eval()
    with torch.inference_mode():
        wanted = start.features(images)
        assert (trained.features(images) - wanted).norm() < 0.2 * wanted.norm()


def test_norms_that_the_recipe_freezes_stay_folded(tiny_shapes: Path, tmp_path: Path) -> None:
    config = tiny_config(tmp_path, tiny_shapes, "recipe.batch_norm=frozen")
    network = Tiny()
    before = deepcopy(network.state_dict())
    split = open_split(config.data, "train", tmp_path)
    with Decoders(workers=0) as decoders:
        unfold_batch_norm(network, split, config, config.recipe, decoders, ALONE)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
