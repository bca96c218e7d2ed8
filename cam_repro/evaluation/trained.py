"""Which network is evaluated, with which weights, and which classes it answers with."""

import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.advice import train_command, typed, typed_data
from cam_repro.config import (
    Config,
    ModelConfig,
    check_typed_model,
    model_config,
    run_folder,
    typed_model,
)
from cam_repro.data import imagenet_classes, open_split
from cam_repro.data.manifest import Manifest, difference, manifest_of
from cam_repro.files import is_there
from cam_repro.networks import (
    CamNetwork,
    Weights,
    build_network,
    check_size,
    published,
    read_weights,
)
from cam_repro.networks.folding import fold_batch_norm
from cam_repro.provenance import unfinished
from cam_repro.training.checkpoint import CHECKPOINT

Classes = tuple[list[str], list[str]]  # wnids and words, in the order of a network's answers


@dataclass(frozen=True)
class TrainedNetwork:
    """A network under evaluation, with its classes, in the order of its answers."""

    name: str  # of its run
    model: ModelConfig  # as it was trained
    network: CamNetwork  # its batch norm folded into the convolutions: to be used, not to be saved
    weights: Weights  # as they were read
    wnids: list[str]
    words: list[str]


def trained_runs(config: Config) -> list[str]:
    """The name of the configured run, or of every one with a checkpoint for the data set."""
    if config.name or config.model:
        return [config.name or config.model.name]
    folder = Path(config.runs) / config.data.name
    found = sorted(path.parent.name for path in folder.glob(f"*/{CHECKPOINT}"))
    if not found:
        first = f"{train_command(config)}, or give model= and weights="
        raise UserError(f"no trained network in {folder}; first: {first}")
    return found


def load_trained(
    config: Config,
    name: str,
    data: Classes,
    device: torch.device,
    *,
    data_may_grow: bool = False,
    for_features: bool = False,
) -> TrainedNetwork:
    """The network of a run with its trained weights, on the device.

    A checkpoint knows its classes. Published weights, and state dicts of other programs, do not:
    they are taken for ILSVRC's 1000 in their usual order or, if their number is another, for those
    of the data. data: the classes of the data at hand, none where it is not there. A run that was
    trained on other data of that name is refused; a file that weights= names is not. data_may_grow:
    images, but no classes, may have been added to the data since. for_features: what is before the
    classifier is wanted, which may then be untrained. Raises UserError, also where a layer is not
    trained.
    """
    model = config.model
    source = config.weights or str(run_folder(config, name) / CHECKPOINT)
    if not config.weights and not is_there(Path(source)):
        default = ", or weights=DEFAULT (published)" if model and published(model.backbone) else ""
        raise UserError(
            f"{name} is not trained on {config.data.name} ({source} is not there); "
            f"first: {train_command(config)}, or give weights=FILE{default}"
        )
    weights = read_weights(source, model.backbone if model else "")
    data_wnids, data_words = data
    if not config.weights and data_wnids:
        may_differ = data_may_grow and _is_of(weights, config, data_wnids)
        if not may_differ:
            _refuse_other_data(config, source, weights)
    if so_far := unfinished(weights.training):
        _say(f"{source} is of an unfinished training: {so_far}")

    imagenet_wnids, imagenet_words = imagenet_classes()
    if weights.model is not None:
        kind = weights.model.name
        if model and kind != model.name:
            advice = f"type {typed_model(weights.model)}"
            raise UserError(f"{source} is a {kind}, not a {model.name}; {advice}")
        check_typed_model(config, weights.model, source)
        model = weights.model
        candidates = [weights.wnids]
    elif model is not None:
        candidates = [imagenet_wnids, data_wnids]
    else:
        raise UserError(f"{source} does not say of which network it is; type model=")
    for wnids in candidates:
        network = build_network(model, len(wnids), weights)
        classifier_alone = network.untrained.startswith("the classifier")
        if not network.untrained or (for_features and classifier_alone):
            break
    else:
        train = f"make train {typed_model(model)} {typed_data(config.data)}"
        raise UserError(
            f"weights={source}: {network.untrained} of {model.name} is not trained; "
            f"first: {train} {typed('weights', source)}"
        )
    if config.protocol.size:
        check_size(model, "protocol.size", config.protocol.size)
    words_of = dict(zip(imagenet_wnids, imagenet_words, strict=True))
    words_of |= dict(zip(data_wnids, data_words, strict=True))
    words = [words_of.get(wnid, wnid) for wnid in wnids]
    network.eval()
    fold_batch_norm(network)
    network = network.to(device)
    return TrainedNetwork(name, model, network, weights, wnids, words)


def _is_of(weights: Weights, config: Config, wnids: list[str]) -> bool:
    """Whether a run was trained in the folder of the data at hand, for its classes."""
    if weights.trained_on is None:
        return False
    root = str(Path(config.data.root).resolve())
    return weights.trained_on["root"] == root and weights.wnids == wnids


def _refuse_other_data(config: Config, source: str, weights: Weights) -> None:
    """UserError where a run of the data set's name was trained on other images than it now has.

    Names and labels of all train images are compared, and the content of a sample.
    """
    if weights.trained_on is None:
        taken = f"taken for those of {config.data.root}"
        _say(f"{source} does not say which images it was trained on: {taken}")
        return
    try:
        now = manifest_of(open_split(config.data, "train", Path(config.cache)), with_sizes=False)
    except UserError as error:
        _say(f"{source} cannot be held against the images it was trained on: {error}")
        return
    before = Manifest.unpacked(weights.trained_on["train"])
    if what := difference(before, now):
        anyway = shlex.quote(f"weights={source}")
        raise UserError(
            f"{source} was trained on the images of {weights.trained_on['root']}, and "
            f"{config.data.root} has others: {what}; choose those with data.root=, train on these "
            "under a name of their own with data.name=, or use that network all the same: "
            f"{anyway}"
        )


def _say(line: str) -> None:
    """Print a line, once for all processes."""
    if os.environ.get("RANK", "0") == "0":
        tqdm.write(line)


def load_for_cam(config: Config, data: Classes, device: torch.device) -> TrainedNetwork:
    """The network of `make cam`: the configured one, or EfficientNet-Lite0.

    It has published weights unless it was trained. The data set lends its name and nothing else.
    """
    if config.model is None and config.name is None:
        config = replace(config, model=model_config("efficientnet_lite0"))
    (name,) = trained_runs(config)
    trained = is_there(run_folder(config, name) / CHECKPOINT)
    has_published = config.model is not None and published(config.model.backbone)
    if config.weights is None and has_published and not trained:
        config = replace(config, weights="DEFAULT")
    return load_trained(config, name, data, device, data_may_grow=True)
