"""Fetch the published weights of one network: `python scripts/weights.py model=vgg_gap`."""

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.networks import read_weights

    weights = read_weights(config.weights or "DEFAULT", config.model.backbone)
    megabytes = weights.path.stat().st_size / 1e6
    print(f"{weights.source}: {weights.path}, {megabytes:.1f} MB, sha256 {weights.sha256}")


if __name__ == "__main__":
    command("weights", main, needs_model=True)
