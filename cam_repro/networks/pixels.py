"""What a network wants its pixels normalised with, where that is not what everything here is normalised with."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from cam_repro.data.views import IMAGENET_MEAN, IMAGENET_STD


class Pixels(NamedTuple):
    """Of each colour, in 0…1: what is taken from it, and what the rest is divided by."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = Pixels(IMAGENET_MEAN, IMAGENET_STD)
HALF_RANGE = Pixels((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class ToPixels(nn.Module):
    """(N,3,H,W) normalised with IMAGENET → normalised with `wanted`, which is saved with the network.

    The network pads after it, so that its borders too are what it was trained on.
    """

    def __init__(self, wanted: Pixels) -> None:
        super().__init__()
        colours = list(zip(*IMAGENET, *wanted, strict=True))
        scale = [std / wanted_std for _, std, _, wanted_std in colours]
        shift = [(mean - wanted_mean) / wanted_std for mean, _, wanted_mean, wanted_std in colours]
        self.register_buffer("scale", torch.tensor(scale).view(3, 1, 1))
        self.register_buffer("shift", torch.tensor(shift).view(3, 1, 1))

    def forward(self, x_nchw: torch.Tensor) -> torch.Tensor:
        return x_nchw * self.scale + self.shift
