"""A network over a split: what it sees in each image, then the boxes a protocol draws from that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import ProtocolConfig
from cam_repro.data.ilsvrc import Split
from cam_repro.data.loaders import Batch, evaluation_batches
from cam_repro.data.views import to_device
from cam_repro.devices import Team, autocast
from cam_repro.localization.boxes import paper_box
from cam_repro.localization.maps import class_activation_maps, resize_maps, top_classes
from cam_repro.networks import CamNetwork

GUESSES = 5


@dataclass
class Seen:
    """What a network saw in N images, in the split's order.

    labels (N,G): the G = min(5, C) best classes; maps (N,G+1,h,w): their activation maps and the true class's,
    before upsampling; sizes (N,2): width and height of the images as stored.
    """

    labels: np.ndarray
    maps: np.ndarray
    sizes: np.ndarray


def look(network: CamNetwork, split: Split, size: int, batch_size: int, team: Team, workers: int | None = None) -> Seen:
    """One forward pass over every image of the split, each counted once whatever the number of processes."""
    if network.pool != "average":
        raise UserError("method=cam needs average pooling: a map's mean must be its share of the logit")
    rows = team.gather(list(_rows(network, split, size, batch_size, team, workers)))
    rows.sort(key=lambda row: row[0])
    if [row[0] for row in rows] != list(range(len(split))):
        raise RuntimeError("an image was counted twice or not at all")
    labels, maps, sizes = (np.stack([row[k] for row in rows]) for k in (1, 2, 3))
    return Seen(labels, maps, sizes)


def _rows(
    network: CamNetwork, split: Split, size: int, batch_size: int, team: Team, workers: int | None
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    network.eval()
    on_cuda = team.device.type == "cuda"
    batches = evaluation_batches(
        split, size, batch_size, rank=team.rank, world=team.world, workers=workers, pin=on_cuda
    )
    with tqdm(total=len(split), desc="look", unit="image", disable=None if team.leads else True) as bar:
        for batch in batches:
            labels, maps = _look_at(network, batch, team.device)
            yield from zip(batch.images.tolist(), labels, maps, batch.sizes.numpy(), strict=True)
            bar.update(min(len(batch) * team.world, bar.total - bar.n))


@torch.inference_mode()
def _look_at(network: CamNetwork, batch: Batch, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    with autocast(device):
        logits, maps = network.forward_with_maps(to_device(batch.pixels, device))
    guesses = top_classes(logits.float(), GUESSES)
    wanted = torch.cat([guesses, batch.labels.to(device)[:, None]], dim=1)
    heat = class_activation_maps(maps.float(), network.classifier_weight, wanted)
    return guesses.cpu().numpy(), heat.cpu().numpy()


def draw_boxes(seen: Seen, protocol: ProtocolConfig) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in pixels of the original images: of the guesses (N,G,4), of the true classes (N,4)."""
    boxes = np.empty((*seen.maps.shape[:2], 4), np.int64)
    for image in tqdm(range(len(boxes)), "boxes", unit="image", disable=None):
        boxes[image] = image_boxes(seen.maps[image], tuple(seen.sizes[image]), protocol)
    return boxes[:, :-1], boxes[:, -1]


def image_boxes(maps: np.ndarray, size: tuple[int, int], protocol: ProtocolConfig) -> list[tuple[int, int, int, int]]:
    """One box for each of an image's small maps (M,h,w); size: its width and height in pixels."""
    heatmaps = resize_maps(maps, (size[1], size[0]), protocol.resize)
    return [paper_box(heatmap, protocol.threshold) for heatmap in heatmaps]
