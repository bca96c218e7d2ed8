"""Where each torchvision backbone is cut: the trunk's maps, and the classifier it came with.

Zhou et al. 2016, §3: AlexNet is kept to conv5 (13×13 maps at 224), VGG16 to conv5_3 (14×14), GoogLeNet to
inception4e (14×14). A *native* cut keeps every layer up to the backbone's own global average pooling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torchvision import models

from cam_repro import UserError


class ToHalfRange(nn.Module):
    """ImageNet mean/std normalisation → the mean 0.5, std 0.5 that torchvision's GoogLeNet weights expect."""

    def forward(self, x_nchw: torch.Tensor) -> torch.Tensor:
        mean = x_nchw.new_tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        std = x_nchw.new_tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        return (x_nchw * std + mean - 0.5) / 0.5


@dataclass(frozen=True)
class Backbone:
    """One torchvision network and its two cuts, each a list of (name, module) in torchvision's own names."""

    build: Callable[[], nn.Module]
    surgery: Callable[[nn.Module], nn.Sequential]  # §3's cut, for a new head
    native: Callable[[nn.Module], tuple[nn.Sequential, nn.Linear | None]] | None = None  # None: classes are the maps


def _children(model: nn.Module, first: str, last: str) -> list[tuple[str, nn.Module]]:
    children = list(model.named_children())
    names = [name for name, _ in children]
    return children[names.index(first) : names.index(last) + 1]


def _sequential(named: list[tuple[str, nn.Module]]) -> nn.Sequential:
    trunk = nn.Sequential()
    for name, module in named:
        trunk.add_module(name, module)
    return trunk


def _googlenet(model: nn.Module, last: str) -> nn.Sequential:
    return _sequential([("to_half_range", ToHalfRange()), *_children(model, "conv1", last)])


def _squeezenet_native(model: nn.Module) -> tuple[nn.Sequential, None]:
    convolution_and_relu = model.classifier[1:3]
    return _sequential([("features", model.features), ("classifier", convolution_and_relu)]), None


BACKBONES: dict[str, Backbone] = {
    "alexnet": Backbone(
        build=lambda: models.alexnet(weights=None),
        surgery=lambda model: _sequential([("features", model.features[:12])]),
    ),
    "vgg16": Backbone(
        build=lambda: models.vgg16(weights=None, init_weights=False),
        surgery=lambda model: _sequential([("features", model.features[:30])]),
    ),
    "googlenet": Backbone(
        build=lambda: models.googlenet(weights=None, aux_logits=False, init_weights=False),
        surgery=lambda model: _googlenet(model, "inception4e"),
        native=lambda model: (_googlenet(model, "inception5b"), model.fc),
    ),
    "squeezenet1_0": Backbone(
        build=lambda: models.squeezenet1_0(weights=None),
        surgery=lambda model: _sequential([("features", model.features)]),
        native=_squeezenet_native,
    ),
}


def backbone(name: str) -> Backbone:
    if name not in BACKBONES:
        raise UserError(f"model.backbone={name} is unknown; choose one of: {', '.join(BACKBONES)}")
    return BACKBONES[name]


def out_channels(trunk: nn.Module) -> int:
    """K of the trunk's maps (N,K,H,W), from a forward pass over one blank picture."""
    was_training = trunk.training
    with torch.inference_mode():
        channels = trunk.eval()(torch.zeros(1, 3, 64, 64)).shape[1]
    trunk.train(was_training)
    return channels
