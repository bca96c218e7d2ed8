"""From a run's checkpoint, or another program's file, to the one that is published.

The published file holds the tensors, and in its metadata all that another program needs for them.
"""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import safetensors.torch

from cam_repro import UserError
from cam_repro.config import ModelConfig, typed_model
from cam_repro.data import imagenet_classes
from cam_repro.files import replacing
from cam_repro.networks import build_network
from cam_repro.networks.pixels import IMAGENET
from cam_repro.networks.trunks import backbone
from cam_repro.networks.weights import ABOUT, Weights, read_weights
from cam_repro.provenance import unfinished


def export(source: Path, path: Path, config: ModelConfig, data: str) -> Path:
    """Write the weights at `source`, of the network `config`, as safetensors to `path`.

    data: the name of the data set that it was trained on. What another program wrote must be the
    whole network, of ILSVRC's 1000 classes. The size and sha256 are printed. Raises UserError for
    what is no such file.
    """
    model = config.name
    if not source.is_file():
        raise UserError(f"{model} is not trained on {data}: no {source}")
    weights = read_weights(source, config.backbone)
    if weights.model is None:
        if data != "ilsvrc":
            raise UserError(
                f"{weights.source} does not say its classes, so they are ILSVRC's; type data=ilsvrc"
            )
        weights = _of_another_program(weights, config)
    if weights.model.name != model:
        raise UserError(
            f"{source} is a {weights.model.name}, not a {model}; type {typed_model(weights.model)}"
        )
    weights.check_finite()
    sha256 = publish(weights, path, data)
    classes = f"{len(weights.wnids)} classes of {data}"
    megabytes = path.stat().st_size / 1e6
    print(f"{model}, {classes}, {megabytes:.1f} MB; use it with weights={path}")
    print(f"sha256 {sha256}  {path}")
    so_far = unfinished(weights.training)
    if so_far:
        print(f"its training is unfinished: {so_far}; make train goes on with it")
    return path


def _of_another_program(weights: Weights, config: ModelConfig) -> Weights:
    """A state dict of ILSVRC's classes as if the network had been trained here."""
    wnids, _ = imagenet_classes()
    network = build_network(config, len(wnids), weights)
    if network.untrained:
        raise UserError(
            f"{weights.source} has nothing for {network.untrained} of {config.name}; train it first"
        )
    return replace(
        weights,
        tensors=network.state_dict(),
        model=config,
        wnids=wnids,
        interpolation=network.interpolation,
        starting_weights=network.starting_weights,
    )


def publish(weights: Weights, path: Path, data: str) -> str:
    """Write a network trained here to `path`; returns the file's sha256.

    data: the name of the data set that it was trained on. The same weights give the same bytes.
    docs/networks.md explains the metadata.
    """
    words = weights.words
    if not words:
        known = dict(zip(*imagenet_classes(), strict=True))
        words = [known.get(wnid, wnid) for wnid in weights.wnids]
    pixels = backbone(weights.model.backbone).pixels or IMAGENET
    order = "BGR" if pixels.bgr else "RGB"
    about = {
        "model": asdict(weights.model),
        "data": data,
        "wnids": weights.wnids,
        "words": words,
        "pixels": {"mean": pixels.mean, "std": pixels.std, "order": order},
        "input_size": weights.model.input_size,
        "interpolation": weights.interpolation,
        "starting_weights": weights.starting_weights,
        "training": weights.training,
    }
    tensors = {key: tensor.contiguous() for key, tensor in weights.tensors.items()}
    # One entry: the library writes several in an order that changes from run to run
    metadata = {ABOUT: json.dumps(about, sort_keys=True)}
    content = safetensors.torch.save(tensors, metadata)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
