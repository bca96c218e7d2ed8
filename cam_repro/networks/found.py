"""Where a network of any kind has its maps, found by looking at one image's way through it.

The layer is looked for whose outputs, pooled over space, are what the last linear layer reads.
Maps may be (N,K,h,w), (N,h,w,K) as Swin has them, or the tokens (N,L,K) of a vision transformer, a
grid of patches behind some tokens of another kind. Equation 2 of the paper holds for such a network
and for no other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from cam_repro import UserError
from cam_repro.networks.attention import attention_weights, last_attention

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "": lambda maps: maps,
    "relu": torch.relu,  # as a function between the last layer and the pooling, as in DenseNet
}
POOLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "average": lambda maps: maps.mean((2, 3)),
    "max": lambda maps: maps.amax((2, 3)),
}
TOLERANCE = 1e-4  # of the pooled maps' largest value
Outputs = dict[tuple[str, int], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Found:
    """Where a module's maps are.

    layer: its name, "" for the module itself, and `call`, which of its calls in a forward pass,
    counted from 0; layout: how its output becomes maps; activation: a key of ACTIVATIONS; pool: a
    key of POOLS; classifier: the name of the linear layer behind, none where the maps are the
    classes' own; norm: the name of a layer norm between pooling and classifier, empty if none.

    method: "cam", or "attention" where the classifier reads a class token, which is no average of
    maps: then the layer is that whose attention is shown, and what stands about pooling is empty.
    """

    method: str
    layer: str
    call: int
    layout: Layout
    activation: str
    pool: str
    norm: str
    classifier: str | None

    def maps(self, outputs: Outputs) -> torch.Tensor:
        """The maps (N,K,h,w) among what `forward` has given."""
        output, _ = outputs[self.layer, self.call]
        return ACTIVATIONS[self.activation](self.layout.maps(output))

    def __str__(self) -> str:
        if self.method == "attention":
            return f"attention of the class token in {self.layer}, mean of its heads"
        maps = f"{self.activation}({self.layer})" if self.activation else self.layer
        pooling = f"{self.pool} pooling"
        if self.norm:
            pooling += f" → {self.norm}"
        return f"{maps} → {pooling} → {self.classifier or 'the classes themselves'}"


@dataclass(frozen=True)
class Layout:
    """How a layer's output is laid out in space.

    order: of its axes, "NKHW", "NHWK" or "NLK", tokens; of tokens `prefix`, how many come before
    those of the grid, and the grid (h,w).
    """

    order: str = "NKHW"
    prefix: int = 0
    grid: tuple[int, int] = (0, 0)

    def maps(self, output: torch.Tensor) -> torch.Tensor:
        """(N,K,h,w) of an output."""
        if self.order == "NHWK":
            return output.permute(0, 3, 1, 2)
        if self.order == "NLK":
            return output[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)
        return output


def find_maps(model: nn.Module, image: torch.Tensor) -> Found:
    """Where the maps of a model in evaluation mode are, found with one image (1,3,H,W).

    Raises UserError, with the reason, where no class has a weight for a map and no token looks.
    """
    logits, outputs = forward(model, image)
    classifier, pooled = _last_linear(model, logits, outputs)
    if classifier is None:
        pooled = logits  # the maps' own mean, where each class has a map
    norm, before_norm = _layer_norm_before(model, classifier, pooled, outputs)
    maps = list(_maps(outputs))
    if not maps:
        raise UserError(
            f"{type(model).__name__} has no maps: no layer gives (N,K,h,w) or a grid of tokens "
            "with h·w > 1"
        )
    for (layer, call), layout, output in reversed(maps):
        for activation, activate in ACTIVATIONS.items():
            for pool, reduce in POOLS.items():
                reduced = reduce(activate(output))
                if _same(reduced, pooled):
                    return Found("cam", layer, call, layout, activation, pool, "", classifier)
                if norm and _same(reduced, before_norm):
                    return Found("cam", layer, call, layout, activation, pool, norm, classifier)
    if found := _class_token(model, classifier, pooled, outputs):
        return found
    raise UserError(_why_not(model, classifier, pooled, maps))


def weight_of_maps(model: nn.Module, found: Found, maps: torch.Tensor) -> torch.Tensor:
    """What each map weighs in each class: (C,K), or (N,C,K) where it depends on the image.

    maps (N,K,h,w). The identity where each class has a map of its own.
    """
    if found.classifier is None:
        return torch.eye(maps.shape[1], device=maps.device)
    weight = model.get_submodule(found.classifier).weight.flatten(1)
    if not found.norm:
        return weight
    pooled = POOLS[found.pool](maps)
    return weight_before_norm(weight, model.get_submodule(found.norm), pooled)


def still_holds(model: nn.Module, found: Found, logits: torch.Tensor, outputs: Outputs) -> bool:
    """Whether what was found of a model before still leads to its logits (N,C)."""
    modules = dict(model.named_modules())
    if (found.layer, found.call) not in outputs:
        return False
    scores = POOLS[found.pool](found.maps(outputs))
    if found.norm:
        norm = modules.get(found.norm)
        if not isinstance(norm, nn.LayerNorm):
            return False
        scores = F.layer_norm(scores, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    if found.classifier is not None:
        classifier = modules.get(found.classifier)
        if not isinstance(classifier, nn.Linear | nn.Conv2d):
            return False
        weight = classifier.weight.flatten(1)
        if weight.shape[1] != scores.shape[1]:
            return False
        scores = F.linear(scores, weight, classifier.bias)
    return _same(scores, logits)


def weight_before_norm(
    weight: torch.Tensor, norm: nn.LayerNorm, pooled: torch.Tensor
) -> torch.Tensor:
    """What pooled maps F (N,K) weigh in each class where a layer norm precedes the classifier.

    weight (C,K) of the classifier → (N,C,K). The norm, γ (F − mean F) / σ + β, is linear but for σ.
    It is taken at each image's own σ, so that the mean of a class activation map is the logit
    without what no map contributes, as in eq. 2.
    """
    if norm.weight is not None:
        weight = weight * norm.weight
    weight = weight - weight.mean(1, keepdim=True)  # that of F − mean F
    variance = pooled.var(1, correction=0)
    return weight / (variance + norm.eps).sqrt()[:, None, None]


def forward(
    model: nn.Module, images: torch.Tensor, only: str | None = None
) -> tuple[torch.Tensor, Outputs]:
    """The logits (N,C), and (layer, call) -> its output and input, in the order of the calls.

    The tensors are those at the end of the pass: a ReLU that works in place has been there.
    only: the one layer whose outputs are kept.
    """
    outputs: Outputs = {}
    calls: Counter[str] = Counter()

    def keep(name: str, given: tuple, output: object) -> None:
        if isinstance(output, torch.Tensor) and given and isinstance(given[0], torch.Tensor):
            outputs[name, calls[name]] = (output, given[0])
        calls[name] += 1

    with _hooks(model, keep, only):
        said = model(images)
    return _scores(model, said), outputs


def forward_with_attention(
    model: nn.Module, images: torch.Tensor, found: Found
) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits (N,C), and where the class token looks (N,1,h,w)."""
    with attention_weights(model.get_submodule(found.layer)) as weights:
        logits = _scores(model, model(images))
    of_class_token = weights[-1][:, 0, :, None]  # (N,L,1)
    return logits, found.layout.maps(of_class_token)


def _scores(model: nn.Module, said: object) -> torch.Tensor:
    logits = getattr(said, "logits", said)
    if isinstance(logits, tuple | list):
        logits = logits[0]
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        raise UserError(
            f"{type(model).__name__} gives no (N,C) scores of classes: {type(said).__name__}"
        )
    return logits


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


def _last_linear(
    model: nn.Module, logits: torch.Tensor, outputs: Outputs
) -> tuple[str | None, torch.Tensor]:
    """The linear layer, or 1×1 convolution, whose outputs are the logits; and its input (N,K)."""
    modules = dict(model.named_modules())
    for (name, _), (output, given) in reversed(outputs.items()):
        is_linear = isinstance(modules[name], nn.Linear) and given.ndim == 2
        is_pointwise = isinstance(modules[name], nn.Conv2d) and given.shape[2:] == (1, 1)
        if (is_linear or is_pointwise) and _same(output.flatten(1), logits):
            return name, given.flatten(1)
    return None, logits


def _layer_norm_before(
    model: nn.Module, classifier: str | None, pooled: torch.Tensor, outputs: Outputs
) -> tuple[str, torch.Tensor | None]:
    """The layer norm of one vector an image whose output the classifier reads, and its input."""
    if classifier is None:
        return "", None
    modules = dict(model.named_modules())
    for (name, _), (output, given) in reversed(outputs.items()):
        is_norm = isinstance(modules[name], nn.LayerNorm)
        if is_norm and output.flatten(1).shape == pooled.shape and _same(output.flatten(1), pooled):
            return name, given.flatten(1)
    return "", None


def _maps(outputs: Outputs) -> Iterator[tuple[tuple[str, int], Layout, torch.Tensor]]:
    """Every layer's output in each layout that its shape allows, as maps (1,K,h,w)."""
    grids: dict[int, tuple[int, int]] = {}  # K → (h,w) of patches, which may become tokens
    for key, (output, _) in outputs.items():
        layouts = []
        if output.ndim == 4:
            _, first, second, third = output.shape
            if second * third > 1:
                layouts.append(Layout())
                grids.setdefault(first, (second, third))
            if first * second > 1:
                layouts.append(Layout("NHWK"))
        elif output.ndim == 3 and output.shape[2] in grids:
            grid = grids[output.shape[2]]
            prefix = output.shape[1] - math.prod(grid)
            if prefix >= 0:
                layouts.append(Layout("NLK", prefix, grid))
        for layout in layouts:
            yield key, layout, layout.maps(output)


def _class_token(
    model: nn.Module, classifier: str | None, pooled: torch.Tensor, outputs: Outputs
) -> Found | None:
    """The last attention of a model whose classifier reads the first of the tokens."""
    attention = last_attention(model)
    if attention is None:
        return None
    for (layer, call), layout, _ in _maps(outputs):
        output, _ = outputs[layer, call]
        if layout.prefix and _same(output[:, 0], pooled):
            names = {module: name for name, module in model.named_modules()}
            return Found("attention", names[attention], 0, layout, "", "", "", classifier)
    return None


def _why_not(model: nn.Module, classifier: str | None, pooled: torch.Tensor, maps: list) -> str:
    """The reason for which a network has no class activation map."""
    none = f"{type(model).__name__} has no class activation map"
    if classifier is None:
        return f"{none}: no linear layer gives its {pooled.shape[1]} outputs"
    last = maps[-1]
    for one in maps:
        if one[1].order != "NHWK":  # any maps could be read so
            last = one
    (layer, _), _, output = last
    shape = "×".join(map(str, output.shape[1:]))
    if pooled.shape[1] != output.shape[1]:
        return (
            f"{none}: {classifier} reads {pooled.shape[1]} values and the last "
            f"maps, of {layer}, are {shape}, so other layers stand between them"
        )
    return (
        f"{none}: what {classifier} reads is neither average nor maximum of the maps of {layer} "
        f"({shape}), nor a layer norm of them; something else stands between"
    )


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape:
        return False
    largest = other.abs().max().clamp(min=1e-12)
    return bool((one - other).abs().max() <= TOLERANCE * largest)
