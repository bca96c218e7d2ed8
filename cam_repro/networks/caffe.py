"""The networks that Zhou et al. had: Caffe's, from the authors' release and from its model zoo.

A layer with weights is at the path that is its Caffe name with dots for slashes ("inception_3a/1x1"
is inception_3a.1x1), so a .caffemodel is a state dict without any table of names. Caffe's rules:
pooling rounds up, a convolution is followed by a ReLU, LRN is across 5 channels. torch's ceil_mode,
LocalResponseNorm and Flatten follow them to the letter. The average pooling of maps is not among
the layers: CamNetwork pools.
"""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional as F

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
TO_INCEPTION_4E = ("3a", "3b", "4a", "4b", "4c", "4d", "4e")
VGG16 = {1: (64, 64), 2: (128, 128), 3: (256, 256, 256), 4: (512, 512, 512), 5: (512, 512, 512)}


class CaffeNetwork(nn.Sequential):
    """Layers in their order, added one after the other under Caffe's names."""

    def convolution(
        self,
        name: str,
        units_in: int,
        units: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> None:
        layer = nn.Conv2d(units_in, units, kernel, stride, padding, groups=groups)
        self.add_module(name, layer)
        self.add_module(f"{name}_relu", nn.ReLU(inplace=True))

    def pool(self, name: str, kernel: int = 3, stride: int = 2) -> None:
        self.add_module(name, nn.MaxPool2d(kernel, stride, ceil_mode=True))

    def norm(self, name: str) -> None:
        self.add_module(name, nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0))

    def fully_connected(self, units: int, side: int) -> None:
        """fc6 to fc8. Maps of another size than theirs are averaged to it, as torchvision does."""
        self.add_module("fit", nn.AdaptiveAvgPool2d(side))
        self.add_module("flatten", nn.Flatten())
        self.add_module("fc6", nn.Linear(units * side**2, 4096))
        self.add_module("relu6", nn.ReLU())
        self.add_module("drop6", nn.Dropout(0.5))
        self.add_module("fc7", nn.Linear(4096, 4096))
        self.add_module("relu7", nn.ReLU())
        self.add_module("drop7", nn.Dropout(0.5))
        self.add_module("fc8", nn.Linear(4096, 1000))

    def release_head(self, units: int) -> None:
        """The head that the authors' release puts on GoogLeNet and VGG16."""
        self.convolution("CAM_conv", units, 1024, 3, padding=1, groups=2)
        self.add_module("CAM_fc", nn.Linear(1024, 1000))


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
        super().__init__()
        self["1x1"] = nn.Conv2d(units_in, one, 1)
        self["3x3_reduce"] = nn.Conv2d(units_in, three_in, 1)
        self["3x3"] = nn.Conv2d(three_in, three, 3, padding=1)
        self["5x5_reduce"] = nn.Conv2d(units_in, five_in, 1)
        self["5x5"] = nn.Conv2d(five_in, five, 5, padding=2)
        self["pool_proj"] = nn.Conv2d(units_in, pooled, 1)

    def forward(self, x_nchw: torch.Tensor) -> torch.Tensor:
        one = self["1x1"](x_nchw)
        three = self["3x3"](self["3x3_reduce"](x_nchw).relu())
        five = self["5x5"](self["5x5_reduce"](x_nchw).relu())
        pooled = self["pool_proj"](F.max_pool2d(x_nchw, 3, stride=1, padding=1))
        return torch.cat([one, three, five, pooled], dim=1).relu()


def googlenet() -> CaffeNetwork:
    """bvlc_googlenet, without its two auxiliary classifiers (loss1, loss2)."""
    network = _googlenet(INCEPTION)
    loss3 = CaffeNetwork()
    loss3.add_module("classifier", nn.Linear(1024, 1000))
    network.add_module("loss3", loss3)
    return network


def googlenet_cam() -> CaffeNetwork:
    """imagenet_googlenetCAM of the release."""
    network = _googlenet(TO_INCEPTION_4E)
    network.release_head(832)
    return network


def vgg16() -> CaffeNetwork:
    """VGG_ILSVRC_16_layers."""
    network = _vgg16()
    network.pool("pool5", 2)
    network.fully_connected(512, side=7)
    return network


def vgg16_cam() -> CaffeNetwork:
    """vgg16CAM of the release."""
    network = _vgg16()
    network.release_head(512)
    return network


def caffenet() -> CaffeNetwork:
    """bvlc_reference_caffenet, the paper's AlexNet."""
    network = _alexnet(conv5=256)
    network.pool("pool5")
    network.fully_connected(256, side=6)
    return network


def alexnetplus_cam() -> CaffeNetwork:
    """alexnetplusCAM_imagenet of the release, the paper's AlexNet*-GAP."""
    network = _alexnet(conv5=384)
    network.pool("pool5", stride=1)
    network.convolution("conv6", 384, 512, 3, padding=1, groups=2)
    network.convolution("conv7", 512, 512, 3, padding=1, groups=2)
    network.add_module("fc9", nn.Linear(512, 1000))
    return network


def nin() -> CaffeNetwork:
    """nin_imagenet (Lin, Chen, Yan, ICLR 2014, §3).

    Each class's score is the average of its own map, 6×6 at 224.
    """
    network = CaffeNetwork()
    network.convolution("conv1", 3, 96, 11, stride=4)
    network.convolution("cccp1", 96, 96)
    network.convolution("cccp2", 96, 96)
    network.pool("pool0")
    network.convolution("conv2", 96, 256, 5, padding=2)
    network.convolution("cccp3", 256, 256)
    network.convolution("cccp4", 256, 256)
    network.pool("pool2")
    network.convolution("conv3", 256, 384, 3, padding=1)
    network.convolution("cccp5", 384, 384)
    network.convolution("cccp6", 384, 384)
    network.pool("pool3")
    network.add_module("drop", nn.Dropout(0.5))
    network.convolution("conv4-1024", 384, 1024, 3, padding=1)
    network.convolution("cccp7-1024", 1024, 1024)
    network.convolution("cccp8-1024", 1024, 1000)
    return network


def _googlenet(modules: Iterable[str]) -> CaffeNetwork:
    conv1 = CaffeNetwork()
    conv1.convolution("7x7_s2", 3, 64, 7, stride=2, padding=3)
    conv2 = CaffeNetwork()
    conv2.convolution("3x3_reduce", 64, 64)
    conv2.convolution("3x3", 64, 192, 3, padding=1)

    network = CaffeNetwork()
    network.add_module("conv1", conv1)
    network.pool("pool1")
    network.norm("norm1")
    network.add_module("conv2", conv2)
    network.norm("norm2")
    network.pool("pool2")
    units = 192
    for name in modules:
        if name == "4a":
            network.pool("pool3")
        elif name == "5a":
            network.pool("pool4")
        network.add_module(f"inception_{name}", Inception(units, *INCEPTION[name]))
        one, _, three, _, five, pooled = INCEPTION[name]
        units = one + three + five + pooled
    return network


def _vgg16() -> CaffeNetwork:
    """To relu5_3."""
    network = CaffeNetwork()
    units_in = 3
    for block, widths in VGG16.items():
        if block > 1:
            network.pool(f"pool{block - 1}", 2)
        for number, units in enumerate(widths, 1):
            network.convolution(f"conv{block}_{number}", units_in, units, 3, padding=1)
            units_in = units
    return network


def _alexnet(conv5: int) -> CaffeNetwork:
    """To relu5.

    Caffe's reference network pools before it normalises, Krizhevsky et al.'s the other way round.
    """
    network = CaffeNetwork()
    network.convolution("conv1", 3, 96, 11, stride=4)
    network.pool("pool1")
    network.norm("norm1")
    network.convolution("conv2", 96, 256, 5, padding=2, groups=2)
    network.pool("pool2")
    network.norm("norm2")
    network.convolution("conv3", 256, 384, 3, padding=1)
    network.convolution("conv4", 384, 384, 3, padding=1, groups=2)
    network.convolution("conv5", 384, conv5, 3, padding=1, groups=2)
    return network
