"""The surgery: which maps come out, and which weights may go in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision import models

from cam_repro import UserError
from cam_repro.config import model_config, model_names
from cam_repro.localization import class_activation_maps
from cam_repro.networks import build_network, initialise_from_scratch

MAPS_AT_224 = {
    "alexnet_gap": (1024, 13, 13),
    "vgg_gap": (1024, 14, 14),
    "googlenet_gap": (1024, 14, 14),
    "squeezenet": (7, 13, 13),
}


@pytest.mark.parametrize("name", model_names())
def test_maps_have_the_papers_size_at_224(name: str) -> None:
    network = build_network(name, num_classes=7).eval()
    with torch.inference_mode():
        logits, maps = network.forward_with_maps(torch.randn(1, 3, 224, 224))
    assert logits.shape == (1, 7)
    assert maps.shape[1:] == MAPS_AT_224[name]
    assert maps.min() >= 0  # after the last ReLU


@pytest.mark.parametrize("name", model_names())
def test_mean_of_the_class_activation_map_is_the_logit_less_its_bias(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(name, num_classes=5).eval()
    initialise_from_scratch(network)
    with torch.inference_mode():
        logits, maps = network.forward_with_maps(torch.randn(2, 3, 96, 80))
        cams = class_activation_maps(maps, network.classifier_weight)
    assert cams.abs().max() > 0
    torch.testing.assert_close(cams.mean((2, 3)), logits - network.classifier_bias, rtol=1e-4, atol=1e-5)


def test_forward_gives_the_logits_alone() -> None:
    network = build_network("alexnet_gap", num_classes=3).eval()
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(network(images), network.forward_with_maps(images)[0])


def test_maximum_pooling_takes_the_largest_value_of_each_map() -> None:
    network = build_network(model_config("alexnet_gap", pool="max"), num_classes=3).eval()
    logits, maps = network.forward_with_maps(torch.randn(1, 3, 64, 64))
    torch.testing.assert_close(logits, network.classifier(maps.amax((2, 3))))


def test_groups_halve_the_added_convolution() -> None:
    one, two = (build_network(model_config("alexnet_gap", groups=groups), 3).head[0].weight for groups in (1, 2))
    assert one.shape == (1024, 256, 3, 3)
    assert two.shape == (1024, 128, 3, 3)


def test_he_initialisation_keeps_the_scale_of_vgg_without_batch_norm() -> None:
    torch.manual_seed(0)
    network = build_network("vgg_gap", num_classes=3).eval()
    initialise_from_scratch(network)
    with torch.inference_mode():
        _, maps = network.forward_with_maps(torch.randn(2, 3, 64, 64))
    assert 0.1 < maps.std() < 10


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


def test_native_squeezenet_gives_torchvisions_own_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = models.squeezenet1_0(weights=None).eval()
    torch.save(whole.state_dict(), tmp_path / "squeezenet.pth")
    network = build_network("squeezenet", num_classes=1000, weights=tmp_path / "squeezenet.pth").eval()
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), whole(images))
    assert network.untrained == ""


def test_native_network_with_other_classes_is_known_to_be_untrained(tmp_path: Path) -> None:
    torch.save(models.squeezenet1_0(weights=None).state_dict(), tmp_path / "squeezenet.pth")
    network = build_network("squeezenet", num_classes=10, weights=tmp_path / "squeezenet.pth")
    assert "1000 classes" in network.untrained


def test_our_checkpoint_can_start_a_classifier_for_other_classes(tmp_path: Path) -> None:
    trained = build_network("alexnet_gap", num_classes=3)
    torch.save({"network": trained.state_dict()}, tmp_path / "checkpoint.pt")
    network = build_network("alexnet_gap", 5, tmp_path / "checkpoint.pt", new_classes=True)
    assert torch.equal(network.head[0].weight, trained.head[0].weight)
    assert network.classifier.out_features == 5
    with pytest.raises(UserError, match="another network"):
        build_network("alexnet_gap", 5, tmp_path / "checkpoint.pt")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(models.squeezenet1_0(weights=None).state_dict(), tmp_path / "squeezenet.pth")
    with pytest.raises(UserError, match="is of another network: .* expected a VGG"):
        build_network("vgg_gap", weights=tmp_path / "squeezenet.pth")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "alexnet.pth"
    torch.save(models.squeezenet1_0(weights=None).state_dict(), path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(UserError, match="cannot be read"):
        build_network("squeezenet", weights=path)
    with pytest.raises(UserError, match="is not a file"):
        build_network("squeezenet", weights=tmp_path / "nowhere.pth")


def test_a_pickle_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "owned",)

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="cannot be read"):
        build_network("squeezenet", weights=tmp_path / "evil.pth")
    assert not (tmp_path / "owned").exists()


def test_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="choose one of: .*alexnet_gap.*vgg_gap"):
        build_network("vgg")
