"""Read a data set and say what is wrong with it: `python scripts/check_data.py data=ilsvrc`."""

from cam_repro.command import command

if __name__ == "__main__":
    command("check-data", "cam_repro.data.check:check")
