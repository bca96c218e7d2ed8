"""Linear classifiers on kept features: accuracy on images that they were not trained on."""

from cam_repro.command import command

if __name__ == "__main__":
    command("svm", "cam_repro.features.svm:measure_svms")
