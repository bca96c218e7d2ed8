"""The recipe's optimizer, and its schedules over whole steps or epochs."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import nn

from cam_repro.config import RecipeConfig
from cam_repro.networks.network import last_layer


def fit_batch_size(recipe: RecipeConfig, images: int, processes: int = 1) -> RecipeConfig:
    """The recipe, its batch halved until an epoch of so many images has `min_steps` steps.

    The learning rate is halved as often (linear scaling; Goyal et al. 2017, §2.1). The batch stays
    a multiple of the processes that share it.
    """
    batch_size = recipe.batch_size
    wanted = (recipe.min_steps or 0) * batch_size
    while images < wanted and batch_size % (2 * processes) == 0:
        batch_size //= 2
        wanted = recipe.min_steps * batch_size
    return replace(recipe, batch_size=batch_size, lr=recipe.lr * batch_size / recipe.batch_size)


def build_optimizer(network: nn.Module, recipe: RecipeConfig, fused: bool) -> torch.optim.Optimizer:
    """The recipe's optimizer, with parameters in groups of one learning rate and weight decay.

    Weights decay; biases and batch-norm parameters do not, and biases learn `bias_lr` times as fast
    (release). The head and the layer that gives the classes learn `new_lr` times as fast as the
    trunk.
    """
    last, _ = last_layer(network)
    parts: dict[tuple[bool, str], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        is_new = name.startswith(("head.", f"{last}."))
        kind = "weight"
        if name.endswith("bias"):
            kind = "bias"
        elif parameter.ndim == 1:
            kind = "norm"
        parts.setdefault((is_new, kind), []).append(parameter)
    groups = []
    for (is_new, kind), parameters in parts.items():
        factor = 1.0
        if is_new:
            factor *= recipe.new_lr
        if kind == "bias":
            factor *= recipe.bias_lr
        weight_decay = recipe.weight_decay if kind == "weight" else 0.0
        groups.append({"params": parameters, "weight_decay": weight_decay, "factor": factor})
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, fused=fused)
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=fused)


def begins_at(fraction: float, count: int) -> int:
    """The first of `count` steps or epochs, from 0, before which this fraction of them is over.

    In floating point 0.28 · 25 = 7.000000000000001: what is whole but for such an error is whole.
    """
    return math.ceil(round(fraction * count, 6))


def set_learning_rate(
    optimizer: torch.optim.Optimizer,
    recipe: RecipeConfig,
    step: int,
    steps: int,
) -> float:
    """Give every parameter group the learning rate of a step, counted from 0, of all `steps`."""
    lr = recipe.lr * schedule(recipe, step, steps)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]
    return lr


def schedule(recipe: RecipeConfig, step: int, steps: int) -> float:
    """The factor on the learning rate in a step, counted from 0, of all `steps`."""
    done = step / steps
    if step < begins_at(recipe.warmup, steps):
        return (done + 1e-3) / (recipe.warmup + 1e-3)
    if recipe.schedule == "step":
        passed = [one for one in recipe.milestones if step >= begins_at(one, steps)]
        return 0.1 ** len(passed)
    since_warmup = done - recipe.warmup
    return 0.5 + 0.5 * math.cos(math.pi * since_warmup / max(1e-9, 1 - recipe.warmup))


def crop_size(recipe: RecipeConfig, epoch: int) -> int:
    """Pixels a side of the training crops in an epoch (counted from 0)."""
    begun = recipe.sizes[0]
    for start, size in zip(recipe.size_starts, recipe.sizes, strict=True):
        if epoch >= begins_at(start, recipe.epochs):
            begun = size
    return begun


def freeze_batch_norm(network: nn.Module) -> None:
    """Keep the pretrained running statistics; scale and shift go on learning."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
