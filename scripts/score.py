"""The errors of any file of five guesses an image, predictions=, by the devkit's rules."""

from cam_repro.command import command

if __name__ == "__main__":
    command("score", "cam_repro.evaluation.score:score")
