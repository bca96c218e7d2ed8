"""What a network gives its classifier, of every image of a data set, for linear classifiers."""

from cam_repro.command import command

if __name__ == "__main__":
    command("features", "cam_repro.features.kept:make_features", has_workers=True)
