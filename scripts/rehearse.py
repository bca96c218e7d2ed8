"""Measure this machine before a long training: `python scripts/rehearse.py model=vgg_gap`."""

from cam_repro.command import command

if __name__ == "__main__":
    command("rehearse", "cam_repro.throughput:rehearse", has_workers=True)
