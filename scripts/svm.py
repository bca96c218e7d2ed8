"""Linear classifiers on kept features: accuracy on images that they were not trained on."""

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:

    from cam_repro.features.svm import measure_svms

    for _ in measure_svms(config):
        pass


if __name__ == "__main__":
    command("svm", main)
