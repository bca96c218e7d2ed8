"""What is in a picture, and where: five classes with their boxes, the best one's map drawn over it."""

from __future__ import annotations

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.reporting.pictures import show_pictures

    show_pictures(config)


if __name__ == "__main__":
    command(main)
