"""Where the cells of a network's maps look, by its layers and by its gradients.

A map is drawn as if its cells tiled the image: of w cells, cell i at (i + ½)·W/w − ½. Padding,
strides and windows may connect it to pixels elsewhere (Araujo et al. 2019, "Computing receptive
fields"), and training may make it look elsewhere again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from cam_repro.networks import CamNetwork

aten = torch.ops.aten


@dataclass(frozen=True)
class Cells:
    """Along one axis, cell i is at the pixel first + stride · i; the first pixel's centre is 0."""

    first: float
    stride: float

    def middle(self, count: int) -> float:
        """The pixel of the middle of `count` cells."""
        return self.first + self.stride * (count - 1) / 2

    def window(self, size: int, stride: int, padding: int, dilation: int) -> Cells:
        """After a layer that reads `size` cells at a time; where the middle of each window lies."""
        moved = (size - 1) * dilation / 2 - padding
        return Cells(self.first + moved * self.stride, self.stride * stride)


def drawn_cells(pixels: int, count: int) -> Cells:
    """Where a map of `count` cells is drawn along a side of so many pixels."""
    stride = pixels / count
    return Cells((stride - 1) / 2, stride)


def connected_cells(network: CamNetwork, size: int) -> tuple[Cells, Cells]:
    """Rows and columns of a network's maps: the middle of the pixels that each is connected to.

    By arithmetic over the layers that run, which are convolutions, poolings and paddings; all
    others keep the cells where they are. network: on the meta device, as `networks.sizes` has it,
    of images of `size` pixels a side. Raises ValueError where two ways through the network look at
    different places.
    """
    image = torch.zeros(1, 3, size, size, device="meta")
    with torch.no_grad(), _Following(image) as following:
        _, maps = network.eval().forward_with_maps(image)
    return following.cells[maps]


class _Following(TorchDispatchMode):
    """Knows, of every tensor (N,K,h,w) that is made of an image, where its cells are."""

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()
        self.cells = WeakTensorKeyDictionary()
        self.cells[image] = (Cells(0.0, 1.0), Cells(0.0, 1.0))

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        cells = self._of(args)
        layer = LAYERS.get(function)
        if layer is not None and cells is not None:
            cells = layer(cells, *args)
        outputs = made if isinstance(made, tuple | list) else [made]
        for tensor in outputs:
            if cells is not None and isinstance(tensor, torch.Tensor) and _is_maps(tensor):
                self.cells[tensor] = cells
        return made

    def _of(self, args: Sequence[Any]) -> tuple[Cells, Cells] | None:
        """The cells of the maps among the arguments; a list of them may be one."""
        found = set()
        for argument in args:
            tensors = argument if isinstance(argument, tuple | list) else [argument]
            for tensor in tensors:
                if isinstance(tensor, torch.Tensor) and _is_maps(tensor) and tensor in self.cells:
                    found.add(self.cells[tensor])
        if len(found) > 1:
            raise ValueError(f"two ways through the network look at different places: {found}")
        return next(iter(found), None)


def _is_maps(tensor: torch.Tensor) -> bool:
    """Not an average over the whole image, which every cell may be multiplied with."""
    return tensor.ndim == 4 and max(tensor.shape[2:]) > 1


Axes = tuple[Cells, Cells]


def _convolution(
    cells: Axes, maps: Any, weight: torch.Tensor, bias: Any,
    stride: list[int], padding: list[int], dilation: list[int], *_: Any,
) -> Axes:  # fmt: skip
    return _windows(cells, list(weight.shape[2:]), stride, padding, dilation)


def _max_pool(
    cells: Axes, maps: Any, size: list[int], stride: Sequence[int] = (),
    padding: Sequence[int] = (0,), dilation: Sequence[int] = (1,), *_: Any,
) -> Axes:  # fmt: skip
    return _windows(cells, size, stride or size, padding, dilation)


def _average_pool(
    cells: Axes, maps: Any, size: list[int], stride: Sequence[int] = (),
    padding: Sequence[int] = (0,), *_: Any,
) -> Axes:  # fmt: skip
    return _windows(cells, size, stride or size, padding, (1,))


def _border(cells: Axes, maps: Any, sides: list[int], *_: Any) -> Axes:
    """sides: columns before and after, then rows, as torch pads."""
    left, _right, top, _bottom = (*sides, 0, 0)[:4]
    rows, columns = cells
    return rows.window(1, 1, top, 1), columns.window(1, 1, left, 1)


def _windows(cells: Axes, *settings: Sequence[int]) -> Axes:
    """Size, stride, padding and dilation of a window, each of one number or of two."""
    rows, columns = cells
    return rows.window(*(of[0] for of in settings)), columns.window(*(of[-1] for of in settings))


LAYERS: dict[Any, Callable[..., Axes]] = {
    aten.convolution.default: _convolution,
    aten.max_pool2d_with_indices.default: _max_pool,
    aten.avg_pool2d.default: _average_pool,
    aten.constant_pad_nd.default: _border,
}


@torch.enable_grad()
def seen_cells(network: CamNetwork, images: torch.Tensor) -> torch.Tensor:
    """Where the middle of a network's maps looks in N images: (N,2,2) of rows, then columns.

    Of each its first number is the pixel, its second the pixels from one cell to the next. A cell
    looks at the centroid of |∂ Σ_k f_k / ∂ image|, summed over the colours: the gradient of all
    maps at that place. Of an even number of cells the middle is the middle two. images (N,3,H,W)
    are normalised; the network is in evaluation mode.
    """
    images = images.clone().requires_grad_()
    _, maps = network.forward_with_maps(images)
    of_place = maps.sum(1)
    height, width = of_place.shape[1:]
    rows = _middle(height)
    columns = _middle(width)

    def centroid(down: int, right: int) -> torch.Tensor:
        """(N,2): row and column that the middle cells look at, moved by so many cells."""
        window = of_place[:, _moved(rows, down)][:, :, _moved(columns, right)]
        (gradient,) = torch.autograd.grad(window.sum(), images, retain_graph=True)
        weights = gradient.square().sum(1)
        total = weights.sum((1, 2))
        down_there = torch.arange(images.shape[2], dtype=weights.dtype, device=weights.device)
        right_there = torch.arange(images.shape[3], dtype=weights.dtype, device=weights.device)
        row = (weights.sum(2) @ down_there) / total
        column = (weights.sum(1) @ right_there) / total
        return torch.stack([row, column], dim=1)

    place = centroid(0, 0)
    stride_of_rows = (centroid(1, 0) - centroid(-1, 0))[:, 0] / 2
    stride_of_columns = (centroid(0, 1) - centroid(0, -1))[:, 1] / 2
    strides = torch.stack([stride_of_rows, stride_of_columns], dim=1)
    return torch.stack([place, strides], dim=2)


def _middle(count: int) -> slice:
    return slice((count - 1) // 2, count // 2 + 1)


def _moved(places: slice, cells: int) -> slice:
    return slice(places.start + cells, places.stop + cells)
