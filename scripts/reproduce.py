"""Check what `make reproduce` is asked for; the Makefile runs its scripts afterwards."""

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    print(f"data={config.data.name} (built in), model={config.model.name}")


if __name__ == "__main__":
    command("reproduce", main)
