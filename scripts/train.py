"""Train one network: `python scripts/train.py model=vgg_gap`; run again to resume."""

from cam_repro.command import command

if __name__ == "__main__":
    command("train", "cam_repro.training.loop:train", needs_model=True, has_workers=True)
