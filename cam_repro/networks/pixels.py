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
    """(N,3,H,W) normalised with IMAGENET → normalised with `wanted`.

    The network pads after it, so that its borders too are what it was trained on.
    """

    def __init__(self, wanted: Pixels) -> None:
        super().__init__()
        mean, std, wanted_mean, wanted_std = (torch.tensor(of)[:, None, None] for of in (*IMAGENET, *wanted))
        self.register_buffer("scale", std / wanted_std, persistent=False)
        self.register_buffer("shift", (mean - wanted_mean) / wanted_std, persistent=False)

    def forward(self, x_nchw: torch.Tensor) -> torch.Tensor:
        return x_nchw * self.scale + self.shift
