"""The normalisation of the pixels that a network was trained with, where it is not ImageNet's."""

from typing import NamedTuple

import torch
from torch import nn

from cam_repro.data.views import IMAGENET_MEAN, IMAGENET_STD


class Pixels(NamedTuple):
    """The mean and deviation of red, green and blue, in 0…1, and whether blue comes first."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False


IMAGENET = Pixels(IMAGENET_MEAN, IMAGENET_STD)
HALF_RANGE = Pixels((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# Caffe takes a mean from pixels of 0…255 and does not divide. GoogLeNet and VGG have one number a
# channel; AlexNet and NIN have ILSVRC's mean image, of which these are the averages.
CAFFE_STD = (1 / 255, 1 / 255, 1 / 255)
CAFFE = Pixels((123 / 255, 117 / 255, 104 / 255), CAFFE_STD, bgr=True)
CAFFE_MEAN_IMAGE = Pixels((122.679 / 255, 116.669 / 255, 104.007 / 255), CAFFE_STD, bgr=True)


class ToPixels(nn.Module):
    """(N,3,H,W) normalised with IMAGENET → normalised with `wanted`.

    The network pads after it, so that its borders too are what it was trained on.
    """

    def __init__(self, wanted: Pixels) -> None:
        super().__init__()
        mean = _by_channel(IMAGENET.mean)
        std = _by_channel(IMAGENET.std)
        wanted_mean = _by_channel(wanted.mean)
        wanted_std = _by_channel(wanted.std)
        self.register_buffer("scale", std / wanted_std, persistent=False)
        self.register_buffer("shift", (mean - wanted_mean) / wanted_std, persistent=False)
        self.bgr = wanted.bgr

    def forward(self, x_nchw: torch.Tensor) -> torch.Tensor:
        pixels = x_nchw * self.scale + self.shift
        return pixels.flip(1) if self.bgr else pixels


def _by_channel(colours: tuple[float, ...]) -> torch.Tensor:
    """(3,1,1), to be used with (N,3,H,W)."""
    return torch.tensor(colours)[:, None, None]
