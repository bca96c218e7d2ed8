"""The network every room downstream sees: image → (logits, maps)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from cam_repro import UserError
from cam_repro.agreement import NO_CAM, check_model
from cam_repro.config import ModelConfig
from cam_repro.networks.trunks import backbone, out_channels

POOLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "average": lambda maps_nkhw: maps_nkhw.mean((2, 3)),
    "max": lambda maps_nkhw: maps_nkhw.amax((2, 3)),
    "none": lambda maps_nkhw: maps_nkhw,
}


class CamNetwork(nn.Module):
    """Trunk, head, pooling over space, linear classifier (Zhou et al. 2016, §2–3).

    Attributes: `trunk` and `head` give the maps (N,K,H,W) after the last ReLU; `classifier` is linear on the
    pooled maps, or None where the maps are the classes' own (K = C), as in SqueezeNet and NIN. With pool "none"
    it is every layer after the maps, as in AlexNet and VGG16: such a network has no class activation map.
    """

    def __init__(
        self, trunk: nn.Sequential, head: nn.Module, classifier: nn.Module | None, pool: str, dropout: float
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.pool = pool
        self.dropout = nn.Dropout(dropout)
        self.classifier = classifier if classifier is not None else nn.Identity()
        self.untrained = ""  # which layers are still random: an evaluation refuses any

    def forward_with_maps(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N,3,H,W) normalised images → logits (N,C), maps (N,K,h,w) after the last ReLU."""
        maps = self.head(self.trunk(images))
        return self.classifier(self.dropout(POOLS[self.pool](maps))), maps

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N,3,H,W) normalised images → logits (N,C)."""
        return self.forward_with_maps(images)[0]

    @property
    def cam_obstacle(self) -> str:
        """Why this network has no class activation map; empty if it has."""
        if isinstance(self.classifier, nn.Linear | nn.Identity):
            return ""
        return NO_CAM

    @property
    def classifier_weight(self) -> torch.Tensor:
        """(C,K): row c weighs the maps in class c's activation map; the identity where the maps are the classes'.

        Raises UserError where there is no class activation map.
        """
        if isinstance(self.classifier, nn.Linear):
            return self.classifier.weight
        self._refuse_without_cam()
        return torch.eye(self.num_classes, device=next(self.parameters()).device)

    @property
    def classifier_bias(self) -> torch.Tensor:
        """(C,): what the pooled maps do not explain of a logit. Raises UserError as `classifier_weight` does."""
        if isinstance(self.classifier, nn.Linear):
            return self.classifier.bias
        self._refuse_without_cam()
        return torch.zeros(self.num_classes, device=next(self.parameters()).device)

    def _refuse_without_cam(self) -> None:
        if self.cam_obstacle:
            raise UserError(f"no class activation map: {self.cam_obstacle}; use a …_gap network or method=gradcam")

    @property
    def num_classes(self) -> int:
        return class_count(self)


def last_layer(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The layer whose outputs are the classes, and its name."""
    return [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]


def class_count(network: nn.Module) -> int:
    last = last_layer(network)[1]
    return last.out_features if isinstance(last, nn.Linear) else last.out_channels


def assemble(config: ModelConfig, whole: nn.Module, num_classes: int) -> CamNetwork:
    """Cut the network `whole` and put the configured head on it; new layers are freshly initialised.

    Raises UserError for a head that does not fit.
    """
    check_model(config)
    if config.native:
        return _native(config, whole, num_classes)
    trunk = backbone(config.backbone).surgery(whole)
    head = _new_head(config, out_channels(trunk))
    return CamNetwork(trunk, head, fresh_linear(config.units, num_classes), config.pool, config.dropout)


def _new_head(config: ModelConfig, channels: int) -> nn.Sequential:
    """The backbone's extension, then §3's convolution of `units`; each with a ReLU."""
    head = nn.Sequential()
    for layer in (*backbone(config.backbone).extension, config.units):
        if isinstance(layer, str):
            head.append(nn.MaxPool2d(3, stride=1))
            continue
        convolution = nn.Conv2d(channels, layer, 3, padding=1, groups=config.groups)
        initialise_convolution(convolution, config.conv_init, config.conv_bias)
        head.extend([convolution, nn.ReLU(inplace=True)])
        channels = layer
    return head


def _native(config: ModelConfig, whole: nn.Module, num_classes: int) -> CamNetwork:
    """The network as it is, but for a last layer of another number of classes."""
    trunk, classifier = backbone(config.backbone).native(whole)
    pool = config.pool if isinstance(classifier, nn.Linear | None) else "none"
    network = CamNetwork(trunk, nn.Identity(), classifier, pool, config.dropout)
    if network.num_classes != num_classes:
        name, last = last_layer(network)
        network.set_submodule(name, _same_layer(last, num_classes))
    return network


def _same_layer(layer: nn.Linear | nn.Conv2d, num_classes: int) -> nn.Linear | nn.Conv2d:
    if isinstance(layer, nn.Linear):
        return fresh_linear(layer.in_features, num_classes)
    convolution = nn.Conv2d(layer.in_channels, num_classes, layer.kernel_size)
    initialise_convolution(convolution, "gaussian", 0.0)
    return convolution


def initialise_convolution(convolution: nn.Conv2d, how: str, bias: float = 0.0) -> None:
    """`he`: variance 2 / fan-in, keeps a ReLU network's scale; `gaussian`: standard deviation 0.01 (release)."""
    if how == "he":
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    else:
        nn.init.normal_(convolution.weight, std=0.01)
    if convolution.bias is not None:
        nn.init.constant_(convolution.bias, bias)


def fresh_linear(in_features: int, num_classes: int) -> nn.Linear:
    linear = nn.Linear(in_features, num_classes)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    return linear


def initialise_from_scratch(network: CamNetwork) -> None:
    """He initialisation of every convolution, which lets VGG16 start without batch norm (He et al. 2015).

    Not of one whose maps, behind a ReLU, are the class scores: from there half of the classes would start at zero
    for every picture and never learn. It starts small, at scores around 1.
    """
    _, last = last_layer(network)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            initialise_convolution(module, *(("gaussian", 1.0) if module is last else ("he",)))
