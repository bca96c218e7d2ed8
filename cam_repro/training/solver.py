"""The recipe's optimizer and its schedules, each a function of how much of training is done (0 … 1)."""

from __future__ import annotations

import math

import torch
from torch import nn

from cam_repro.config import RecipeConfig


def build_optimizer(network: nn.Module, recipe: RecipeConfig, fused: bool) -> torch.optim.Optimizer:
    """Weights decay; biases and batch-norm parameters do not, and biases learn `bias_lr` times as fast (release)."""
    weights, norms, biases = [], [], []
    for name, parameter in network.named_parameters():
        kind = biases if name.endswith("bias") else norms if parameter.ndim == 1 else weights
        kind.append(parameter)
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay, "factor": 1.0},
        {"params": norms, "weight_decay": 0.0, "factor": 1.0},
        {"params": biases, "weight_decay": 0.0, "factor": recipe.bias_lr},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, fused=fused)
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, recipe: RecipeConfig, done: float) -> float:
    """Give every parameter group the learning rate due when the share `done` of training lies behind."""
    lr = recipe.lr * schedule(recipe, done)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]
    return lr


def schedule(recipe: RecipeConfig, done: float) -> float:
    """The factor on the learning rate."""
    if done < recipe.warmup:
        return (done + 1e-3) / (recipe.warmup + 1e-3)
    if recipe.schedule == "step":
        return 0.1 ** sum(done >= milestone for milestone in recipe.milestones)
    return 0.5 + 0.5 * math.cos(math.pi * (done - recipe.warmup) / max(1e-9, 1 - recipe.warmup))


def crop_size(recipe: RecipeConfig, epoch: int) -> int:
    """Pixels a side of the training crops in an epoch (counted from 0)."""
    begun = [
        size for start, size in zip(recipe.size_starts, recipe.sizes, strict=True) if epoch >= start * recipe.epochs
    ]
    return begun[-1]


def freeze_batch_norm(network: nn.Module) -> None:
    """Keep the pretrained running statistics; scale and shift go on learning."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
