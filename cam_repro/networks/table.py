"""What each network gives, computed from the network itself without any weight: no list of it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import count
from typing import NamedTuple

import torch

from cam_repro import UserError
from cam_repro.config import CONFIGS, ModelConfig, model_config, model_names
from cam_repro.mistakes import shown
from cam_repro.networks.network import CamNetwork, assemble
from cam_repro.networks.trunks import backbone

HEADINGS = ("model=", "network", "maps K×h×w", "at input", "parameters (M)", "CAM")
LARGEST = 2048  # pixels a side that a network is tried with


class Anatomy(NamedTuple):
    """A network for 1000 classes at its own input size."""

    maps: tuple[int, int, int]  # K, h, w
    parameters: int
    cam_obstacle: str


class Listing(str):
    """A text of several lines that looks at the prompt as it does when printed."""

    __repr__ = str.__str__


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
    if all(maps_of(network, size) for size in asked):
        return
    smallest = next(size for size in count(min(asked)) if maps_of(network, size) or size == LARGEST)
    enough = [max(size, smallest) for size in asked]
    raise UserError(
        f"{key}={shown(sizes)} is too small for model={model.name}: {model.backbone}{' as it is' * model.native} takes "
        f"{smallest} pixels a side or more; type {key}={shown(enough[0] if isinstance(sizes, int) else enough)}"
    )


@cache
def anatomy(name: str) -> Anatomy:
    config = model_config(name)
    network = without_numbers(config)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Anatomy(maps_of(network, config.input_size), parameters, network.cam_obstacle)


def network_table() -> Listing:
    """Every network of configs/model/ as a row of a Markdown table."""
    rows = [HEADINGS, ["---"] * len(HEADINGS), *map(_row, model_names())]
    return Listing("\n".join(f"| {' | '.join(row)} |" for row in rows))


def _row(name: str) -> tuple[str, ...]:
    it, config = anatomy(name), model_config(name)
    first_line = (CONFIGS / "model" / f"{name}.yaml").read_text().splitlines()[0]
    title = first_line.removeprefix("# ").partition(":")[0]  # each file opens with "# <title>: <what it is>"
    maps, cam = "×".join(map(str, it.maps)), f"no: {it.cam_obstacle}" if it.cam_obstacle else "yes"
    return name, title, maps, str(config.input_size), f"{it.parameters / 1e6:.1f}", cam
