"""One page to look at: pictures with maps, boxes and a threshold to move, why guesses fail, and all errors."""

from __future__ import annotations

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.reporting.report import make_report

    make_report(config)


if __name__ == "__main__":
    command(main)
