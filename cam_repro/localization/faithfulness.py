"""Whether a map shows what the network looked at: its answer to copies of an image changed by it.

Copies are pixels put in or taken out in the order of the map (insertion and deletion, ROAD), or the
image dimmed by the map (average drop). All of an image's copies go through the network in full
batches, and the score is the softmax probability of the class that was best for the whole image.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import nn

from cam_repro.cores import available_cores
from cam_repro.data.views import IMAGENET_MEAN, IMAGENET_STD

BLUR = 11, 5.0  # pixels a side of RISE's filter, and its σ
NOISE = 0.01  # ROAD's, of normalised pixels
# ROAD's weights of the eight neighbours: the four beside a pixel count twice as much as the others
BESIDE = 1 / 6
DIAGONAL = 1 / 12


@dataclass(frozen=True)
class Perturbation:
    """How images are changed.

    steps: in how many equal parts pixels are put in or taken out; insertion_from, deletion_to: what
    stands in place of pixels, a key of SUBSTRATES; percentiles: percent of the pixels that ROAD
    removes.
    """

    steps: int
    insertion_from: str
    deletion_to: str
    percentiles: tuple[int, ...]


def blurred(images: torch.Tensor) -> torch.Tensor:
    """(N,3,H,W), with RISE's Gaussian of 11×11 pixels and σ 5, mirrored at the borders."""
    from torchvision.transforms.functional import gaussian_blur  # as slow to import as torch

    size, sigma = BLUR
    return gaussian_blur(images, [size, size], [sigma, sigma])


def black(images: torch.Tensor) -> torch.Tensor:
    """Images (N,3,H,W) of black pixels, normalised as the others."""
    colour = -torch.tensor(IMAGENET_MEAN) / torch.tensor(IMAGENET_STD)
    return colour.to(images)[:, None, None].expand(images.shape)


SUBSTRATES = {
    "blur": blurred,
    "mean": torch.zeros_like,  # ImageNet's mean colour
    "black": black,
}


# Maps as orders and as masks.


def places_in_order(heatmap: torch.Tensor) -> torch.Tensor:
    """(H,W) -> (H,W): 0 for the pixel of the highest value, H·W − 1 for the lowest.

    Pixels of equal value are in a random order, the same for every map: that of a constant map.
    """
    shuffled = torch.randperm(heatmap.numel(), generator=torch.Generator().manual_seed(0))
    shuffled = shuffled.to(heatmap.device)
    order = shuffled[heatmap.flatten()[shuffled].argsort(descending=True, stable=True)]
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device)
    return places.view(heatmap.shape)


def mask_of(heatmap: torch.Tensor) -> torch.Tensor:
    """(H,W) -> (H,W) in 0…1: the positive part of the map by its maximum (Grad-CAM++, §5.1)."""
    positive = heatmap.clamp_min(0)
    return positive / positive.max().clamp_min(torch.finfo(positive.dtype).tiny)


def matched_mask(heatmap: torch.Tensor) -> torch.Tensor:
    """(H,W) -> (H,W): each pixel's rank, 0…1, equal pixels sharing theirs: the mean is always 1/2.

    Masks of all maps are then equally bright, and differ in nothing but their order.
    """
    _, value_of_pixel, pixels = heatmap.unique(return_inverse=True, return_counts=True)
    ranks = pixels.cumsum(0) - (pixels + 1) / 2
    shares = ranks / max(heatmap.numel() - 1, 1)
    return shares[value_of_pixel].to(heatmap.dtype)


# Copies of one image (3,H,W), changed by the places of its pixels (H,W).


def replaced(
    image: torch.Tensor, other: torch.Tensor, places: torch.Tensor, pixels: torch.Tensor
) -> torch.Tensor:
    """(S,3,H,W): the image with the other one's pixels where the first pixels (S,) places are."""
    return torch.where(places < pixels[:, None, None, None], other, image)


def pixels_by_step(pixels: int, steps: int) -> torch.Tensor:
    """(steps + 1,): how many of so many pixels are changed, from none to all."""
    return torch.linspace(0, pixels, steps + 1, dtype=torch.float64).round().long()


def area(curve: np.ndarray) -> np.ndarray:
    """(…,S) -> (…): the area under scores at equal distances, by trapezoids with both ends."""
    return np.trapezoid(curve, axis=-1) / (curve.shape[-1] - 1)


def imputed(image: torch.Tensor, removed: torch.Tensor) -> torch.Tensor:
    """ROAD's noisy linear imputation (Rong et al. 2022, §4.2) of the removed pixels (H,W) bool.

    Each becomes the weighted mean of its up to eight neighbours, which is one sparse system for all
    of them, and normal noise of σ 0.01, the same for every call. Nothing is left to start from
    where all pixels are removed: ValueError.
    """
    if not removed.any():
        return image.clone()
    if removed.all():
        raise ValueError("a pixel must be left to impute the others from")
    system, known = _imputation_system(image.cpu().double().numpy(), removed.cpu().numpy())
    # The system is symmetric and each diagonal entry is the largest of its row: no pivoting.
    options = {"SymmetricMode": True}
    factors = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0, options=options)
    values = torch.from_numpy(factors.solve(known).T).to(image)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    filled = image.clone()
    filled[:, removed] = values + NOISE * noise.to(image)[:, removed]
    return filled


def _imputation_system(
    image: np.ndarray, removed: np.ndarray
) -> tuple[sparse.csc_array, np.ndarray]:
    """Left side (n,n) and right side (n,3) of the equations of n removed pixels (H,W).

    Pixel by pixel: the sum of its neighbours' weights times its value, less the removed neighbours'
    values by their weights, is the sum of the kept neighbours' values by theirs.
    """
    outside, kept = -2, -1
    equation = np.full(np.array(removed.shape) + 2, outside)
    inner = equation[1:-1, 1:-1]
    inner[~removed] = kept
    unknowns = int(removed.sum())
    inner[removed] = np.arange(unknowns)
    colours = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    y, x = np.nonzero(removed)

    total = np.zeros(unknowns)
    known = np.zeros((unknowns, len(image)))
    entries = []  # (rows, columns, values) of the left side
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dy == dx == 0:
                continue
            weight = DIAGONAL if dy and dx else BESIDE
            row = y + 1 + dy
            column = x + 1 + dx
            neighbour = equation[row, column]
            total += weight * (neighbour != outside)
            is_kept = neighbour == kept
            known[is_kept] += weight * colours[:, row[is_kept], column[is_kept]].T
            (is_removed,) = np.nonzero(neighbour >= 0)
            weights = np.full(len(is_removed), -weight)
            entries.append((is_removed, neighbour[is_removed], weights))
    every = np.arange(unknowns)
    entries.append((every, every, total))
    rows, columns, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    system = sparse.csc_array((values, (rows, columns)), shape=(unknowns, unknowns))
    return system, known


# The scores of an image.


def probabilities(
    network: nn.Module, copies: torch.Tensor, wanted: int, batch_size: int
) -> np.ndarray:
    """(S,): the wanted class's softmax probability of each copy, in batches of nearly one size."""
    batches = -(-len(copies) // batch_size)
    found = []
    for part in copies.chunk(batches):
        part = part.contiguous(memory_format=torch.channels_last)
        found.append(network(part).softmax(1)[:, wanted])
    return torch.cat(found).double().cpu().numpy()


@dataclass(frozen=True)
class Subject:
    """An image (3,H,W), and what every map of it is scored with.

    inserted_into, deleted_to (3,H,W): what stands in place of its pixels; wanted: the best class;
    whole, at_insertion, at_deletion: this class's probability of the three.
    """

    image: torch.Tensor
    inserted_into: torch.Tensor
    deleted_to: torch.Tensor
    wanted: int
    whole: float
    at_insertion: float
    at_deletion: float


def subjects(
    network: nn.Module, images: torch.Tensor, scores: torch.Tensor, how: Perturbation
) -> list[Subject]:
    """Of images (N,3,H,W) and the class probabilities (N,C) that the network gave them."""
    inserted_into = SUBSTRATES[how.insertion_from](images)
    deleted_to = SUBSTRATES[how.deletion_to](images)
    at_insertion = network(inserted_into).softmax(1)
    at_deletion = network(deleted_to).softmax(1)
    found = []
    for number, wanted in enumerate(scores.argmax(1).tolist()):
        subject = Subject(
            images[number],
            inserted_into[number],
            deleted_to[number],
            wanted,
            float(scores[number, wanted]),
            float(at_insertion[number, wanted]),
            float(at_deletion[number, wanted]),
        )
        found.append(subject)
    return found


def faithfulness(
    network: nn.Module,
    subject: Subject,
    heatmap: torch.Tensor,
    how: Perturbation,
    batch_size: int,
) -> dict[str, float]:
    """The scores of one map (H,W), as large as the image, each a share.

    insertion, deletion: the area under the probability as the map's highest pixels come first
    (RISE, Petsiuk et al. 2018, §4.2). average_drop: max(0, Y − O) / Y of the probability Y of the
    image and O of the image times the map; increase: whether O > Y (Grad-CAM++, §5.1); the two
    again with `matched_mask`. road: the mean over the percentiles of half of what the probability
    is higher without the least relevant pixels than without the most relevant (Rong et al. 2022).
    """
    image = subject.image
    places = places_in_order(heatmap)
    pixels = pixels_by_step(places.numel(), how.steps)[1:-1].to(places.device)
    inserted = replaced(subject.inserted_into, image, places, pixels)
    deleted = replaced(image, subject.deleted_to, places, pixels)

    dark = black(image[None])[0]
    masks = torch.stack([mask_of(heatmap), matched_mask(heatmap)])[:, None]
    dimmed = dark + masks * (image - dark)

    removals = []
    for percent in how.percentiles:
        removed = round(places.numel() * percent / 100)
        removals.append(places < removed)
        removals.append(places >= places.numel() - removed)
    with ThreadPoolExecutor(available_cores()) as threads:  # SuperLU leaves Python's lock
        imputations = list(threads.map(lambda removed: imputed(image, removed), removals))

    parts = [inserted, deleted, dimmed, *(copy[None] for copy in imputations)]
    found = probabilities(network, torch.cat(parts), subject.wanted, batch_size)
    inner = len(pixels)
    rising = [subject.at_insertion, *found[:inner], subject.whole]
    falling = [subject.whole, *found[inner : 2 * inner], subject.at_deletion]
    by_map, by_matched = found[2 * inner : 2 * inner + 2]
    without_most, without_least = found[2 * inner + 2 :].reshape(-1, 2).T
    whole = subject.whole
    return {
        "insertion": float(area(np.array(rising))),
        "deletion": float(area(np.array(falling))),
        "average_drop": max(0.0, whole - by_map) / whole,
        "average_drop_matched": max(0.0, whole - by_matched) / whole,
        "increase": float(by_map > whole),
        "increase_matched": float(by_matched > whole),
        "road": float((without_least - without_most).mean() / 2),
    }
