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
from cam_repro.data.views import crops_in, to_device
from cam_repro.devices import Team
from cam_repro.localization.boxes import eight_bit, paper_box, release_boxes
from cam_repro.localization.methods import look, refusal
from cam_repro.localization.placement import picture_heatmaps
from cam_repro.localization.predictions import LOOSE, TIGHT
from cam_repro.networks import CamNetwork


@dataclass
class Seen:
    """What a network saw in N images, in the split's order.

    labels (N,G): the G = min(5, C) best classes; maps (N,G+1,h,w), of a ten-crop view (N,10,G+1,h,w): the maps of
    these and of the true class, before upsampling; sizes (N,2): width and height of the images as stored; view and
    size: what was shown to the network, in crops of `size` pixels a side.
    """

    labels: np.ndarray
    maps: np.ndarray
    sizes: np.ndarray
    view: str
    size: int

    def heatmaps(self, image: int, mode: str) -> np.ndarray:
        """An image's G+1 maps in its own pixels: (G+1,H,W)."""
        width, height = map(int, self.sizes[image])
        return picture_heatmaps(self.maps[image], self.view, (width, height), self.size, mode)


def look_at_split(
    network: CamNetwork, split: Split, view: str, size: int, method: str, team: Team,
    *, batch_size: int = 64, workers: int | None = None,
) -> Seen:  # fmt: skip
    """One forward pass over every image of the split, each counted once whatever the number of processes."""
    if reason := refusal(method, network):
        raise UserError(reason)
    network.eval()
    batches = evaluation_batches(
        split, size, max(1, batch_size // crops_in(view)), view=view,
        rank=team.rank, world=team.world, workers=workers, pin=team.device.type == "cuda",
    )  # fmt: skip
    rows = []
    with tqdm(total=len(split), desc=f"{method}, {view}", unit="image", disable=None if team.leads else True) as bar:
        for batch in batches:
            rows += _look_at(network, batch, view, method, team.device)
            bar.update(min(len(batch) * team.world, bar.total - bar.n))
    rows = sorted(team.gather(rows), key=lambda row: row[0])
    if [row[0] for row in rows] != list(range(len(split))):
        raise RuntimeError("an image was counted twice or not at all")
    labels, maps, sizes = (np.stack([row[k] for row in rows]) for k in (1, 2, 3))
    return Seen(labels, maps, sizes, view, size)


def _look_at(
    network: CamNetwork, batch: Batch, view: str, method: str, device: torch.device
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    images, labels = to_device(batch.pixels, device), batch.labels.to(device)
    seen = look(network, images, labels, method=method, crops=crops_in(view))
    guesses, heat = seen.guesses.cpu().numpy(), seen.heat.cpu().numpy()
    return zip(batch.images.tolist(), guesses, heat, batch.sizes.numpy(), strict=True)


def draw_boxes(seen: Seen, protocol: ProtocolConfig) -> np.ndarray:
    """(N,G+1,B,4) boxes in pixels of the originals: B = 1 by the paper's rule, 2 (loose, tight) by the release's."""
    images = tqdm(range(len(seen.labels)), f"{protocol.boxes} boxes", unit="image", disable=None)
    return np.array([[map_boxes(h, protocol) for h in seen.heatmaps(image, protocol.resize)] for image in images])


def map_boxes(heatmap: np.ndarray, protocol: ProtocolConfig) -> list[tuple[int, int, int, int]]:
    """The loose box alone stands for both where the release's rule leaves one."""
    if protocol.boxes == "paper":
        return [paper_box(heatmap, protocol.threshold)]
    boxes = release_boxes(eight_bit(heatmap), protocol.thresholds)
    return [boxes[LOOSE], boxes[min(TIGHT, len(boxes) - 1)]]
