"""The paper's figures 3, 4, 5, 6 and 13 of one's own networks, as PNGs at print size."""

from cam_repro.command import command

if __name__ == "__main__":
    command("figures", "cam_repro.reporting.figures:make_figures", has_workers=True)
