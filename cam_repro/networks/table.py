"""What each network of `configs/model/` gives, computed from the network itself."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch

from cam_repro.config import CONFIGS, model_config, model_names
from cam_repro.networks.network import assemble
from cam_repro.networks.trunks import backbone

HEADINGS = ("model=", "network", "maps K×h×w", "at input", "parameters (M)", "CAM")


class Anatomy(NamedTuple):
    """A network for 1000 classes at its own input size."""

    maps: tuple[int, int, int]  # K, h, w
    input_size: int  # pixels a side
    parameters: int
    cam_obstacle: str

    @property
    def size(self) -> str:
        return "×".join(map(str, self.maps))

    @property
    def millions(self) -> str:
        return f"{self.parameters / 1e6:.1f}"


class Listing(str):
    """A text of several lines that looks at the prompt as it does when printed."""

    __repr__ = str.__str__


@cache
def anatomy(name: str) -> Anatomy:
    """From a forward pass without numbers: no weight is made, so VGG16 costs no more than SqueezeNet."""
    config = model_config(name)
    with torch.device("meta"), torch.no_grad():
        network = assemble(config, backbone(config.backbone).build(), 1000).eval()
        maps = network.forward_with_maps(torch.zeros(1, 3, config.input_size, config.input_size))[1]
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Anatomy(tuple(maps.shape[1:]), config.input_size, parameters, network.cam_obstacle)


def network_table() -> Listing:
    """Every network as a row of a Markdown table."""
    rows = [HEADINGS, ["---"] * len(HEADINGS), *map(_row, model_names())]
    return Listing("\n".join(f"| {' | '.join(row)} |" for row in rows))


def network_line() -> str:
    """Every network in one line, for an error."""
    sizes = {name: anatomy(name) for name in model_names()}
    return ", ".join(f"{name} ({it.size} maps, {it.millions} M parameters)" for name, it in sizes.items())


def _row(name: str) -> tuple[str, ...]:
    it = anatomy(name)
    cam = f"no: {it.cam_obstacle}" if it.cam_obstacle else "yes"
    return name, _title(name), it.size, str(it.input_size), it.millions, cam


def _title(name: str) -> str:
    """A network's configuration opens with "# <title>: <what it is>"."""
    first_line = (CONFIGS / "model" / f"{name}.yaml").read_text().splitlines()[0]
    return first_line.removeprefix("# ").partition(":")[0]
