"""Maps of any torch module: where they are found, what they are, and what is refused."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import get_model

from cam_repro import UserError, explain
from cam_repro.localization.explain import find_maps


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
    assert torch.equal(found.logits, model(IMAGES)) and found.maps.shape == (3, 6, 7, 10)
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


@pytest.mark.parametrize(
    ("name", "layer"),
    [("resnet18", "layer4"), ("squeezenet1_1", "classifier.2"), ("shufflenet_v2_x0_5", "conv5")],
)
def test_torchvisions_networks_are_explained_without_a_word_about_them(
    name: str, layer: str
) -> None:
    model = get_model(name, weights=None).eval()
    assert find_maps(model, torch.randn(1, 3, 64, 64)).layer == layer


NORMALISED = Pooled(head=nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 4)))
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
