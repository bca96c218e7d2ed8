"""This machine before a long training: what it gives, what limits, how many hours: `make rehearse model=vgg_gap`."""

from __future__ import annotations

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.rehearsal import rehearse

    rehearse(config)


if __name__ == "__main__":
    command(main)
