"""Network in Network for ILSVRC (Lin, Chen, Yan, ICLR 2014, §3), which torchvision does not have.

The layers are those of its authors' ImageNet model in Caffe's model zoo ("NIN-Imagenet"): three blocks, each a
convolution and two 1×1 ones, with max pooling between them, then 1024 maps and one map per class. Input 224.
"""

from __future__ import annotations

import torch
from torch import nn


class NetworkInNetwork(nn.Module):
    """(N,3,H,W) → logits (N,C): each class's score is the average of its own map (N,C,6,6) at 224.

    Freshly initialised after He et al. 2015: the zoo's Gaussians fit pixels of 0…255, ours are normalised.
    """

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(*_convolution(3, 96, 11, stride=4), *_convolution(96, 96), *_convolution(96, 96)),
            _pool(),
            nn.Sequential(*_convolution(96, 256, 5, padding=2), *_convolution(256, 256), *_convolution(256, 256)),
            _pool(),
            nn.Sequential(*_convolution(256, 384, 3, padding=1), *_convolution(384, 384), *_convolution(384, 384)),
            _pool(),
            nn.Dropout(0.5),
            nn.Sequential(*_convolution(384, 1024, 3, padding=1), *_convolution(1024, 1024)),
        )
        self.classifier = nn.Sequential(*_convolution(1024, num_classes))
        nn.init.normal_(self.classifier[0].weight, std=0.01)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images)).mean((2, 3))


def _convolution(units_in: int, units: int, kernel: int = 1, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    convolution = nn.Conv2d(units_in, units, kernel, stride, padding)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    nn.init.zeros_(convolution.bias)
    return [convolution, nn.ReLU(inplace=True)]


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)  # Caffe rounds up: 54 → 27 → 13 → 6 pixels a side
