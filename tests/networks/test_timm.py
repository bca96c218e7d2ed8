"""timm's networks by name: whole, or cut at their stride-16 maps."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from conftest import weights_of
from safetensors.torch import save_file
from torchvision.transforms.functional import normalize

from cam_repro import UserError, explain
from cam_repro.config import ModelConfig
from cam_repro.data.views import IMAGENET_MEAN, IMAGENET_STD
from cam_repro.localization import class_activation_maps
from cam_repro.localization.methods import predict
from cam_repro.networks import build_network, published, read_weights
from cam_repro.networks.trunks import backbone

LITE0 = "timm/tf_efficientnet_lite0"
SMALL = "timm/test_resnet"  # timm's own tiny network for tests


@pytest.mark.parametrize("name", [SMALL, "timm/test_efficientnet", "timm/densenet121"])
def test_a_native_network_gives_timms_own_logits_bit_for_bit(name: str) -> None:
    theirs = timm.create_model(name.removeprefix("timm/")).eval()
    network = build_network(
        ModelConfig("any", name, native=True), theirs.num_classes, weights_of(theirs)
    ).eval()
    pixels = torch.rand(2, 3, 96, 96)
    ours_see, cfg = normalize(pixels, IMAGENET_MEAN, IMAGENET_STD), theirs.pretrained_cfg
    with torch.inference_mode():
        logits, maps = network.forward_with_maps(ours_see)
        seen = network.trunk.pixels(ours_see) if hasattr(network.trunk, "pixels") else ours_see
        torch.testing.assert_close(
            seen, normalize(pixels, cfg["mean"], cfg["std"]), rtol=1e-5, atol=1e-5
        )
        assert torch.equal(logits, theirs(seen)) and torch.equal(
            maps, theirs.forward_features(seen)
        )
    assert network.untrained == "" and network.cam_obstacle == ""


@pytest.mark.parametrize("name", [SMALL, LITE0])
def test_surgery_keeps_timms_maps_of_stride_16_and_no_layer_after_them(name: str) -> None:
    theirs = timm.create_model(name.removeprefix("timm/")).eval()
    network = build_network(ModelConfig("any", name), 3, weights_of(theirs)).eval()
    features = timm.create_model(name.removeprefix("timm/"), features_only=True)
    level = features.feature_info.reduction().index(16)
    features.load_state_dict(theirs.state_dict(), strict=False)
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        seen = network.trunk.pixels(images) if hasattr(network.trunk, "pixels") else images
        assert torch.equal(network.trunk.maps(seen), features.eval()(seen)[level])
    network(images).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    if name == LITE0:
        assert network.trunk(images).shape[1:] == (112, 14, 14)


@pytest.mark.parametrize(
    ("backbone", "native", "message"),
    [
        ("timm/resnt50", False, r"timm has no network resnt50; the nearest: resnet50"),
        ("timm/resnet50.nonsense", False, r"timm/resnet50.nonsense: Invalid pretrained tag"),
        ("timm/xcit_nano_12_p16_224", True, r"xcit_nano_12_p16_224 ends in no maps .* no grid"),
        ("timm/convmixer_768_32", False, r"has no maps of stride 16 to be cut at"),
        (
            "timm/test_vit3",  # pooled by attention
            True,
            r"test_vit3 does not end in average pooling, .* type model.native=false",
        ),
    ],
)
def test_a_network_that_cannot_serve_is_refused_in_one_line(
    backbone: str, native: bool, message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        build_network(ModelConfig("any", backbone, native=native))
    assert "\n" not in str(refused.value)


def test_timms_published_weights_come_from_its_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = timm.create_model("test_resnet")
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda *of: str(tmp_path / "/".join(of[1:]))
    )
    assert published(SMALL) == ("DEFAULT",)
    network = build_network(ModelConfig("any", SMALL, native=True), theirs.num_classes, "DEFAULT")
    assert torch.equal(network.classifier_weight, theirs.get_classifier().weight)
    monkeypatch.setattr(
        huggingface_hub,
        "hf_hub_download",
        lambda *of: (_ for _ in ()).throw(OSError("offline\nno")),
    )
    with pytest.raises(
        UserError, match=r"DEFAULT of timm/test_resnet could not be fetched \(offline\); give a"
    ):
        build_network(ModelConfig("any", SMALL), weights="DEFAULT")


def test_lite0s_packaged_weights_are_timms_layers_in_their_order() -> None:
    weights = read_weights("DEFAULT", LITE0)
    assert weights.sha256.startswith("57934424")
    theirs = timm.create_model("tf_efficientnet_lite0").eval()
    theirs.load_state_dict(weights.tensors)
    network = build_network("efficientnet_lite0", 1000, "DEFAULT").eval()
    pixels = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(
            network(normalize(pixels, IMAGENET_MEAN, IMAGENET_STD)),
            theirs(pixels * 2 - 1),
            rtol=1e-3,
            atol=1e-3,
        )
    assert network.untrained == "" and network.interpolation == "bicubic"
    assert build_network("efficientnet_lite0_gap", 10, weights).untrained == "the new head"


def test_timms_networks_name_the_filter_of_their_images() -> None:
    for name in (SMALL, "timm/test_efficientnet"):
        theirs = timm.create_model(name.removeprefix("timm/"))
        network = build_network(ModelConfig("any", name), 3, weights_of(theirs))
        assert network.interpolation == theirs.pretrained_cfg["interpolation"]
        assert backbone(name).published()["DEFAULT"].interpolation == network.interpolation


@pytest.mark.parametrize(
    ("name", "method", "shape"),
    [
        ("test_vit2", "cam", (64, 10, 10)),  # tokens, averaged before a norm
        ("test_vit", "attention", (1, 10, 10)),  # a class token
        ("test_convnext", "cam", (64, 5, 5)),  # a norm behind the pooling
    ],
)
def test_transformers_and_networks_with_a_norm_behind_the_pooling_are_taken_as_they_are(
    name: str, method: str, shape: tuple[int, ...]
) -> None:
    theirs = timm.create_model(name).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.normal_(module.bias)
    model = ModelConfig("any", f"timm/{name}", native=True, input_size=160)
    network = build_network(model, None, weights_of(theirs)).eval()
    images = torch.randn(2, 3, 160, 160)
    seen = network.trunk.pixels(images) if hasattr(network.trunk, "pixels") else images
    with torch.inference_mode():
        logits, maps = network.forward_with_maps(images)
        torch.testing.assert_close(logits, theirs(seen))
        assert maps.shape == (2, *shape)
        explained = explain(theirs, seen, top=2, size=shape[:0:-1])
        ours = predict(network, images, methods=[method], count=2).maps[method][:, 0]
    torch.testing.assert_close(ours, torch.from_numpy(explained.heatmaps), rtol=1e-3, atol=1e-4)
    assert explained.found.method == method
    other = "gradcam" if method == "attention" else "attention"
    with pytest.raises(UserError, match=f"method={other} cannot serve this network"):
        predict(network, images, methods=[other])


def test_another_classifier_of_normed_features_has_maps_that_add_up() -> None:
    """Its decision less its intercept, and less what the norm's bias gives, is its map's mean."""
    torch.manual_seed(0)
    network = build_network(ModelConfig("mine", "timm/test_convnext", native=True), 5).eval()
    torch.nn.init.normal_(network.norm.weight)
    torch.nn.init.normal_(network.norm.bias)
    weight = torch.randn(3, 64)
    images = torch.rand(2, 3, 160, 160)
    with torch.inference_mode():
        _, maps = network.forward_with_maps(images)
        decisions = (network.features(images) - network.norm.bias) @ weight.T
        means = class_activation_maps(maps, network.weight_of(maps, weight)).mean((2, 3))
    torch.testing.assert_close(means, decisions, rtol=1e-4, atol=1e-4)
