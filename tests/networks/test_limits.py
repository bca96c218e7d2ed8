"""What agreement.LIMITS says of the backbones, held against the networks themselves."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

from cam_repro.agreement import LIMITS
from cam_repro.config import ModelConfig
from cam_repro.networks.network import CamNetwork, assemble
from cam_repro.networks.trunks import BACKBONES, backbone

ENDS = {nn.Linear: "pooled maps", nn.Identity: "class maps", nn.Sequential: "fully connected layers"}


def shapes_only(name: str, native: bool) -> CamNetwork:
    """A network whose forward pass computes shapes and no numbers."""
    with torch.device("meta"):
        return assemble(ModelConfig("any", name, native=native), backbone(name).build(), 3).eval()


def maps_at(network: CamNetwork, size: int) -> torch.Size:
    with torch.no_grad():
        return network.forward_with_maps(torch.zeros(1, 3, size, size, device="meta"))[1].shape


def test_every_backbone_has_its_limits() -> None:
    assert LIMITS.keys() == BACKBONES.keys()


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", BACKBONES)
def test_the_smallest_input_is_seen_and_one_pixel_less_is_not(name: str, native: bool) -> None:
    network = shapes_only(name, native)
    smallest = LIMITS[name].smallest_whole if native else LIMITS[name].smallest
    assert all(min(maps_at(network, size)[2:]) > 0 for size in range(smallest, smallest + 40))
    if smallest > 1:
        with pytest.raises(RuntimeError):
            maps_at(network, smallest - 1)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_new_convolutions_see_and_make_the_channels_that_groups_must_divide(name: str) -> None:
    convolutions = [layer for layer in shapes_only(name, native=False).head if isinstance(layer, nn.Conv2d)]
    assert tuple(layer.in_channels for layer in convolutions) == LIMITS[name].channels
    assert [layer.out_channels for layer in convolutions] == [*LIMITS[name].channels[1:], 1024]


@pytest.mark.parametrize("name", BACKBONES)
def test_a_whole_network_ends_as_said(name: str) -> None:
    assert ENDS[type(shapes_only(name, native=True).classifier)] == LIMITS[name].ends_in


@pytest.mark.parametrize("name", BACKBONES)
def test_torchvision_publishes_the_weights_that_are_named(name: str) -> None:
    theirs = backbone(name).torchvision
    assert set(LIMITS[name].published) == (set(models.get_model_weights(theirs).__members__) if theirs else set())
