"""Each network of configs/model through the whole house, once, on the tiny data set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import composed, evaluated

from cam_repro.config import model_names
from cam_repro.localization.methods import refusal
from cam_repro.networks import build_network
from cam_repro.training import loop
from cam_repro.training.state import snapshot


@pytest.mark.parametrize("name", model_names())
def test_a_network_trains_an_epoch_and_is_evaluated(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the optimizer's moments, half of the file: VGG's checkpoint takes a gigabyte of the disk with them.
    monkeypatch.setattr(loop, "snapshot", lambda *state: {**snapshot(*state), "optimizer": {}})
    where = [f"{key}={tmp_path / key}" for key in ("runs", "results", "cache", "data.root")]
    recipe = ["recipe.epochs=1", "recipe.sizes=[64]", "recipe.size_starts=[0]", "recipe.batch_size=10"]
    few = ["data.generate.train=20", "data.generate.val=10", "data.workers=0", "device=cpu"]
    config = composed([*where, *recipe, *few, "recipe.optimizer=sgd", f"model={name}", "model.input_size=64"])
    run = loop.train(config)
    before = build_network(config.model, 10).state_dict()
    after = torch.load(run / "checkpoint.pt", weights_only=True)["network"]
    assert before.keys() == after.keys() and all(value.isfinite().all() for value in after.values())
    network = build_network(config.model, 10, run / "checkpoint.pt")
    config.method = "gradcam" if refusal("cam", network) else "cam"
    (record,) = evaluated(config)
    assert record["images"] == 10 and record["provenance"]["training"]["epochs_done"] == 1
