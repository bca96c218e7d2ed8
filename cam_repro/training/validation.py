"""Classification error over a split, and where the maps of some of its images are right.

Each image is counted once over all processes.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from tqdm import tqdm

from cam_repro.config import Config
from cam_repro.data.loaders import Batch, Decoders, evaluation_batches
from cam_repro.data.split import Split
from cam_repro.data.views import normalise, resize_map
from cam_repro.distributed import DistributedContext, autocast
from cam_repro.localization.boxes import paper_box
from cam_repro.localization.iou import IOU_OF_A_RIGHT_BOX, area, best_iou
from cam_repro.localization.maps import class_activation_maps, top_classes
from cam_repro.networks import CamNetwork
from cam_repro.training.preemption import Preemption

BOXED = 1000  # val images, spread over the split, whose true class's box is drawn


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
    """Mean cross-entropy, top-1 and top-5 error in percent over the split, and GT-known.

    The top-5 error is None of a network with fewer than five classes, which has no five answers.
    GT-known (percent with IoU ≥ 0.5) and the mean share of the image that the box takes are of up
    to BOXED images, by the paper's rule; None without boxes or class activation maps.
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
    boxes = torch.zeros(3, dtype=torch.float64)  # images, right ones, shares of the image
    has_maps = not network.cam_obstacle and len(split.boxes) > 0
    most = math.ceil(len(split) / (config.eval_batch_size * world.size))  # some may have one less
    hidden = None if world.is_main else True
    for _ in tqdm(range(most), "validate", leave=False, disable=hidden):
        batch = next(batches, None)
        if batch is not None:
            batch = batch.to(world.device)
            with autocast(batch.pixels.device):
                # Not the network itself, which may be compiled: each short batch would compile it
                # anew, for training too
                logits, maps = network.forward_with_maps(normalise(batch.pixels))
            counts += _counts_of(logits.float(), batch.labels)
            if has_maps:
                boxes += _boxes_of(network, maps.float(), batch, split)
        preemption.after_step()
    loss, top1, top5 = (world.sum(counts) / len(split)).tolist()
    boxed, right, shares = world.sum(boxes).tolist()
    val_top5_error = 100 * (1 - top5) if network.num_classes >= 5 else None
    return {
        "val_loss": loss,
        "val_top1_error": 100 * (1 - top1),
        "val_top5_error": val_top5_error,
        "val_gt_known_loc": 100 * right / boxed if boxed else None,
        "val_box_area": 100 * shares / boxed if boxed else None,
    }


def _counts_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(3,) on the CPU: summed loss, top-1 right, top-5 right."""
    loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
    right = top_classes(logits) == labels[:, None]
    top1 = right[:, 0].sum()
    top5 = right.any(1).sum()
    return torch.stack([loss, top1, top5]).cpu()


def _boxes_of(network: CamNetwork, maps: torch.Tensor, batch: Batch, split: Split) -> torch.Tensor:
    """(3,): of the batch's images that are boxed their number, the right ones, the boxes' shares.

    Maps (N,K,h,w) of the batch.
    """
    every = math.ceil(len(split) / BOXED)
    cams = class_activation_maps(maps, network.weight_of(maps), batch.labels[:, None])
    heatmaps = cams[:, 0].nan_to_num().cpu().numpy()  # of a training that diverged
    boxed = 0
    right = 0
    shares = 0.0
    for place, image in enumerate(batch.images.tolist()):
        if image % every:
            continue
        width, height = batch.sizes[place].tolist()
        box = paper_box(resize_map(heatmaps[place], width, height))
        (overlap,) = best_iou([box], split.true_boxes(image))
        boxed += 1
        right += bool(overlap >= IOU_OF_A_RIGHT_BOX)
        shares += float(area(box)) / (width * height)
    return torch.tensor([boxed, right, shares], dtype=torch.float64)
