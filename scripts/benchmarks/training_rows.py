"""`train` on the built-in data beside its bare step: the same network and batch, already in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
from torch import nn

from benchmarks.evaluation_rows import configured
from benchmarks.timing import Row, quiet, seconds
from cam_repro.config import Config
from cam_repro.data import load_split
from cam_repro.data.loaders import training_batches
from cam_repro.data.views import to_device
from cam_repro.devices import team
from cam_repro.networks import build_network
from cam_repro.training.checkpoint import METRICS
from cam_repro.training.loop import train
from cam_repro.training.solver import build_optimizer

ROUNDS, IMAGES = 5, 320


def rows(work: Path) -> Iterator[Row]:
    for size in (64, 112):
        yield _row(work, size)


def _row(work: Path, size: int) -> Row:
    config = configured(
        work / "shapes", work, "data=shapes", "model=alexnet_gap", f"data.generate.train={IMAGES}", "recipe.epochs=1",
        "data.generate.val=20", f"recipe.sizes=[{size}]", "recipe.size_starts=[0]", "model.input_size=64",
    )  # fmt: skip
    step = _bare_step(config, work, size)
    ours, bare = [], []
    for number in range(ROUNDS + 1):
        config.runs = str(work / f"runs-{size}-{number}")
        with quiet():
            metrics = (train(config) / METRICS).read_text()
        ours.append(float(metrics.split('"images_per_second": ')[1].split("}")[0].split(",")[0]))
        bare.append(config.recipe.batch_size * 5 / seconds(lambda: [step() for _ in range(5)]))
    ratios = [rate / limit for rate, limit in zip(ours[1:], bare[1:], strict=True)]
    return Row(
        "training", f"train alexnet_gap on shapes at {size}", "the bare step, batch in memory", "images/s",
        median(ours[1:]), median(bare[1:]), median(ratios), (min(ratios), max(ratios)), "≥ 0.95",
    )  # fmt: skip


def _bare_step(config: Config, work: Path, size: int) -> Callable[[], None]:
    with team("cpu") as us:
        split = load_split(config.data, "train", work / "cache", us)
    batch = next(training_batches(split, config.recipe, size, seed=0, epoch=0))
    network = build_network(config.model, len(split.wnids)).train().to(memory_format=torch.channels_last)
    optimizer = build_optimizer(network, config.recipe, fused=False)

    def step() -> None:
        loss = nn.functional.cross_entropy(
            network(to_device(batch.pixels, torch.device("cpu"))), batch.labels, label_smoothing=0.1
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.recipe.clip or 1e9)
        optimizer.step()

    step()
    return step
