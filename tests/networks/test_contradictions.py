"""Settings that a network cannot have, each refused in one line when it is built; and the smallest picture it takes."""

from __future__ import annotations

from typing import Any

import pytest

from cam_repro import UserError
from cam_repro.config import ModelConfig
from cam_repro.networks import build_network, check_size

SMALLEST = {  # pixels a side, cut for a new head and as it is
    "alexnet": (31, 63),
    "alexnet_star": (63, 63),
    "vgg16": (16, 32),
    "googlenet": (15, 15),
    "resnet18": (1, 1),
    "squeezenet1_0": (21, 21),
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
        line = rf"recipe.sizes=\[{smallest - 1},300\] is too small .* type recipe.sizes=\[{smallest},300\]"
        with pytest.raises(UserError, match=line):
            check_size(model, "recipe.sizes", [smallest - 1, 300])


@pytest.mark.parametrize(
    ("backbone", "settings", "message"),
    [
        ("vgg19", {}, "model.backbone=vgg19 is unknown; did you mean vgg16? choose one of: alexnet, "),
        ("vgg16", {"groups": 3}, "does not divide 512; .* have 512, 1024: type model.groups=2"),
        ("alexnet_star", {"groups": 100, "units": 512}, "have 256, 384, 512, 512: type model.groups=64"),
        ("vgg16", {"input_size": 9}, "model.input_size=9 is too small for model=any: vgg16 takes 16 .*=16"),
        ("resnet18", {"native": True, "units": 256}, "model.units=256 sets an added convolution, which model.native="),
        ("vgg16", {"native": True, "pool": "max"}, "vgg16 as it is has no classifier on pooled maps .*native=false"),
        ("vgg16", {"native": True, "dropout": 0.5}, "vgg16 as it is has no classifier on pooled maps .*native=false"),
        ("nin", {"native": True, "dropout": 0.5}, "nin as it is has no classifier on pooled maps .*dropout=0, or"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_in_one_line(
    backbone: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")) as refused:
        build_network(ModelConfig("any", backbone, **settings))
    assert "\n" not in str(refused.value)
