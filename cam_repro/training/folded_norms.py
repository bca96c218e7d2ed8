"""Batch norms without statistics, of weights whose convolutions have them folded in.

Such a file holds mean 0 and variance 1 − ε for every norm, which then adds its bias and does no
more. That is right in evaluation. In training mode a norm divides by the deviation of the batch,
which the convolution before it has been divided by already: the network answers something else.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from cam_repro.config import Config, RecipeConfig
from cam_repro.data import Split
from cam_repro.data.loaders import Batch, Decoders, epoch_order, training_batches
from cam_repro.data.views import normalise
from cam_repro.distributed import DistributedContext, float32
from cam_repro.networks import CamNetwork
from cam_repro.training.solver import crop_size

IMAGES = 256  # that the statistics are of, in whole batches


class InputMoments:
    """The sums over everything that a norm is given: how many places, x and x² of each channel."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        self.sums = torch.zeros(1 + 2 * norm.num_features, dtype=torch.float64)

    def add(self, norm: nn.BatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
        """As a hook before the norm's forward, of maps (N,C,h,w)."""
        maps = inputs[0].detach()
        variance, mean = torch.var_mean(maps, (0, 2, 3), correction=0)
        # On the CPU: Apple's GPUs have no float64
        mean = mean.cpu().double()
        square = variance.cpu().double() + mean.square()
        places = maps.numel() // maps.shape[1]
        self.sums += places * torch.cat([torch.ones(1, dtype=torch.float64), mean, square])


def folded_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    """The norms whose statistics are exactly mean 0 and variance 1 − ε: no training leaves these.

    A norm that is new has variance 1.
    """
    found = []
    for module in network.modules():
        if not isinstance(module, nn.BatchNorm2d) or module.running_var is None:
            continue
        if not module.affine:  # without a bias there is nothing that was folded
            continue
        neutral = torch.full_like(module.running_var, 1 - module.eps)
        if torch.equal(module.running_var, neutral) and not module.running_mean.any():
            found.append(module)
    return found


def restore_statistics(
    norms: list[nn.BatchNorm2d],
    network: CamNetwork,
    batches: Iterable[Batch],
    world: DistributedContext,
) -> int:
    """Give folded norms the mean and the variance of what they get from images, in all processes.

    Weight and bias take them back, so that the outputs in evaluation stay what they are. Returns
    the number of images that could be read; with none nothing is changed.
    """
    moments = {norm: InputMoments(norm) for norm in norms}
    hooks = [norm.register_forward_pre_hook(moments[norm].add) for norm in norms]
    images = 0
    network.eval()
    with torch.no_grad(), float32():
        for batch in batches:
            if len(batch):
                network(normalise(batch.to(world.device).pixels))
                images += len(batch)
    network.train()
    for hook in hooks:
        hook.remove()
    of_all = int(world.sum(torch.tensor(images)))
    if not of_all:
        return 0
    for norm in norms:
        sums = world.sum(moments[norm].sums)
        mean, square = (sums[1:] / sums[0]).chunk(2)
        set_statistics(norm, mean, square - mean.square())
    return of_all


def set_statistics(norm: nn.BatchNorm2d, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Put mean and variance (C,) into a folded norm; its outputs in evaluation stay the same."""
    with torch.no_grad():
        norm.bias += norm.weight * mean.to(norm.weight)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance.clamp(min=0))
        norm.weight *= (norm.running_var + norm.eps).sqrt()


def unfold_batch_norm(
    network: CamNetwork,
    split: Split,
    config: Config,
    recipe: RecipeConfig,
    decoders: Decoders,
    world: DistributedContext,
) -> None:
    """Before the first step: statistics for norms without any, from some of the training images.

    A line says so. Norms that the recipe freezes work as they are.
    """
    norms = folded_norms(network)
    if not norms or recipe.batch_norm == "frozen":
        return
    order = epoch_order(len(split), recipe.batch_size, config.seed, epoch=0)
    first_batches = order[: max(1, IMAGES // recipe.batch_size)]
    batches = training_batches(
        split.subset(np.concatenate(first_batches).tolist()),
        recipe,
        crop_size(recipe, 0),
        config.seed,
        epoch=0,
        rank=world.rank,
        world_size=world.size,
        interpolation=network.interpolation,
        decoders=decoders,
    )
    images = restore_statistics(norms, network, batches, world)
    if images:  # else the first epoch says that none could be read
        world.say(
            f"{len(norms)} batch norms of these weights are folded into their convolutions (mean "
            "0, variance 1 − ε), which training mode would break: they now have the statistics of "
            f"{images} training images, and give the same outputs in evaluation"
        )
