"""An evaluation from JPEGs to scored boxes beside its parts alone, and again from cached maps."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from benchmarks.timing import Row, by_turns, quiet, row, seconds
from cam_repro.config import CONFIGS, Config, ProtocolConfig, register_schema, validated
from cam_repro.data import load_classes
from cam_repro.data.loaders import evaluation_batches
from cam_repro.data.views import normalise
from cam_repro.evaluation.evaluate import evaluate
from cam_repro.evaluation.spec import Evaluation, localization_specs, open_evaluations
from cam_repro.networks import build_network
from cam_repro.reporting.figures import draw_result
from cam_repro.throughput import write_images
from cam_repro.training.checkpoint import CHECKPOINT

FEW = 64  # images of the network that takes longest


def rows(tree: Path, work: Path) -> Iterator[Row]:
    """The network is loaded before, and every rescoring has a threshold that was not scored yet."""
    config = configured(tree, work, "model=alexnet_gap", "data.name=bench")
    _checkpoint(config)
    (evaluation,) = open_evaluations(config)
    split = evaluation.split
    network = evaluation.trained.network
    rules = _new_rules(config)
    batch_size = config.eval_batch_size
    decoded = next(evaluation_batches(split, 224, batch_size)).pixels

    def decode() -> None:
        for _ in evaluation_batches(split, 224, batch_size):
            pass

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(len(split) // batch_size):
                network(normalise(decoded))

    def whole() -> None:
        _localized(evaluation, force=True)

    def rescore() -> None:
        _localized(evaluation, protocol=next(rules))

    times = by_turns([whole, decode, forward, rescore], rounds=5)
    yield row(
        part="evaluation",
        what=f"evaluation of {len(split)} JPEGs, five boxes each, scored and written",
        peer="decoding, forward, boxes and scores in turn",
        times=[[together, sum(alone)] for together, *alone in times],
        count=len(split),
        unit="images/s",
        wanted="≤ 1.10",
    )
    yield _from_cached_maps(work)


def _from_cached_maps(work: Path) -> Row:
    """Of the paper's main network."""
    write_images(work / "few", 10, FEW)
    config = configured(work / "few", work, "model=vgg_gap", "data.name=few")
    _checkpoint(config)
    (evaluation,) = open_evaluations(config)
    fresh = min(seconds(lambda: _localized(evaluation, force=True)) for _ in range(2))
    rules = _new_rules(config)
    times = []
    for _ in range(5):
        again = seconds(lambda: _localized(evaluation, protocol=next(rules)))
        times.append([again, fresh])
    return row(
        part="evaluation",
        what=f"vgg_gap: a second rule on cached maps of {FEW} images",
        peer="a fresh evaluation (faster of two)",
        times=times,
        count=FEW,
        unit="images/s",
        wanted="≥ 20",
    )


def _new_rules(config: Config) -> Iterator[ProtocolConfig]:
    for number in count(1):
        yield replace(config.protocol, threshold=0.2 + number / 1000)


def _localized(evaluation: Evaluation, **changes: object) -> None:
    changed = replace(evaluation, config=replace(evaluation.config, **changes))
    with quiet():
        for result in evaluate(changed, localization_specs(changed)):
            draw_result(changed, result)


def configured(tree: Path, work: Path, *overrides: str) -> Config:
    register_schema()
    where = [f"{key}={work / key}" for key in ("runs", "results", "cache")]
    data = ["data=ilsvrc", f"data.root={tree}", "device=cpu"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        raw = compose("config", overrides=[*data, *where, *overrides])
    return validated(raw)


def _checkpoint(config: Config) -> None:
    """A network as training leaves one, with the weights it started from."""
    wnids, _ = load_classes(config.data)
    path = Path(config.runs) / config.data.name / config.model.name / CHECKPOINT
    path.parent.mkdir(parents=True)
    network = build_network(config.model, len(wnids))
    state = {"network": network.state_dict(), "model": asdict(config.model), "wnids": wnids}
    torch.save(state, path)
