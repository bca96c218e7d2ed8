"""One figure of every view's boxes beside the true ones, on up to 20 val images."""

from __future__ import annotations

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.reporting.views import compare_views

    compare_views(config)


if __name__ == "__main__":
    command(main, needs_model=True)
