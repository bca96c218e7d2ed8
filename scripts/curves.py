"""Loss and errors of one training, or of every one of a data set, over the epochs, as a PNG."""

from __future__ import annotations

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.reporting.curves import draw_curves

    draw_curves(config)


if __name__ == "__main__":
    command(main)
