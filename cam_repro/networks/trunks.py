"""The backbones, and where each is cut: the trunk that gives the maps, and the classifier that it
came with.

Zhou et al. 2016, §3: AlexNet is kept to conv5 (13×13 maps at 224), VGG16 to conv5_3 (14×14),
GoogLeNet to inception4e (14×14); a backbone that is not in the paper is cut where its maps are
about as large. The *native* cut keeps every layer: the trunk ends in the backbone's last maps, and
what follows them is its classifier.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cam_repro.networks import caffe
from cam_repro.networks.caffe import Layers, sequential
from cam_repro.networks.pixels import CAFFE, CAFFE_MEAN_IMAGE, HALF_RANGE, Pixels
from cam_repro.option_errors import check_choice

POOL5 = "3×3 max pooling, stride 1"


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

    `cut` takes the whole network, and whether it stays as it is (native) or is cut for a new head.
    It gives the layers of the trunk and what follows them in the native cut: a linear layer on the
    averaged maps, several layers on the maps themselves (AlexNet, VGG16), or None where the maps
    are the classes' own (SqueezeNet, NIN). `extension` lists what a new head has before its one
    configured convolution: units of a 3×3 convolution, or POOL5.
    """

    build: Callable[[], nn.Module]
    cut: Callable[[nn.Module, bool], tuple[Layers, nn.Module | None]]
    published: Callable[[], dict[str, Published]] = dict  # by name, that of DEFAULT first
    interpolation: Callable[[], str] = lambda: "bilinear"  # usual for it; Caffe has no other
    by_order: bool = (
        False  # a published file has the network's layers in their order, under names of its own
    )
    pixels: Pixels | None = (
        None  # if not IMAGENET; a network that says so converts at the start of its trunk
    )
    extension: tuple[int | str, ...] = ()
    input_size: int = 224  # pixels a side of the images that the whole network was made for


def after(
    surgery: str, native: str
) -> Callable[[nn.Module, bool], tuple[Layers, nn.Module | None]]:
    """The cuts after the named layers ("features.29") of a network whose layers run in their order."""

    def cut(whole: nn.Module, as_it_is: bool) -> tuple[Layers, nn.Module | None]:
        kept, left = _split(whole, native if as_it_is else surgery)
        linear = [layer for layer in sequential(left).modules() if isinstance(layer, nn.Linear)]
        if len(linear) < 2:
            return kept, linear[0] if linear else None
        if "flatten" in left:  # Caffe's networks are all their layers
            return kept, sequential(left)
        *pools, (name, classifier) = (
            left.items()
        )  # torchvision averages to fit fc6 and flattens without a layer
        return kept, sequential({**dict(pools), "flatten": nn.Flatten(), name: classifier})

    return cut


def _split(model: nn.Module, last: str) -> tuple[Layers, Layers]:
    """A network's layers up to and with the one at the path `last`, and those after it."""
    name, _, inner = last.partition(".")
    children = list(model.named_children())
    at = [child for child, _ in children].index(name)
    kept, left = dict(children[: at + 1]), dict(children[at + 1 :])
    if inner:
        kept_inside, left_inside = _split(kept[name], inner)
        kept[name] = sequential(kept_inside)
        left = {name: sequential(left_inside), **left}
    return kept, left


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
        for version, of in get_model_weights(name).__members__.items():
            if version.startswith("IMAGENET1K_V"):  # not DEFAULT, nor VGG's made for other pixels
                interpolation = of.transforms().interpolation.value
                found[version] = Published(partial(_downloaded, of.url), interpolation)
        return found

    def interpolation() -> str:
        first, *_ = published().values()
        return first.interpolation

    return Backbone(without_weights, after(surgery, native), published, interpolation, **more)


def _downloaded(url: str) -> Path:
    """The file in torch's own cache of downloads; its name ends in the hash that it is checked
    against.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), path.stem.rpartition("-")[2])
    return path


ALEXNET = torchvision("alexnet", surgery="features.11", native="features.11")
NIN = Backbone(caffe.nin, after(surgery="cccp6_relu", native="cccp8-1024_relu"))
BACKBONES = {
    "alexnet": ALEXNET,
    # AlexNet* keeps conv1 to conv4; conv5 with the release's 384 units, pool5 and conv6 are new
    "alexnet_star": replace(
        ALEXNET, cut=after("features.9", "features.11"), extension=(384, POOL5, 512)
    ),
    "vgg16": torchvision("vgg16", "features.29", "features.29", {"init_weights": False}),
    "googlenet": torchvision(
        "googlenet",
        "inception4e",
        "inception5b",
        {"aux_logits": False, "init_weights": False},
        pixels=HALF_RANGE,
    ),
    "resnet18": torchvision("resnet18", surgery="layer3", native="layer4"),
    "resnet50": torchvision("resnet50", surgery="layer3", native="layer4"),
    "squeezenet1_0": torchvision("squeezenet1_0", surgery="features.12", native="classifier.2"),
    "nin": NIN,
    # The paper's own, in Caffe; those of its release are native with the release's head
    "nin_caffe": replace(NIN, pixels=CAFFE_MEAN_IMAGE),
    "googlenet_caffe": Backbone(
        caffe.googlenet, after("inception_4e", "inception_5b"), pixels=CAFFE
    ),
    "googlenet_cam_caffe": Backbone(
        caffe.googlenet_cam, after("inception_4e", "CAM_conv_relu"), pixels=CAFFE
    ),
    "vgg16_caffe": Backbone(caffe.vgg16, after("conv5_3_relu", "conv5_3_relu"), pixels=CAFFE),
    "vgg16_cam_caffe": Backbone(
        caffe.vgg16_cam, after("conv5_3_relu", "CAM_conv_relu"), pixels=CAFFE
    ),
    "caffenet": Backbone(
        caffe.caffenet, after("conv5_relu", "conv5_relu"), pixels=CAFFE_MEAN_IMAGE
    ),
    "alexnetplus_cam_caffe": Backbone(
        caffe.alexnetplus_cam, after("conv5_relu", "conv7_relu"), pixels=CAFFE_MEAN_IMAGE
    ),
}


def backbone(name: str) -> Backbone:
    """The backbone of this name. Raises UserError with the nearest one."""
    if name.startswith("timm/"):
        from cam_repro.networks.timm_backbones import of_timm  # timm takes a second to import

        return of_timm(name.removeprefix("timm/"))
    check_choice("model.backbone", name, [*BACKBONES, "timm/<name>"])
    return BACKBONES[name]


def layer_names(name: str) -> list[str]:
    """The names of a backbone's state dict, in its order."""
    with torch.device("meta"):
        return [*backbone(name).build().state_dict()]


def kept_names(name: str, native: bool) -> set[str]:
    """Those of a backbone's state dict that are left after its cut."""
    chosen = backbone(name)
    with torch.device("meta"):
        whole = chosen.build()
        names = {id(tensor): key for key, tensor in whole.state_dict(keep_vars=True).items()}
        layers, classifier = chosen.cut(whole, native)
    kept = nn.ModuleList(layers.values())
    if classifier is not None:
        kept.append(classifier)
    return {names[id(tensor)] for tensor in kept.state_dict(keep_vars=True).values()}
