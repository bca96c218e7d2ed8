"""The best networks of a data set as files with model cards: `make release data=tinyimagenet`."""

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:
    from cam_repro.reporting.release import make_release

    print(*make_release(config), sep="\n")


if __name__ == "__main__":
    command("release", main)
