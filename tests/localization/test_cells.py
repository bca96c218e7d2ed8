"""Where cells look: by arithmetic over the layers, and by gradients."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from cam_repro.config import model_config
from cam_repro.evaluation.cells import moved_box
from cam_repro.localization.cells import Cells, connected_cells, drawn_cells, seen_cells
from cam_repro.networks import build_network
from cam_repro.networks.network import CamNetwork
from cam_repro.networks.sizes import on_meta_device

SIZE = 32


def network_of(*layers: nn.Module) -> CamNetwork:
    """Layers whose every weight is 1, so that a gradient is the number of ways to a pixel."""
    trunk = nn.Sequential(*layers)
    for parameter in trunk.parameters():
        nn.init.ones_(parameter)
    return CamNetwork(trunk, nn.Identity(), nn.Linear(3, 2), "average", 0.0).eval()


def one(size: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(3, 3, size, stride, padding, dilation, bias=False)


class TwoWays(nn.Module):
    """A window of 3 beside one of 1, of which one is padded too little."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps[:, :, :-1, :-1] + nn.functional.avg_pool2d(maps, 2, stride=1)


@pytest.mark.parametrize(
    ("layers", "first", "stride"),
    [
        ([one(3, padding=1)], 0, 1),
        ([one(3)], 1, 1),
        ([one(3, 2)], 1, 2),
        ([one(3, 2, 1), one(3, 2, 1)], 0, 4),
        ([one(2, 2), nn.AvgPool2d(2)], 1.5, 4),
        ([one(3, dilation=2)], 2, 1),
        ([nn.ConstantPad2d((1, 0, 1, 0), 0.0), one(3, 2)], 0, 2),
    ],
)
def test_a_cell_is_connected_to_the_middle_of_its_gradient(
    layers: list[nn.Module], first: float, stride: int
) -> None:
    network = network_of(*layers)
    rows, columns = connected_cells(deepcopy(network).to("meta"), SIZE)
    assert rows == columns == Cells(first, stride)

    places = seen_cells(network, torch.rand(1, 3, SIZE, SIZE))
    with torch.no_grad():
        _, maps = network.forward_with_maps(torch.rand(1, 3, SIZE, SIZE))
    middle = rows.middle(maps.shape[2])
    assert places[0, 0].tolist() == pytest.approx([middle, stride], abs=1e-4)


def test_columns_may_look_elsewhere_than_rows() -> None:
    layers = [nn.ConstantPad2d((2, 0, 0, 0), 0.0), nn.Conv2d(3, 3, (1, 3), (1, 2), bias=False)]
    rows, columns = connected_cells(network_of(*layers).to("meta"), SIZE)
    assert (rows, columns) == (Cells(0, 1), Cells(-1, 2))


def test_two_ways_that_look_at_different_places_are_refused() -> None:
    with pytest.raises(ValueError, match="two ways through the network look at different places"):
        connected_cells(network_of(one(3, padding=1), TwoWays()).to("meta"), SIZE)


def test_an_average_over_the_image_moves_no_cell() -> None:
    class Excited(nn.Module):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return maps * maps.mean((2, 3), keepdim=True)

    rows, _ = connected_cells(network_of(one(3, 2, 1), Excited()).to("meta"), SIZE)
    assert rows == Cells(0, 2)


@pytest.mark.parametrize("name", ["googlenet", "resnet18", "efficientnet_lite0"])
def test_the_arithmetic_is_that_of_a_linearised_copy(name: str) -> None:
    config = model_config(name)
    rows, _ = connected_cells(on_meta_device(config), 224)
    network = build_network(config, 10).eval()
    for path, module in list(network.named_modules()):
        if isinstance(module, nn.ReLU | nn.ReLU6):
            network.set_submodule(path, nn.Identity())
        if isinstance(module, nn.MaxPool2d):
            window = (module.kernel_size, module.stride, module.padding, module.ceil_mode)
            network.set_submodule(path, nn.AvgPool2d(*window))
        if isinstance(module, nn.Conv2d):
            # Of one convolution all weights alike, so that its gradient is symmetric
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    # Far from the border of a larger image, whose size leaves the same rest by every stride
    images = torch.rand(1, 3, 480, 480)
    _, maps = network.forward_with_maps(images.requires_grad_())
    middle = maps.shape[2] // 2
    (gradient,) = torch.autograd.grad(maps[0, :, middle, middle].sum(), images)
    ways = gradient.sum((0, 1)).sum(1)
    looked_at = float(ways @ torch.arange(480.0) / ways.sum())
    assert looked_at == pytest.approx(rows.first + rows.stride * middle, abs=0.5)


def test_cells_are_drawn_side_by_side_over_the_whole_side() -> None:
    assert drawn_cells(8, 4) == Cells(0.5, 2)  # the first one over pixels 0 and 1
    assert drawn_cells(8, 4).middle(4) == 3.5


def test_a_box_moves_with_its_cells_in_the_images_own_pixels() -> None:
    drawn = (Cells(3.5, 8), Cells(3.5, 8))
    right_of_it = (Cells(3.5, 8), Cells(5.5, 8))  # two pixels of the input to the right
    moved = moved_box(np.array([10.0, 20.0, 59.0, 30.0]), (64, 32), 32, drawn, right_of_it)
    assert moved.tolist() == pytest.approx([14.0, 20.0, 63.0, 30.0])
