"""Top-1/top-5 classification error on the val split, of one network or of every trained one."""

from __future__ import annotations

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.evaluation.evaluate import evaluate_classification

    evaluate_classification(config)


if __name__ == "__main__":
    command(main)
