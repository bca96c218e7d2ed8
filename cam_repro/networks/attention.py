"""The attention of a vision transformer's last block: where its class token looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def last_attention(model: nn.Module) -> nn.Module | None:
    """The last layer that can give its attention weights: one of torch's or of timm's."""
    found = None
    for module in model.modules():
        is_timms = hasattr(module, "fused_attn") and hasattr(module, "attn_drop")
        if is_timms or isinstance(module, nn.MultiheadAttention):
            found = module
    return found


@contextmanager
def attention_weights(layer: nn.Module) -> Iterator[list[torch.Tensor]]:
    """The attention of each call of a layer, the mean of its heads: (N,L,L), a row for each query.

    Both libraries leave the weights out where they can, since fused kernels are faster without.
    """
    weights: list[torch.Tensor] = []
    if isinstance(layer, nn.MultiheadAttention):

        def ask(_: nn.Module, args: tuple, options: dict[str, Any]) -> tuple[tuple, dict]:
            return args, options | {"need_weights": True, "average_attn_weights": True}

        def keep(_: nn.Module, __: tuple, output: tuple) -> None:
            weights.append(output[1])

        handles = [
            layer.register_forward_pre_hook(ask, with_kwargs=True),
            layer.register_forward_hook(keep),
        ]
        fused = None
    else:

        def keep_dropped(_: nn.Module, given: tuple) -> None:
            weights.append(given[0].mean(1))  # before dropout

        handles = [layer.attn_drop.register_forward_pre_hook(keep_dropped)]
        fused = layer.fused_attn
        layer.fused_attn = False
    try:
        yield weights
    finally:
        for handle in handles:
            handle.remove()
        if fused is not None:
            layer.fused_attn = fused
