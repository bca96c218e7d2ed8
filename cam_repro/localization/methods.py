"""Maps of where, by name: class activation maps, Grad-CAM and backpropagation, for several classes of each picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from cam_repro import UserError
from cam_repro.devices import autocast
from cam_repro.localization.maps import class_activation_maps, top_classes
from cam_repro.localization.placement import mean_softmax
from cam_repro.networks import CamNetwork

Choose = Callable[[torch.Tensor], torch.Tensor]  # logits (N,C) → (N,M): the classes whose maps are wanted
Method = Callable[[CamNetwork, torch.Tensor, Choose], tuple[torch.Tensor, torch.Tensor]]  # → logits (N,C), (N,M,h,w)


@dataclass
class Look:
    """What a network sees in P pictures.

    scores (P,C): logits, or with several crops a picture the mean of their softmax; guesses (P,G): the best
    G = min(count, C) classes; heat (P,M,h,w), with several crops (P,crops,M,h,w): the maps of the guesses, then
    (M = G + 1) of the true class where labels were given; float32, at the method's own resolution.
    """

    scores: torch.Tensor
    guesses: torch.Tensor
    heat: torch.Tensor


def look(
    network: CamNetwork, images: torch.Tensor, labels: torch.Tensor | None = None,
    *, method: str = "cam", crops: int = 1, count: int = 5,
) -> Look:  # fmt: skip
    """One forward pass over P·crops normalised images, a picture's crops one after the other; labels (P,).

    The network must be in evaluation mode; no parameter's gradient is touched. All crops of a picture are asked
    for the same classes: those of its merged scores.
    """
    reason = refusal(method, network)
    if reason:
        raise UserError(reason)

    def choose(logits: torch.Tensor) -> torch.Tensor:
        guesses = top_classes(picture_scores(logits, crops), count)
        wanted = guesses if labels is None else torch.cat([guesses, labels[:, None]], dim=1)
        return wanted.repeat_interleave(crops, dim=0)

    logits, heat = METHODS[method](network, images, choose)
    scores = picture_scores(logits, crops)
    return Look(scores, top_classes(scores, count), heat if crops == 1 else heat.unflatten(0, (-1, crops)))


def picture_scores(logits: torch.Tensor, crops: int) -> torch.Tensor:
    """(P·crops,C) logits → (P,C): the logits themselves, or the mean of the softmax over a picture's crops."""
    return logits if crops == 1 else mean_softmax(logits.unflatten(0, (-1, crops)))


def refusal(method: str, network: CamNetwork) -> str:
    """Why the network cannot serve the method, in one line; empty if it can."""
    if method not in METHODS:
        return f"method={method} is unknown; choose one of: {', '.join(METHODS)}"
    if method == "cam" and network.cam_obstacle:
        others = " or ".join(f"method={name}" for name in METHODS if name not in ("cam", "scores"))
        return f"method=cam cannot serve this network: {network.cam_obstacle}; choose {others}"
    return ""


@torch.inference_mode()
def cam(network: CamNetwork, images: torch.Tensor, choose: Choose) -> tuple[torch.Tensor, torch.Tensor]:
    """Class activation maps (Zhou et al. 2016, §2), with their sign; the maps' size."""
    logits, maps = _forward(network, images)
    return logits, class_activation_maps(maps.float(), network.classifier_weight, choose(logits))


def gradcam(network: CamNetwork, images: torch.Tensor, choose: Choose) -> tuple[torch.Tensor, torch.Tensor]:
    """ReLU(Σ_k a_k f_k), a_k = the class score's gradient averaged over the map f_k (Selvaraju et al. 2017, eq. 1–2).

    The maps are those after the last ReLU. With average pooling a_k = w_k / (h·w): ReLU(CAM) / (h·w).
    """
    with torch.inference_mode(False), torch.enable_grad():
        images = _differentiable(images)
        logits, maps = _forward(network, images)
        gradients = _gradients(logits, choose(logits.detach()), maps)
        weights = torch.stack([gradient.float().mean((2, 3)) for gradient in gradients], dim=1)  # (N,M,K)
    maps = maps.detach().float()
    return logits.detach(), (weights @ maps.flatten(2)).unflatten(2, maps.shape[2:]).relu()


def backprop(
    network: CamNetwork, images: torch.Tensor, choose: Choose, colour: str = "max"
) -> tuple[torch.Tensor, torch.Tensor]:
    """|∂ logit_c / ∂ image|, the colour channels' maximum or sum (Simonyan et al. 2014, §3.1); the images' size.

    The gradient is that of the normalised image; the channels' deviations differ by 2 %. In float32 on any device:
    bfloat16's rounding sends it through other ReLUs and pooling maxima, and moves whole boxes.
    """
    merge = {"max": lambda gradient: gradient.amax(1), "sum": lambda gradient: gradient.sum(1)}[colour]
    with torch.inference_mode(False), torch.enable_grad():
        images = _differentiable(images)
        logits, _ = network.forward_with_maps(images)
        gradients = _gradients(logits, choose(logits.detach()), images)
        heat = [merge(gradient.abs()).float() for gradient in gradients]
    return logits.detach(), torch.stack(heat, dim=1)


@torch.inference_mode()
def scores(network: CamNetwork, images: torch.Tensor, choose: Choose) -> tuple[torch.Tensor, torch.Tensor]:
    """For classification alone: no maps (N,M,0,0), and so no network that could not serve it."""
    logits, _ = _forward(network, images)
    return logits, logits.new_zeros(*choose(logits).shape, 0, 0)


METHODS: dict[str, Method] = {
    "scores": scores,
    "cam": cam,
    "gradcam": gradcam,
    "backprop": backprop,
    "backprop_sum": partial(backprop, colour="sum"),  # the release's merge implies it
}


def _forward(network: CamNetwork, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits in float32, maps as the device computes them."""
    with autocast(images.device):
        logits, maps = network.forward_with_maps(images)
    return logits.float(), maps


def _differentiable(images: torch.Tensor) -> torch.Tensor:
    """A copy: the caller's images stay as they are, and may come from inference mode."""
    return images.detach().clone().requires_grad_()


def _gradients(logits: torch.Tensor, classes: torch.Tensor, inputs: torch.Tensor) -> Iterator[torch.Tensor]:
    """∂ logit / ∂ inputs (N,…) for each of the M asked positions in turn, from one forward pass.

    Summed over the batch first: in evaluation mode no picture's logits depend on another picture.
    """
    scores = logits.gather(1, classes).sum(0)
    for position, score in enumerate(scores, start=1):
        yield torch.autograd.grad(score, inputs, retain_graph=position < len(scores))[0]
