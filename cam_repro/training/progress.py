"""How far a run is, and what its steps since the last look at the loss gave."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cam_repro.distributed import World

LOG_EVERY = 50  # steps between looks at the loss, each of which waits for the device
COLUMNS = 4  # of a step's row: summed loss, right answers, images, corrupt files


@dataclass
class Progress:
    """How far a run is; the sums are over the epoch so far, without the window's steps."""

    epoch: int = 0  # whole epochs done
    step_in_epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    right: float = 0.0
    images: int = 0
    skipped: int = 0

    def add(self, row: torch.Tensor) -> None:
        """Take (4,) sums over steps in."""
        loss, right, images, skipped = row.tolist()
        self.loss_sum += loss
        self.right += right
        self.images += int(images)
        self.skipped += int(skipped)


class Window:
    """The steps since the last look at the loss, a row each: on the device until somebody reads them."""

    def __init__(self, rows: torch.Tensor | None = None) -> None:
        self.known = torch.zeros(0, COLUMNS, dtype=torch.float64) if rows is None else rows  # over all processes
        self.pending: list[torch.Tensor] = []  # of this process

    def __len__(self) -> int:
        return len(self.known) + len(self.pending)

    def add(self, row: torch.Tensor) -> None:
        self.pending.append(row)

    def rows(self, world: World) -> torch.Tensor:
        """(steps,4) float64, each row summed over the processes; all of them must call it.

        Row by row, so that the numbers do not depend on where a stop has cut the window.
        """
        if self.pending:
            self.known = torch.cat([self.known, world.sum(torch.stack(self.pending))])
            self.pending.clear()
        return self.known

    def clear(self) -> None:
        self.known = self.known[:0]
