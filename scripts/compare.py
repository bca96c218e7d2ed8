"""Two results on the same images, a= and b=: the differences of their metrics, with paired intervals."""

from __future__ import annotations

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.reporting.compare import compare

    compare(config)


if __name__ == "__main__":
    command(main)
