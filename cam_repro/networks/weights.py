"""Weights: published ones by name, a state dict on disk, or a checkpoint of ours."""

import hashlib
import io
import json
import re
import warnings
from argparse import Namespace
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from torch import nn

from cam_repro import UserError
from cam_repro.config import ModelConfig, stored_model
from cam_repro.files import is_there, read_bytes
from cam_repro.networks.caffemodel import LARGEST, read_caffemodel
from cam_repro.networks.network import CamNetwork, class_count, last_layer, replace_last_layer
from cam_repro.networks.trunks import backbone, kept_names, layer_names
from cam_repro.networks.wrapped import State, unwrapped, without_prefix
from cam_repro.option_errors import check_choice

ABOUT = "cam_repro"  # the key of an exported file's metadata that holds all it says
AUXILIARY = ("aux", "loss1.", "loss2.")  # GoogLeNet's auxiliary classifiers, behind every cut
FILE_KINDS = (
    "give a .pth state dict, a .safetensors, a .caffemodel, a checkpoint.pt, "
    "or DEFAULT (the published ones)"
)


@dataclass(frozen=True)
class Weights:
    """What one file of weights holds: a backbone's state dict, or a network that was trained here.

    model, wnids, training: of a network trained here its settings, its classes in its order, and
    its recipe, how far it is, from what and by which commit; else None.
    source: the file, or the published name and of what. sha256: of the very bytes that were read.
    interpolation: the filter of its images; None: the file does not say.
    trained_on: of a checkpoint `checkpoint.images_of` its data.
    words: its classes in a language; None: the file has only wnids.
    starting_weights: source and sha256 of what its training began with.
    """

    tensors: dict[str, torch.Tensor]
    model: ModelConfig | None
    wnids: list[str] | None
    source: str
    sha256: str
    training: dict[str, Any] | None = None
    path: Path | None = None
    interpolation: str | None = None
    trained_on: dict[str, Any] | None = None
    words: list[str] | None = None
    starting_weights: dict[str, str] | None = None

    def check_finite(self) -> None:
        for key, tensor in self.tensors.items():
            if not tensor.isfinite().all():
                why = "its training failed or it is damaged"
                raise UserError(f"{self.source} holds NaN or infinity in {key}: {why}")


def published(backbone_name: str) -> tuple[str, ...]:
    """The names of a backbone's published weights, that of weights=DEFAULT first; perhaps none."""
    return tuple(backbone(backbone_name).published())


def read_weights(weights: str | Path, backbone_name: str) -> Weights:
    """Published weights of a backbone by name, or a file of any kind; only tensors are loaded.

    Of another program's checkpoint the state dict is taken, and of that the backbone's layers
    without the prefix of their names; a printed line says so. backbone_name may be empty where the
    file is one of ours. Raises UserError for what is not there, damaged, or no weights.
    """
    if str(weights).startswith(("DEFAULT", "IMAGENET")):
        return _read_published(str(weights), backbone_name)
    return _read(Path(weights), f"weights={weights}", backbone_name)


def _read_published(asked: str, backbone_name: str) -> Weights:
    chosen = backbone(backbone_name)
    known = chosen.published()
    if not known:
        raise UserError(
            f"weights={asked}: there are no published weights of {backbone_name}; "
            "give a file, or none"
        )
    name = next(iter(known)) if asked == "DEFAULT" else asked
    check_choice("weights", name, known)
    what = f"weights={name} of {backbone_name}"
    try:
        path = known[name].fetch()
    except (OSError, RuntimeError, ImportError) as error:
        said = str(error).partition("\n")[0]
        raise UserError(
            f"{what} could not be fetched ({said}); give a downloaded file: weights=<path>"
        ) from None
    source = f"{what} ({path.name})"
    interpolation = known[name].interpolation
    if not chosen.by_order:
        return replace(_read(path, source, backbone_name), interpolation=interpolation)
    read = _read(path, source, "")
    tensors = dict(zip(layer_names(backbone_name), read.tensors.values(), strict=True))
    return replace(read, tensors=tensors, interpolation=interpolation)


def _read(path: Path, source: str, backbone_name: str) -> Weights:
    if not is_there(path) or not path.is_file():
        raise UserError(f"{source} is not a file; {FILE_KINDS}")
    size = path.stat().st_size
    if path.suffix == ".caffemodel" and size > LARGEST:
        raise UserError(
            f"{source} has {size / 1e9:.1f} GB, a .caffemodel of a network here "
            f"at most {LARGEST / 1e9} GB"
        )
    content = read_bytes(path)
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        if path.suffix == ".safetensors":
            state = _safetensors(content)
        elif path.suffix == ".caffemodel":
            state = read_caffemodel(content)
        else:
            state = _pickled(content)
        if isinstance(state, dict) and "network" in state and "wnids" in state:
            return _trained_here(state, source, sha256, path)
        tensors, under = unwrapped(state)
        _check_tensors(tensors)
    except UserError as error:
        raise UserError(f"{source} cannot be read: {error}") from None
    except Exception as error:  # a damaged or foreign file can fail anywhere in the reader
        what = "damaged, or neither a checkpoint of ours nor a state dict of tensors alone"
        raise UserError(
            f"{source} cannot be read ({type(error).__name__}): it is {what}; {FILE_KINDS}"
        ) from None
    wanted = layer_names(backbone_name) if backbone_name else []
    tensors, removed = without_prefix(tensors, under, wanted)
    if removed:
        print(f"{source}: {removed}", flush=True)
    return Weights(tensors, None, None, source, sha256, path=path)


def _trained_here(state: dict[str, Any], source: str, sha256: str, path: Path) -> Weights:
    """What `make train` saved, or `make export` made of it."""
    model = stored_model(state["model"])
    backbone(model.backbone)
    _check_tensors(state["network"])
    return Weights(
        tensors=state["network"],
        model=model,
        wnids=[str(wnid) for wnid in state["wnids"]],
        source=source,
        sha256=sha256,
        training=state.get("training"),
        path=path,
        interpolation=state.get("interpolation", "bilinear"),
        trained_on=state.get("trained_on"),
        words=state.get("words"),
        starting_weights=state.get("starting_weights"),
    )


def _pickled(content: bytes) -> Any:
    """A file of torch.save: tensors and, as timm's have them, the options of a command."""
    with warnings.catch_warnings():  # of pickle's protocol, before the error that says more
        warnings.simplefilter("ignore")
        try:
            with torch.serialization.safe_globals([Namespace]):
                return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (UnpicklingError, RuntimeError) as error:
            reason = r"GLOBAL (\S+) was not an allowed global|(TorchScript) archives"
            found = re.search(reason, str(error))
            if found is None:
                raise
            raise UserError(
                f"it holds more than tensors ({found[1] or found[2]}), whose code would have to be "
                "run; save the state dict alone: torch.save(model.state_dict(), 'weights.pth')"
            ) from None


def _safetensors(content: bytes) -> dict[str, Any]:
    """A file of `export` as the checkpoint it was made from; another program's as a state dict."""
    tensors = safetensors.torch.load(content)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    about = header.get("__metadata__", {}).get(ABOUT)
    if about is None:
        return tensors
    settings = json.loads(about)
    return {"network": tensors, "wnids": settings["wnids"], **settings}


def _check_tensors(state: Any) -> None:
    """UserError where something is no state dict."""
    if not isinstance(state, dict):
        raise UserError(f"it is no state dict but a {type(state).__name__}; {FILE_KINDS}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            reason = f"{key!r} in it is not the name of a tensor"
            raise UserError(f"it is no state dict: {reason}; {FILE_KINDS}")


def load_backbone(whole: nn.Module, weights: Weights, config: ModelConfig) -> int | None:
    """Put a state dict into the whole network that it is of, before the network is cut.

    Returns the number of classes of the file's last layer, which the network's then has too; None
    where it is missing or fits no number of classes, and the network's stays as it is. Nor need
    anything else fit that the cut leaves out. Raises UserError for the weights of another network.
    """
    name = config.backbone
    found = weights.tensors
    classes = _classes_of(found, whole)
    if classes not in (None, class_count(whole)):
        replace_last_layer(whole, classes)
    wanted = whole.state_dict()
    last, _ = last_layer(whole)
    classifier = {f"{last}.weight", f"{last}.bias"}
    kept = kept_names(name, config.native) - classifier

    different = _different_layers(found, wanted)
    missing = different & kept
    for key in different - found.keys():
        if key.endswith("num_batches_tracked"):  # files older than batch norm's counters have none
            missing.discard(key)
    left_out = (*AUXILIARY, *backbone(name).left_out, f"{last}.")
    ignored = {key for key in found if key.startswith(left_out)}
    if not config.native:
        ignored |= _after(kept, list(found))
    wrong = missing | (different - wanted.keys() - ignored)
    if wrong:
        reason = f"{_difference(wrong, found, wanted, name)}; expected the weights of {name}"
        raise UserError(f"{weights.source} is of another network: {reason}")
    fitting = OrderedDict({key: found[key] for key in wanted.keys() - different})
    fitting._metadata = wanted._metadata  # the layers' versions, which MNASNet asks for
    whole.load_state_dict(fitting, strict=False)
    return None if different & classifier else classes


def _after(kept: set[str], names: list[str]) -> set[str]:
    """The layers that a file has after the last kept one: a head's, whatever it is called."""
    places = [place for place, name in enumerate(names) if name in kept]
    return set(names[max(places, default=len(names)) + 1 :])


def _difference(wrong: set[str], found: State, wanted: State, name: str) -> str:
    """In words, why a file's layers are not those of the backbone of this name."""
    if not found.keys() & wanted.keys():
        here = next(iter(found), "none")
        expected = next(iter(wanted))
        return f"none of its layers ({here}, …) has the name of one of {name} ({expected}, …)"
    one = min(wrong)
    here = list(found[one].shape) if one in found else "none"
    expected = list(wanted[one].shape) if one in wanted else "none"
    return f"{len(wrong)} layers differ, among them {one} ({here} here, {expected} in {name})"


def _classes_of(found: State, whole: nn.Module) -> int | None:
    """The number of classes that the last layer of a network has in a state dict."""
    name, last = last_layer(whole)
    weight = found.get(f"{name}.weight")
    if weight is None or weight.shape[1:] != last.weight.shape[1:] or not len(weight):
        return None
    return len(weight)


def load_checkpoint(network: CamNetwork, weights: Weights, new_classes: bool) -> None:
    """Put a network trained here into `network`.

    With `new_classes` a last layer of another size is left fresh. Raises UserError for the weights
    of another network.
    """
    wanted = network.state_dict()
    found = weights.tensors
    last, _ = last_layer(network)
    classifier = {f"{last}.weight", f"{last}.bias"}
    different = _different_layers(found, wanted)
    classes = len(weights.wnids)
    other_classes = classes != network.num_classes
    only_classifier = different <= classifier and different <= found.keys()
    if different and not (other_classes and only_classifier):
        raise UserError(
            f"{weights.source} is of another network: {len(different)} layers differ, "
            f"among them {min(different)}; it holds {weights.model}"
        )
    if different and not new_classes:
        raise UserError(
            f"{weights.source} was trained for {classes} classes ({weights.wnids[0]}, …), "
            f"not {network.num_classes}: train on this data first"
        )
    fitting = {key: tensor for key, tensor in found.items() if key not in different}
    network.load_state_dict(fitting, strict=False)


def _different_layers(found: State, wanted: State) -> set[str]:
    """The layers that only one of two networks has, or that do not fit from one to the other."""
    different = found.keys() ^ wanted.keys()
    for key in found.keys() & wanted.keys():
        if not _fits(found[key], wanted[key]):
            different.add(key)
    return different


def _fits(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether shape and kind of number are the same; any precision will do."""
    if found.layout != torch.strided or found.is_quantized:
        return False
    if found.is_floating_point() != wanted.is_floating_point():
        return False
    return found.shape == wanted.shape
