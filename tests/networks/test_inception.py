"""Inception-v3 as Google made it: its pools, and what is left of torchvision's network."""

from __future__ import annotations

from functools import partial

import torch
from conftest import weights_of
from torch import nn
from torch.nn import functional
from torchvision.models import inception

from cam_repro.config import model_config
from cam_repro.networks import build_network
from cam_repro.networks.inception import average_pool
from cam_repro.networks.pixels import HALF_RANGE, ToPixels


def maps_by_torchvision(whole: nn.Module, images: torch.Tensor, last: str) -> torch.Tensor:
    maps = ToPixels(HALF_RANGE)(images)
    for name, layer in whole.named_children():
        if name != "AuxLogits":
            maps = layer(maps)
        if name == last:
            return maps
    raise ValueError(last)


def test_the_mean_of_a_pool_is_over_the_places_that_are_in_the_maps() -> None:
    pooled = average_pool(torch.arange(1.0, 7.0).reshape(1, 1, 2, 3))
    assert pooled[0, 0].tolist() == [[3.0, 3.5, 4.0], [3.0, 3.5, 4.0]]


def test_inception_is_torchvisions_to_mixed_7a_with_the_pools_of_google(monkeypatch) -> None:
    torch.manual_seed(0)
    whole = inception.inception_v3(init_weights=False).eval()
    for convolution in (m for m in whole.modules() if isinstance(m, nn.Conv2d)):
        nn.init.kaiming_normal_(convolution.weight)
    weights = weights_of(whole)  # with the layers that are left out here, as torchvision's own
    images = torch.randn(1, 3, 91, 91)
    with torch.inference_mode():
        network = build_network("inception_v3", 10, weights).eval()
        assert network.untrained.startswith("the classifier")
        features = network.features(images)
        counted = maps_by_torchvision(whole, images, "Mixed_7a").mean((2, 3))
        as_google = partial(functional.avg_pool2d, count_include_pad=False)
        monkeypatch.setattr(inception.F, "avg_pool2d", as_google)
        uncounted = maps_by_torchvision(whole, images, "Mixed_7a").mean((2, 3))
        assert features.shape == (1, 1280) and features.std() > 1e-3
        torch.testing.assert_close(features, uncounted, rtol=1e-4, atol=1e-5)
        assert (features - counted).norm() > 0.05 * features.norm()

        for name in list(weights.tensors):
            if name.startswith(("AuxLogits.", "Mixed_7b.", "Mixed_7c.", "fc.")):
                del weights.tensors[name]
        network = build_network(model_config("inception_v3_gap", units=8), 10, weights).eval()
        maps = network.trunk(images)
        assert network.untrained == "the new head" and maps.shape == (1, 768, 4, 4)
        uncounted = maps_by_torchvision(whole, images, "Mixed_6e")
        torch.testing.assert_close(maps, uncounted, rtol=1e-4, atol=1e-5)
