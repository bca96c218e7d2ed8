"""Class activation maps: where in an image the evidence for a class lies (Zhou et al. 2016, §2)."""

import numpy as np
import torch

from cam_repro.data.views import sum_ten_crops, ten_crop_coverage


def class_activation_maps(
    maps: torch.Tensor, weight: torch.Tensor, classes: torch.Tensor | None = None
) -> torch.Tensor:
    """M_c(x,y) = Σ_k w_k^c f_k(x,y), without bias, ReLU or normalisation (§2, eq. 2).

    maps (N,K,H,W) after the last ReLU, weight (C,K) of the classifier or (N,C,K) of each image's,
    classes (N,M) wanted of each image, or None for all C → (N,M,H,W) or (N,C,H,W). For average
    pooling the mean of M_c is logit_c − bias_c.
    """
    chosen = weight.to(maps.dtype)
    if classes is not None and weight.ndim == 3:
        rows = torch.arange(len(maps), device=maps.device)[:, None]
        chosen = chosen[rows, classes]
    elif classes is not None:
        chosen = chosen[classes]  # (N,M,K)
    return weighted_sum(chosen, maps)


def weighted_sum(weights: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Σ_k w_k f_k: weights (N,M,K), or (M,K) for every image, of maps (N,K,h,w) → (N,M,h,w)."""
    return (weights @ maps.flatten(2)).unflatten(2, maps.shape[2:])


def top_classes(logits: torch.Tensor, count: int = 5) -> torch.Tensor:
    """(N,C) → (N,min(count,C)) classes by falling logit; of equal logits the lower class number
    comes first.
    """
    return logits.sort(dim=1, descending=True, stable=True).indices[:, :count]


def merge_ten_crops(maps: torch.Tensor, crop: int = 224, *, average: bool = False) -> torch.Tensor:
    """The release's merge of `data.views.ten_crop`'s maps (N,10,M,h,w) into the warped square:
    (N,M,256,256).

    Maps smaller than the crop are resized to it first. The sum of absolute values is not divided by
    how many crops see a pixel (10, 6, 4 or 2), unless `average`.
    """
    images, crops, classes, height, width = maps.shape
    if crops != 10 or max(height, width) > crop:
        expected = f"maps (N,10,M,h,w) of at most {crop}×{crop} (the crop)"
        raise ValueError(f"expected {expected}, got {tuple(maps.shape)}")
    coverage = ten_crop_coverage(crop) if average else 1.0
    of_classes = maps.transpose(1, 2).flatten(0, 1)
    merged = []
    for of_class in of_classes.cpu().float().numpy():
        merged.append(sum_ten_crops(of_class, crop) / coverage)
    whole = torch.from_numpy(np.stack(merged)).to(maps.device)
    return whole.unflatten(0, (images, classes))
