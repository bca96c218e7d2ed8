"""The trained weights of one network as safetensors: `python scripts/export.py model=vgg_gap`."""

from pathlib import Path

from cam_repro import UserError
from cam_repro.advice import train_command
from cam_repro.command import command
from cam_repro.config import Config, check_typed_model, run_folder


def main(config: Config) -> None:
    from cam_repro.networks import read_weights
    from cam_repro.networks.export import export
    from cam_repro.training.checkpoint import CHECKPOINT

    data = config.data.name
    folder = run_folder(config)
    source = Path(config.weights or folder / CHECKPOINT)
    path = folder / f"{folder.name}-{data}.safetensors"
    if not source.is_file():
        model = config.model.name
        raise UserError(
            f"{model} is not trained on {data}: no {source}; first: {train_command(config)}"
        )
    if any(key.startswith("model.") for key in config.typed):
        weights = read_weights(str(source), "")
        if weights.model is not None:  # a checkpoint, which has settings of its own
            check_typed_model(config, weights.model, str(source))
    export(source, path, config.model, data)


if __name__ == "__main__":
    command("export", main, needs_model=True)
