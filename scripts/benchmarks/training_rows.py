"""Training's step on the built-in data beside the same step on a batch already in memory."""

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

from benchmarks.evaluation_rows import configured
from benchmarks.timing import Row, row, seconds
from cam_repro.data import load_split
from cam_repro.data.loaders import Batch, Decoders, training_batches
from cam_repro.distributed import join_distributed
from cam_repro.training.loop import starting_network, train_step
from cam_repro.training.solver import build_optimizer

STEPS = {112: 12, 224: 5}  # pixels a side: steps a round
FIRST = 3  # steps that do not count: the workers begin an epoch by decoding eight batches ahead


def rows(_tree: Path, work: Path) -> Iterator[Row]:
    for size, steps in STEPS.items():
        yield _row(work, size, steps)


def _row(work: Path, size: int, steps: int) -> Row:
    """Training's step on the batches of its loader, in mid-epoch, and on one batch in memory."""
    shapes = ("data=shapes", "data.generate.train=640", "data.generate.val=20")
    config = configured(work / "shapes", work, *shapes, "model=alexnet_gap")
    with join_distributed("cpu") as world, Decoders() as decoders:
        split = load_split(config.data, "train", work / "cache", world)
        network, _ = starting_network(config, len(split.wnids), world, resumes=False)
        optimizer = build_optimizer(network, config.recipe, fused=False)

        def step(batches: Iterator[Batch]) -> None:
            train_step(network, optimizer, next(batches), config.recipe, len(split), world)

        def stepping(batches: Iterator[Batch], first: int) -> float:
            took = [seconds(lambda: step(batches)) for _ in range(first + steps)]
            return sum(took[first:])

        def loaded(epoch: int) -> Iterator[Batch]:
            return training_batches(
                split, config.recipe, size, seed=0, epoch=epoch, decoders=decoders
            )

        in_memory = repeat(next(loaded(0)))
        times = []
        for epoch in range(6):
            from_jpegs = stepping(loaded(epoch), FIRST)
            times.append([from_jpegs, stepping(in_memory, 0)])
    return row(
        part="training",
        what=f"alexnet_gap on shapes at {size}, from JPEGs",
        peer="the same steps, batch in memory",
        times=times[1:],  # the first round does not count
        count=steps * config.recipe.batch_size,
        unit="images/s",
        wanted="≥ 0.95",
    )
