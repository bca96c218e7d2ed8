"""Linear classifiers on kept features: accuracy on images that they were not trained on, maps."""

from cam_repro.command import command
from cam_repro.config import Config


def main(config: Config) -> None:

    from cam_repro.features.svm import measure_svms
    from cam_repro.reporting.svm_figures import draw_svm

    for svm in measure_svms(config):
        draw_svm(svm)


if __name__ == "__main__":
    command("svm", main, has_workers=True)
