"""This machine before a long training: what it gives, what limits, how many hours: `make rehearse
model=vgg_gap`.
"""

from cam_repro.command import command

if __name__ == "__main__":
    command("rehearse", "cam_repro.throughput:rehearse")
