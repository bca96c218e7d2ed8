"""Two results on the same images, a= and b=: the differences of their metrics, with paired
intervals.
"""

from cam_repro.command import command

if __name__ == "__main__":
    command("compare", "cam_repro.reporting.results:compare")
