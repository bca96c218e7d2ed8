"""Fetch the published weights of one network, for machines without internet: `make weights
model=vgg_gap`.
"""

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.networks import read_weights

    weights = read_weights(config.weights or "DEFAULT", config.model.backbone)
    print(
        f"{weights.source}: {weights.path}, {weights.path.stat().st_size / 1e6:.1f} MB, sha256 {weights.sha256}"
    )


if __name__ == "__main__":
    command("weights", main, needs_model=True)
