"""Where a network looks in one picture: top-5 classes, heatmap and box, drawn into a PNG beside it."""

from __future__ import annotations

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.evaluation.predict import predict

    predict(config)


if __name__ == "__main__":
    command(main, needs_model=True)
