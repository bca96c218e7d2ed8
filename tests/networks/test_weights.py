"""Which weights may go into a network, and what they must give there."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from conftest import weights_of, write_checkpoint
from torch import nn
from torchvision import models

from cam_repro import UserError
from cam_repro.config import Config, model_config
from cam_repro.networks import CamNetwork, build_network, published, read_weights
from cam_repro.networks.export import publish
from cam_repro.networks.trunks import BACKBONES, backbone, torchvision
from scripts.weights import main as fetch_weights

WHOLE: dict[str, Callable[[], nn.Module]] = {
    "alexnet": lambda: models.alexnet(weights=None),
    "vgg": lambda: models.vgg16(weights=None, init_weights=False),
    # torchvision builds its pretrained GoogLeNet so, auxiliary classifiers taken off
    "googlenet": lambda: models.googlenet(
        weights=None, aux_logits=False, transform_input=True, init_weights=False
    ),
    "resnet18": lambda: models.resnet18(weights=None),
    "squeezenet": lambda: models.squeezenet1_0(weights=None),
    "squeezenet1_1": lambda: models.squeezenet1_1(weights=None),
    "mobilenet_v2": lambda: models.mobilenet_v2(weights=None),
}


def trained_here(name: str, folder: Path) -> tuple[CamNetwork, Path]:
    """A network for three classes and its checkpoint."""
    network = build_network(name, num_classes=3)
    return network, write_checkpoint(
        folder / "checkpoint.pt", model_config(name), network, ["n0", "n1", "n2"]
    )


@pytest.mark.parametrize(("name", "layers"), [("alexnet_gap", 12), ("alexnet_star_gap", 10)])
def test_torchvision_weights_survive_the_surgery(name: str, layers: int) -> None:
    whole = models.alexnet(weights=None).eval()
    network = build_network(name, 4, weights_of(whole)).eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(network.trunk(images), whole.features[:layers](images))
    assert network.untrained == "the new head"


def test_googlenet_weights_with_auxiliary_classifiers_are_taken() -> None:
    whole = models.googlenet(weights=None, aux_logits=True, init_weights=False)
    network = build_network("googlenet_gap", 4, weights_of(whole))
    assert torch.equal(
        network.trunk.inception4e.branch1.conv.weight, whole.inception4e.branch1.conv.weight
    )


@pytest.mark.parametrize("name", WHOLE)
def test_native_networks_give_torchvisions_own_logits(name: str) -> None:
    torch.manual_seed(0)
    theirs = WHOLE[name]().eval()
    for convolution in (m for m in theirs.modules() if isinstance(m, nn.Conv2d)):
        nn.init.kaiming_normal_(convolution.weight)
    network = build_network(name, 1000, weights_of(theirs)).eval()
    images = torch.randn(2, 3, 96, 80)
    with torch.inference_mode():
        logits = theirs(images)
        assert logits.std() > 1e-3
        torch.testing.assert_close(
            network(images), logits, rtol=1e-4, atol=1e-4 * float(logits.std())
        )
    assert network.untrained == ""


def test_published_weights_are_known_by_name_the_default_first() -> None:
    assert published("vgg16") == ("IMAGENET1K_V1",)  # without those of other pixels
    assert published("nin") == ()
    with pytest.raises(UserError, match="there are no published weights of nin; give a file"):
        build_network("nin", weights="DEFAULT")
    with pytest.raises(
        UserError, match=r"weights=IMAGENET1K_V3 is unknown; did you mean IMAGENET1K_V1\?"
    ):
        build_network("alexnet_gap", weights="IMAGENET1K_V3")


def test_published_weights_are_fetched_beforehand_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, name, fetched = WHOLE["alexnet"](), "alexnet-owt-7be5be79.pth", []
    torch.save(whole.state_dict(), tmp_path / name)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(
        torch.hub,
        "download_url_to_file",
        lambda _, to, *__: fetched.append(shutil.copy(tmp_path / name, to)),
    )
    for _ in range(2):
        fetch_weights(Config(model=model_config("alexnet_gap")))
    assert fetched == [str(tmp_path / "torch/checkpoints" / name)]
    content = (tmp_path / name).read_bytes()
    said = (
        f"{fetched[0]}, {len(content) / 1e6:.1f} MB, sha256 {hashlib.sha256(content).hexdigest()}\n"
    )
    assert capsys.readouterr().out == 2 * f"weights=IMAGENET1K_V1 of alexnet ({name}): {said}"
    assert torch.equal(
        build_network("alexnet_gap", 9, "DEFAULT").trunk[0][0].weight, whole.features[0].weight
    )
    with pytest.raises(UserError, match="there are no published weights of nin"):
        fetch_weights(Config(model=model_config("nin")))


def test_published_weights_name_the_filter_of_their_images() -> None:
    both = torchvision("efficientnet_b1", surgery="features.8", native="features.8").published()
    assert [of.interpolation for of in both.values()] == ["bicubic", "bilinear"]
    assert backbone("resnet18").interpolation() == "bilinear"


@pytest.fixture
def bicubic_squeezenet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backbone whose published weights are for images that a bicubic filter shrank."""
    usual = replace(BACKBONES["squeezenet1_0"], interpolation=lambda: "bicubic")
    monkeypatch.setitem(BACKBONES, "squeezenet1_0", usual)


@pytest.mark.usefixtures("bicubic_squeezenet")
def test_another_programs_file_has_the_filter_usual_for_its_backbone() -> None:
    theirs = weights_of(WHOLE["squeezenet"]())
    assert build_network("squeezenet", 1000, theirs).interpolation == "bicubic"
    assert build_network("squeezenet", 1000).interpolation == "bilinear"


@pytest.mark.parametrize(
    ("kept", "interpolation"), [({"interpolation": "bicubic"}, "bicubic"), ({}, "bilinear")]
)
@pytest.mark.usefixtures("bicubic_squeezenet")
def test_a_checkpoint_keeps_its_filter_and_an_old_one_is_bilinear(
    tmp_path: Path, kept: dict[str, str], interpolation: str
) -> None:
    model, file = model_config("squeezenet"), tmp_path / "checkpoint.pt"
    write_checkpoint(file, model, build_network(model, 3), ["n0", "n1", "n2"], **kept)
    assert build_network(model, 3, file).interpolation == interpolation
    publish(read_weights(file, ""), tmp_path / "exported.safetensors", "shapes")
    exported = build_network(model, 3, tmp_path / "exported.safetensors")
    assert exported.interpolation == interpolation


def test_weights_that_cannot_be_fetched_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        torch.hub, "download_url_to_file", mock.Mock(side_effect=OSError("no network"))
    )
    with pytest.raises(
        UserError, match=r"V1 of vgg16 could not be fetched \(no network\); give a down"
    ):
        build_network("vgg_gap", weights="DEFAULT")


def test_native_network_with_other_classes_is_known_to_be_untrained() -> None:
    weights = weights_of(WHOLE["squeezenet"]())
    assert "1000 classes" in build_network("squeezenet", 10, weights).untrained


@pytest.mark.parametrize("name", ["alexnet_gap", "nin", "resnet18"])
def test_our_checkpoint_can_start_a_last_layer_for_other_classes(name: str, tmp_path: Path) -> None:
    trained, checkpoint = trained_here(name, tmp_path)
    network = build_network(name, 5, checkpoint, new_classes=True)
    *kept, _, _ = zip(network.parameters(), trained.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in kept)
    assert network.num_classes == 5
    assert network.untrained == "the classifier (the file has 3 classes, the data 5)"
    with pytest.raises(
        UserError, match=r"trained for 3 classes \(n0, …\), not 5: train on this data first"
    ):
        build_network(name, 5, checkpoint)


def test_weights_of_another_network_are_refused_also_for_other_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is of another network: .* expected the weights of vgg16"):
        build_network("vgg_gap", weights=weights_of(WHOLE["squeezenet"]()))
    _, checkpoint = trained_here("resnet18", tmp_path)
    with pytest.raises(
        UserError, match="another network: .* it holds ModelConfig.*'resnet18', native=True"
    ):
        build_network("squeezenet", 5, checkpoint, new_classes=True)


def test_the_hash_is_of_the_very_bytes_that_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = tmp_path / "network.pth", Path.read_bytes
    torch.save({"weight": torch.zeros(1)}, path)
    before = hashlib.sha256(path.read_bytes()).hexdigest()

    def read_and_replace(self: Path) -> bytes:  # as a training beside would
        content = read(self)
        torch.save({"weight": torch.ones(1)}, self)
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_replace)
    weights = read_weights(path, "squeezenet1_0")
    assert (weights.sha256, weights.tensors) == (before, {"weight": torch.zeros(1)})


def test_layers_behind_the_cut_need_not_be_there() -> None:
    whole = WHOLE["alexnet"]()
    trunk = {key: of for key, of in whole.state_dict().items() if key.startswith("features.")}
    network = build_network("alexnet_gap", 4, replace(weights_of(whole), tensors=trunk))
    assert torch.equal(network.trunk[0][0].weight, whole.features[0].weight)
    with pytest.raises(UserError, match="4 layers differ, among them classifier.1"):
        build_network("alexnet", 1000, replace(weights_of(whole), tensors=trunk))
