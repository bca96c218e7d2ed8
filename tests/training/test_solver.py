"""Learning rates, decay and crop sizes as the recipes say."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from conftest import composed
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cam_repro.config import RecipeConfig
from cam_repro.networks import build_network
from cam_repro.training.solver import (
    begins_at,
    build_optimizer,
    crop_size,
    fit_batch_size,
    freeze_batch_norm,
    schedule,
    set_learning_rate,
)


@given(st.integers(1, 2000), st.integers(1, 200), st.integers(1, 40), st.integers(1, 4))
def test_the_batch_is_halved_until_an_epoch_has_the_least_steps(
    images: int, shares: int, steps: int, processes: int
) -> None:
    recipe = RecipeConfig(batch_size=shares * processes, min_steps=steps)
    free = replace(recipe, min_steps=None)
    assert fit_batch_size(free, images, processes) == free
    batch_size = fit_batch_size(recipe, images, processes).batch_size
    halvings = recipe.batch_size // batch_size
    assert halvings * batch_size == recipe.batch_size
    assert halvings.bit_count() == 1  # a power of two
    assert batch_size % processes == 0
    assert images >= steps * batch_size or batch_size % (2 * processes)
    assert halvings == 1 or images < steps * 2 * batch_size


def test_the_learning_rate_falls_with_the_batch() -> None:
    recipe = composed(["recipe=finetune_small"]).recipe
    assert fit_batch_size(recipe, 640) == recipe
    few = fit_batch_size(recipe, 216)
    assert (few.batch_size, few.lr) == (16, 2.5e-4)


def test_the_releases_step_schedule_falls_tenfold_every_quarter() -> None:
    recipe = RecipeConfig(schedule="step", milestones=[0.25, 0.5, 0.75])
    factors = [schedule(recipe, step, 160) for step in (0, 39, 40, 80, 120, 159)]
    assert factors == pytest.approx([1, 1, 0.1, 0.01, 0.001, 0.001])


def test_cosine_rises_in_the_warm_up_and_ends_at_zero() -> None:
    recipe = RecipeConfig(schedule="cosine", warmup=0.1)
    assert schedule(recipe, 0, 200) < 0.05
    assert schedule(recipe, 20, 200) == pytest.approx(1)
    assert schedule(recipe, 110, 200) == pytest.approx(0.5)
    assert schedule(recipe, 200, 200) == pytest.approx(0)


def test_biases_and_new_layers_learn_faster_and_only_weights_decay() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    recipe = RecipeConfig(lr=0.1, bias_lr=2.0, new_lr=10.0, weight_decay=5e-4)
    optimizer = build_optimizer(network, recipe, fused=False)
    assert set_learning_rate(optimizer, recipe, 0, 8) == 0.1
    settings = {
        id(of): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for of in group["params"]
    }
    assert settings[id(network[0].weight)] == pytest.approx((0.1, 5e-4))
    assert settings[id(network[0].bias)] == pytest.approx((0.2, 0))
    assert settings[id(network[1].weight)] == pytest.approx((0.1, 0))
    assert settings[id(network[3].weight)] == pytest.approx((1.0, 5e-4))
    assert settings[id(network[3].bias)] == pytest.approx((2.0, 0))
    assert len(settings) == 6


def test_the_new_layers_are_the_head_and_the_classifier() -> None:
    network, recipe = (
        build_network("vgg_gap", num_classes=2),
        RecipeConfig(new_lr=10.0, bias_lr=1.0),
    )
    groups = build_optimizer(network, recipe, fused=False).param_groups
    fast = {
        parameter for group in groups if group["factor"] == 10.0 for parameter in group["params"]
    }
    assert fast == {*network.head.parameters(), *network.classifier.parameters()}


def test_crops_grow_with_the_epochs_whatever_their_number() -> None:
    recipe = RecipeConfig(epochs=10, sizes=[64, 112, 224], size_starts=[0.0, 0.5, 0.9])
    assert [crop_size(recipe, epoch) for epoch in (0, 4, 5, 8, 9)] == [64, 64, 112, 112, 224]
    assert crop_size(RecipeConfig(epochs=1, sizes=[64, 112], size_starts=[0.0, 0.5]), 0) == 64


@given(st.integers(1, 100_000), st.data())
def test_what_begins_after_k_of_n_begins_exactly_there(n: int, data: st.DataObject) -> None:
    """The crops, the milestones and the end of the warm-up, written as the quotient of k and n."""
    k = data.draw(st.integers(0, n - 1))
    assert begins_at(k / n, n) == k
    sizes = RecipeConfig(epochs=n, sizes=[64, 96], size_starts=[0.0, k / n])
    assert crop_size(sizes, k) == 96 and (k == 0 or crop_size(sizes, k - 1) == 64)
    falls = RecipeConfig(schedule="step", milestones=[k / n])
    assert schedule(falls, k, n) == 0.1 and (k == 0 or schedule(falls, k - 1, n) == 1)
    warms = RecipeConfig(schedule="step", milestones=[], warmup=k / n)
    assert schedule(warms, k, n) == 1 and (k == 0 or schedule(warms, k - 1, n) < 1)


def test_what_is_written_as_a_decimal_begins_at_the_next_whole_epoch() -> None:
    assert [begins_at(0.28, 25), begins_at(0.53, 30), begins_at(0.5, 1)] == [7, 16, 1]


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    network = build_network("googlenet_gap", num_classes=2).train()
    freeze_batch_norm(network)
    before = network.trunk.conv1.bn.running_mean.clone()
    network(torch.randn(2, 3, 32, 32))
    assert torch.equal(network.trunk.conv1.bn.running_mean, before)
    assert network.trunk.conv1.bn.weight.requires_grad


def test_a_batch_four_times_as_large_takes_steps_four_times_as_long() -> None:
    one, four = (
        asdict(composed(["data=ilsvrc", f"recipe={name}"]).recipe)
        for name in ("finetune", "finetune_256")
    )
    changed = {key for key in one if one[key] != four[key]}
    assert changed == {"name", "batch_size", "lr", "warmup"}
    assert four["lr"] / one["lr"] == four["batch_size"] / one["batch_size"] == 4
