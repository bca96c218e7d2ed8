"""Classification error over a split, each image counted once over all processes."""

from __future__ import annotations

import math

import torch
from torch import nn
from tqdm import tqdm

from cam_repro.config import Config
from cam_repro.data.loaders import Batch, Decoders, evaluation_batches
from cam_repro.data.split import Split
from cam_repro.data.views import normalise
from cam_repro.distributed import DistributedContext, autocast
from cam_repro.localization.maps import top_classes
from cam_repro.networks import CamNetwork
from cam_repro.training.preemption import Preemption


@torch.inference_mode()
def validate(
    network: CamNetwork,
    split: Split,
    config: Config,
    size: int,
    world: DistributedContext,
    preemption: Preemption,
    decoders: Decoders | None = None,
) -> dict[str, float | None]:
    """Mean cross-entropy, top-1 and top-5 error in percent over the split.

    The top-5 error is None of a network with fewer than five classes, which has no five answers.
    All processes must call it. Raises Preempted, in all of them, where one is asked to stop.
    """
    network.eval()
    batches = evaluation_batches(
        split,
        size,
        config.eval_batch_size,
        interpolation=network.interpolation,
        rank=world.rank,
        world_size=world.size,
        workers=config.data.workers,
        decoders=decoders,
    )
    counts = torch.zeros(3, dtype=torch.float64)  # loss, top-1 right, top-5 right
    most = math.ceil(len(split) / (config.eval_batch_size * world.size))  # some may have one less
    hidden = None if world.is_main else True
    for _ in tqdm(range(most), "validate", leave=False, disable=hidden):
        batch = next(batches, None)
        if batch is not None:
            counts += _counts_of(network, batch.to(world.device))
        preemption.after_step()
    loss, top1, top5 = (world.sum(counts) / len(split)).tolist()
    val_top5_error = 100 * (1 - top5) if network.num_classes >= 5 else None
    return {
        "val_loss": loss,
        "val_top1_error": 100 * (1 - top1),
        "val_top5_error": val_top5_error,
    }


def _counts_of(network: CamNetwork, batch: Batch) -> torch.Tensor:
    """(3,) on the CPU: summed loss, top-1 right, top-5 right."""
    with autocast(batch.pixels.device):
        # forward itself is never the compiled one: each short batch would compile it anew, for
        # training too
        logits = network.forward(normalise(batch.pixels)).float()
    loss = nn.functional.cross_entropy(logits, batch.labels, reduction="sum")
    right = top_classes(logits) == batch.labels[:, None]
    top1 = right[:, 0].sum()
    top5 = right.any(1).sum()
    return torch.stack([loss, top1, top5]).cpu()
