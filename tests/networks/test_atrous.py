"""Maps twice as dense, of the same weights."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from cam_repro import UserError
from cam_repro.config import model_config
from cam_repro.networks import build_network
from cam_repro.networks.atrous import make_atrous

# TensorFlow's padding of a stride of 2 begins half a step later
FIRST_OLD_PLACE = {"alexnet_gap": 0, "googlenet_gap": 0, "resnet18": 0, "efficientnet_lite0": 1}


@pytest.mark.parametrize("name", FIRST_OLD_PLACE)
def test_every_second_place_of_the_dense_maps_is_one_of_the_networks_own(name):
    config = model_config(name)
    torch.manual_seed(0)
    network = build_network(config, 10).eval()
    dense = build_network(replace(config, atrous=True), 10).eval()
    dense.load_state_dict(network.state_dict())
    images = torch.randn(1, 3, 160, 160)

    with torch.inference_mode():
        _, maps = network.forward_with_maps(images)
        _, dense_maps = dense.forward_with_maps(images)

    first = FIRST_OLD_PLACE[name]
    old_places = dense_maps[:, :, first::2, first::2]
    assert min(dense_maps.shape[2:]) >= 2 * min(maps.shape[2:]) - 1
    torch.testing.assert_close(old_places, maps, rtol=1e-4, atol=1e-4 * float(maps.max()))


def test_fully_connected_layers_cannot_read_denser_maps():
    config = replace(model_config("alexnet"), atrous=True)

    with pytest.raises(
        UserError, match="fully connected layers stand between its maps and its classes"
    ):
        build_network(config, 10)


def test_a_layer_that_averages_neighbours_is_named():
    layers = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 4, 1), nn.AvgPool2d(3, 1, 1))

    with pytest.raises(UserError, match=r"its layer 2 averages neighbours"):
        make_atrous(layers, 16)


def test_layers_that_halve_nothing_cannot_be_made_denser():
    with pytest.raises(UserError, match="a layer that halves the maps, and there is none"):
        make_atrous(nn.Sequential(nn.Conv2d(3, 4, 3)), 64)
