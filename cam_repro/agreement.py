"""To be dropped when cam_repro/networks checks this itself.

Settings that are right alone but not together, each refused with the nearest that is; nothing heavy is imported."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from cam_repro import UserError
from cam_repro.mistakes import did_you_mean, shown

if TYPE_CHECKING:
    from cam_repro.config import ModelConfig

V1 = ("IMAGENET1K_V1", "DEFAULT")
NEW_CONVOLUTION = ("units", "groups", "conv_init", "conv_bias")  # keys of model. that set it
NO_CAM = "fully connected layers stand between its maps and its classes, so no class has a weight for a map"


@dataclass(frozen=True)
class Limits:
    """What a backbone of networks.trunks takes, written down so that it is known without torch; tests compare."""

    channels: tuple[int, ...]  # of the trunk's maps, then of the convolutions before the one of model.units
    smallest: int  # pixels a side of a picture that the cut network takes
    smallest_whole: int  # likewise with model.native=true
    ends_in: Literal["pooled maps", "class maps", "fully connected layers"] = "pooled maps"  # with model.native=true
    published: tuple[str, ...] = V1  # the names of torchvision's weights


LIMITS = {
    "alexnet": Limits((256,), 31, 63, "fully connected layers"),
    "alexnet_star": Limits((256, 384, 512), 63, 63, "fully connected layers"),
    "vgg16": Limits((512,), 16, 32, "fully connected layers", (*V1, "IMAGENET1K_FEATURES")),
    "googlenet": Limits((832,), 15, 15),
    "resnet18": Limits((256,), 1, 1),
    "squeezenet1_0": Limits((512,), 21, 21, "class maps"),
    "nin": Limits((384,), 23, 39, "class maps", ()),
}


def check_model(model: ModelConfig) -> None:
    """UserError for a head that does not fit its backbone, and for an input that is too small for it."""
    if model.backbone not in LIMITS:
        near = did_you_mean(model.backbone, LIMITS)
        raise UserError(f"model.backbone={shown(model.backbone)} is unknown; {near}choose one of: {', '.join(LIMITS)}")
    (_check_whole if model.native else _check_groups)(model)
    check_sizes(model, "model.input_size", model.input_size)


def _check_groups(model: ModelConfig) -> None:
    channels = (*LIMITS[model.backbone].channels, model.units)
    if odd := [number for number in channels if number % model.groups]:
        common = math.gcd(*channels)
        divisors = [number for number in range(1, common + 1) if common % number == 0]
        nearest = min(divisors, key=lambda number: abs(number - model.groups))
        raise UserError(
            f"model.groups={model.groups} does not divide {odd[0]}; {model.backbone}'s maps and the added convolutions "
            f"have {', '.join(map(str, channels))}: type model.groups={nearest}"
        )


def _check_whole(model: ModelConfig) -> None:
    defaults = {field.name: field.default for field in fields(model)}
    for key in NEW_CONVOLUTION:
        if getattr(model, key) != defaults[key]:
            raise UserError(
                f"model.{key}={getattr(model, key)} sets an added convolution, which model.native=true of {model.name} "
                f"does not have; type model.{key}={defaults[key]} or model.native=false"
            )
    end = LIMITS[model.backbone].ends_in
    if end == "fully connected layers" and (model.pool != "average" or model.dropout):
        raise UserError(
            f"model.pool={model.pool} model.dropout={model.dropout}: {model.backbone} as it is has no pooled maps to "
            "set them for; type model.pool=average model.dropout=0, or model.native=false"
        )
    if end == "class maps" and model.dropout:
        raise UserError(
            f"model.dropout={model.dropout}: {model.backbone} as it is pools the classes' own maps, where dropout "
            "would drop classes; type model.dropout=0, or model.native=false"
        )


def check_sizes(model: ModelConfig, key: str, sizes: int | list[int] | None) -> None:
    """UserError where a picture (of `sizes` pixels a side, the value of `key`) is smaller than the network takes."""
    limits = LIMITS[model.backbone]
    smallest = limits.smallest_whole if model.native else limits.smallest
    given = sizes if isinstance(sizes, list) else [smallest if sizes is None else sizes]
    if min(given, default=smallest) < smallest:
        nearest = [max(size, smallest) for size in sizes] if isinstance(sizes, list) else smallest
        raise UserError(
            f"{key}={shown(sizes)} is too small for model={model.name}: {model.backbone}{' as it is' * model.native} "
            f"takes {smallest} pixels a side or more; type {key}={shown(nearest)}"
        )


def is_published(weights: str) -> bool:
    """Whether weights= names a version of torchvision's, not a file."""
    return weights == "DEFAULT" or weights.startswith("IMAGENET")


def check_published(backbone: str, version: str) -> None:
    """UserError where torchvision publishes no such weights of a backbone."""
    known = LIMITS[backbone].published
    if not known:
        raise UserError(
            f"weights={shown(version)}: torchvision has no {backbone}; give a file, or leave weights= out to train it"
        )
    if version not in known:
        raise UserError(
            f"weights={shown(version)} is neither a file nor weights of {backbone}; {did_you_mean(version, known)}"
            f"choose one of: {', '.join(known)}"
        )
