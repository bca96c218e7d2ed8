"""Inception-v3 up to Mixed_7a, with the average pools of Google's own network.

Szegedy et al. 2016 ("Rethinking the Inception Architecture"). torchvision's blocks average the
zeros of the padding into every 3×3 pool of the border (`count_include_pad=True`); the graph in
which Google trained divides by the places that lie in the image. torchvision's own weights are
ported from Google's, so that these pools are theirs too, but its published errors (22.7 / 6.6 %)
were measured with its own.
"""

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import inception

MAPS_OF_MIXED_7A = 1280


def inception_v3() -> nn.Module:
    """torchvision's `inception_v3` without what is behind Mixed_7a, and a classifier of its maps.

    The names are torchvision's, without its auxiliary classifier.
    """
    blocks = [
        inception.BasicConv2d,
        BlockA,
        inception.InceptionB,
        BlockC,
        inception.InceptionD,
        inception.InceptionE,
        inception.InceptionAux,
    ]
    network = inception.inception_v3(inception_blocks=blocks, aux_logits=False, init_weights=False)
    del network.Mixed_7b
    del network.Mixed_7c
    network.fc = nn.Linear(MAPS_OF_MIXED_7A, 1000)
    return network


class BlockA(inception.InceptionA):
    """Mixed_5b to Mixed_5d."""

    def _forward(self, maps: torch.Tensor) -> list[torch.Tensor]:
        return [
            self.branch1x1(maps),
            self.branch5x5_2(self.branch5x5_1(maps)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(maps))),
            self.branch_pool(average_pool(maps)),
        ]


class BlockC(inception.InceptionC):
    """Mixed_6b to Mixed_6e."""

    def _forward(self, maps: torch.Tensor) -> list[torch.Tensor]:
        twice_7x7 = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(maps)))
        return [
            self.branch1x1(maps),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(maps))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(twice_7x7)),
            self.branch_pool(average_pool(maps)),
        ]


def average_pool(maps: torch.Tensor) -> torch.Tensor:
    """(N,K,h,w) → (N,K,h,w): the mean of the up to nine places around each that are in the maps."""
    return functional.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)
