"""An evaluation from JPEGs to scored boxes beside its parts alone, again from kept maps, and its growth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

import torch
from hydra import compose, initialize_config_dir

from benchmarks.pictures import CLASSES, make_tree, wnid
from benchmarks.timing import Row, costs, quiet, seconds
from cam_repro.config import CONFIGS, Config, register_schema, validated
from cam_repro.data import load_split
from cam_repro.data.loaders import evaluation_batches
from cam_repro.data.views import to_device
from cam_repro.devices import team
from cam_repro.networks import build_network
from cam_repro.reporting.evaluate import Evaluation, evaluate_localization, evaluations, localize
from cam_repro.training.checkpoint import CHECKPOINT


def rows(tree: Path, work: Path) -> Iterator[Row]:
    config = configured(tree, work, "model=alexnet_gap", "data.name=bench")
    with team("cpu") as us:
        split = load_split(config.data, "val", work / "cache", us)
    _checkpoint(config, split.wnids)
    network = build_network(config.model, len(split.wnids)).eval()
    decoded = torch.cat([batch.pixels for batch in evaluation_batches(split.subset(range(64)), 224, 64)])

    def decode() -> None:
        for _ in evaluation_batches(split, 224, 64):
            pass

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(len(split) // 64):
                network(to_device(decoded, torch.device("cpu")))

    slower = max((decode, forward), key=seconds)
    yield costs(
        "evaluation", f"evaluation of {len(split)} JPEGs, five boxes each, scored and written",
        f"{slower.__name__} alone (the slower of decoding and forward)",
        (lambda: _anew(config), slower), len(split), "images/s", "≤ 1.10", rounds=5,
    )  # fmt: skip
    yield _from_kept_maps(work, len(split) // 3)


def _from_kept_maps(work: Path, images: int) -> Row:
    """Of the paper's main network, loaded before; every round asks for a threshold that was not yet scored."""
    config = configured(make_tree(work / "few", images), work, "model=vgg_gap", "data.name=few")
    _checkpoint(config, [wnid(label) for label in range(CLASSES)])
    (evaluation,) = evaluations(config)
    fresh = min(seconds(lambda: _localized(evaluation, force=True)) for _ in range(2))
    others = [replace(config.protocol, threshold=0.2 + k / 1000) for k in range(1, 6)]
    again = [seconds(lambda rule=rule: _localized(evaluation, protocol=rule)) for rule in others]
    ratios = [fresh / took for took in again]
    return Row(
        "evaluation", f"vgg_gap: a second rule on kept maps of {images} images", "a fresh evaluation (faster of two)",
        "images/s", images / median(again), images / fresh, median(ratios), (min(ratios), max(ratios)), "≥ 20",
    )  # fmt: skip


def _localized(evaluation: Evaluation, **changes: object) -> None:
    with quiet():
        localize(replace(evaluation, config=replace(evaluation.config, **changes)))


def _anew(config: Config) -> None:
    _quietly(replace(config, force=True))


def _quietly(config: Config) -> None:
    with quiet():
        evaluate_localization(config)


def configured(tree: Path, work: Path, *overrides: str) -> Config:
    register_schema()
    where = [f"{key}={work / key}" for key in ("runs", "results", "cache")]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        raw = compose("config", overrides=["data=ilsvrc", f"data.root={tree}", "device=cpu", *where, *overrides])
    return validated(raw)


def _checkpoint(config: Config, wnids: list[str]) -> None:
    """A network as training leaves one, with the weights it started from."""
    path = Path(config.runs) / config.data.name / config.model.name / CHECKPOINT
    path.parent.mkdir(parents=True)
    network = build_network(config.model, len(wnids))
    torch.save({"network": network.state_dict(), "model": asdict(config.model), "wnids": wnids}, path)
