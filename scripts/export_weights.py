"""The trained weights of one network as safetensors: `python scripts/export_weights.py model=vgg_gap`."""

from __future__ import annotations

from pathlib import Path

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.networks.export import export
    from cam_repro.training.checkpoint import CHECKPOINT

    name, data = config.model.name, config.data.name
    folder = Path(config.runs) / data / name
    export(Path(config.weights or folder / CHECKPOINT), folder / f"{name}-{data}.safetensors", name, data)


if __name__ == "__main__":
    command(main, needs_model=True)
