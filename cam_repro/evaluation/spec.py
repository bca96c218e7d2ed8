"""What is evaluated: the networks of a configuration, and what is to be measured of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cam_repro import UserError
from cam_repro.advice import typed_data
from cam_repro.config import Config, ProtocolConfig, check_choice, protocols_of
from cam_repro.cores import worker_context
from cam_repro.data import Split, load_split
from cam_repro.data.views import VIEWS
from cam_repro.distributed import DistributedContext, join_distributed
from cam_repro.evaluation.metrics import METRICS, ClassificationErrors, Metric, thresholds_chosen
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
        check_choice("method", config.method, METHODS)
    blacklist = read_blacklist(config.blacklist)
    with join_distributed(config.device, config.deterministic) as world:
        split = load_split(config.data, "val", Path(config.cache), world)
        fingerprint = world.broadcast(split.fingerprint() if world.is_main else "")
        worker_context()  # its server starts while the network is loaded
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
            yield Evaluation(config, trained, answered, fingerprint, world, blacklist)
        if not fit:
            found = f"none of {', '.join(names)}"
            raise UserError(f"{found} can be evaluated on data={config.data.name}; see above")


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
    network = evaluation.trained.network
    if len(evaluation.split.boxes) == 0 and evaluation.split.masks is None:
        has = f"{config.data.name} has no boxes, so nothing can be localized"
        raise UserError(f"{has}; type make eval-classification {typed_data(config.data)}")
    methods = [config.method or "cam"]
    if config.method is None and config.protocol.name == "all":
        in_all = [name for name, method in METHODS.items() if method.in_all]
        methods = [name for name in in_all if not unsupported_reason(name, network)]
    elif reason := unsupported_reason(methods[0], network):
        if config.model is not None:
            raise UserError(reason)
        evaluation.world.say(f"{evaluation.trained.name} is left out: {reason}")
        return []
    specs = []
    for method in methods:
        for protocol in protocols_of(config.protocol):
            spec = _spec(evaluation, protocol, method)
            lacks = spec.metric.lacks(evaluation.split)
            if lacks and config.protocol.name != "all":
                raise UserError(
                    f"{config.data.name} has no {lacks}, which protocol={protocol.name} needs; "
                    "choose another protocol="
                )
            if not lacks:
                specs.append(spec)
    return specs


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
