"""What is evaluated: the networks of a configuration, and what is to be measured of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cam_repro import UserError
from cam_repro.advice import typed_data
from cam_repro.config import COSTLY, Config, ProtocolConfig, check_choice, protocols_of
from cam_repro.data import Split, load_split
from cam_repro.data.views import VIEWS
from cam_repro.distributed import DistributedContext, join_distributed
from cam_repro.evaluation.metric import Metric
from cam_repro.evaluation.metrics import METRICS, ClassificationErrors, thresholds_chosen
from cam_repro.evaluation.trained import TrainedNetwork, load_trained, trained_runs
from cam_repro.localization.errors import read_blacklist
from cam_repro.localization.methods import METHODS, unsupported_reason

# What a network sees of a split: a key of VIEWS, the pixels a side, the filter that shrinks images.
Seen = tuple[str, int, str]


@dataclass(frozen=True)
class Evaluation:
    """A trained network, and the split it is evaluated on."""

    config: Config
    trained: TrainedNetwork
    split: Split
    fingerprint: str  # of the split
    world: DistributedContext
    blacklist: frozenset[int]


@dataclass(frozen=True)
class EvaluationSpec:
    """What is to be measured: one metric, of one method's maps, under one protocol."""

    protocol: ProtocolConfig
    method: str | None  # None: a classification, which has no maps
    metric: Metric
    size: int  # pixels a side of what the network sees
    interpolation: str  # by which the image is shrunk to that

    @property
    def kind(self) -> str:
        return "classification" if self.method is None else self.protocol.metric

    @property
    def asks_network(self) -> bool:
        """Whether the metric asks the network about changed images, or changes the network."""
        return self.kind in COSTLY

    @property
    def seen(self) -> Seen:
        """Specs that agree in it share their forward passes."""
        return self.protocol.view, self.size, self.interpolation

    @property
    def method_and_metric(self) -> tuple[str, Metric] | None:
        """Specs that agree in it share the rows of each image; None for a classification."""
        return None if self.method is None else (self.method, self.metric)


def open_evaluations(config: Config) -> Iterator[Evaluation]:
    """The configured network, or every trained one, loaded and ready.

    Raises UserError before any long work.
    """
    for protocol in protocols_of(config.protocol):
        check_choice("protocol.view", protocol.view, VIEWS)
    if config.method is not None:
        check_choice("method", config.method, [*METHODS, "all"])
    blacklist = read_blacklist(config.blacklist)
    with join_distributed(config.device, config.deterministic) as world:
        split = load_split(config.data, "val", Path(config.cache), world)
        fingerprint = world.broadcast(split.fingerprint() if world.is_main else "")
        fit = 0
        names = trained_runs(config)
        for name in names:
            try:
                trained = load_trained(config, name, (split.wnids, split.words), world.device)
                answered = split.answered_by(trained.wnids, trained.words)
            except UserError as error:
                if config.name or config.model:
                    raise
                world.say(f"{name} is passed over: {error}")
                continue
            fit += 1
            answered = _drawn(answered, config.protocol.images)
            yield Evaluation(config, trained, answered, fingerprint, world, blacklist)
        if not fit:
            found = f"none of {', '.join(names)}"
            raise UserError(f"{found} can be evaluated on data={config.data.name}; see above")


def _drawn(split: Split, images: int | None) -> Split:
    """So many images of the split, in its order; a smaller draw is a part of a larger one."""
    if images is None or images >= len(split):
        return split
    chosen = np.random.default_rng(0).permutation(len(split))[:images]
    return split.subset(sorted(chosen.tolist()))


def classification_specs(evaluation: Evaluation) -> list[EvaluationSpec]:
    protocol = evaluation.config.protocol
    if protocol.name == "all":
        raise UserError(
            "protocol=all is for localization; a classification has one view: name its protocol"
        )
    return [_spec(evaluation, protocol, None)]


def localization_specs(evaluation: Evaluation) -> list[EvaluationSpec]:
    """The configured method and protocol, or with protocol=all all that the network can serve.

    Of every trained network those that cannot serve the method are left out; one asked for by name
    is refused.
    """
    config = evaluation.config
    methods = _methods(evaluation)
    specs = []
    lacking = []
    for method in methods:
        for protocol in protocols_of(config.protocol):
            spec = _spec(evaluation, protocol, method)
            if lacks := spec.metric.lacks(evaluation.split):
                lacking.append(lacks)
            else:
                specs.append(spec)
    if lacking and "boxes" in lacking and not specs and evaluation.split.masks is None:
        has = f"{config.data.name} has no boxes, so nothing can be localized"
        raise UserError(f"{has}; type make eval-classification {typed_data(config.data)}")
    if lacking and config.protocol.name != "all":
        raise UserError(
            f"{config.data.name} has no {lacking[0]}, which protocol={config.protocol.name} needs; "
            "choose another protocol="
        )
    return specs


def _methods(evaluation: Evaluation) -> list[str]:
    """Those that were asked for, and that the network can serve.

    Raises UserError for one method and one network that do not fit.
    """
    config = evaluation.config
    network = evaluation.trained.network
    if config.method == "all":
        return [name for name in METHODS if not unsupported_reason(name, network)]
    if config.method is None and config.protocol.name == "all":
        in_all = [name for name, method in METHODS.items() if method.in_all]
        return [name for name in in_all if not unsupported_reason(name, network)]
    method = config.method or "cam"
    if reason := unsupported_reason(method, network):
        if config.model is not None:
            raise UserError(reason)
        evaluation.world.say(f"{evaluation.trained.name} is left out: {reason}")
        return []
    return [method]


def _spec(evaluation: Evaluation, protocol: ProtocolConfig, method: str | None) -> EvaluationSpec:
    trained = evaluation.trained
    size = protocol.size or trained.model.input_size
    interpolation = protocol.interpolation or trained.network.interpolation
    metric = ClassificationErrors() if method is None else METRICS[protocol.metric](protocol, size)
    if method is not None and protocol.thresholds_from is not None:
        chosen = Path(protocol.thresholds_from)
        thresholds = thresholds_chosen(chosen, trained.weights.sha256, method)
        metric = replace(metric, thresholds=thresholds)
    return EvaluationSpec(protocol, method, metric, size, interpolation)
