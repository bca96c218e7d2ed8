"""What maps a network gives of pictures of some size, found on the network itself without any weight."""

from collections.abc import Sequence
from itertools import count

import torch

from cam_repro import UserError
from cam_repro.config import ModelConfig
from cam_repro.mistakes import shown
from cam_repro.networks.network import CamNetwork, assemble
from cam_repro.networks.trunks import backbone

LARGEST = 2048  # pixels a side that a network is tried with


def without_numbers(model: ModelConfig) -> CamNetwork:
    """The network on torch's meta device: VGG16 costs no more than SqueezeNet. Raises UserError as `assemble` does."""
    with torch.device("meta"):
        return assemble(model, backbone(model.backbone).build(), 1000).eval()


def maps_of(network: CamNetwork, size: int) -> tuple[int, int, int] | None:
    """(K, h, w) of the maps of a network without numbers at `size` pixels a side; None where it is too small."""
    try:
        with torch.no_grad():
            return tuple(network.forward_with_maps(torch.zeros(1, 3, size, size, device="meta"))[1].shape[1:])
    except RuntimeError:  # a layer is larger than what is left of the picture
        return None


def check_size(model: ModelConfig, key: str, sizes: int | Sequence[int] | None) -> None:
    """UserError where pictures of `sizes` pixels a side, the value of the option `key`, are too small for a network."""
    network, asked = without_numbers(model), [sizes] if isinstance(sizes, int) else list(sizes or [])
    if not all(maps_of(network, size) for size in asked):
        smallest = next(size for size in count(min(asked)) if maps_of(network, size) or size == LARGEST)
        raise UserError(
            f"{key}={shown(sizes)} is too small for model={model.name}: {model.backbone}{' as it is' * model.native} "
            f"takes {smallest} pixels a side or more"
        )
