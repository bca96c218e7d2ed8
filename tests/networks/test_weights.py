"""Which weights may go into a network, and what they must give there."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from cam_repro import UserError
from cam_repro.config import Config, model_config
from cam_repro.networks import CamNetwork, Weights, build_network, published, read_weights
from scripts.fetch_weights import main as fetch_weights

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


@pytest.mark.parametrize(("name", "layers"), [("alexnet_gap", 12), ("alexnet_star_gap", 10)])
def test_torchvision_weights_survive_the_surgery(name: str, layers: int) -> None:
    whole = models.alexnet(weights=None).eval()
    network = build_network(name, 4, Weights(whole.state_dict(), None, None, "torchvision's", "")).eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(network.trunk(images), whole.features[:layers](images))
    assert network.untrained == "the new head"


def test_googlenet_weights_with_auxiliary_classifiers_are_taken() -> None:
    whole = models.googlenet(weights=None, aux_logits=True, init_weights=False)
    network = build_network("googlenet_gap", 4, Weights(whole.state_dict(), None, None, "torchvision's", ""))
    assert torch.equal(network.trunk.inception4e.branch1.conv.weight, whole.inception4e.branch1.conv.weight)


@pytest.mark.parametrize("name", WHOLE)
def test_native_networks_give_torchvisions_own_logits(name: str) -> None:
    torch.manual_seed(0)
    theirs = WHOLE[name]().eval()
    for convolution in (m for m in theirs.modules() if isinstance(m, nn.Conv2d)):
        nn.init.kaiming_normal_(convolution.weight)
    network = build_network(name, 1000, Weights(theirs.state_dict(), None, None, "torchvision's", "")).eval()
    images = torch.randn(2, 3, 96, 80)
    with torch.inference_mode():
        logits = theirs(images)
        assert logits.std() > 1e-3
        torch.testing.assert_close(network(images), logits, rtol=1e-4, atol=1e-4 * float(logits.std()))
    assert network.untrained == ""


def test_published_weights_are_known_by_name_the_default_first() -> None:
    assert published("vgg16") == ("IMAGENET1K_V1",)  # without those of other pixels
    assert published("nin") == ()
    with pytest.raises(UserError, match="there are no published weights of nin; give a file"):
        build_network("nin", weights="DEFAULT")
    with pytest.raises(UserError, match=r"weights=IMAGENET1K_V3 is unknown; did you mean IMAGENET1K_V1\?"):
        build_network("alexnet_gap", weights="IMAGENET1K_V3")


def cached(whole: nn.Module, file: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file where torch keeps its downloads."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    path = folder / "checkpoints" / file
    path.parent.mkdir()
    torch.save(whole.state_dict(), path)
    return path


def test_published_weights_are_read_once_and_named_with_their_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cached(whole := WHOLE["resnet18"](), "resnet18-f37072fd.pth", tmp_path, monkeypatch)
    content, opened = path.read_bytes(), []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path) or read_bytes(path))
    weights = read_weights("DEFAULT", "resnet18")
    assert opened == [path] and weights.sha256 == hashlib.sha256(content).hexdigest()
    assert weights.source == "weights=IMAGENET1K_V1 of resnet18 (resnet18-f37072fd.pth)"
    assert torch.equal(build_network("resnet18", 1000, weights).classifier_weight, whole.fc.weight)


def test_published_weights_are_fetched_beforehand_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = cached(WHOLE["alexnet"](), "alexnet-owt-7be5be79.pth", tmp_path, monkeypatch)
    path = path.rename(tmp_path / path.name)  # where an address has it, from which it is then fetched
    fetched = []
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda _, to, *__: fetched.append(shutil.copy(path, to)))
    for _ in range(2):
        fetch_weights(Config(model=model_config("alexnet_gap")))
    said = f"{fetched[0]}, {path.stat().st_size / 1e6:.1f} MB, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
    assert capsys.readouterr().out == 2 * f"weights=IMAGENET1K_V1 of alexnet ({path.name}): {said}"
    assert fetched == [str(tmp_path / "checkpoints" / path.name)]
    with pytest.raises(UserError, match="there are no published weights of nin"):
        fetch_weights(Config(model=model_config("nin")))


def test_weights_that_cannot_be_fetched_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(UserError, match=r"V1 of vgg16 could not be fetched \(no network\); give a down"):
        build_network("vgg_gap", weights="DEFAULT")


def test_native_network_with_other_classes_is_known_to_be_untrained() -> None:
    weights = Weights(models.squeezenet1_0(weights=None).state_dict(), None, None, "torchvision's", "")
    assert "1000 classes" in build_network("squeezenet", 10, weights).untrained


@pytest.mark.parametrize("name", ["alexnet_gap", "nin", "resnet18"])
def test_our_checkpoint_can_start_a_last_layer_for_other_classes(name: str, tmp_path: Path) -> None:
    trained = build_network(name, num_classes=3)
    torch.save(checkpoint_of(trained, name), tmp_path / "checkpoint.pt")
    network = build_network(name, 5, tmp_path / "checkpoint.pt", new_classes=True)
    *kept, _, _ = zip(network.parameters(), trained.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in kept)
    assert network.num_classes == 5
    assert network.untrained == "the classifier (the file has 3 classes, the data 5)"
    with pytest.raises(UserError, match=r"trained for 3 classes \(n0, …\), not 5: train on this data first"):
        build_network(name, 5, tmp_path / "checkpoint.pt")


def test_weights_of_another_network_are_refused_also_for_other_classes(tmp_path: Path) -> None:
    torch.save(models.squeezenet1_0(weights=None).state_dict(), tmp_path / "squeezenet.pth")
    with pytest.raises(UserError, match=r"is of another network: .* expected the weights of vgg16"):
        build_network("vgg_gap", weights=tmp_path / "squeezenet.pth")
    torch.save(checkpoint_of(build_network("resnet18", num_classes=3), "resnet18"), tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="another network: .* it holds ModelConfig.*'resnet18', native=True"):
        build_network("squeezenet", 5, tmp_path / "checkpoint.pt", new_classes=True)
