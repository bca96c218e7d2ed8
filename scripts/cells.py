"""Where the cells of a network's maps look, and what boxes would gain by being drawn there."""

from cam_repro.command import command

if __name__ == "__main__":
    command("cells", "cam_repro.evaluation.cells:measure_cells", has_workers=True)
