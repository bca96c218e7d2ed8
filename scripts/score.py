"""The errors of any file of five guesses an image, predictions=, by the devkit's rules."""

from __future__ import annotations

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.evaluation.score import score

    score(config)


if __name__ == "__main__":
    command(main)
