"""recipe, loop, checkpoints, distributed."""
