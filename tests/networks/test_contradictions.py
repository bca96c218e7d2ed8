"""Settings that a network cannot have, refused when it is built; the smallest image it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from conftest import composed

from cam_repro import UserError
from cam_repro.config import ModelConfig, RecipeConfig, names_in
from cam_repro.networks import build_network
from cam_repro.networks.sizes import check_batch_norm, check_size

SMALLEST = {  # pixels a side, cut for a new head and as it is
    "alexnet": (31, 63),
    "vgg16": (16, 32),
    "resnet18": (1, 1),
    "nin": (23, 39),
}


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", SMALLEST)
def test_an_image_that_is_too_small_is_answered_with_the_smallest(name: str, native: bool) -> None:
    model, smallest = ModelConfig("any", name, native=native), SMALLEST[name][native]
    check_size(model, "protocol.size", smallest)
    check_size(model, "recipe.sizes", [smallest, smallest + 1])
    check_size(model, "protocol.size", None)
    if smallest > 1:
        asked = rf"recipe.sizes=\[{smallest - 1},300\]"
        line = f"{asked} is too small .* takes {smallest} pixels a side or more"
        with pytest.raises(UserError, match=line):
            check_size(model, "recipe.sizes", [smallest - 1, 300])


@pytest.mark.parametrize(("name", "size"), [("visformer_tiny", 112), ("coatnet_0_rw_224", 256)])
def test_of_a_network_of_a_fixed_size_that_size_is_named(name: str, size: int) -> None:
    """At another one timm raises an AssertionError in the one, a RuntimeError in the other."""
    model = ModelConfig("any", f"timm/{name}")
    check_size(model, "protocol.size", 224)
    line = f"protocol.size={size} does not fit .* type protocol.size=224$"
    with pytest.raises(UserError, match=line):
        check_size(model, "protocol.size", size)
    with pytest.raises(UserError, match=r"type recipe.sizes=\[224\] recipe.size_starts=\[0\]$"):
        check_size(model, "recipe.sizes", [size, 224])


def test_a_network_made_for_another_size_than_224_is_built_at_that_size() -> None:
    model = ModelConfig("any", "timm/botnet26t_256")
    line = "model.input_size=224 does not fit .* type model.input_size=256$"
    with pytest.raises(UserError, match=line):
        build_network(model)
    network = build_network(replace(model, input_size=256), 10)
    assert network.num_classes == 10


def test_a_step_that_leaves_batch_norm_one_value_a_channel_is_refused() -> None:
    model = ModelConfig("any", "resnet18", native=True)  # maps of 1×1 at 32 pixels
    recipe = RecipeConfig("any", sizes=[64, 32], size_starts=[0.0, 0.5])
    check_batch_norm(model, recipe, 2)
    check_batch_norm(model, replace(recipe, sizes=[64, 48]), 1)
    check_batch_norm(model, replace(recipe, batch_norm="frozen"), 1)
    line = "1×1 maps at 32 pixels a side .* recipe.batch_size= .*batch_norm=frozen"
    with pytest.raises(UserError, match=line):
        check_batch_norm(model, recipe, 1)


@pytest.mark.parametrize(
    ("backbone", "settings", "message"),
    [
        (
            "vgg19",
            {},
            "model.backbone=vgg19 is unknown; did you mean vgg16? choose one of: alexnet, ",
        ),
        (
            "vgg16",
            {"groups": 3},
            "model.groups=3 must divide 512, 1024: vgg16's maps and .*; choose a divisor of 512",
        ),
        (
            "alexnet_star",
            {"groups": 100, "units": 512},
            "must divide 256, 384, 512, 512: .* a divisor of 128",
        ),
        (
            "vgg16",
            {"input_size": 9},
            "model.input_size=9 is too small for model=any: vgg16 takes 16 pixels",
        ),
        (
            "resnet18",
            {"native": True, "units": 256},
            "model.units=256 sets nothing .*; type model.units=1024 or",
        ),
        (
            "vgg16",
            {"native": True, "pool": "max"},
            "pool=max sets nothing in vgg16 as it is .* or model.native=false",
        ),
        (
            "vgg16",
            {"native": True, "dropout": 0.5},
            "model.dropout=0.5 sets nothing in vgg16 as it is",
        ),
        (
            "nin",
            {"native": True, "dropout": 0.5},
            "model.dropout=0.5 sets nothing in nin as it is .*=0.0 or model.",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused_in_one_line(
    backbone: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")) as refused:
        build_network(ModelConfig("any", backbone, **settings))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("experiment", names_in("experiment"))
def test_an_experiment_fits_its_network(experiment: str) -> None:
    data, _, model = experiment.partition("-")
    config = composed([f"data={data}", f"model={model}"])
    check_size(config.model, "model.input_size", config.model.input_size)
    check_size(config.model, "recipe.sizes", config.recipe.sizes)
    check_size(config.model, "recipe.val_size", config.recipe.val_size)
