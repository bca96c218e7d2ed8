"""Classification error over a split, each image counted once over all processes."""

from __future__ import annotations

import torch
from torch import nn
from tqdm import tqdm

from cam_repro.data.ilsvrc import Split
from cam_repro.data.loaders import evaluation_batches
from cam_repro.data.views import to_device
from cam_repro.devices import Team, autocast
from cam_repro.localization.maps import top_classes


@torch.inference_mode()
def validate(
    network: nn.Module, split: Split, size: int, batch_size: int, team: Team,
    *, workers: int | None = None, limit: int | None = None,
) -> dict[str, float]:  # fmt: skip
    """Mean cross-entropy, top-1 and top-5 error in percent over the split, or over its first `limit` images."""
    network.eval()
    counts = torch.zeros(4, dtype=torch.float64)  # loss, top-1 right, top-5 right, images
    batches = evaluation_batches(
        split, size, batch_size, limit=limit, rank=team.rank, world=team.world, workers=workers,
        pin=team.device.type == "cuda",
    )  # fmt: skip
    total = -(-min(limit or len(split), len(split)) // (batch_size * team.world))
    for batch in tqdm(batches, "validate", total, leave=False, disable=None if team.leads else True):
        with autocast(team.device):
            logits = network(to_device(batch.pixels, team.device)).float().cpu()
        right = top_classes(logits) == batch.labels[:, None]
        loss = nn.functional.cross_entropy(logits, batch.labels, reduction="sum")
        counts += torch.stack([loss.double(), right[:, 0].sum(), right.any(1).sum(), torch.tensor(len(batch))])
    loss, top1, top5, images = team.sum(counts).tolist()
    return {
        "val_loss": loss / images,
        "val_top1_error": 100 * (1 - top1 / images),
        "val_top5_error": 100 * (1 - top5 / images),
    }
