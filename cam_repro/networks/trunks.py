"""The backbones, and where each is cut into the trunk that gives the maps and what follows it.

Zhou et al. 2016, §3: AlexNet is kept to conv5 (13×13 maps at 224), VGG16 to conv5_3 (14×14),
GoogLeNet to inception4e (14×14); a backbone that is not in the paper is cut where its maps are
about as large. The *native* cut keeps every layer: the trunk ends in the backbone's last maps, and
what follows them is its classifier.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cam_repro.networks import caffe
from cam_repro.networks.pixels import CAFFE, CAFFE_MEAN_IMAGE, HALF_RANGE, Pixels
from cam_repro.option_errors import check_choice

Layers = dict[str, nn.Module]  # by name, in their order
POOL5 = "3×3 max pooling, stride 1"


def sequential(layers: Layers) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


@dataclass(frozen=True)
class Cut:
    """The layers of a network that give its maps, and, of a network as it is, what follows them.

    `linear` reads the averages of the maps (GoogLeNet, ResNet), `fully_connected` the maps
    themselves (AlexNet, VGG16). With neither the maps are the classes' own (SqueezeNet, NIN), or a
    new head is to follow. Where the trunk `attends`, it gives a class token, which `linear` reads,
    and in place of maps that token's attention. norm: a layer norm between averages and `linear`.
    """

    trunk: Layers
    linear: nn.Linear | None = None
    fully_connected: nn.Sequential | None = None
    attends: bool = False
    norm: nn.LayerNorm | None = None


@dataclass(frozen=True)
class Published:
    """Weights that a backbone's authors give away.

    fetch: gets their file, once. interpolation: the filter that shrank the images they are for.
    """

    fetch: Callable[[], Path]
    interpolation: str


@dataclass(frozen=True)
class Backbone:
    """A whole network, its two cuts, and where its published weights are.

    cut: takes the whole network, and whether it stays as it is (native) or gets a new head.
    published: the weights by name, those of DEFAULT first.
    interpolation: the filter that is usual for it; Caffe has only the bilinear one.
    by_order: whether a published file has the network's layers in their order, under other names.
    pixels: what it wants, where that is not IMAGENET; its trunk then begins with the conversion.
    extension: what a new head has before its one configured convolution: the units of a 3×3
    convolution, or POOL5.
    input_size: pixels a side of the images that the whole network was made for.
    left_out: what the names of the layers begin with that its authors' files have besides.
    """

    build: Callable[[], nn.Module]
    cut: Callable[[nn.Module, bool], Cut]
    published: Callable[[], dict[str, Published]] = dict
    interpolation: Callable[[], str] = lambda: "bilinear"
    by_order: bool = False
    pixels: Pixels | None = None
    extension: tuple[int | str, ...] = ()
    input_size: int = 224
    left_out: tuple[str, ...] = ()


def after(surgery: str, native: str) -> Callable[[nn.Module, bool], Cut]:
    """The two cuts of a network whose layers run in order, each after the layer of that name."""

    def cut(whole: nn.Module, as_it_is: bool) -> Cut:
        if not as_it_is:
            kept, _ = _split(whole, surgery)
            return Cut(kept)
        kept, rest = _split(whole, native)
        linear = [layer for layer in sequential(rest).modules() if isinstance(layer, nn.Linear)]
        if not linear:
            return Cut(kept)
        if len(linear) == 1:
            return Cut(kept, linear=linear[0])
        if "flatten" not in rest:
            # torchvision flattens in its forward, before the last of its children
            name, layers = rest.popitem()
            rest["flatten"] = nn.Flatten()
            rest[name] = layers
        return Cut(kept, fully_connected=sequential(rest))

    return cut


def _split(model: nn.Module, last: str) -> tuple[Layers, Layers]:
    """A network's layers up to and with the one at the path `last`, and those after it."""
    last_child, _, inner = last.partition(".")
    kept: Layers = {}
    rest: Layers = {}
    for name, child in model.named_children():
        if last_child not in kept:
            kept[name] = child
        else:
            rest[name] = child
    if inner:
        kept_inside, rest_inside = _split(kept[last_child], inner)
        kept[last_child] = sequential(kept_inside)
        rest = {last_child: sequential(rest_inside), **rest}
    return kept, rest


def torchvision(
    name: str, surgery: str, native: str, build: dict[str, bool] | None = None, **more: Any
) -> Backbone:
    """torchvision's network of this name, built with these options."""

    def without_weights() -> nn.Module:
        from torchvision.models import get_model  # as slow to import as torch

        return get_model(name, weights=None, **(build or {}))

    def published() -> dict[str, Published]:
        from torchvision.models import get_model_weights

        found = {}
        for version, weights in get_model_weights(name).__members__.items():
            if version.startswith("IMAGENET1K_V"):  # not DEFAULT, nor VGG's made for other pixels
                fetch = partial(_downloaded, weights.url)
                found[version] = Published(fetch, weights.transforms().interpolation.value)
        return found

    def interpolation() -> str:
        first, *_ = published().values()
        return first.interpolation

    return Backbone(without_weights, after(surgery, native), published, interpolation, **more)


def _downloaded(url: str) -> Path:
    """The file in torch's cache of downloads, checked against the hash that its name ends in."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), path.stem.rpartition("-")[2])
    return path


ALEXNET = torchvision("alexnet", surgery="features.11", native="features.11")
# AlexNet* keeps conv1 to conv4; conv5 with the release's 384 units, pool5 and conv6 are new
ALEXNET_STAR = replace(
    ALEXNET, cut=after(surgery="features.9", native="features.11"), extension=(384, POOL5, 512)
)
VGG16 = torchvision(
    "vgg16", surgery="features.29", native="features.29", build={"init_weights": False}
)
GOOGLENET = torchvision(
    "googlenet",
    surgery="inception4e",
    native="inception5b",
    build={"aux_logits": False, "init_weights": False},
    pixels=HALF_RANGE,
)


def _inception_v3() -> nn.Module:
    from cam_repro.networks.inception import inception_v3  # it imports torchvision

    return inception_v3()


INCEPTION_V3 = replace(
    torchvision("inception_v3", surgery="Mixed_6e", native="Mixed_7a"),
    build=_inception_v3,
    pixels=HALF_RANGE,
    input_size=299,
    left_out=("AuxLogits.", "Mixed_7b.", "Mixed_7c."),
)
NIN = Backbone(caffe.nin, after(surgery="cccp6_relu", native="cccp8-1024_relu"))
BACKBONES = {
    "alexnet": ALEXNET,
    "alexnet_star": ALEXNET_STAR,
    "vgg16": VGG16,
    "googlenet": GOOGLENET,
    "resnet18": torchvision("resnet18", surgery="layer3", native="layer4"),
    "resnet50": torchvision("resnet50", surgery="layer3", native="layer4"),
    "squeezenet1_0": torchvision("squeezenet1_0", surgery="features.12", native="classifier.2"),
    "squeezenet1_1": torchvision("squeezenet1_1", surgery="features.12", native="classifier.2"),
    "mobilenet_v2": torchvision("mobilenet_v2", surgery="features.13", native="features.18"),
    "inception_v3": INCEPTION_V3,
    "nin": NIN,
    # The paper's own, in Caffe
    "nin_caffe": replace(NIN, pixels=CAFFE_MEAN_IMAGE),
    "googlenet_caffe": Backbone(
        caffe.googlenet, after(surgery="inception_4e", native="inception_5b"), pixels=CAFFE
    ),
    "vgg16_caffe": Backbone(
        caffe.vgg16, after(surgery="conv5_3_relu", native="conv5_3_relu"), pixels=CAFFE
    ),
    "caffenet": Backbone(
        caffe.caffenet, after(surgery="conv5_relu", native="conv5_relu"), pixels=CAFFE_MEAN_IMAGE
    ),
    # The release's, native with the release's head
    "googlenet_cam_caffe": Backbone(
        caffe.googlenet_cam, after(surgery="inception_4e", native="CAM_conv_relu"), pixels=CAFFE
    ),
    "vgg16_cam_caffe": Backbone(
        caffe.vgg16_cam, after(surgery="conv5_3_relu", native="CAM_conv_relu"), pixels=CAFFE
    ),
    "alexnetplus_cam_caffe": Backbone(
        caffe.alexnetplus_cam,
        after(surgery="conv5_relu", native="conv7_relu"),
        pixels=CAFFE_MEAN_IMAGE,
    ),
}


def backbone(name: str) -> Backbone:
    """The backbone of this name. Raises UserError with the nearest one."""
    if name.startswith("timm/"):
        # timm takes a second to import
        from cam_repro.networks.timm_backbones import timm_backbone

        return timm_backbone(name.removeprefix("timm/"))
    if name.startswith("torchvision/"):
        from cam_repro.networks.torchvision_backbones import torchvision_backbone

        return torchvision_backbone(name.removeprefix("torchvision/"))
    check_choice("model.backbone", name, [*BACKBONES, "timm/<name>", "torchvision/<name>"])
    return BACKBONES[name]


def layer_names(name: str) -> list[str]:
    """The names of a backbone's state dict, in its order."""
    with torch.device("meta"):
        return list(backbone(name).build().state_dict())


def kept_names(name: str, native: bool) -> set[str]:
    """The names in a backbone's state dict of what is left after its cut."""
    chosen = backbone(name)
    with torch.device("meta"):
        whole = chosen.build()
    name_of = {id(tensor): key for key, tensor in whole.state_dict(keep_vars=True).items()}
    cut = chosen.cut(whole, native)
    kept = nn.ModuleList(cut.trunk.values())
    for layer in (cut.norm, cut.linear, cut.fully_connected):
        if layer is not None:
            kept.append(layer)
    return {name_of[id(tensor)] for tensor in kept.state_dict(keep_vars=True).values()}
