"""Classification error over a split, each image counted once over all processes."""

from __future__ import annotations

import math

import torch
from torch import nn
from tqdm import tqdm

from cam_repro.config import Config
from cam_repro.data.loaders import Decoders, evaluation_batches
from cam_repro.data.split import Split
from cam_repro.data.views import normalise
from cam_repro.distributed import World, autocast
from cam_repro.localization.maps import top_classes
from cam_repro.networks import CamNetwork
from cam_repro.training.stopping import Stopping


@torch.inference_mode()
def validate(
    network: CamNetwork, split: Split, config: Config, size: int, world: World, stopping: Stopping,
    decoders: Decoders | None = None,
) -> dict[str, float | None]:  # fmt: skip
    """Mean cross-entropy, top-1 and top-5 error in percent over the split.

    The top-5 error is None of a network with fewer than five classes, which has no five answers.
    All processes must call it. Raises Stop, in all of them, where one is asked to stop.
    """
    network.eval()
    batch_size, images = config.eval_batch_size, len(split)
    counts = torch.zeros(3, dtype=torch.float64)  # loss, top-1 right, top-5 right
    place = {"rank": world.rank, "world_size": world.size, "workers": config.data.workers}
    shown_by = {"interpolation": network.interpolation, "decoders": decoders, **place}
    batches = evaluation_batches(split, size, batch_size, **shown_by)
    most = math.ceil(images / (batch_size * world.size))  # rank 0's; others may have one less
    for _ in tqdm(range(most), "validate", leave=False, disable=None if world.is_main else True):
        if (batch := next(batches, None)) is not None:
            batch = batch.to(world.device)
            with autocast(world.device):
                # forward itself is never the compiled one: each short batch would compile it anew,
                # for training too
                logits = network.forward(normalise(batch.pixels)).float()
            right = top_classes(logits) == batch.labels[:, None]
            loss = nn.functional.cross_entropy(logits, batch.labels, reduction="sum")
            counts += torch.stack([loss, right[:, 0].sum(), right.any(1).sum()]).cpu()
        stopping.after_step()
    loss, top1, top5 = (world.sum(counts) / images).tolist()
    return {
        "val_loss": loss,
        "val_top1_error": 100 * (1 - top1),
        "val_top5_error": 100 * (1 - top5) if network.num_classes >= 5 else None,
    }
