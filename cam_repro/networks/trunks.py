"""Where each backbone is cut: the trunk's maps, and the classifier it came with.

Zhou et al. 2016, §3: AlexNet is kept to conv5 (13×13 maps at 224), VGG16 to conv5_3 (14×14), GoogLeNet to
inception4e (14×14); a backbone that is not in the paper is cut where its maps are about as large. The *native*
cut keeps every layer: the trunk ends in the backbone's last maps, and what follows them is its classifier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from cam_repro import UserError
from cam_repro.data.views import IMAGENET_MEAN, IMAGENET_STD
from cam_repro.networks.nin import NetworkInNetwork

POOL5 = "3×3 max pooling, stride 1"


class ToHalfRange(nn.Module):
    """ImageNet mean/std normalisation → the mean 0.5, std 0.5 that torchvision's GoogLeNet weights expect."""

    def __init__(self) -> None:
        super().__init__()
        for name, colours in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(colours).view(1, 3, 1, 1), persistent=False)

    def forward(self, x_nchw: torch.Tensor) -> torch.Tensor:
        return (x_nchw * self.std + self.mean - 0.5) / 0.5


@dataclass(frozen=True)
class Backbone:
    """A whole network, its two cuts, and where its published weights are.

    `native` gives the trunk and what follows it: a linear layer on the averaged maps, several layers on the maps
    themselves, or None where the maps are the classes' own. `extension` lists what a new head has before its one
    configured convolution: units of a 3×3 convolution, or POOL5.
    """

    build: Callable[[], nn.Module]
    surgery: Callable[[nn.Module], nn.Sequential]  # §3's cut, for a new head
    native: Callable[[nn.Module], tuple[nn.Sequential, nn.Module | None]]
    torchvision: str  # the name its weights have there; empty: it has none
    extension: tuple[int | str, ...] = ()


def _children(model: nn.Module, first: str, last: str) -> list[tuple[str, nn.Module]]:
    children = list(model.named_children())
    names = [name for name, _ in children]
    return children[names.index(first) : names.index(last) + 1]


def _sequential(named: list[tuple[str, nn.Module]]) -> nn.Sequential:
    trunk = nn.Sequential()
    for name, module in named:
        trunk.add_module(name, module)
    return trunk


def _features(model: nn.Module, end: int | None = None) -> nn.Sequential:
    return _sequential([("features", model.features[:end] if end else model.features)])


def _fully_connected(model: nn.Module, end: int) -> tuple[nn.Sequential, nn.Sequential]:
    """AlexNet and VGG16: maps, then pool5 and fc6–fc8; at sizes other than 224 torchvision averages to fit fc6."""
    layers = [("pool5", model.features[end]), ("avgpool", model.avgpool), ("flatten", nn.Flatten())]
    return _features(model, end), _sequential([*layers, ("fc", model.classifier)])


def _googlenet(model: nn.Module, last: str) -> nn.Sequential:
    return _sequential([("to_half_range", ToHalfRange()), *_children(model, "conv1", last)])


def _class_maps(model: nn.Module, end: int) -> tuple[nn.Sequential, None]:
    """SqueezeNet and NIN: the last convolution and its ReLU make one map per class; SqueezeNet has dropout before."""
    return _sequential([("features", model.features), ("classifier", model.classifier[:end])]), None


def _of_torchvision(name: str, **options: bool) -> Callable[[], nn.Module]:
    """torchvision takes as long to import as torch, so it is left until a network is built."""

    def build() -> nn.Module:
        from torchvision.models import get_model

        return get_model(name, weights=None, **options)

    return build


ALEXNET = Backbone(
    build=_of_torchvision("alexnet"),
    surgery=lambda model: _features(model, 12),
    native=lambda model: _fully_connected(model, 12),
    torchvision="alexnet",
)
BACKBONES: dict[str, Backbone] = {
    "alexnet": ALEXNET,
    # AlexNet* keeps conv1 to conv4; conv5 with the release's 384 units, pool5 and conv6 are new
    "alexnet_star": replace(ALEXNET, surgery=lambda model: _features(model, 10), extension=(384, POOL5, 512)),
    "vgg16": Backbone(
        build=_of_torchvision("vgg16", init_weights=False),
        surgery=lambda model: _features(model, 30),
        native=lambda model: _fully_connected(model, 30),
        torchvision="vgg16",
    ),
    "googlenet": Backbone(
        build=_of_torchvision("googlenet", aux_logits=False, init_weights=False),
        surgery=lambda model: _googlenet(model, "inception4e"),
        native=lambda model: (_googlenet(model, "inception5b"), model.fc),
        torchvision="googlenet",
    ),
    "resnet18": Backbone(
        build=_of_torchvision("resnet18"),
        surgery=lambda model: _sequential(_children(model, "conv1", "layer3")),
        native=lambda model: (_sequential(_children(model, "conv1", "layer4")), model.fc),
        torchvision="resnet18",
    ),
    "squeezenet1_0": Backbone(
        build=_of_torchvision("squeezenet1_0"),
        surgery=_features,
        native=lambda model: _class_maps(model, 3),
        torchvision="squeezenet1_0",
    ),
    "nin": Backbone(
        build=NetworkInNetwork,
        surgery=lambda model: _features(model, 5),
        native=lambda model: _class_maps(model, 2),
        torchvision="",
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
