"""The networks: which maps come out, and how the class scores follow from them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from conftest import weights_of
from torch import nn

from cam_repro import UserError
from cam_repro.config import model_config, names_in
from cam_repro.localization import class_activation_maps
from cam_repro.networks import build_network, initialise_from_scratch
from cam_repro.networks.trunks import BACKBONES, backbone


@pytest.mark.parametrize("name", names_in("model"))
def test_maps_scores_and_weights_of_each_network_belong_together(name: str) -> None:
    """The maps come after a ReLU, and a score's gradient reaches maps and image.

    The mean of a class's activation map is its score less its bias, but where the largest value is
    pooled.
    """
    torch.manual_seed(0)
    network = build_network(name, num_classes=5).eval()
    assert network.untrained == "every layer" and network.num_classes == 5
    initialise_from_scratch(network)
    images = torch.randn(2, 3, 96, 80, requires_grad=True)
    logits, maps = network.forward_with_maps(images)
    assert logits.shape == (2, 5) and maps.min() >= 0
    gradients = torch.autograd.grad(logits.sum(), (maps, images), retain_graph=True)
    assert all(gradient.isfinite().all() and gradient.abs().max() > 0 for gradient in gradients)

    if name in ("alexnet", "vgg", "caffenet", "vgg16_caffe"):
        assert "fully connected" in network.cam_obstacle
        with pytest.raises(
            UserError, match=r"no class activation map: fully connected .* method=gradcam"
        ):
            _ = network.classifier_weight
        return
    assert network.cam_obstacle == ""
    assert network.classifier_weight.shape == (5, maps.shape[1])
    if network.pool == "max":
        torch.testing.assert_close(logits, network.classifier(maps.amax((2, 3))))
    else:
        cams = class_activation_maps(maps, network.classifier_weight)
        assert cams.abs().max() > 0
        bias = network.classifier.bias if isinstance(network.classifier, nn.Linear) else 0
        torch.testing.assert_close(cams.mean((2, 3)), logits - bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trunk", BACKBONES)
@pytest.mark.parametrize("change", [{}, {"pool": "max"}, {"native": True}])
def test_every_trunk_takes_a_new_head_max_pooling_or_stays_whole(
    trunk: str, change: dict[str, Any]
) -> None:
    with torch.device("meta"):  # shapes without numbers
        network = build_network(
            model_config("alexnet_gap", backbone=trunk, **change), num_classes=3
        ).eval()
        logits, maps = network.forward_with_maps(torch.zeros(2, 3, 112, 112))
    assert logits.shape == (2, 3) and maps.ndim == 4 and maps.shape[2] > 1
    assert (network.pool == "max") == (change == {"pool": "max"})


def test_alexnet_star_has_the_releases_layers_after_conv4() -> None:
    network = build_network("alexnet_star_gap", num_classes=3)
    convolutions = [m for m in network.head if isinstance(m, nn.Conv2d)]
    assert [tuple(m.weight.shape) for m in convolutions] == [
        (384, 128, 3, 3),
        (512, 192, 3, 3),
        (512, 256, 3, 3),
    ]
    pools = [m for m in network.head if isinstance(m, nn.MaxPool2d)]
    assert [(m.kernel_size, m.stride) for m in pools] == [(3, 1)]
    assert network.dropout.p == 0.5
    convolutions = [m for m in network.trunk.modules() if isinstance(m, nn.Conv2d)]
    assert [convolution.out_channels for convolution in convolutions] == [64, 192, 384, 256]


# The second's pixels are Caffe's, of 0…255
@pytest.mark.parametrize("name", ["vgg_gap", "alexnetplus_cam_caffe"])
def test_he_initialisation_keeps_the_scale_of_networks_without_batch_norm(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(name, num_classes=3).eval()
    initialise_from_scratch(network)
    with torch.inference_mode():
        _, maps = network.forward_with_maps(torch.randn(2, 3, 80, 80))
    assert 0.1 < maps.std() < 10


@pytest.mark.parametrize(
    ("name", "factor"),
    [("alexnet_gap", 10000.0), ("alexnet_star_gap", 100.0), ("googlenet_gmp", 1.0)],
)
def test_a_new_head_starts_near_the_loss_of_guessing_whatever_the_scale_of_the_trunks_maps(
    name: str, factor: float
) -> None:
    config = model_config(name)
    trunk = backbone(config.backbone).build()
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    for last in ("features.10", "features.8", "inception4e.branch1.bn", "inception4e.branch4.1.bn"):
        if last in dict(trunk.named_modules()):
            trunk.get_submodule(last).weight.data.mul_(factor)
    weights = weights_of(trunk)
    network = build_network(config, 10, weights).eval()
    with torch.inference_mode():
        loss = nn.functional.cross_entropy(
            network(torch.randn(20, 3, 96, 96)), torch.arange(20) % 10
        )
    assert abs(loss.item() - math.log(10)) < 0.5
    released = build_network(model_config(name, conv_init="gaussian"), 10, weights)
    assert released.head[0].weight.std().item() == pytest.approx(0.01, rel=0.01)
