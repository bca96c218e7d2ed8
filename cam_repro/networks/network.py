"""The network that everything later sees: image → (logits, maps)."""

import math
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import nn

from cam_repro import UserError
from cam_repro.config import ModelConfig
from cam_repro.networks.atrous import make_atrous
from cam_repro.networks.found import weight_before_norm
from cam_repro.networks.pixels import ToPixels
from cam_repro.networks.trunks import POOL5, Cut, backbone

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
    network has no class activation map. `norm` is a layer norm of the pooled maps, as ConvNeXt and
    some vision transformers have it, else nothing. `interpolation` is the filter, "bilinear" or
    "bicubic", that shrinks the images it is made for.
    """

    attends = False  # whether its maps are a class token's attention

    def __init__(
        self,
        trunk: nn.Sequential,
        head: nn.Module,
        classifier: nn.Module | None,
        pool: str,
        dropout: float,
        norm: nn.LayerNorm | None = None,
    ):
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.pool = pool
        self.norm = norm if norm is not None else nn.Identity()
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
        pooled = self.norm(POOLS[self.pool](maps))
        return self.classifier(self.dropout(pooled))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N,3,H,W) normalised images → logits (N,C)."""
        return self.forward_with_maps(images)[0]

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(N,3,H,W) normalised images → (N,F): what the last layer is given, before dropout.

        It is the pooled maps (F = K), or of AlexNet and VGG16 as they are fc7, after its ReLU. The
        network must be in evaluation mode.
        """
        features = self.norm(POOLS[self.pool](self.head(self.trunk(images))))
        if self.cam_obstacle:
            layers = [m for m in self.classifier.modules() if not isinstance(m, nn.Sequential)]
            for layer in layers[:-1]:
                features = layer(features)
        return features

    @property
    def cam_obstacle(self) -> str:
        """Why this network has no class activation map; empty if it has."""
        if self.pool != "none":
            return ""
        return (
            "fully connected layers stand between its maps and its classes, "
            "so no class has a weight for a map"
        )

    @property
    def classifier_weight(self) -> torch.Tensor:
        """(C,K): row c weighs the maps in class c's activation map.

        The identity where the maps are the classes' own. Raises UserError where there is no class
        activation map.
        """
        if self.cam_obstacle:
            instead = "use a …_gap network or method=gradcam"
            raise UserError(f"no class activation map: {self.cam_obstacle}; {instead}")
        if isinstance(self.classifier, nn.Linear):
            return self.classifier.weight
        return torch.eye(self.num_classes, device=next(self.parameters()).device)

    def weight_of(self, maps: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """What each of the maps (N,K,h,w) weighs in each class: (C,K), the classifier's weight.

        weight (C,K): that of another linear classifier of the same features. With a layer norm
        before the classifier it is each image's own, (N,C,K).
        """
        if weight is None:
            weight = self.classifier_weight
        if isinstance(self.norm, nn.LayerNorm):
            return weight_before_norm(weight, self.norm, POOLS[self.pool](maps))
        return weight

    @property
    def num_classes(self) -> int:
        return class_count(self)


class AttentionNetwork(CamNetwork):
    """A vision transformer whose classifier reads a class token, which is no average of maps.

    In place of maps there is where that token looks in the last block, the mean of its heads:
    (N,1,h,w), which is no class activation map and the same for all classes. `trunk` gives both.
    """

    attends = True
    cam_obstacle = "its classifier reads a class token, which is no average of maps"

    def forward_with_maps(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N,3,H,W) normalised images → logits (N,C), attention (N,1,h,w)."""
        token, attention = self.trunk(images)
        return self.classifier(self.dropout(token)), attention

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(N,3,H,W) normalised images → the class token (N,F)."""
        token, _ = self.trunk(images)
        return token


def last_layer(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The layer whose outputs are the classes, and its name."""
    found = None
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            found = name, module
    return found


def class_count(network: nn.Module) -> int:
    _, last = last_layer(network)
    return last.weight.shape[0]


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
    """Cut the network `whole` and give it the configured head; new layers start at random.

    Raises UserError for settings that contradict each other or do not fit the backbone.
    """
    chosen = backbone(config.backbone)
    cut = chosen.cut(whole, config.native)
    trunk = nn.Sequential()
    if chosen.pixels is not None:
        trunk.add_module("pixels", ToPixels(chosen.pixels))
    for name, layer in cut.trunk.items():
        trunk.add_module(name, layer)
    if config.native:
        network = _as_it_is(config, trunk, cut, num_classes)
    else:
        network = _with_new_head(config, trunk, num_classes)
    if config.atrous:
        if network.cam_obstacle:
            raise UserError(
                f"model.atrous=true does not fit {config.backbone} as it is: {network.cam_obstacle}"
            )
        make_atrous(nn.Sequential(network.trunk, network.head), chosen.input_size)
    return network


def _with_new_head(config: ModelConfig, trunk: nn.Sequential, num_classes: int) -> CamNetwork:
    """The trunk, §3's head and a new classifier of its pooled maps."""
    chosen = backbone(config.backbone)
    with torch.no_grad():  # a copy without numbers says how many maps there are
        image = torch.zeros(1, 3, chosen.input_size, chosen.input_size, device="meta")
        maps = deepcopy(trunk).to("meta").eval()(image)
    classifier = fresh_linear(config.units, num_classes)
    head = _new_head(config, maps.shape[1])
    return CamNetwork(trunk, head, classifier, config.pool, config.dropout)


def _new_head(config: ModelConfig, channels: int) -> nn.Sequential:
    """The backbone's extension, then §3's convolution of `units`; each with a ReLU."""
    layers = (*backbone(config.backbone).extension, config.units)
    widths = [channels]
    for layer in layers:
        if layer != POOL5:
            widths.append(layer)
    divisor = math.gcd(*widths)
    if divisor % config.groups:
        raise UserError(
            f"model.groups={config.groups} must divide {', '.join(map(str, widths))}: "
            f"{config.backbone}'s maps and the units of the added convolutions; "
            f"choose a divisor of {divisor}"
        )
    head = nn.Sequential()
    for layer in layers:
        if layer == POOL5:
            head.append(nn.MaxPool2d(3, stride=1))
            continue
        convolution = nn.Conv2d(channels, layer, 3, padding=1, groups=config.groups)
        initialise_convolution(convolution, config.conv_init, config.conv_bias)
        head.append(convolution)
        head.append(nn.ReLU(inplace=True))
        channels = layer
    return head


def _as_it_is(config: ModelConfig, trunk: nn.Sequential, cut: Cut, num_classes: int) -> CamNetwork:
    """The whole network, but for a last layer of another number of classes."""
    unused = list(ADDED)
    if cut.fully_connected is not None:
        unused += ["pool", "dropout"]
        classifier = cut.fully_connected
        pool = "none"
    else:
        if cut.linear is None:
            unused.append("dropout")
        if cut.attends:
            unused.append("pool")
        classifier = cut.linear
        pool = config.pool
    for name in unused:
        value = getattr(config, name)
        default = getattr(ModelConfig, name)
        if value != default:
            raise UserError(
                f"model.{name}={value} sets nothing in {config.backbone} as it is "
                f"(model.native=true); type model.{name}={default} or model.native=false"
            )
    kind = AttentionNetwork if cut.attends else CamNetwork
    network = kind(trunk, nn.Identity(), classifier, pool, config.dropout, cut.norm)
    if class_count(network) != num_classes:
        replace_last_layer(network, num_classes)
    return network


def initialise_convolution(convolution: nn.Conv2d, how: str, bias: float = 0.0) -> None:
    """How a new convolution starts.

    `he`: variance 2 / fan-in, which keeps a ReLU network's scale. `gaussian`: standard deviation
    0.01, as in the release.
    """
    if how == "he":
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    else:
        nn.init.normal_(convolution.weight, std=0.01)
    if convolution.bias is not None:
        nn.init.constant_(convolution.bias, bias)


def scale_head(network: CamNetwork, size: int) -> None:
    """Scale the head's first convolution so that the pooled maps' root mean square is near 1.

    A trained trunk's maps have any scale (SqueezeNet's on photographs are around 45), which He
    initialisation keeps: the first loss would be far above ln C. ReLU passes a factor on, so one
    division is enough, whatever the pooling. The scale is that of four images of coloured noise,
    in blobs of 8 pixels: within a factor of 2 of photographs'. size: pixels a side of these, which
    the network takes.
    """
    noise = torch.randn(4, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    noise = nn.functional.interpolate(noise / noise.std(), size=size, mode="bicubic")
    with torch.no_grad():
        _, maps = network.eval().forward_with_maps(noise)
        pooled = POOLS[network.pool](maps)
        network.head[0].weight /= pooled.square().mean().sqrt().clamp(min=1e-6)
    network.train()


def fresh_linear(in_features: int, num_classes: int) -> nn.Linear:
    linear = nn.Linear(in_features, num_classes)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    return linear


def initialise_from_scratch(network: CamNetwork) -> None:
    """He's start for every convolution, which lets VGG16 learn without batch norm (He et al. 2015).

    Not for one whose maps, behind a ReLU, are the class scores: half of the classes would start at
    zero for every image and never learn. It starts small, at scores around 1. The first takes
    pixels near 1 or smaller; where they are Caffe's, of 0…255, it starts as much smaller.
    """
    _, last = last_layer(network)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for module in convolutions:
        if module is last:
            initialise_convolution(module, "gaussian", bias=1.0)
        else:
            initialise_convolution(module, "he")
    if isinstance(network.trunk[0], ToPixels):
        convolutions[0].weight.data /= network.trunk[0].scale.mean().clamp(min=1.0)
