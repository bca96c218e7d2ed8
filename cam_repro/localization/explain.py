"""Class activation maps of any torch module whose last maps are pooled and classified linearly.

Nothing has to be known of the module: one image goes through it, and the layer is looked for whose
outputs, pooled over space, are what the last linear layer reads. Equation 2 of the paper holds for
such a network and for no other; any other is refused with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from cam_repro import UserError
from cam_repro.data.views import resize_map
from cam_repro.localization.boxes import PAPER_THRESHOLD, Box, paper_box
from cam_repro.localization.maps import class_activation_maps, top_classes

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "": lambda maps: maps,
    "relu": torch.relu,  # as a function between the last layer and the pooling, as in DenseNet
}
POOLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "average": lambda maps: maps.mean((2, 3)),
    "max": lambda maps: maps.amax((2, 3)),
}
TOLERANCE = 1e-4  # of the pooled maps' largest value


@dataclass(frozen=True)
class Found:
    """Where a module's maps are.

    layer: its name, "" for the module itself, and `call`, which of its calls in a forward pass,
    counted from 0; activation: a key of ACTIVATIONS; pool: a key of POOLS; classifier: the name of
    the linear layer behind, none where the maps are the classes' own.
    """

    layer: str
    call: int
    activation: str
    pool: str
    classifier: str | None

    def __str__(self) -> str:
        maps = f"{self.activation}({self.layer})" if self.activation else self.layer
        return f"{maps} → {self.pool} pooling → {self.classifier or 'the classes themselves'}"


@dataclass(frozen=True)
class Explanation:
    """What a network says of N images, and where.

    logits (N,C); maps (N,K,h,w), those that are pooled; classes (N,M), the explained ones;
    heatmaps (N,M,height,width), their class activation maps (§2, eq. 2) enlarged; boxes: of each
    image and class x1,y1,x2,y2, inclusive, by the paper's rule, in pixels of the heatmaps; found:
    where the maps are in the network.
    """

    logits: torch.Tensor
    maps: torch.Tensor
    classes: torch.Tensor
    heatmaps: np.ndarray
    boxes: list[list[Box]]
    found: Found


def explain(
    model: nn.Module,
    images: torch.Tensor,
    classes: torch.Tensor | list[int] | None = None,
    *,
    top: int = 5,
    size: tuple[int, int] | None = None,
    threshold: float = PAPER_THRESHOLD,
) -> Explanation:
    """Classify images and show where each class is seen.

    images (N,3,H,W), normalised as the model wants them; classes: to explain, (N,M) or the same M
    for each image, none: the `top` best ones; size: (width, height) of heatmaps and boxes, none:
    the images'; threshold: of a heatmap's maximum (§3.2). Raises UserError for a model in training
    mode, and for one whose maps are not pooled and then classified by one linear layer.
    """
    if model.training:
        raise UserError("the model is in training mode: call model.eval() first")
    with torch.inference_mode():
        found = find_maps(model, images[:1])
        logits, outputs = _forward(model, images, only=found.layer)
        maps = ACTIVATIONS[found.activation](outputs[found.layer, found.call][0])
        if classes is None:
            classes = top_classes(logits, top)
        classes = torch.as_tensor(classes, device=logits.device)
        if classes.ndim == 1:
            classes = classes.expand(len(images), -1)
        cams = class_activation_maps(maps, _weight(model, found, maps.shape[1]), classes)

    width, height = size or images.shape[:1:-1]
    heatmaps = np.empty((*classes.shape, height, width), np.float32)
    boxes: list[list[Box]] = []
    for image, of_image in enumerate(cams.cpu().float().numpy()):
        for place, cam in enumerate(of_image):
            heatmaps[image, place] = resize_map(cam, width, height)
        boxes.append([paper_box(heatmap, threshold) for heatmap in heatmaps[image]])
    return Explanation(logits, maps, classes, heatmaps, boxes, found)


def find_maps(model: nn.Module, image: torch.Tensor) -> Found:
    """Where the maps of a model in evaluation mode are, found with one image (1,3,H,W).

    Raises UserError, with the reason, where no class has a weight for a map.
    """
    logits, outputs = _forward(model, image)
    classifier, pooled = _last_linear(model, logits, outputs)
    maps = [(key, output) for key, (output, _) in outputs.items() if _is_spatial(output)]
    if not maps:
        raise UserError(
            f"{type(model).__name__} has no maps: no layer gives (N,K,h,w) with h·w > 1"
        )
    if classifier is None:
        pooled = logits  # the maps' own mean, where each class has a map
    for (layer, call), output in reversed(maps):
        for activation, activate in ACTIVATIONS.items():
            for pool, reduce in POOLS.items():
                if _same(reduce(activate(output)), pooled):
                    return Found(layer, call, activation, pool, classifier)
    raise UserError(_why_not(model, classifier, pooled, maps))


def _why_not(model: nn.Module, classifier: str | None, pooled: torch.Tensor, maps: list) -> str:
    """The reason for which a network has no class activation map."""
    none = f"{type(model).__name__} has no class activation map"
    (layer, _), output = maps[-1]
    shape = "×".join(map(str, output.shape[1:]))
    if classifier is None:
        return f"{none}: no linear layer gives its {pooled.shape[1]} outputs"
    if pooled.shape[1] != output.shape[1]:
        return (
            f"{none}: {classifier} reads {pooled.shape[1]} values and the last "
            f"maps, of {layer}, are {shape}, so other layers stand between them"
        )
    return (
        f"{none}: what {classifier} reads is neither average nor maximum of the maps of {layer} "
        f"({shape}); a layer between them, as a normalisation, is no linear one"
    )


def _last_linear(
    model: nn.Module, logits: torch.Tensor, outputs: dict
) -> tuple[str | None, torch.Tensor]:
    """The linear layer, or 1×1 convolution, whose outputs are the logits; and its input (N,K)."""
    modules = dict(model.named_modules())
    for (name, _), (output, given) in reversed(outputs.items()):
        is_linear = isinstance(modules[name], nn.Linear)
        is_pointwise = isinstance(modules[name], nn.Conv2d) and given.shape[2:] == (1, 1)
        if (is_linear or is_pointwise) and _same(output.flatten(1), logits):
            return name, given.flatten(1)
    return None, logits


def _weight(model: nn.Module, found: Found, channels: int) -> torch.Tensor:
    """(C,K) of the classifier; the identity where each class has a map of its own."""
    if found.classifier is None:
        return torch.eye(channels, device=next(model.parameters()).device)
    return model.get_submodule(found.classifier).weight.flatten(1)


def _forward(
    model: nn.Module, images: torch.Tensor, only: str | None = None
) -> tuple[torch.Tensor, dict[tuple[str, int], tuple[torch.Tensor, torch.Tensor]]]:
    """The logits (N,C), and (layer, call) -> its output and input, in the order of the calls.

    The tensors are those at the end of the pass: a ReLU that works in place has been there.
    only: the one layer whose outputs are kept.
    """
    outputs: dict[tuple[str, int], tuple[torch.Tensor, torch.Tensor]] = {}
    calls: Counter[str] = Counter()

    def keep(name: str, given: tuple, output: object) -> None:
        if isinstance(output, torch.Tensor) and given and isinstance(given[0], torch.Tensor):
            outputs[name, calls[name]] = (output, given[0])
        calls[name] += 1

    with _hooks(model, keep, only):
        said = model(images)
    logits = getattr(said, "logits", said)
    if isinstance(logits, tuple | list):
        logits = logits[0]
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        raise UserError(
            f"{type(model).__name__} gives no (N,C) scores of classes: {type(said).__name__}"
        )
    return logits, outputs


@contextmanager
def _hooks(model: nn.Module, keep: Callable, only: str | None) -> Iterator[None]:
    handles = []
    for name, module in model.named_modules():
        if only is None or name == only:
            hook = lambda _, given, output, name=name: keep(name, given, output)  # noqa: E731
            handles.append(module.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_spatial(output: torch.Tensor) -> bool:
    return output.ndim == 4 and output.shape[2] * output.shape[3] > 1


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape:
        return False
    largest = other.abs().max().clamp(min=1e-12)
    return bool((one - other).abs().max() <= TOLERANCE * largest)
