"""Classification error over a split, each image counted once over all processes."""

from __future__ import annotations

import torch
from torch import nn
from tqdm import tqdm

from cam_repro.config import Config
from cam_repro.data.loaders import evaluation_batches, on_device
from cam_repro.data.split import Split
from cam_repro.data.views import normalise
from cam_repro.distributed import World, autocast
from cam_repro.localization.maps import top_classes
from cam_repro.training.stopping import Stopping


@torch.inference_mode()
def validate(
    network: nn.Module, split: Split, config: Config, size: int, world: World, stopping: Stopping,
    batches_each: int | None = None,
) -> dict[str, float]:  # fmt: skip
    """Mean cross-entropy, top-1 and top-5 error in percent over the split, or over its first batches alone.

    All processes must call it. Raises Stop, in all of them, where one is asked to stop.
    """
    network.eval()
    batch_size = config.eval_batch_size
    limit = None if batches_each is None else batches_each * batch_size * world.size
    counts = torch.zeros(4, dtype=torch.float64)  # loss, top-1 right, top-5 right, images
    batches = evaluation_batches(
        split, size, batch_size, limit=limit, rank=world.rank, world_size=world.size, workers=config.data.workers,
        pin=world.device.type == "cuda",
    )  # fmt: skip
    batches = on_device(batches, world.device)
    most = -(-min(limit or len(split), len(split)) // (batch_size * world.size))  # rank 0's; others may have one less
    stopping.begin()
    for _ in tqdm(range(most), "validate", leave=False, disable=None if world.is_main else True):
        if (batch := next(batches, None)) is not None:
            with autocast(world.device):
                # forward itself is never the compiled one, which a short batch would have compiled anew
                logits = network.forward(normalise(batch.pixels)).float()
            right = top_classes(logits) == batch.labels[:, None]
            loss = nn.functional.cross_entropy(logits, batch.labels, reduction="sum")
            images = loss.new_full((), len(batch))
            counts += torch.stack([loss.double(), right[:, 0].sum(), right.any(1).sum(), images]).cpu()
        stopping.after_step()
    loss, top1, top5, images = world.sum(counts).tolist()
    return {
        "val_loss": loss / images,
        "val_top1_error": 100 * (1 - top1 / images),
        "val_top5_error": 100 * (1 - top5 / images),
    }
