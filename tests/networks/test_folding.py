"""Batch norm folded into convolutions: the same outputs, and none folded that must stay."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from cam_repro.networks import build_network
from cam_repro.networks.folding import fold_batch_norm


def with_statistics(network: nn.Module) -> nn.Module:
    """In evaluation mode, every batch norm with numbers of its own as if it had been trained."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
    return network.eval()


def norms_in(network: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


# Layers in their order, branches that are joined, and timm's norms that are activations too
@pytest.mark.parametrize("name", ["resnet18", "googlenet_gap", "efficientnet_lite0"])
def test_a_folded_network_says_the_same(name: str) -> None:
    network = with_statistics(build_network(name, 10))
    images = torch.randn(1, 3, 64, 64)
    folded = deepcopy(network)
    fold_batch_norm(folded)
    with torch.inference_mode():
        logits, maps = network.forward_with_maps(images)
        logits_after, maps_after = folded.forward_with_maps(images)
    for before, after in ((logits, logits_after), (maps, maps_after)):
        largest = before.abs().max().item()
        torch.testing.assert_close(after, before, rtol=0, atol=1e-5 * largest)
    assert norms_in(folded) == 0 < norms_in(network)


class Shared(nn.Module):
    """A convolution that two layers read, one that runs twice, and one that is folded."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice = nn.Conv2d(3, 3, 1)
        self.runs_twice = nn.Conv2d(3, 3, 1)
        self.plain = nn.Conv2d(3, 3, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.read_twice(x)
        x = x + self.norms[0](x)
        x = self.norms[1](self.runs_twice(x))
        x = self.runs_twice(x)
        return self.norms[2](self.plain(x))


def test_a_convolution_that_others_read_or_that_runs_twice_keeps_its_weights() -> None:
    network = with_statistics(Shared())
    images = torch.randn(2, 3, 8, 8)
    before = network(images)
    fold_batch_norm(network)
    torch.testing.assert_close(network(images), before)
    assert norms_in(network) == 2 and isinstance(network.norms[2], nn.Identity)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) if x.mean() > 0 else x


def test_a_network_whose_way_depends_on_the_image_stays_as_it_is() -> None:
    network = with_statistics(Branching())
    fold_batch_norm(network)
    assert norms_in(network) == 1
