"""Which weights may go into a network, and what they must give there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from cam_repro import UserError
from cam_repro.config import model_config
from cam_repro.networks import CamNetwork, build_network
from cam_repro.networks.network import assemble
from cam_repro.networks.trunks import backbone
from cam_repro.networks.weights import load_backbone

WHOLE: dict[str, Callable[[], nn.Module]] = {
    "alexnet": lambda: models.alexnet(weights=None),
    "vgg": lambda: models.vgg16(weights=None, init_weights=False),
    # torchvision builds its pretrained GoogLeNet so, auxiliary classifiers taken off
    "googlenet": lambda: models.googlenet(weights=None, aux_logits=False, transform_input=True, init_weights=False),
    "resnet18": lambda: models.resnet18(weights=None),
    "squeezenet": lambda: models.squeezenet1_0(weights=None),
}


def checkpoint_of(network: CamNetwork, name: str) -> dict[str, Any]:
    """What a run saves, as far as a reader of weights goes."""
    wnids = [f"n{label}" for label in range(network.num_classes)]
    return {"network": network.state_dict(), "model": asdict(model_config(name)), "wnids": wnids}


def test_torchvision_weights_survive_the_surgery(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = models.alexnet(weights=None).eval()
    torch.save(whole.state_dict(), tmp_path / "alexnet.pth")
    network = build_network("alexnet_gap", num_classes=4, weights=tmp_path / "alexnet.pth").eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(network.trunk(images), whole.features[:12](images))
    assert network.untrained == "the new head"


def test_googlenet_weights_with_auxiliary_classifiers_are_taken(tmp_path: Path) -> None:
    whole = models.googlenet(weights=None, aux_logits=True, init_weights=False)
    torch.save(whole.state_dict(), tmp_path / "googlenet.pth")
    network = build_network("googlenet_gap", num_classes=4, weights=tmp_path / "googlenet.pth")
    assert torch.equal(network.trunk.inception4e.branch1.conv.weight, whole.inception4e.branch1.conv.weight)


@pytest.mark.parametrize("name", WHOLE)
def test_native_networks_give_torchvisions_own_logits(name: str) -> None:
    torch.manual_seed(0)
    config, theirs = model_config(name), WHOLE[name]().eval()
    for convolution in (m for m in theirs.modules() if isinstance(m, nn.Conv2d)):
        nn.init.kaiming_normal_(convolution.weight)
    ours = backbone(config.backbone).build()
    load_backbone(ours, theirs.state_dict(), "torchvision's")
    network = assemble(config, ours, 1000).eval()
    images = torch.randn(2, 3, 96, 80)
    with torch.inference_mode():
        logits = theirs(images)
        assert logits.std() > 1e-3
        torch.testing.assert_close(network(images), logits, rtol=1e-4, atol=1e-4 * float(logits.std()))


@pytest.mark.parametrize("name", ["resnet18", "squeezenet"])
def test_a_file_of_torchvisions_weights_trains_every_layer(name: str, tmp_path: Path) -> None:
    theirs = WHOLE[name]().eval()
    torch.save(theirs.state_dict(), tmp_path / "whole.pth")
    network = build_network(name, weights=tmp_path / "whole.pth").eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), theirs(images))
    assert network.untrained == ""


def test_alexnet_star_keeps_torchvisions_first_four_convolutions(tmp_path: Path) -> None:
    whole = models.alexnet(weights=None)
    torch.save(whole.state_dict(), tmp_path / "alexnet.pth")
    network = build_network("alexnet_star_gap", num_classes=4, weights=tmp_path / "alexnet.pth")
    for ours, theirs in zip(network.trunk.parameters(), whole.features[:10].parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert network.untrained == "the new head"


def test_a_network_torchvision_does_not_have_asks_for_a_file() -> None:
    with pytest.raises(UserError, match="torchvision has no nin; give a file"):
        build_network("nin", weights="IMAGENET1K_V1")


def test_native_network_with_other_classes_is_known_to_be_untrained(tmp_path: Path) -> None:
    torch.save(models.squeezenet1_0(weights=None).state_dict(), tmp_path / "squeezenet.pth")
    network = build_network("squeezenet", num_classes=10, weights=tmp_path / "squeezenet.pth")
    assert "1000 classes" in network.untrained


@pytest.mark.parametrize("name", ["alexnet_gap", "nin", "resnet18"])
def test_our_checkpoint_can_start_a_last_layer_for_other_classes(name: str, tmp_path: Path) -> None:
    trained = build_network(name, num_classes=3)
    torch.save(checkpoint_of(trained, name), tmp_path / "checkpoint.pt")
    network = build_network(name, 5, tmp_path / "checkpoint.pt", new_classes=True)
    *kept, _, _ = zip(network.parameters(), trained.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in kept)
    assert network.num_classes == 5
    with pytest.raises(UserError, match=r"trained for 3 classes \(n0, …\), not 5: .* data.synset_mapping="):
        build_network(name, 5, tmp_path / "checkpoint.pt")


def test_a_checkpoint_of_another_network_is_refused_also_for_other_classes(tmp_path: Path) -> None:
    torch.save(checkpoint_of(build_network("resnet18", num_classes=3), "resnet18"), tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="another network: .* it holds a resnet18 with model.backbone=resnet18"):
        build_network("squeezenet", 5, tmp_path / "checkpoint.pt", new_classes=True)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(models.squeezenet1_0(weights=None).state_dict(), tmp_path / "squeezenet.pth")
    with pytest.raises(UserError, match=r"is of another network: .* expected a VGG"):
        build_network("vgg_gap", weights=tmp_path / "squeezenet.pth")
