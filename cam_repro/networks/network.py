"""The network every room downstream sees: image → (logits, maps)."""

from __future__ import annotations

import torch
from torch import nn

from cam_repro import UserError
from cam_repro.config import ModelConfig
from cam_repro.networks.trunks import backbone, out_channels


class CamNetwork(nn.Module):
    """Trunk, head, pooling over space, linear classifier (Zhou et al. 2016, §2–3).

    Attributes: `trunk` and `head` give the maps (N,K,H,W) after the last ReLU; `classifier` is linear on the
    pooled maps, or None where the maps are the classes' own (K = C), as in SqueezeNet and NIN.
    """

    def __init__(
        self, trunk: nn.Sequential, head: nn.Module, classifier: nn.Linear | None, pool: str, dropout: float
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
        pooled = maps.mean((2, 3)) if self.pool == "average" else maps.amax((2, 3))
        return self.classifier(self.dropout(pooled)), maps

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N,3,H,W) normalised images → logits (N,C)."""
        return self.forward_with_maps(images)[0]

    @property
    def classifier_weight(self) -> torch.Tensor:
        """(C,K): row c weighs the maps in class c's activation map; the identity where the maps are the classes'."""
        if isinstance(self.classifier, nn.Linear):
            return self.classifier.weight
        return torch.eye(self.num_classes, device=next(self.parameters()).device)

    @property
    def classifier_bias(self) -> torch.Tensor:
        """(C,): what the pooled maps do not explain of a logit."""
        if isinstance(self.classifier, nn.Linear):
            return self.classifier.bias
        return torch.zeros(self.num_classes, device=next(self.parameters()).device)

    @property
    def num_classes(self) -> int:
        if isinstance(self.classifier, nn.Linear):
            return self.classifier.out_features
        return [m for m in self.trunk.modules() if isinstance(m, nn.Conv2d)][-1].out_channels


def assemble(config: ModelConfig, whole: nn.Module, num_classes: int) -> CamNetwork:
    """Cut the torchvision network `whole` and put the configured head on it; new layers are freshly initialised."""
    if config.native:
        return _native(config, whole, num_classes)
    trunk = backbone(config.backbone).surgery(whole)
    channels = out_channels(trunk)
    if channels % config.groups:
        raise UserError(f"model.groups={config.groups} does not divide the trunk's {channels} maps ({config.backbone})")
    convolution = nn.Conv2d(channels, config.units, 3, padding=1, groups=config.groups)
    initialise_convolution(convolution, config.conv_init, config.conv_bias)
    head = nn.Sequential(convolution, nn.ReLU(inplace=True))
    return CamNetwork(trunk, head, fresh_linear(config.units, num_classes), config.pool, config.dropout)


def _native(config: ModelConfig, whole: nn.Module, num_classes: int) -> CamNetwork:
    cut = backbone(config.backbone).native
    if cut is None:
        raise UserError(f"{config.backbone} has no pooled maps of its own (model.native=true); set model.native=false")
    trunk, classifier = cut(whole)
    if classifier is not None and classifier.out_features != num_classes:
        classifier = fresh_linear(classifier.in_features, num_classes)
    if classifier is None:
        _resize_last_convolution(trunk, num_classes)
    return CamNetwork(trunk, nn.Identity(), classifier, config.pool, config.dropout)


def _resize_last_convolution(trunk: nn.Sequential, num_classes: int) -> None:
    last = trunk.classifier[0]
    if last.out_channels != num_classes:
        trunk.classifier[0] = nn.Conv2d(last.in_channels, num_classes, last.kernel_size)
        initialise_convolution(trunk.classifier[0], "gaussian", 0.0)


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
    """He initialisation of every convolution, which lets VGG16 start without batch norm (He et al. 2015)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            initialise_convolution(module, "he")
