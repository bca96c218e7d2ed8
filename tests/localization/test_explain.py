"""Maps of any torch module: where they are found, what they are, and what is refused."""

from collections.abc import Callable
from importlib import import_module
from unittest import mock

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import SwinTransformer, VisionTransformer, get_model

from cam_repro import UserError, explain

explain_module = import_module("cam_repro.localization.explain")


class Pooled(nn.Module):
    """Two convolutions, then a pooling and a classifier of one's choice."""

    def __init__(self, pool=lambda maps: maps.mean((2, 3)), head: nn.Module | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(inplace=True), nn.Conv2d(8, 6, 3)
        )
        self.pool = pool
        self.head = head or nn.Linear(6, 4)
        nn.init.constant_(self.body[2].bias[:2], -9.0)  # two units that no image makes fire

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(F.relu(self.body(images))))


IMAGES = torch.randn(3, 3, 20, 26, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_the_mean_of_a_class_activation_map_is_its_logit_without_the_bias() -> None:
    model = Pooled().eval()
    found = explain(model, IMAGES, classes=[0, 1, 2, 3])
    assert torch.equal(found.logits, model(IMAGES))
    assert found.maps.shape == (3, 6, 7, 10)
    cams = torch.einsum("ck,nkhw->nchw", model.head.weight, found.maps)
    assert torch.allclose(cams.mean((2, 3)), found.logits - model.head.bias, atol=1e-5)
    assert found.heatmaps.shape == (3, 4, 20, 26)
    assert str(found.found) == "relu(body) → average pooling → head"


def test_without_classes_the_best_ones_are_explained_at_the_size_asked_for() -> None:
    model = Pooled().eval()
    found = explain(model, IMAGES, top=2, size=(50, 40))
    assert torch.equal(found.classes, model(IMAGES).topk(2).indices)
    assert found.heatmaps.shape == (3, 2, 40, 50)
    for boxes in found.boxes:
        assert all(0 <= x1 <= x2 < 50 and 0 <= y1 <= y2 < 40 for x1, y1, x2, y2 in boxes)


def convolution_behind_the_pooling() -> nn.Module:
    pool_to_a_pixel = Pooled(lambda maps: maps.mean((2, 3), keepdim=True), nn.Conv2d(6, 4, 1))
    return nn.Sequential(pool_to_a_pixel, nn.Flatten())


def the_same_layer_twice() -> nn.Module:
    layer = nn.Conv2d(3, 3, 3)
    return nn.Sequential(layer, layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))


def maps_of_the_classes() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def maximum() -> nn.Module:
    return Pooled(lambda maps: maps.amax((2, 3)))


HEADS = {
    maximum: "relu(body) → max pooling → head",
    convolution_behind_the_pooling: "relu(0.body) → average pooling → 0.head",
    maps_of_the_classes: "1 → average pooling → the classes themselves",
    the_same_layer_twice: "0 → average pooling → 4",
}


@pytest.mark.parametrize("make", HEADS)
def test_maps_are_found_whatever_the_head_is_made_of(make: Callable[[], nn.Module]) -> None:
    found = explain(make().eval(), IMAGES)
    assert str(found.found) == HEADS[make]
    if make is the_same_layer_twice:
        assert found.found.call == 1 and found.maps.shape[2:] == (16, 22)


def user_with_a_norm() -> nn.Module:
    return Pooled(head=nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 4)))


# Of three libraries: the size of the images, and what is found. Random weights.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, str, tuple[int, ...]]] = {
    "torchvision resnet18": (
        lambda: get_model("resnet18"), 64, "layer4 → average pooling → fc", (512, 2, 2),
    ),
    "torchvision squeezenet1_1": (
        lambda: get_model("squeezenet1_1"), 64,
        "classifier.2 → average pooling → the classes themselves", (1000, 3, 3),
    ),
    "torchvision shufflenet_v2_x0_5": (
        lambda: get_model("shufflenet_v2_x0_5"), 64, "conv5 → average pooling → fc", (1024, 2, 2),
    ),
    "torchvision vit, class token": (
        lambda: VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=7), 32,
        "attention of the class token in encoder.layers.encoder_layer_1.self_attention, "
        "mean of its heads", (1, 4, 4),
    ),
    "torchvision swin, maps N,h,w,K": (
        lambda: SwinTransformer([4, 4], 16, [1, 1], [2, 2], [2, 2], num_classes=7), 32,
        "permute → average pooling → head", (32, 4, 4),
    ),
    "timm test_resnet": (
        lambda: timm.create_model("test_resnet"), 64, "layer4 → average pooling → fc", (96, 2, 2),
    ),
    "timm convnext, norm behind the pooling": (
        lambda: timm.create_model("convnext_atto", dims=(8, 8, 16, 16), depths=(1, 1, 1, 1)), 64,
        "norm_pre → average pooling → head.norm → head.fc", (16, 2, 2),
    ),
    "timm vit, class token": (
        lambda: timm.create_model("vit_tiny_patch16_224", **SMALL_VIT), 64,
        "attention of the class token in blocks.1.attn, mean of its heads", (1, 4, 4),
    ),
    "timm vit, tokens pooled behind the norm": (
        lambda: timm.create_model(
            "vit_tiny_patch16_224", global_pool="avg", fc_norm=False, **SMALL_VIT
        ), 64, "norm → average pooling → head", (24, 4, 4),
    ),
    "timm vit, tokens pooled before the norm": (
        lambda: timm.create_model("vit_tiny_patch16_224", global_pool="avg", **SMALL_VIT), 64,
        "norm → average pooling → fc_norm → head", (24, 4, 4),
    ),
    "timm dinov2 with registers and no classes": (
        lambda: timm.create_model("vit_small_patch14_reg4_dinov2", **SMALL_VIT | {"img_size": 56}),
        56, "attention of the class token in blocks.1.attn, mean of its heads", (1, 4, 4),
    ),
    "a user's own": (Pooled, 20, "relu(body) → average pooling → head", (6, 7, 7)),
    "a user's own with a norm": (
        user_with_a_norm, 20, "relu(body) → average pooling → head.0 → head.1", (6, 7, 7),
    ),
}  # fmt: skip
SMALL_VIT = {"embed_dim": 24, "depth": 2, "num_heads": 3, "img_size": 64}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_three_libraries_are_explained_without_a_word_about_them(name: str) -> None:
    make, size, found, shape = NETWORKS[name]
    model = make().eval()
    images = torch.randn(2, 3, size, size)
    explained = explain(model, images, top=3)
    assert str(explained.found) == found
    assert explained.maps.shape == (2, *shape)
    assert torch.allclose(explained.logits, model(images), atol=1e-5)


@pytest.mark.parametrize(
    "name", ["timm convnext, norm behind the pooling", "timm vit, tokens pooled before the norm"]
)
def test_behind_a_layer_norm_the_mean_of_a_map_is_the_logit_less_what_no_map_adds(
    name: str,
) -> None:
    make, size, *_ = NETWORKS[name]
    model = make().eval()
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    classes = [0, 5, 9]
    images = torch.randn(2, 3, size, size)
    shape = explain(model, images).maps.shape
    explained = explain(model, images, classes, size=tuple(shape[:1:-1]))  # not enlarged
    head = model.get_submodule(explained.found.classifier)
    norm = model.get_submodule(explained.found.norm)
    of_no_map = (head.weight @ norm.bias + head.bias)[classes]
    means = torch.from_numpy(explained.heatmaps.mean((2, 3)))
    expected = explained.logits[:, classes] - of_no_map
    torch.testing.assert_close(means, expected, rtol=1e-3, atol=1e-3)


def test_a_class_tokens_attention_is_the_softmax_of_its_scores_and_the_same_for_all_classes() -> (
    None
):
    model = timm.create_model("vit_tiny_patch16_224", **SMALL_VIT).eval()
    images = torch.randn(2, 3, 64, 64)
    explained = explain(model, images, top=2)
    layer = model.blocks[1].attn
    given = []
    handle = layer.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    model(images)
    handle.remove()
    query, key, _ = layer.qkv(given[0]).unflatten(2, (3, 3, 8)).permute(2, 0, 3, 1, 4)
    scores = query[:, :, :1] @ key.mT
    attention = (scores[:, :, 0] * 8**-0.5).softmax(2).mean(1)[:, 1:]
    torch.testing.assert_close(explained.maps.flatten(1), attention)
    assert np.array_equal(explained.heatmaps[:, 0], explained.heatmaps[:, 1])
    assert explained.found.method == "attention" and layer.fused_attn


NORMALISED = Pooled(head=nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 4)))
nn.init.normal_(NORMALISED.head[0].bias)
TWO_LAYERS = Pooled(head=nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4)))
REFUSED = {
    "what head.1 reads is neither average nor maximum of the maps of body": NORMALISED,
    "head.2 reads 9 values and the last maps, of body, are 6×7×10": TWO_LAYERS,
    "has no maps: no layer gives": nn.Sequential(nn.Flatten(), nn.Linear(3 * 20 * 26, 4)),
    r"gives no \(N,C\) scores of classes": nn.Sequential(nn.Conv2d(3, 4, 3)),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_network_without_class_activation_maps_is_refused_with_the_reason(reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        explain(REFUSED[reason].eval(), IMAGES)
    assert "\n" not in str(caught.value)


def test_training_mode_is_refused_and_no_hook_is_left() -> None:
    model = Pooled()
    with pytest.raises(UserError, match="in training mode: call model.eval"):
        explain(model, IMAGES)
    explain(model.eval(), IMAGES)
    with pytest.raises(RuntimeError):
        explain(model, torch.randn(1, 5, 8, 8))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_is_searched_once_and_again_when_it_has_changed() -> None:
    model = Pooled().eval()
    with mock.patch.object(explain_module, "find_maps", wraps=explain_module.find_maps) as search:
        first = explain(model, IMAGES)
        again = explain(model, IMAGES)
        assert search.call_count == 1 and torch.equal(first.logits, again.logits)
        assert np.array_equal(first.heatmaps, again.heatmaps)
        model.head = nn.Linear(6, 9)  # as good as the one before
        assert explain(model, IMAGES).logits.shape == (3, 9) and search.call_count == 1
        explain(model, IMAGES[:, :, :16])
        assert search.call_count == 2
        model.pool = lambda maps: maps.amax((2, 3))
        assert explain(model, IMAGES).found.pool == "max" and search.call_count == 3
        model.head = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4))
        with pytest.raises(UserError, match="other layers stand between them"):
            explain(model, IMAGES)
