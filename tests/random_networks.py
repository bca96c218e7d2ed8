"""A small random network on the tiny data set, as if it had been trained there."""

from __future__ import annotations

from pathlib import Path

import torch
from conftest import composed, under, write_checkpoint

from cam_repro.config import Config, model_config
from cam_repro.networks import CamNetwork, build_network


def configured(folder: Path, root: Path, *overrides: str) -> Config:
    tiny = [f"data.root={root}", "data.generate.train=60", "data.generate.val=20"]
    return composed([*under(folder), *tiny, "data.workers=0", "device=cpu", *overrides])


def random_network(folder: Path, root: Path, seed: int = 0) -> CamNetwork:
    """A network as if trained on the tiny data set, as runs/shapes/one."""
    torch.manual_seed(seed)
    model = model_config("squeezenet_gap", units=16, input_size=48)
    config = configured(folder, root)
    wnids = [line.split()[0] for line in (root / "LOC_synset_mapping.txt").read_text().splitlines()]
    network = build_network(model, len(wnids)).eval()
    checkpoint = Path(config.runs) / config.data.name / "one/checkpoint.pt"
    write_checkpoint(checkpoint, model, network, wnids)
    return network
