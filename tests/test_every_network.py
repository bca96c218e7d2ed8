"""A network of each kind through the whole way, once, as small as it goes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import composed, evaluated, under

from cam_repro.localization.methods import unsupported_reason
from cam_repro.networks import build_network
from cam_repro.training.loop import train

# Pixels a side: of the surgery and of networks as they are, of every pool, of timm and of Caffe
SMALLEST = {
    "alexnet": 64,
    "googlenet_gmp": 32,
    "nin": 48,
    "resnet50_gap": 32,
    "efficientnet_lite0_gap": 32,
    "caffenet_gap": 48,
}


@pytest.mark.parametrize(("name", "size"), SMALLEST.items())
def test_a_network_of_each_kind_takes_a_step_and_is_evaluated(
    name: str, size: int, tmp_path: Path
) -> None:
    where = [*under(tmp_path), f"data.root={tmp_path / 'data'}"]
    recipe = [
        "recipe.epochs=1",
        f"recipe.sizes=[{size}]",
        "recipe.size_starts=[0]",
        "recipe.batch_size=4",
    ]
    few = [
        "data.generate.train=4",
        "data.generate.val=4",
        "data.workers=0",
        "device=cpu",
        "recipe.optimizer=sgd",
    ]
    config = composed(
        [*where, *recipe, *few, "weights=none", f"model={name}", f"model.input_size={size}"]
    )
    run = train(config)
    with torch.device("meta"):  # its names alone
        network = build_network(config.model, 10)
    after = torch.load(run / "checkpoint.pt", weights_only=True)["network"]
    assert network.state_dict().keys() == after.keys()
    assert all(value.isfinite().all() for value in after.values())
    config.weights = None
    config.method = "gradcam" if unsupported_reason("cam", network) else "cam"
    (record,) = evaluated(config)
    assert record["images"] == 4 and record["provenance"]["training"]["epochs_done"] == 1
