"""What a network wants its pixels normalised with, where that is not what everything here is
normalised with.
"""

from typing import NamedTuple

import torch
from torch import nn

from cam_repro.data.views import IMAGENET_MEAN, IMAGENET_STD


class Pixels(NamedTuple):
    """Of red, green, blue, in 0…1: what is taken from it, and what the rest is divided by; and
    their order.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False


IMAGENET = Pixels(IMAGENET_MEAN, IMAGENET_STD)
HALF_RANGE = Pixels((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# Caffe's 0…255 less a mean, undivided: of GoogLeNet and VGG, and the average of ILSVRC's mean
# image, of AlexNet and NIN
CAFFE = Pixels((123 / 255, 117 / 255, 104 / 255), 3 * (1 / 255,), bgr=True)
CAFFE_MEAN_IMAGE = Pixels((122.679 / 255, 116.669 / 255, 104.007 / 255), 3 * (1 / 255,), bgr=True)


class ToPixels(nn.Module):
    """(N,3,H,W) normalised with IMAGENET → normalised with `wanted`.

    The network pads after it, so that its borders too are what it was trained on.
    """

    def __init__(self, wanted: Pixels) -> None:
        super().__init__()
        of_each = (IMAGENET.mean, IMAGENET.std, wanted.mean, wanted.std)
        mean, std, wanted_mean, wanted_std = (
            torch.tensor(colours)[:, None, None] for colours in of_each
        )
        self.register_buffer("scale", std / wanted_std, persistent=False)
        self.register_buffer("shift", (mean - wanted_mean) / wanted_std, persistent=False)
        self.bgr = wanted.bgr

    def forward(self, x_nchw: torch.Tensor) -> torch.Tensor:
        pixels = x_nchw * self.scale + self.shift
        return pixels.flip(1) if self.bgr else pixels
