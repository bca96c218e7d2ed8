"""Weights: published ones by name, a state dict on disk, or one of our own checkpoints, as trained or as exported."""

import hashlib
import io
import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from cam_repro import UserError
from cam_repro.config import ModelConfig, stored_model
from cam_repro.files import is_there, read_bytes
from cam_repro.mistakes import check_choice
from cam_repro.networks.caffemodel import LARGEST, read_caffemodel
from cam_repro.networks.network import CamNetwork, last_layer
from cam_repro.networks.trunks import backbone

ABOUT = "cam_repro"  # what an exported file's metadata has the network, its classes and its training under
KINDS = "give a .pth state dict, a .safetensors, a .caffemodel, a checkpoint.pt, or DEFAULT (the published ones)"


@dataclass(frozen=True)
class Weights:
    """What one file of weights holds: a backbone's state dict, or a whole network that was trained here."""

    tensors: dict[str, torch.Tensor]
    model: ModelConfig | None  # of a network trained here
    wnids: list[str] | None  # its classes, in its order
    source: str  # the file, or the published name and of what
    sha256: str  # of the very bytes that were read
    training: dict[str, Any] | None = None  # of a network trained here: its recipe, how far, from what, by which commit
    path: Path | None = None  # the file that was read
    interpolation: str | None = None  # the filter of its images; None: the file does not say
    trained_on: dict[str, Any] | None = None  # of a checkpoint: `checkpoint.images_of` its data

    def check_finite(self) -> None:
        for key, tensor in self.tensors.items():
            if not tensor.isfinite().all():
                raise UserError(f"{self.source} holds NaN or infinity in {key}: its training failed or it is damaged")


def published(backbone_name: str) -> tuple[str, ...]:
    """The names of a backbone's published weights, that of weights=DEFAULT first; empty: there are none."""
    return tuple(backbone(backbone_name).published())


def read_weights(weights: str | Path, backbone_name: str) -> Weights:
    """Published weights of a backbone by name, or a file, whatever it is of; nothing but tensors is ever loaded.

    Raises UserError for what is not there, damaged, or no weights.
    """
    if not str(weights).startswith(("DEFAULT", "IMAGENET")):
        return _read(Path(weights), f"weights={weights}")
    chosen = backbone(backbone_name)
    if not (known := chosen.published()):
        raise UserError(f"weights={weights}: there are no published weights of {backbone_name}; give a file, or none")
    name = next(iter(known)) if weights == "DEFAULT" else str(weights)
    check_choice("weights", name, known)
    what = f"weights={name} of {backbone_name}"
    try:
        path = known[name].fetch()
    except (OSError, RuntimeError, ImportError) as error:
        said = str(error).partition("\n")[0]
        raise UserError(f"{what} could not be fetched ({said}); give a downloaded file: weights=<path>") from None
    read = replace(_read(path, f"{what} ({path.name})"), interpolation=known[name].interpolation)
    if not chosen.by_order:
        return read
    with torch.device("meta"):
        keys = chosen.build().state_dict()
    return replace(read, tensors=dict(zip(keys, read.tensors.values(), strict=True)))


def _read(path: Path, source: str) -> Weights:
    if not is_there(path) or not path.is_file():
        raise UserError(f"{source} is not a file; {KINDS}")
    if path.suffix == ".caffemodel" and (size := path.stat().st_size) > LARGEST:
        raise UserError(f"{source} has {size / 1e9:.1f} GB, a .caffemodel of a network here at most {LARGEST / 1e9} GB")
    content, model, wnids = read_bytes(path), None, None
    try:
        state = {".safetensors": _safetensors, ".caffemodel": read_caffemodel}.get(path.suffix, _pickled)(content)
        tensors = state.get("network", state)
        if tensors is not state:
            model, wnids = stored_model(state["model"]), [str(wnid) for wnid in state["wnids"]]
            backbone(model.backbone)
    except UserError as error:
        raise UserError(f"{source} cannot be read: {error}") from None
    except Exception as error:  # a damaged or foreign file can fail anywhere in the reader
        what = "damaged, or neither a checkpoint of ours nor a state dict of tensors alone"
        raise UserError(f"{source} cannot be read ({type(error).__name__}): it is {what}; {KINDS}") from None
    tensors_alone = isinstance(tensors, dict) and all(isinstance(value, torch.Tensor) for value in tensors.values())
    if not tensors_alone or not all(isinstance(key, str) for key in tensors):
        raise UserError(f"{source} is no state dict: something in it is not a tensor with a name; {KINDS}")
    training = state.get("training") if model else None
    interpolation = state.get("interpolation", "bilinear") if model else None
    trained_on = state.get("trained_on") if model else None
    sha256 = hashlib.sha256(content).hexdigest()
    return Weights(tensors, model, wnids, source, sha256, training, path, interpolation, trained_on)


def _pickled(content: bytes) -> Any:
    with warnings.catch_warnings():  # of pickle's protocol, before the error that says more
        warnings.simplefilter("ignore")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _safetensors(content: bytes) -> dict[str, Any]:
    """A file of `export` as the checkpoint it was made from; another program's as a bare state dict."""
    tensors = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    about = header.get("__metadata__", {}).get(ABOUT)
    return {"network": tensors, **json.loads(about)} if about else tensors


def load_backbone(whole: nn.Module, weights: Weights, name: str) -> None:
    """Put a state dict into the whole network it is of, the backbone of this name, before it is cut."""
    wanted, found = whole.state_dict(), weights.tensors
    auxiliary = ("aux", "loss1.", "loss2.")  # GoogLeNet's auxiliary classifiers, behind every cut
    spare = {key for key in found.keys() - wanted.keys() if key.startswith(auxiliary)}
    counters = {key for key in wanted.keys() - found.keys() if key.endswith("num_batches_tracked")}  # newer than files
    if odd := _unlike(found, wanted) - spare - counters:
        here, there = (list(of[min(odd)].shape) if min(odd) in of else "none" for of in (found, wanted))
        raise UserError(
            f"{weights.source} is of another network: {len(odd)} layers differ, among them {min(odd)} ({here} here, "
            f"{there} in {name}); expected the weights of {name}"
        )
    whole.load_state_dict({key: found[key] for key in wanted if key in found}, strict=False)


def load_checkpoint(network: CamNetwork, weights: Weights, new_classes: bool) -> None:
    """Put a network trained here into `network`; with `new_classes` a last layer of another size is left fresh."""
    wanted, found, last = network.state_dict(), weights.tensors, last_layer(network)[0]
    odd, classes = _unlike(found, wanted), len(weights.wnids)
    if odd and (classes == network.num_classes or odd - {f"{last}.weight", f"{last}.bias"} or odd - found.keys()):
        raise UserError(
            f"{weights.source} is of another network: {len(odd)} layers differ, among them {min(odd)}; it holds "
            f"{weights.model}"
        )
    if odd and not new_classes:
        raise UserError(
            f"{weights.source} was trained for {classes} classes ({weights.wnids[0]}, …), not {network.num_classes}: "
            "train on this data first"
        )
    network.load_state_dict({key: found[key] for key in found if key not in odd}, strict=False)


def _unlike(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> set[str]:
    """The layers that only one of them has, or of another shape or kind of number; any precision will do."""

    def fits(one: torch.Tensor, other: torch.Tensor) -> bool:
        dense = one.layout == torch.strided and not one.is_quantized
        return dense and one.shape == other.shape and one.is_floating_point() == other.is_floating_point()

    both = found.keys() & wanted.keys()
    return (found.keys() ^ wanted.keys()) | {key for key in both if not fits(found[key], wanted[key])}
