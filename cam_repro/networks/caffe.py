"""The networks that Zhou et al. had: Caffe's own, as the authors' release and Caffe's model zoo
describe them.

A layer with weights is at the path that is its Caffe name with dots for slashes ("inception_3a/1x1"
is inception_3a.1x1), so a .caffemodel is a state dict without any table of names. Caffe's rules:
pooling rounds up, a convolution is followed by a ReLU, LRN is across 5 channels. torch's ceil_mode,
LocalResponseNorm and Flatten follow them to the letter. The average pooling of maps is not among
the layers: CamNetwork pools.
"""

from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional as F

Layers = dict[str, nn.Module]  # by name, in their order

INCEPTION = {  # module: 1×1, 3×3 reduced, 3×3, 5×5 reduced, 5×5, after pooling
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
VGG16 = {1: (64, 64), 2: (128, 128), 3: (256, 256, 256), 4: (512, 512, 512), 5: (512, 512, 512)}


def sequential(layers: Layers) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


class Inception(nn.ModuleDict):
    """(N,K,h,w) → (N,K',h,w): four branches side by side (Szegedy et al. 2015, fig. 2b)."""

    def __init__(
        self,
        units_in: int,
        one: int,
        three_in: int,
        three: int,
        five_in: int,
        five: int,
        pooled: int,
    ):
        super().__init__({
            "1x1": nn.Conv2d(units_in, one, 1),
            "3x3_reduce": nn.Conv2d(units_in, three_in, 1),
            "3x3": nn.Conv2d(three_in, three, 3, padding=1),
            "5x5_reduce": nn.Conv2d(units_in, five_in, 1),
            "5x5": nn.Conv2d(five_in, five, 5, padding=2),
            "pool_proj": nn.Conv2d(units_in, pooled, 1),
        })  # fmt: skip

    def forward(self, x_nchw: torch.Tensor) -> torch.Tensor:
        three = self["3x3"](self["3x3_reduce"](x_nchw).relu())
        five = self["5x5"](self["5x5_reduce"](x_nchw).relu())
        pooled = self["pool_proj"](F.max_pool2d(x_nchw, 3, stride=1, padding=1))
        return torch.cat([self["1x1"](x_nchw), three, five, pooled], dim=1).relu()


def googlenet() -> nn.Sequential:
    """bvlc_googlenet, without its two auxiliary classifiers (loss1, loss2)."""
    return sequential(
        {**_googlenet(INCEPTION), "loss3": sequential({"classifier": nn.Linear(1024, 1000)})}
    )


def googlenet_cam() -> nn.Sequential:
    """imagenet_googlenetCAM of the release."""
    return sequential({**_googlenet([name for name in INCEPTION if name < "5"]), **_cam(832)})


def vgg16() -> nn.Sequential:
    """VGG_ILSVRC_16_layers."""
    return sequential({**_vgg16(), "pool5": _pool(2), **_fully_connected(512, side=7)})


def vgg16_cam() -> nn.Sequential:
    """vgg16CAM of the release."""
    return sequential({**_vgg16(), **_cam(512)})


def caffenet() -> nn.Sequential:
    """bvlc_reference_caffenet, the paper's AlexNet."""
    return sequential({**_alexnet(conv5=256), "pool5": _pool(), **_fully_connected(256, side=6)})


def alexnetplus_cam() -> nn.Sequential:
    """alexnetplusCAM_imagenet of the release, the paper's AlexNet*-GAP."""
    return sequential({
        **_alexnet(conv5=384), "pool5": _pool(stride=1),
        **_convolution("conv6", 384, 512, 3, padding=1, groups=2),
        **_convolution("conv7", 512, 512, 3, padding=1, groups=2),
        "fc9": nn.Linear(512, 1000),
    })  # fmt: skip


def nin() -> nn.Sequential:
    """nin_imagenet (Lin, Chen, Yan, ICLR 2014, §3): each class's score is the average of its own
    map, 6×6 at 224.
    """
    return sequential({
        **_convolution("conv1", 3, 96, 11, stride=4), **_convolution("cccp1", 96, 96), **_convolution("cccp2", 96, 96),
        "pool0": _pool(),
        **_convolution("conv2", 96, 256, 5, padding=2),
        **_convolution("cccp3", 256, 256), **_convolution("cccp4", 256, 256),
        "pool2": _pool(),
        **_convolution("conv3", 256, 384, 3, padding=1),
        **_convolution("cccp5", 384, 384), **_convolution("cccp6", 384, 384),
        "pool3": _pool(), "drop": nn.Dropout(0.5),
        **_convolution("conv4-1024", 384, 1024, 3, padding=1), **_convolution("cccp7-1024", 1024, 1024),
        **_convolution("cccp8-1024", 1024, 1000),
    })  # fmt: skip


def _googlenet(modules: Iterable[str]) -> Layers:
    layers = {
        "conv1": sequential(_convolution("7x7_s2", 3, 64, 7, stride=2, padding=3)), "pool1": _pool(), "norm1": _norm(),
        "conv2": sequential({**_convolution("3x3_reduce", 64, 64), **_convolution("3x3", 64, 192, 3, padding=1)}),
        "norm2": _norm(), "pool2": _pool(),
    }  # fmt: skip
    units = 192
    for name in modules:
        if name in ("4a", "5a"):
            layers[f"pool{int(name[0]) - 1}"] = _pool()
        layers[f"inception_{name}"] = Inception(units, *INCEPTION[name])
        one, _, three, _, five, pooled = INCEPTION[name]
        units = one + three + five + pooled
    return layers


def _vgg16() -> Layers:
    """To relu5_3."""
    layers, units_in = {}, 3
    for block, widths in VGG16.items():
        for number, units in enumerate(widths, 1):
            layers |= _convolution(f"conv{block}_{number}", units_in, units, 3, padding=1)
            units_in = units
        layers |= {f"pool{block}": _pool(2)} if block < 5 else {}
    return layers


def _alexnet(conv5: int) -> Layers:
    """To relu5. Caffe's reference network pools before it normalises, Krizhevsky et al.'s the other
    way round.
    """
    return {
        **_convolution("conv1", 3, 96, 11, stride=4), "pool1": _pool(), "norm1": _norm(),
        **_convolution("conv2", 96, 256, 5, padding=2, groups=2), "pool2": _pool(), "norm2": _norm(),
        **_convolution("conv3", 256, 384, 3, padding=1),
        **_convolution("conv4", 384, 384, 3, padding=1, groups=2),
        **_convolution("conv5", 384, conv5, 3, padding=1, groups=2),
    }  # fmt: skip


def _cam(units: int) -> Layers:
    """The release's head."""
    return {
        **_convolution("CAM_conv", units, 1024, 3, padding=1, groups=2),
        "CAM_fc": nn.Linear(1024, 1000),
    }


def _fully_connected(units: int, side: int) -> Layers:
    """fc6 to fc8. Maps of another size than theirs are averaged to it, as torchvision does."""
    layers = {
        "fit": nn.AdaptiveAvgPool2d(side),
        "flatten": nn.Flatten(),
        "fc6": nn.Linear(units * side**2, 4096),
    }
    between = {
        "relu6": nn.ReLU(),
        "drop6": nn.Dropout(0.5),
        "fc7": nn.Linear(4096, 4096),
        "relu7": nn.ReLU(),
    }
    return {**layers, **between, "drop7": nn.Dropout(0.5), "fc8": nn.Linear(4096, 1000)}


def _convolution(
    name: str,
    units_in: int,
    units: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Layers:
    convolution = nn.Conv2d(units_in, units, kernel, stride, padding, groups=groups)
    return {name: convolution, f"{name}_relu": nn.ReLU(inplace=True)}


def _pool(kernel: int = 3, stride: int = 2) -> nn.MaxPool2d:
    return nn.MaxPool2d(kernel, stride, ceil_mode=True)


def _norm() -> nn.LocalResponseNorm:
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
