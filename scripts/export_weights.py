"""The trained weights of one network as safetensors: `python scripts/export_weights.py model=vgg_gap`."""

from pathlib import Path

from cam_repro.command import command
from cam_repro.config import Config, run_folder


def main(config: Config) -> None:
    from cam_repro.networks.export import export
    from cam_repro.training.checkpoint import CHECKPOINT

    data, folder = config.data.name, run_folder(config)
    source, path = Path(config.weights or folder / CHECKPOINT), folder / f"{folder.name}-{data}.safetensors"
    export(source, path, config.model, data)


if __name__ == "__main__":
    command(main, needs_model=True)
