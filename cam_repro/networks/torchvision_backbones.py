"""torchvision's networks as they are, by name: `model=torchvision/regnet_y_400mf`."""

import difflib
from dataclasses import replace
from functools import cache
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models import get_model_weights, list_models

from cam_repro import UserError
from cam_repro.networks.found import find_maps
from cam_repro.networks.pixels import HALF_RANGE
from cam_repro.networks.trunks import BACKBONES, Backbone, Cut, after
from cam_repro.networks.trunks import torchvision as torchvision_of
from cam_repro.option_errors import shown


@cache
def torchvision_backbone(name: str) -> Backbone:
    """The torchvision network `name`, whose maps are found by looking.

    Raises UserError if torchvision has none, or if it has no class activation map as it is.
    """
    known = list_models(module=torchvision.models)
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, 3))
        near = near or "none (see torchvision.models.list_models())"
        raise UserError(f"torchvision has no network {shown(name)}; the nearest: {near}")
    if name in BACKBONES:
        return BACKBONES[name]
    more: dict[str, Any] = {}
    if name == "inception_v3":  # as GoogLeNet
        more["build"] = {"aux_logits": False, "init_weights": False}
        more["pixels"] = HALF_RANGE
    more["input_size"] = get_model_weights(name).DEFAULT.transforms().crop_size[0]
    bare = torchvision_of(name, surgery="", native="", **more)

    def cut(whole: nn.Module, as_it_is: bool) -> Cut:
        if not as_it_is:
            raise UserError(
                f"torchvision/{name} is taken as it is; type model.native=true, or choose a "
                "network of configs/model that ends in _gap"
            )
        layer, needs_relu = _end_of_maps(name, bare)
        kept = after(surgery="", native=layer)(whole, True)
        if needs_relu:
            kept.trunk["relu"] = nn.ReLU()
        return kept

    return replace(bare, cut=cut)


@cache
def _end_of_maps(name: str, bare: Backbone) -> tuple[str, bool]:
    """The layer that gives the maps, and whether a ReLU comes after it that is no layer.

    Looked for in a network of random weights. Raises UserError where the layers up to there, run
    in their order, and a linear one are not the whole network.
    """
    with torch.device("cpu"):  # also where a network without numbers is being made
        whole = bare.build().eval()
        image = torch.randn(1, 3, bare.input_size, bare.input_size)
    try:
        found = find_maps(whole, image)
    except UserError as error:
        raise UserError(
            f"torchvision/{name}: {error}; explain says more of other modules"
        ) from None
    with torch.inference_mode():
        logits = whole(image)
        cut = after(surgery="", native=found.layer)(whole, True) if found.layer else None
        if cut is not None and found.method == "cam" and not found.norm and cut.linear is not None:
            maps = nn.Sequential(*cut.trunk.values())(image)
            for needs_relu in (False, True):
                ended = maps.relu() if needs_relu else maps
                if torch.allclose(cut.linear(ended.mean((2, 3))), logits, rtol=1e-3, atol=1e-4):
                    return found.layer, needs_relu
    raise UserError(
        f"torchvision/{name} is not its layers in their order, average pooling and a linear layer "
        f"({found}); explain(model, images) shows its maps"
    )
