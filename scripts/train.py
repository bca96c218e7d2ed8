"""Train one network: `python scripts/train.py model=vgg_gap`; run again to resume."""

from __future__ import annotations

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.training.loop import train

    train(config)


if __name__ == "__main__":
    command(main, needs_model=True)
