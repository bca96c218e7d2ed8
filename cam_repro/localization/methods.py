"""Maps of where, by name: class activation maps, Grad-CAM and backpropagation, for several classes of each picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from cam_repro import UserError
from cam_repro.distributed import autocast
from cam_repro.localization.maps import class_activation_maps, top_classes
from cam_repro.localization.placement import mean_softmax
from cam_repro.networks import CamNetwork

METHODS = ("cam", "gradcam", "backprop", "backprop_sum")
COMPARED = ("cam", "gradcam", "backprop")  # what protocol=all runs: backprop's sum over colour is the release's variant
OF_THE_PIXELS = ("backprop", "backprop_sum")  # their maps are as large as what the network sees


@dataclass
class Look:
    """What a network sees in P pictures.

    scores (P,C): logits, or with several crops a picture the mean of their softmax; guesses (P,G): the best
    G = min(count, C) classes; heat: method -> (P,M,h,w), with several crops (P,crops,M,h,w): the maps of the
    guesses, then (M = G + 1) of the true class where labels were given; float32, at the method's own resolution.
    """

    scores: torch.Tensor
    guesses: torch.Tensor
    heat: dict[str, torch.Tensor]


def look(
    network: CamNetwork, images: torch.Tensor, labels: torch.Tensor | None = None,
    *, methods: Sequence[str] = ("cam",), crops: int = 1, count: int = 5,
) -> Look:  # fmt: skip
    """P·crops normalised images, a picture's crops one after the other, through the network; labels (P,).

    All methods share one forward pass, but that backpropagation has its own where the others' is in bfloat16.
    Without a method there are scores alone, of any network. The network must be in evaluation mode; no parameter's
    gradient is touched. All crops of a picture are asked for the same classes: those of its merged scores.
    UserError for a method that the network cannot serve.
    """
    refuse(methods, network)

    scores: list[torch.Tensor] = []  # of the first pass: another's rounding may order near-equal classes otherwise

    def choose(logits: torch.Tensor) -> torch.Tensor:
        scores.append(picture_scores(logits, crops))
        guesses = top_classes(scores[0], count)
        wanted = guesses if labels is None else torch.cat([guesses, labels[:, None]], dim=1)
        return wanted.repeat_interleave(crops, dim=0)

    heat: dict[str, torch.Tensor] = {}
    for together in _forward_passes(methods, images.device):
        heat |= _see(network, images, choose, together)
    if crops > 1:
        heat = {method: maps.unflatten(0, (-1, crops)) for method, maps in heat.items()}
    return Look(scores[0], top_classes(scores[0], count), heat)


def picture_scores(logits: torch.Tensor, crops: int) -> torch.Tensor:
    """(P·crops,C) logits → (P,C): the logits themselves, or the mean of the softmax over a picture's crops."""
    return logits if crops == 1 else mean_softmax(logits.unflatten(0, (-1, crops)))


def refuse(methods: Sequence[str], network: CamNetwork) -> None:
    for method in methods:
        if reason := refusal(method, network):
            raise UserError(reason)


def refusal(method: str, network: CamNetwork) -> str:
    """Why the network cannot serve the method, in one line; empty if it can."""
    if method not in METHODS:
        return f"method={method} is unknown; choose one of: {', '.join(METHODS)}"
    if method == "cam" and network.cam_obstacle:
        others = " or ".join(f"method={name}" for name in METHODS if name != "cam")
        return f"method=cam cannot serve this network: {network.cam_obstacle}; choose {others}"
    return ""


def _forward_passes(methods: Sequence[str], device: torch.device) -> list[list[str]]:
    """Which methods share a forward pass: all, unless bfloat16 would send backpropagation other ways.

    Its rounding opens and closes other ReLUs and moves pooling maxima, and with them whole boxes.
    """
    if device.type != "cuda":
        return [list(methods)]
    of_the_pixels = [method for method in methods if method in OF_THE_PIXELS]
    others = [method for method in methods if method not in OF_THE_PIXELS]
    return [others, of_the_pixels] if of_the_pixels else [others]


def _see(
    network: CamNetwork, images: torch.Tensor, choose: Callable[[torch.Tensor], torch.Tensor], methods: Sequence[str]
) -> dict[str, torch.Tensor]:
    """One forward pass → each method's maps (N,M,h,w) of the classes (N,M) chosen by its logits (N,C)."""
    through_gradients = [method for method in methods if method in GRADIENT_METHODS]
    exact = any(method in OF_THE_PIXELS for method in methods)
    with torch.inference_mode(not through_gradients), torch.set_grad_enabled(bool(through_gradients)):
        if through_gradients:  # a copy: the caller's images stay as they are, and may come from inference mode
            images = images.detach().clone().requires_grad_()
        with nullcontext() if exact else autocast(images.device):
            logits, maps = network.forward_with_maps(images)
        classes = choose(logits.detach().float())
        heat = _gradient_maps(logits, classes, maps, images, through_gradients)
    if "cam" in methods:
        heat["cam"] = class_activation_maps(maps.detach().float(), network.classifier_weight.detach(), classes)
    return heat


def _gradient_maps(
    logits: torch.Tensor, classes: torch.Tensor, maps: torch.Tensor, images: torch.Tensor, methods: Sequence[str]
) -> dict[str, torch.Tensor]:
    """method → (N,M,h,w), every class's score propagated back once for all methods.

    Scores are summed over the batch first: in evaluation mode no picture's logits depend on another picture.
    """
    if not methods:
        return {}
    inputs = [maps] * ("gradcam" in methods) + [images] * any(method in OF_THE_PIXELS for method in methods)
    rows: dict[str, list[torch.Tensor]] = {method: [] for method in methods}
    for position, score in enumerate(logits.float().gather(1, classes).sum(0), start=1):
        gradients = torch.autograd.grad(score, inputs, retain_graph=position < classes.shape[1])
        for method in methods:
            gradient = gradients[-1 if method in OF_THE_PIXELS else 0].float()
            rows[method].append(GRADIENT_METHODS[method](gradient, maps.detach().float()))
    return {method: torch.stack(row, dim=1) for method, row in rows.items()}


def _gradcam(gradient: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """ReLU(Σ_k a_k f_k), a_k = the class score's gradient averaged over the map f_k (Selvaraju et al. 2017, eq. 1–2).

    The maps are those after the last ReLU. With average pooling a_k = w_k / (h·w): ReLU(CAM) / (h·w).
    """
    weights = gradient.mean((2, 3))[:, None]  # (N,1,K)
    return (weights @ maps.flatten(2))[:, 0].unflatten(1, maps.shape[2:]).relu()


def _backprop(gradient: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """|∂ logit_c / ∂ image|, the colour channels' maximum (Simonyan et al. 2014, §3.1).

    The gradient is that of the normalised image; the channels' deviations differ by 2 %.
    """
    return gradient.abs().amax(1)


def _backprop_sum(gradient: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """The same with the colour channels' sum, which the release's merge implies."""
    return gradient.abs().sum(1)


GRADIENT_METHODS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "gradcam": _gradcam,  # of the last maps
    "backprop": _backprop,  # of the pixels
    "backprop_sum": _backprop_sum,
}
