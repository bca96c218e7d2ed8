"""Loss and errors of one training, or of every one of a data set, over the epochs, as a PNG."""

from cam_repro.command import command

if __name__ == "__main__":
    command("curves", "cam_repro.reporting.plots:draw_curves")
