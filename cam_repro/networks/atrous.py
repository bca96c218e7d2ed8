"""Maps twice as dense from the same weights: the à trous algorithm (Chen et al. 2015, DeepLab).

A stride of 16 leaves 14×14 places of an image of 224 pixels, but 3×3 of one of 64. The last layer
that halves the maps is made to keep them, and every layer after it looks at every second place, so
that each unit still sees what it saw. Every second place of the new maps is one of the old.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import nn

from cam_repro import UserError

Window = nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d


def make_atrous(layers: nn.Sequential, size: int) -> None:
    """Change the layers, which take images of `size` pixels a side, in place.

    No weight is touched, nor its name. Raises UserError where a layer cannot look at every second
    place.
    """
    heights = _heights(layers, size)
    halving = [name for name, (before, after) in heights.items() if after <= 0.6 * before]
    if not halving:
        raise UserError("model.atrous=true needs a layer that halves the maps, and there is none")
    last, _ = heights[halving[-1]]
    for name, (before, _) in heights.items():
        layer = layers.get_submodule(name)
        if before == last and name in halving:
            _look_at_every_place(layers, name, layer)
        elif before <= 0.6 * last:
            _look_at_every_second_place(layers, name, layer)


def _heights(layers: nn.Sequential, size: int) -> dict[str, tuple[int, int]]:
    """Of every convolution and pooling, in the order they run: its maps' height before and after.

    They are found on a copy without numbers.
    """
    copy = deepcopy(layers).to("meta").eval()
    heights: dict[str, tuple[int, int]] = {}
    names = {module: name for name, module in copy.named_modules()}

    def look(layer: nn.Module, given: Sequence[torch.Tensor], maps: torch.Tensor) -> None:
        heights[names[layer]] = (given[0].shape[2], maps.shape[2])

    for layer in names:
        if isinstance(layer, Window):
            layer.register_forward_hook(look)
    with torch.no_grad():
        copy(torch.zeros(1, 3, size, size, device="meta"))
    return heights


def _look_at_every_place(layers: nn.Sequential, name: str, layer: Window) -> None:
    layer.stride = (1, 1)
    if isinstance(layer, nn.MaxPool2d) and layer.ceil_mode:
        # Its last window may reach one pixel over the edge
        layer.ceil_mode = False
        border = nn.ConstantPad2d((0, 1, 0, 1), -torch.inf)
        layers.set_submodule(name, nn.Sequential(border, layer))


def _look_at_every_second_place(layers: nn.Sequential, name: str, layer: Window) -> None:
    if _pair(layer.kernel_size) == (1, 1):
        return
    if isinstance(layer, nn.AvgPool2d):
        raise UserError(
            f"model.atrous=true cannot serve this network: its layer {name} averages neighbours, "
            "and torch has no such layer that looks at every second one"
        )
    padding = _pair(layer.padding)
    layer.dilation = tuple(2 * step for step in _pair(layer.dilation))
    if isinstance(layer, nn.Conv2d):
        layer.padding = tuple(2 * pixels for pixels in padding)
    elif any(padding):
        # torch pads a pooling by half of its window at most
        layer.padding = 0
        rows, columns = (2 * pixels for pixels in padding)
        border = nn.ConstantPad2d((columns, columns, rows, rows), -torch.inf)
        layers.set_submodule(name, nn.Sequential(border, layer))


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
