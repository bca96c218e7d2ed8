"""Class activation maps: where in the picture the evidence for a class lies (Zhou et al. 2016, §2)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F


def class_activation_maps(
    maps: torch.Tensor, weight: torch.Tensor, classes: torch.Tensor | None = None
) -> torch.Tensor:
    """M_c(x,y) = Σ_k w_k^c f_k(x,y), without bias, ReLU or normalisation (§2, eq. 2).

    maps (N,K,H,W) after the last ReLU, weight (C,K) of the classifier, classes (N,M) wanted of each picture, or
    None for all C → (N,M,H,W) or (N,C,H,W). For average pooling the mean of M_c is logit_c − bias_c.
    """
    maps_nkp = maps.flatten(2)
    weight = weight.to(maps.dtype)
    chosen = weight if classes is None else weight[classes]  # (C,K) or (N,M,K)
    return (chosen @ maps_nkp).unflatten(2, maps.shape[2:])


def resize_maps(maps: np.ndarray, size: tuple[int, int], mode: str = "bicubic") -> np.ndarray:
    """(M,h,w) float → (M,*size): height and width in pixels; the same pixels as F.interpolate, corners not aligned.

    Interpolation is separable, so that it is two small matrix products.
    """
    rows = interpolation_matrix(maps.shape[-2], size[0], mode)
    columns = interpolation_matrix(maps.shape[-1], size[1], mode)
    return rows @ maps @ columns.T


@lru_cache(maxsize=4096)
def interpolation_matrix(small: int, large: int, mode: str) -> np.ndarray:
    """(large, small): what each of `large` samples takes of each of `small`."""
    unit = torch.eye(small)[None, None]
    return F.interpolate(unit, size=(large, small), mode=mode, align_corners=False)[0, 0].numpy()


def top_classes(logits: torch.Tensor, count: int = 5) -> torch.Tensor:
    """(N,C) → (N,min(count,C)) classes by falling logit; of equal logits the lower class number comes first."""
    return logits.sort(dim=1, descending=True, stable=True).indices[:, :count]
