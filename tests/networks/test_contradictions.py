"""Settings that a network cannot have, each refused in one line when it is built; and the smallest picture it takes."""

from __future__ import annotations

from typing import Any

import pytest

from cam_repro import UserError
from cam_repro.config import ModelConfig
from cam_repro.networks import build_network, check_size

SMALLEST = {  # pixels a side, cut for a new head and as it is
    "alexnet": (31, 63),
    "vgg16": (16, 32),
    "resnet18": (1, 1),
    "nin": (23, 39),
}


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", SMALLEST)
def test_a_picture_that_is_too_small_is_answered_with_the_smallest(name: str, native: bool) -> None:
    model, smallest = ModelConfig("any", name, native=native), SMALLEST[name][native]
    check_size(model, "protocol.size", smallest)
    check_size(model, "recipe.sizes", [smallest, smallest + 1])
    check_size(model, "protocol.size", None)
    if smallest > 1:
        line = rf"recipe.sizes=\[{smallest - 1},300\] is too small .* takes {smallest} pixels a side or more"
        with pytest.raises(UserError, match=line):
            check_size(model, "recipe.sizes", [smallest - 1, 300])


@pytest.mark.parametrize(
    ("backbone", "settings", "message"),
    [
        ("vgg19", {}, "model.backbone=vgg19 is unknown; did you mean vgg16? choose one of: alexnet, "),
        ("vgg16", {"groups": 3}, "model.groups=3 must divide 512, 1024: vgg16's maps and .*; choose a divisor of 512"),
        ("alexnet_star", {"groups": 100, "units": 512}, "must divide 256, 384, 512, 512: .* a divisor of 128"),
        ("vgg16", {"input_size": 9}, "model.input_size=9 is too small for model=any: vgg16 takes 16 pixels"),
        ("resnet18", {"native": True, "units": 256}, "model.units=256 sets nothing .*; type model.units=1024 or"),
        ("vgg16", {"native": True, "pool": "max"}, "pool=max sets nothing in vgg16 as it is .* or model.native=false"),
        ("vgg16", {"native": True, "dropout": 0.5}, "model.dropout=0.5 sets nothing in vgg16 as it is"),
        ("nin", {"native": True, "dropout": 0.5}, "model.dropout=0.5 sets nothing in nin as it is .*=0.0 or model."),
    ],
)
def test_settings_that_contradict_each_other_are_refused_in_one_line(
    backbone: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")) as refused:
        build_network(ModelConfig("any", backbone, **settings))
    assert "\n" not in str(refused.value)
