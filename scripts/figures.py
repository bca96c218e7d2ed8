"""The paper's figures 3, 4, 5, 6 and 12 of one's own networks, as PNGs at print size."""

from __future__ import annotations

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.reporting.paper_figures import make_figures

    make_figures(config)


if __name__ == "__main__":
    command(main)
