"""Whether a map depends on what the network has learned (Adebayo et al. 2018).

The network's layers are given random weights from the classifier down, more and more of them, and
each time the map of the same class is held against that of the trained network.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from cam_repro.localization.faithfulness import matched_mask
from cam_repro.localization.max_box_acc import normalised

WINDOW = 11, 1.5  # pixels a side of SSIM's Gaussian, and its σ (Wang et al. 2004, §III-B)


def layers_from_the_end(network: nn.Module) -> list[list[nn.Module]]:
    """The layers with weights, the classifier first, each with the normalisation behind it.

    Their order is that in which the network names them, as a rule that of the forward pass.
    """
    layers: list[list[nn.Module]] = []
    for module in network.modules():
        if not hasattr(module, "reset_parameters") or not list(module.parameters()):
            continue
        if isinstance(module, _NormBase | nn.LayerNorm | nn.GroupNorm) and layers:
            layers[-1].append(module)
        else:
            layers.append([module])
    return layers[::-1]


def cuts(layers: int, steps: int) -> list[int]:
    """How many of the layers are random at each step: one, then evenly more, in the end all."""
    return sorted(set(np.linspace(1, layers, steps).round().astype(int).tolist()))


def randomised(network: nn.Module, steps: int) -> Iterator[nn.Module]:
    """Copies of the network, of which more and more layers start anew as torch starts them.

    The random weights are the same at every call, and torch's generator stays as it was.
    """
    copy = deepcopy(network)
    layers = layers_from_the_end(copy)
    done = 0
    for count in cuts(len(layers), steps):
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(count)
            for layer in layers[done:count]:
                for module in layer:
                    module.reset_parameters()
        done = count
        yield copy


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, of two maps (H,W); of equal maps 1, and 0 where one of two is constant."""
    if np.array_equal(one, other):
        return 1.0
    ranks = []
    for heatmap in (one, other):
        ranked = matched_mask(torch.from_numpy(heatmap).double()).numpy() - 0.5
        length = np.linalg.norm(ranked)
        if length == 0:
            return 0.0
        ranks.append(ranked / length)
    return float((ranks[0] * ranks[1]).sum())


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    """The structural similarity of two maps (H,W), each from 0 to 1 (Wang et al. 2004, eq. 13).

    The mean over all windows that lie in the map whole.
    """
    size, sigma = WINDOW
    if min(one.shape) < size:
        raise ValueError(f"SSIM takes maps of at least {size}×{size}, got {one.shape}")

    def smoothed(values: np.ndarray) -> np.ndarray:
        found = cv2.GaussianBlur(values, (size, size), sigma)
        margin = size // 2
        return found[margin:-margin, margin:-margin]

    x = normalised(one).astype(np.float64)
    y = normalised(other).astype(np.float64)
    mean_x = smoothed(x)
    mean_y = smoothed(y)
    variance_x = smoothed(x * x) - mean_x**2
    variance_y = smoothed(y * y) - mean_y**2
    covariance = smoothed(x * y) - mean_x * mean_y
    c1 = 0.01**2
    c2 = 0.03**2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    spread = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return float((likeness / spread).mean())
