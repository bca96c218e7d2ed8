"""The network that everything later sees: image → (logits, maps)."""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields

import torch
from torch import nn

from cam_repro import UserError
from cam_repro.config import ModelConfig
from cam_repro.networks.pixels import ToPixels
from cam_repro.networks.trunks import POOL5, backbone, sequential

ADDED = ("units", "groups", "conv_init", "conv_bias")  # settings of the added convolution
POOLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "average": lambda maps_nkhw: maps_nkhw.mean((2, 3)),
    "max": lambda maps_nkhw: maps_nkhw.amax((2, 3)),
    "none": lambda maps_nkhw: maps_nkhw,
}


class CamNetwork(nn.Module):
    """Trunk, head, pooling over space, linear classifier (Zhou et al. 2016, §2–3).

    Attributes: `trunk` and `head` give the maps (N,K,H,W) after the last ReLU; `classifier` is
    linear on the pooled maps, or None where the maps are the classes' own (K = C), as in SqueezeNet
    and NIN. With pool "none" it is every layer after the maps, as in AlexNet and VGG16: such a
    network has no class activation map. `interpolation` is the filter, "bilinear" or "bicubic",
    that shrinks the images it is made for.
    """

    def __init__(
        self,
        trunk: nn.Sequential,
        head: nn.Module,
        classifier: nn.Module | None,
        pool: str,
        dropout: float,
    ):
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.pool = pool
        self.dropout = nn.Dropout(dropout)
        self.classifier = classifier if classifier is not None else nn.Identity()
        self.untrained = ""  # which layers are still random: an evaluation refuses any
        self.interpolation = "bilinear"
        self.starting_weights: dict[str, str] | None = None  # source and sha256; None: random

    def forward_with_maps(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N,3,H,W) normalised images → logits (N,C), maps (N,K,h,w) after the last ReLU."""
        maps = self.head(self.trunk(images))
        return self.classify(maps), maps

    def classify(self, maps: torch.Tensor) -> torch.Tensor:
        """What is behind the maps: maps (N,K,h,w) after the last ReLU → logits (N,C)."""
        return self.classifier(self.dropout(POOLS[self.pool](maps)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N,3,H,W) normalised images → logits (N,C)."""
        return self.forward_with_maps(images)[0]

    @property
    def cam_obstacle(self) -> str:
        """Why this network has no class activation map; empty if it has."""
        if isinstance(self.classifier, nn.Sequential):
            return "fully connected layers stand between its maps and its classes, so no class has a weight for a map"
        return ""

    @property
    def classifier_weight(self) -> torch.Tensor:
        """(C,K): row c weighs the maps in class c's activation map; the identity where the maps are
        the classes'.

        Raises UserError where there is no class activation map.
        """
        if self.cam_obstacle:
            raise UserError(
                f"no class activation map: {self.cam_obstacle}; use a …_gap network or method=gradcam"
            )
        if isinstance(self.classifier, nn.Linear):
            return self.classifier.weight
        return torch.eye(self.num_classes, device=next(self.parameters()).device)

    @property
    def num_classes(self) -> int:
        return class_count(self)


def last_layer(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The layer whose outputs are the classes, and its name."""
    return [
        (name, m) for name, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)
    ][-1]


def class_count(network: nn.Module) -> int:
    return last_layer(network)[1].weight.shape[0]


def replace_last_layer(network: nn.Module, num_classes: int) -> None:
    """Put a fresh layer of so many classes in the place of the network's own."""
    name, last = last_layer(network)
    if isinstance(last, nn.Linear):
        fresh = fresh_linear(last.in_features, num_classes)
    else:
        fresh = nn.Conv2d(last.in_channels, num_classes, last.kernel_size)
        initialise_convolution(fresh, "gaussian")
    network.set_submodule(name, fresh)


def assemble(config: ModelConfig, whole: nn.Module, num_classes: int) -> CamNetwork:
    """Cut the network `whole` and put the configured head on it; new layers are freshly
    initialised.

    Raises UserError for settings that contradict each other or do not fit the backbone.
    """
    chosen = backbone(config.backbone)
    layers, classifier = chosen.cut(whole, config.native)
    trunk = sequential({"pixels": ToPixels(chosen.pixels), **layers} if chosen.pixels else layers)
    if config.native:
        return _as_it_is(config, trunk, classifier, num_classes)
    with torch.no_grad():  # a copy without numbers says how many maps there are
        image = torch.zeros(1, 3, chosen.input_size, chosen.input_size, device="meta")
        channels = deepcopy(trunk).to("meta").eval()(image).shape[1]
    classifier = fresh_linear(config.units, num_classes)
    return CamNetwork(trunk, _new_head(config, channels), classifier, config.pool, config.dropout)


def _new_head(config: ModelConfig, channels: int) -> nn.Sequential:
    """The backbone's extension, then §3's convolution of `units`; each with a ReLU."""
    layers = (*backbone(config.backbone).extension, config.units)
    widths = [channels, *(layer for layer in layers if layer != POOL5)]
    if math.gcd(*widths) % config.groups:
        raise UserError(
            f"model.groups={config.groups} must divide {', '.join(map(str, widths))}: {config.backbone}'s maps and the "
            f"units of the added convolutions; choose a divisor of {math.gcd(*widths)}"
        )
    head = nn.Sequential()
    for layer in layers:
        if layer == POOL5:
            head.append(nn.MaxPool2d(3, stride=1))
            continue
        convolution = nn.Conv2d(channels, layer, 3, padding=1, groups=config.groups)
        initialise_convolution(convolution, config.conv_init, config.conv_bias)
        head.extend([convolution, nn.ReLU(inplace=True)])
        channels = layer
    return head


def _as_it_is(
    config: ModelConfig, trunk: nn.Sequential, classifier: nn.Module | None, num_classes: int
) -> CamNetwork:
    """The whole network, but for a last layer of another number of classes."""
    several = isinstance(classifier, nn.Sequential)
    unused = [*ADDED, "pool"] if several else [*ADDED]
    unused += [] if isinstance(classifier, nn.Linear) else ["dropout"]
    for field in fields(config):
        if field.name in unused and (value := getattr(config, field.name)) != field.default:
            raise UserError(
                f"model.{field.name}={value} sets nothing in {config.backbone} as it is (model.native=true); type "
                f"model.{field.name}={field.default} or model.native=false"
            )
    network = CamNetwork(
        trunk, nn.Identity(), classifier, "none" if several else config.pool, config.dropout
    )
    if class_count(network) != num_classes:
        replace_last_layer(network, num_classes)
    return network


def initialise_convolution(convolution: nn.Conv2d, how: str, bias: float = 0.0) -> None:
    """`he`: variance 2 / fan-in, keeps a ReLU network's scale; `gaussian`: standard deviation 0.01
    (release).
    """
    if how == "he":
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    else:
        nn.init.normal_(convolution.weight, std=0.01)
    if convolution.bias is not None:
        nn.init.constant_(convolution.bias, bias)


def scale_head(network: CamNetwork, size: int) -> None:
    """Divide the head's first convolution so that the pooled maps start with a root mean square
    near 1.

    A trained trunk's maps have any scale (SqueezeNet's on photographs are around 45), which He
    initialisation keeps: the first loss would be far above ln C. ReLU passes a factor on, so one
    division is enough, whatever the pooling. The scale is that of four pictures of coloured noise,
    in blobs of 8 pixels: within a factor of 2 of photographs'. size: pixels a side of these, which
    the network takes.
    """
    noise = torch.randn(4, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    noise = nn.functional.interpolate(noise / noise.std(), size=size, mode="bicubic")
    with torch.no_grad():
        maps = network.eval().forward_with_maps(noise)[1]
        network.head[0].weight /= POOLS[network.pool](maps).square().mean().sqrt().clamp(min=1e-6)
    network.train()


def fresh_linear(in_features: int, num_classes: int) -> nn.Linear:
    linear = nn.Linear(in_features, num_classes)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    return linear


def initialise_from_scratch(network: CamNetwork) -> None:
    """He initialisation of every convolution, which lets VGG16 start without batch norm (He et al.
    2015).

    Not of one whose maps, behind a ReLU, are the class scores: from there half of the classes would
    start at zero for every picture and never learn. It starts small, at scores around 1. The first
    takes pixels near 1 or smaller; where they are Caffe's, of 0…255, it starts as much smaller.
    """
    _, last = last_layer(network)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for module in convolutions:
        how, bias = ("gaussian", 1.0) if module is last else ("he", 0.0)
        initialise_convolution(module, how, bias)
    if isinstance(network.trunk[0], ToPixels):
        convolutions[0].weight.data /= network.trunk[0].scale.mean().clamp(min=1.0)
