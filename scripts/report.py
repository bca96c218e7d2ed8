"""One page: images with maps, boxes and a threshold to move, why guesses fail, all errors."""

from cam_repro.command import command

if __name__ == "__main__":
    command("report", "cam_repro.reporting.report:make_report")
