"""Maps of where, by name: class activation maps, their successors, backpropagation, and baselines.

A method is one function and one entry of METHODS; nothing else knows its name. In the equations
f_k is the k-th of the last maps, y_c the logit of class c, and Σ_k goes over the maps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn import functional as F

from cam_repro import UserError
from cam_repro.config import check_choice
from cam_repro.distributed import float32
from cam_repro.localization.maps import class_activation_maps, top_classes, weighted_sum
from cam_repro.networks import CamNetwork

REFERENCES = 3  # classes that Finer-CAM compares a class with
COPIES = 32  # changed copies of an image that go through the network at once, at least
CENTRE_SIGMA = 100 / 224  # of the image's sides


@dataclass
class ForwardPass:
    """What a method may look at: N images, what the network made of them, and the network itself.

    images (N,3,H,W) are normalised; maps (N,K,h,w) come after the last ReLU; logits (N,C); classes
    (N,M) are those of which maps are wanted. Nothing here may be changed in place.
    """

    network: CamNetwork
    images: torch.Tensor
    maps: torch.Tensor
    logits: torch.Tensor
    classes: torch.Tensor

    @property
    def class_logits(self) -> torch.Tensor:
        """(N,M): y_c of each wanted class c."""
        return self.logits.gather(1, self.classes)

    @cached_property
    def map_gradients(self) -> torch.Tensor:
        """(N,M,K,h,w): ∂ y_c / ∂ f_k(x,y), one backward pass a class for all methods together."""
        return self.map_gradients_of(lambda logits: logits.gather(1, self.classes))

    @torch.enable_grad()
    def map_gradients_of(self, scores: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """(N,M,K,h,w): the gradient of scores(logits (N,C)) -> (N,M).

        Only the part of the network behind the maps is run again and differentiated.
        """
        maps = self.maps.clone().requires_grad_()
        return _gradients(scores(self.network.classify(maps)), maps)

    @cached_property
    @torch.enable_grad()
    def pixel_gradients(self) -> torch.Tensor:
        """(N,M,3,H,W): ∂ y_c / ∂ image, for the methods that METHODS says are `of_pixels`."""
        return _gradients(self.class_logits, self.images)

    @property
    def copies(self) -> int:
        """How many changed copies of an image go through the network at once."""
        return max(COPIES, len(self.images))


def _gradients(scores: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    """∂ scores (N,M) / ∂ of (N,…) → (N,M,…), by one backward pass for each of the M.

    Scores are summed over the batch first: in evaluation mode no image's score depends on another
    image.
    """
    rows = []
    for score in scores.sum(0):
        (row,) = torch.autograd.grad(score, of, retain_graph=True)
        rows.append(row)
    return torch.stack(rows, dim=1)


def cam(forward: ForwardPass) -> torch.Tensor:
    """Σ_k w_k^c f_k, without bias, ReLU or normalisation (Zhou et al. 2016, eq. 2)."""
    weight = forward.network.weight_of(forward.maps)
    return class_activation_maps(forward.maps, weight, forward.classes)


def gradcam(forward: ForwardPass) -> torch.Tensor:
    """ReLU(Σ_k a_k f_k), a_k the mean of ∂ y_c / ∂ f_k over f_k (Selvaraju et al. 2017, eq. 1–2).

    With average pooling a_k = w_k / (h·w): ReLU(CAM) / (h·w).
    """
    weights = forward.map_gradients.mean((3, 4))
    return weighted_sum(weights, forward.maps).relu()


def gradcampp(forward: ForwardPass) -> torch.Tensor:
    """Grad-CAM++: ReLU(Σ_k w_k f_k), w_k = Σ_xy α ReLU(g) (Chattopadhay et al. 2018, eq. 19–20).

    g = ∂ y_c / ∂ f_k(x,y) and α = g² / (2 g² + g³ Σ_xy f_k), which is 1 / (2 + g Σ_xy f_k) wherever
    ReLU(g) is not 0: so no small number has to keep the division from 0 / 0. The class score is
    exp(y_c) (eq. 12–18); the factor exp(y_c) of all weights of a map is left out.
    """
    positive = forward.map_gradients.relu()
    sums = forward.maps.sum((2, 3))[:, None, :, None, None]
    weights = (positive / (2 + positive * sums)).sum((3, 4))
    return weighted_sum(weights, forward.maps).relu()


def hirescam(forward: ForwardPass) -> torch.Tensor:
    """HiResCAM: Σ_k ∂ y_c / ∂ f_k(x,y) · f_k(x,y), without a ReLU (Draelos and Carin 2020).

    With average pooling CAM / (h·w).
    """
    return (forward.map_gradients * forward.maps[:, None]).sum(2)


def xgradcam(forward: ForwardPass) -> torch.Tensor:
    """XGrad-CAM: Σ_k a_k f_k, a_k = Σ_xy ∂ y_c / ∂ f_k · f_k / Σ_xy f_k, no ReLU (Fu et al. 2020).

    A map of zeros has the weight 0. With average pooling CAM / (h·w).
    """
    products = forward.map_gradients * forward.maps[:, None]
    sums = forward.maps.sum((2, 3))[:, None]
    weights = torch.where(sums == 0, 0, products.sum((3, 4)) / sums)
    return weighted_sum(weights, forward.maps)


def layercam(forward: ForwardPass) -> torch.Tensor:
    """LayerCAM: ReLU(Σ_k ReLU(∂ y_c / ∂ f_k(x,y)) f_k(x,y)) (Jiang et al. 2021, eq. 5–7).

    Each place weighs for itself. With average pooling the gradient is w_k / (h·w) everywhere: the
    class activation map of the positive weights.
    """
    positive = forward.map_gradients.relu()
    return (positive * forward.maps[:, None]).sum(2).relu()


def finercam(forward: ForwardPass) -> torch.Tensor:
    """Finer-CAM: Grad-CAM of y_c − α · mean y_d, d the three nearest classes (Zhang et al. 2025).

    α = 1. Nearest are the classes whose logits differ least from y_c, each compared with alike.
    With average pooling ReLU(CAM_c − the mean of CAM_d) / (h·w).
    """
    own = forward.class_logits[..., None]
    distances = (forward.logits[:, None] - own).abs()  # (N,M,C)
    distances = distances.scatter(2, forward.classes[..., None], torch.inf)
    references = min(REFERENCES, distances.shape[2] - 1)
    nearest = distances.sort(dim=2, stable=True).indices[..., :references]

    def contrast(logits: torch.Tensor) -> torch.Tensor:
        of_every_class = logits[:, None].expand(distances.shape)
        others = of_every_class.gather(2, nearest)
        return logits.gather(1, forward.classes) - others.mean(2)

    weights = forward.map_gradients_of(contrast).mean((3, 4))
    return weighted_sum(weights, forward.maps).relu()


def eigencam(forward: ForwardPass) -> torch.Tensor:
    """Eigen-CAM: the maps along their first right singular vector (Muhammad and Yeasin 2020).

    The maps of an image, as a matrix of h·w places by K maps, are U S Vᵀ; the map is their product
    with V's first column, which is U's first column times the largest singular value. It is the
    same for every class. The decomposition leaves its sign open: it is the one with which the map's
    sum is positive, so that it is nowhere negative (maps after a ReLU have a first vector of one
    sign).
    """
    places = forward.maps.flatten(2).mT  # (N,h·w,K)
    u, s, _ = torch.linalg.svd(places, full_matrices=False)
    projected = u[..., 0] * s[:, :1]  # (N,h·w)
    sign = torch.where(projected.sum(1, keepdim=True) < 0, -1, 1)
    of_image = (sign * projected).unflatten(1, forward.maps.shape[2:])
    return of_image[:, None].repeat(1, forward.classes.shape[1], 1, 1)


def scorecam(forward: ForwardPass) -> torch.Tensor:
    """Score-CAM: ReLU(Σ_k a_k f_k), a_k = softmax over k of y_c(image · f_k) (Wang et al. 2020).

    Equations 6–10 and algorithm 1: the image is multiplied with each map in turn, which is enlarged
    to it (bilinearly) and brought to 0…1; where the map is 0, the image becomes ImageNet's mean
    colour. The baseline's score is one number for all maps, and the softmax takes it out again. A
    map that is the same everywhere masks the whole image. K forward passes an image serve all
    classes.
    """
    weights = []
    for image, maps, classes in zip(forward.images, forward.maps, forward.classes, strict=True):
        scores = []
        for part in maps.split(forward.copies):
            masks = F.interpolate(part[:, None], image.shape[1:], mode="bilinear")
            masks -= masks.amin((2, 3), keepdim=True)
            largest = masks.amax((2, 3), keepdim=True)
            masks /= torch.where(largest > 0, largest, 1)
            logits = forward.network(image * masks)
            scores.append(logits[:, classes])
        weights.append(torch.cat(scores).softmax(0).T)
    return weighted_sum(torch.stack(weights), forward.maps).relu()


def ablationcam(forward: ForwardPass) -> torch.Tensor:
    """Ablation-CAM: ReLU(Σ_k a_k f_k), a_k what y_c loses without f_k (Desai and Ramaswamy 2020).

    a_k = (y_c − y_c with zeros in place of f_k) / |y_c|. K passes through what is behind the maps
    serve all classes. The paper divides by y_c, which would turn a map's sense round where the
    logit is below 0. With average pooling a_k = w_k^c F_k / |y_c|, where F_k is the mean of f_k.
    """
    smallest = torch.finfo(forward.logits.dtype).tiny
    every = torch.arange(forward.maps.shape[1], device=forward.maps.device)
    weights = []
    for maps, classes, whole in zip(
        forward.maps, forward.classes, forward.class_logits, strict=True
    ):
        drops = []
        for part in every.split(forward.copies):
            ablated = maps.repeat(len(part), 1, 1, 1)
            ablated[torch.arange(len(part)), part] = 0
            logits = forward.network.classify(ablated)
            drops.append(whole - logits[:, classes])
        fractions = torch.cat(drops) / whole.abs().clamp_min(smallest)
        weights.append(fractions.T)
    return weighted_sum(torch.stack(weights), forward.maps).relu()


def attention(forward: ForwardPass) -> torch.Tensor:
    """Attention of a class token in the last block, the mean of its heads (Caron et al. 2021).

    No class activation map: it is the same for every class.
    """
    return forward.maps.expand(-1, forward.classes.shape[1], -1, -1)


def backprop(forward: ForwardPass) -> torch.Tensor:
    """|∂ y_c / ∂ image|, the maximum over the colour channels (Simonyan et al. 2014, §3.1).

    The gradient is that of the normalised image; the channels' deviations differ by 2 %.
    """
    return forward.pixel_gradients.abs().amax(2)


def backprop_sum(forward: ForwardPass) -> torch.Tensor:
    """The same with the colour channels' sum, which the release's merge implies."""
    return forward.pixel_gradients.abs().sum(2)


# Baselines, which never ask the network anything.


def centre(forward: ForwardPass) -> torch.Tensor:
    """Map-blind baseline: a Gaussian in the middle, σ = 100/224 of the image's sides."""
    distances = []
    for side in forward.images.shape[2:]:
        places = torch.arange(side, device=forward.images.device) - (side - 1) / 2
        distances.append(places / (CENTRE_SIGMA * side))
    rows, columns = distances
    gaussian = torch.exp(-(rows[:, None] ** 2 + columns**2) / 2)
    return gaussian.repeat(*forward.classes.shape, 1, 1)


def uniform(forward: ForwardPass) -> torch.Tensor:
    """Map-blind baseline: 1 everywhere."""
    images = forward.images
    return torch.ones(*forward.classes.shape, *images.shape[2:], device=images.device)


def edges(forward: ForwardPass) -> torch.Tensor:
    """Map-blind baseline: |∇ image|, by Sobel's filters on the mean of the colour channels."""
    grey = forward.images.detach().mean(1, keepdim=True)
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    filters = torch.stack([across, across.T])[:, None].to(grey.device)
    slopes = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), filters)
    strength = slopes.square().sum(1, keepdim=True).sqrt()
    return strength.repeat(1, forward.classes.shape[1], 1, 1)


@dataclass(frozen=True)
class Method:
    """How maps are made, and what that asks of the network.

    function: ForwardPass -> (N,M,h,w), or (N,M,H,W) where of_pixels or is_baseline. in_all: whether
    protocol=all runs it. needs_weights: whether the classifier must have a weight for each map.
    of_pixels: whether the whole network is differentiated, and the maps are as large as the image.
    is_baseline: whether the map is made without the network, for methods to be held against.
    of_attention: whether its maps are where a class token looks.
    """

    function: Callable[[ForwardPass], torch.Tensor]
    in_all: bool = False
    needs_weights: bool = False
    of_pixels: bool = False
    is_baseline: bool = False
    of_attention: bool = False

    @property
    def has_small_maps(self) -> bool:
        """Whether its maps are the network's in size, and not the image's."""
        return not (self.of_pixels or self.is_baseline)


METHODS = {
    "cam": Method(cam, in_all=True, needs_weights=True),
    "gradcam": Method(gradcam, in_all=True),
    "gradcampp": Method(gradcampp),
    "hirescam": Method(hirescam),
    "xgradcam": Method(xgradcam),
    "layercam": Method(layercam, in_all=True),
    "finercam": Method(finercam),
    "eigencam": Method(eigencam),
    "scorecam": Method(scorecam),
    "ablationcam": Method(ablationcam),
    "attention": Method(attention, of_attention=True),
    "backprop": Method(backprop, in_all=True, of_pixels=True),
    "backprop_sum": Method(backprop_sum, of_pixels=True),
    "centre": Method(centre, is_baseline=True),
    "uniform": Method(uniform, is_baseline=True),
    "edges": Method(edges, is_baseline=True),
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
    """P·crops normalised images, an image's crops one after the other, through the network once.

    labels (P,). Without a method there are scores alone, of any network. The network must be in
    evaluation mode; no parameter's gradient is touched. All crops of an image are asked for the
    same classes: those of its mean scores. UserError for a method that the network cannot serve.
    """
    for method in methods:
        if reason := unsupported_reason(method, network):
            raise UserError(reason)
    of_pixels = any(METHODS[method].of_pixels for method in methods)
    with float32(), torch.inference_mode(False), torch.no_grad():
        if of_pixels:
            # A copy: the caller's images stay as they are, and may come from inference mode.
            images = images.clone().requires_grad_()
        with torch.set_grad_enabled(of_pixels):
            logits, maps = network.forward_with_maps(images)
        scores = logits.softmax(1).unflatten(0, (-1, crops)).mean(1)
        # By the logits where there is one crop: the softmax rounds near-equal classes to equal
        # ones.
        classes = top_classes(logits if crops == 1 else scores, count)
        wanted = classes
        if labels is not None:
            wanted = torch.cat([classes, labels[:, None]], dim=1)
        of_crops = wanted.repeat_interleave(crops, dim=0)
        forward = ForwardPass(network, images, maps.detach(), logits, of_crops)
        found = {}
        for method in methods:
            maps_of_crops = METHODS[method].function(forward)
            found[method] = maps_of_crops.unflatten(0, (-1, crops))
    return Prediction(scores, classes, found)


def unsupported_reason(method: str, network: CamNetwork) -> str:
    """Why the network cannot serve the method, in one line; empty if it can.

    UserError for an unknown method.
    """
    check_choice("method", method, METHODS)
    obstacle = _obstacle(METHODS[method], network)
    if not obstacle:
        return ""
    others = [name for name, other in METHODS.items() if not _obstacle(other, network)]
    choices = ", ".join(others)
    return f"method={method} cannot serve this network: {obstacle}; choose one of: {choices}"


def _obstacle(method: Method, network: CamNetwork) -> str:
    if method.of_attention:
        return "" if network.attends else "it has no class token"
    if method.needs_weights or (network.attends and not method.of_pixels):
        return network.cam_obstacle
    return ""
