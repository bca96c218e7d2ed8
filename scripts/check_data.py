"""Read every file of a data set and say what is wrong with it: `python scripts/check_data.py data=ilsvrc`."""

from __future__ import annotations

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.data.check import check

    check(config)


if __name__ == "__main__":
    command(main)
