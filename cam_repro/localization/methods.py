"""Maps of where, by name: class activation maps, Grad-CAM and backpropagation, for several classes
of each picture.

A method is one function and one entry of METHODS; nothing else knows its name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from cam_repro import UserError
from cam_repro.config import check_choice
from cam_repro.distributed import float32
from cam_repro.localization.maps import class_activation_maps, top_classes
from cam_repro.networks import CamNetwork


@dataclass(frozen=True)
class Method:
    """How a method makes its maps, and what of.

    takes "classifier": function(maps (N,K,h,w), classifier's weight (C,K), classes (N,M)) ->
    (N,M,h,w). takes "gradient of the maps" or "gradient of the pixels": function(that gradient of
    one class's score, (N,K,h,w) or (N,3,H,W); maps (N,K,h,w)) -> (N,h,w) or (N,H,W). in_all:
    whether protocol=all runs it.
    """

    function: Callable[..., torch.Tensor]
    takes: Literal["classifier", "gradient of the maps", "gradient of the pixels"]
    in_all: bool = True

    @property
    def has_small_maps(self) -> bool:
        """Whether its maps are the network's in size, and not the picture's."""
        return self.takes != "gradient of the pixels"


def gradcam(gradient: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """ReLU(Σ_k a_k f_k), a_k = the class score's gradient averaged over the map f_k (Selvaraju et
    al. 2017, eq. 1–2).

    The maps are those after the last ReLU. With average pooling a_k = w_k / (h·w): ReLU(CAM) /
    (h·w).
    """
    weights = gradient.mean((2, 3))[:, None]  # (N,1,K)
    return (weights @ maps.flatten(2))[:, 0].unflatten(1, maps.shape[2:]).relu()


def layercam(gradient: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """ReLU(Σ_k ReLU(∂ score / ∂ f_k(x,y)) f_k(x,y)): each place weighs for itself (Jiang et al.
    2021, eq. 5–7).

    With average pooling the gradient is w_k / (h·w) everywhere: the class activation map of the
    positive weights.
    """
    return (gradient.relu() * maps).sum(1).relu()


def backprop(gradient: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """|∂ logit_c / ∂ image|, the colour channels' maximum (Simonyan et al. 2014, §3.1).

    The gradient is that of the normalised image; the channels' deviations differ by 2 %.
    """
    return gradient.abs().amax(1)


def backprop_sum(gradient: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """The same with the colour channels' sum, which the release's merge implies."""
    return gradient.abs().sum(1)


METHODS = {
    "cam": Method(class_activation_maps, takes="classifier"),
    "gradcam": Method(gradcam, takes="gradient of the maps"),
    "layercam": Method(layercam, takes="gradient of the maps"),
    "backprop": Method(backprop, takes="gradient of the pixels"),
    "backprop_sum": Method(backprop_sum, takes="gradient of the pixels", in_all=False),
}


@dataclass
class Prediction:
    """What a network says of P images, float32.

    scores (P,C): class probabilities, of several crops an image their mean; classes (P,G): the best
    G = min(5, C), best first; maps: method -> (P,crops,M,h,w), the maps of those classes at the
    method's own resolution, and, where labels were given, last that of the true class (M = G + 1).
    """

    scores: torch.Tensor
    classes: torch.Tensor
    maps: dict[str, torch.Tensor]


def predict(
    network: CamNetwork, images: torch.Tensor, labels: torch.Tensor | None = None,
    *, methods: Sequence[str] = ("cam",), crops: int = 1, count: int = 5,
) -> Prediction:  # fmt: skip
    """P·crops normalised images, an image's crops one after the other, through the network once;
    labels (P,).

    Without a method there are scores alone, of any network. The network must be in evaluation mode;
    no parameter's gradient is touched. All crops of an image are asked for the same classes: those
    of its mean scores. UserError for a method that the network cannot serve.
    """
    for method in methods:
        if reason := unsupported_reason(method, network):
            raise UserError(reason)
    with_gradient = [method for method in methods if METHODS[method].takes != "classifier"]
    with (
        float32(),
        torch.inference_mode(not with_gradient),
        torch.set_grad_enabled(bool(with_gradient)),
    ):
        if (
            with_gradient
        ):  # a copy: the caller's images stay as they are, and may come from inference mode
            images = images.detach().clone().requires_grad_()
        logits, maps = network.forward_with_maps(images)
        scores = logits.detach().softmax(1).unflatten(0, (-1, crops)).mean(1)
        # By the logits where there is one crop: the softmax rounds near-equal classes to equal
        # ones.
        classes = top_classes(logits.detach() if crops == 1 else scores, count)
        wanted = classes if labels is None else torch.cat([classes, labels[:, None]], dim=1)
        of_crops = wanted.repeat_interleave(crops, dim=0)
        heat = _maps_from_gradients(logits, of_crops, maps, images, with_gradient)
        for method in methods:
            if METHODS[method].takes == "classifier":
                weight = network.classifier_weight.detach()
                heat[method] = METHODS[method].function(maps.detach(), weight, of_crops)
    of_images = {method: of_method.unflatten(0, (-1, crops)) for method, of_method in heat.items()}
    return Prediction(scores, classes, of_images)


def _maps_from_gradients(
    logits: torch.Tensor,
    classes: torch.Tensor,
    maps: torch.Tensor,
    images: torch.Tensor,
    methods: Sequence[str],
) -> dict[str, torch.Tensor]:
    """method → (N,M,h,w): every class's score is propagated back once for all methods, and no
    further than needed.

    Scores are summed over the batch first: in evaluation mode no picture's logits depend on another
    picture.
    """
    sources = {"gradient of the maps": maps, "gradient of the pixels": images}
    sources = {
        name: of
        for name, of in sources.items()
        if any(METHODS[method].takes == name for method in methods)
    }
    rows: dict[str, list[torch.Tensor]] = {method: [] for method in methods}
    for place, score in enumerate(logits.gather(1, classes).sum(0) if methods else ()):
        found = torch.autograd.grad(
            score, [*sources.values()], retain_graph=place + 1 < classes.shape[1]
        )
        gradients = dict(zip(sources, found, strict=True))
        for method in methods:
            gradient = gradients[METHODS[method].takes]
            rows[method].append(METHODS[method].function(gradient, maps.detach()))
    return {method: torch.stack(row, dim=1) for method, row in rows.items()}


def unsupported_reason(method: str, network: CamNetwork) -> str:
    """Why the network cannot serve the method, in one line; empty if it can. UserError for an
    unknown method.
    """
    check_choice("method", method, METHODS)
    if METHODS[method].takes == "classifier" and network.cam_obstacle:
        others = " or ".join(
            f"method={name}" for name, other in METHODS.items() if other.takes != "classifier"
        )
        return f"method={method} cannot serve this network: {network.cam_obstacle}; choose {others}"
    return ""
