"""Settings that are right alone but not together, each refused with the nearest that is; nothing heavy is imported."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from cam_repro import UserError
from cam_repro.mistakes import did_you_mean, shown

if TYPE_CHECKING:
    from cam_repro.config import Config, ModelConfig, ProtocolConfig, RecipeConfig

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


def check_agreement(config: Config, makes_maps: bool = False) -> None:
    """UserError where two settings contradict each other.

    makes_maps: the work draws class maps, so that the default method counts as if it were asked for.
    """
    if config.model:
        check_model(config.model)
        check_sizes(config.model, "protocol.size", config.protocol.size)
        check_sizes(config.model, "recipe.sizes", config.recipe.sizes)
        _check_method(config, makes_maps)
        if config.weights is not None and is_published(config.weights):
            check_published(config.model.backbone, config.weights)
    _check_recipe(config.recipe)
    (_check_all if config.protocol.name == "all" else _check_protocol)(config.protocol)


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


def _check_method(config: Config, makes_maps: bool) -> None:
    model, chosen = config.model, config.method == "cam"
    by_default = makes_maps and config.method is None and config.protocol.name != "all"
    whole = model.native and LIMITS[model.backbone].ends_in == "fully connected layers"
    if whole and (chosen or by_default):
        raise UserError(
            f"method=cam{'' if chosen else ' (the default)'} cannot serve model={model.name}: {NO_CAM}; "
            "type method=gradcam (or backprop), or choose a …_gap network"
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


def _check_recipe(recipe: RecipeConfig) -> None:
    sizes, starts, milestones = recipe.sizes, recipe.size_starts, recipe.milestones
    if len(sizes) != len(starts) or not sizes:
        raise UserError(
            f"recipe.sizes={shown(sizes)} and recipe.size_starts={shown(starts)} must be lists of one length, 1 or more"
        )
    if starts[0] != 0 or not _rises(starts) or starts[-1] >= 1:
        raise UserError(f"recipe.size_starts={shown(starts)} must begin with 0 and rise, each below 1")
    if not _rises(milestones) or not all(0 < milestone < 1 for milestone in milestones):
        nearest = sorted({milestone for milestone in milestones if 0 < milestone < 1})
        raise UserError(
            f"recipe.milestones={shown(milestones)} must rise, each between 0 and 1, the two left out: fractions of "
            f"training; type recipe.milestones={shown(nearest)}"
        )


def _rises(numbers: list[int] | list[float]) -> bool:
    return all(one < next_one for one, next_one in pairwise(numbers))


def _check_protocol(protocol: ProtocolConfig) -> None:
    takes = {"paper": "threshold", "release": "thresholds", "sweep": None}[protocol.boxes]
    for key in ("threshold", "thresholds"):
        given = getattr(protocol, key) is not None
        if given != (key == takes):
            needs = "needs" if key == takes else "takes no"
            raise UserError(f"protocol.boxes={protocol.boxes} {needs} protocol.{key}=")
    if protocol.thresholds is not None and not (protocol.thresholds and _rises(protocol.thresholds)):
        nearest = sorted(set(protocol.thresholds)) or [20, 100, 110]
        raise UserError(
            f"protocol.thresholds={shown(protocol.thresholds)} must be one level of 255 or more, each above the one "
            f"before it; type protocol.thresholds={shown(nearest)}"
        )
    if protocol.boxes != "release" and protocol.guesses != "loose":
        raise UserError(f"protocol.guesses={protocol.guesses} needs protocol.boxes=release, which has a tight box too")
    if protocol.boxes == "sweep" and protocol.view != "squash":
        raise UserError(f"protocol.boxes=sweep (MaxBoxAcc) is defined on protocol.view=squash, not {protocol.view}")


def _check_all(protocol: ProtocolConfig) -> None:
    """protocol=all stands for the others as they are, but for the size of what the network sees."""
    defaults = {field.name: field.default for field in fields(protocol)}
    changed = [key for key, value in asdict(protocol).items() if value != defaults[key]]
    if given := [key for key in changed if key not in ("name", "size")]:
        raise UserError(f"protocol=all runs every protocol as written; leave protocol.{given[0]}= out, or name one")
