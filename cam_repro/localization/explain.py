"""Class activation maps of any torch module whose last maps are pooled and classified linearly.

Nothing has to be known of the module: `networks.found` finds its maps by looking at one image's way
through it. A vision transformer whose classifier reads a class token has none: of it the attention
is shown, and named so. Any other module is refused with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from cam_repro import UserError
from cam_repro.data.views import resize_map
from cam_repro.localization.boxes import PAPER_THRESHOLD, Box, paper_box
from cam_repro.localization.maps import class_activation_maps, top_classes
from cam_repro.networks.found import (
    Found,
    find_maps,
    forward,
    forward_with_attention,
    still_holds,
    weight_of_maps,
)

# What is known of models that were explained before. It goes with them.
FOUND: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], Found]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Explanation:
    """What a network says of N images, and where.

    logits (N,C); maps (N,K,h,w), those that are pooled; classes (N,M), the explained ones;
    heatmaps (N,M,height,width), their class activation maps (§2, eq. 2) enlarged; boxes: of each
    image and class x1,y1,x2,y2, inclusive, by the paper's rule, in pixels of the heatmaps; found:
    where the maps are in the network, and by which method the heatmaps are made: "cam", or
    "attention". By attention maps are (N,1,h,w), where the class token looks in the last block,
    the mean of its heads, and the heatmaps of all classes are the same.
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
    mode, and for one that has no maps which are pooled and then classified by one linear layer, or
    a layer norm and one, nor a class token that looks at a grid of others.
    """
    if model.training:
        raise UserError("the model is in training mode: call model.eval() first")
    with torch.inference_mode():
        logits, maps, found = _maps_of(model, images)
        if classes is None:
            classes = top_classes(logits, top)
        classes = torch.as_tensor(classes, device=logits.device)
        if classes.ndim == 1:
            classes = classes.expand(len(images), -1)
        if found.method == "attention":
            cams = maps.expand(-1, classes.shape[1], -1, -1)
        else:
            weight = weight_of_maps(model, found, maps)
            cams = class_activation_maps(maps, weight, classes)

    width, height = size or images.shape[:1:-1]
    heatmaps = np.empty((*classes.shape, height, width), np.float32)
    boxes: list[list[Box]] = []
    for image, of_image in enumerate(cams.cpu().float().numpy()):
        for place, cam in enumerate(of_image):
            heatmaps[image, place] = resize_map(cam, width, height)
        boxes.append([paper_box(heatmap, threshold) for heatmap in heatmaps[image]])
    return Explanation(logits, maps, classes, heatmaps, boxes, found)


def _maps_of(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Found]:
    """Logits (N,C), maps (N,K,h,w) and where they were found.

    A model is searched with its first image, and again for images of another size, or where what
    was found no longer leads to its logits.
    """
    size = tuple(images.shape[1:])
    known = FOUND.setdefault(model, {})
    if size in known:
        found = known[size]
        logits, outputs = forward(model, images, only=found.layer)
        if still_holds(model, found, logits, outputs):
            return logits, found.maps(outputs), found
    found = find_maps(model, images[:1])
    if found.method == "attention":
        return *forward_with_attention(model, images, found), found
    known[size] = found
    logits, outputs = forward(model, images, only=found.layer)
    return logits, found.maps(outputs), found
