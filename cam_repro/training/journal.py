"""What a run leaves to read: settings, environment, metrics, TensorBoard events, printed lines."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from cam_repro.config import Config
from cam_repro.data.loaders import Batch, evaluation_batches
from cam_repro.data.split import Split
from cam_repro.data.views import normalise, resize_map
from cam_repro.distributed import DistributedContext
from cam_repro.files import is_there, read_bytes, write_text
from cam_repro.localization.methods import predict
from cam_repro.localization.overlay import overlay
from cam_repro.networks import CamNetwork
from cam_repro.provenance import device_name, git_state, versions
from cam_repro.training.state import Progress

MAPS = 8  # val images whose maps are shown
SAY_EVERY = 180.0  # seconds between lines where no terminal shows a bar


class Journal:
    """Epoch metrics and curves after `progress`; what a lost attempt wrote beyond it is taken back.

    Rank 0 alone writes; in the others the same calls write nothing.
    """

    def __init__(
        self, folder: Path, progress: Progress, batch_size: int, world: DistributedContext
    ) -> None:
        self.progress = progress
        self.batch_size = batch_size
        self.world = world
        self.metrics = folder / "metrics.jsonl"
        self.board: SummaryWriter | None = None
        self._start_clock()
        self.said_at = time.monotonic()
        if world.is_main:
            before = read_bytes(self.metrics) if is_there(self.metrics) else b""
            lines = before.decode(errors="replace").splitlines(keepends=True)
            write_text(self.metrics, "".join(lines[: progress.epoch]))
            self.board = SummaryWriter(str(folder), purge_step=progress.written + 1)

    def _start_clock(self) -> None:
        self.clock_started_at = time.monotonic()
        self.clock_started_with = self.progress.step

    def watch(self, batches: Iterator[Batch], title: str, done: int, steps: int) -> Iterator[Batch]:
        """The rest of an epoch's batches, under a clock and, on a terminal, a progress bar.

        done: how many of the epoch's `steps` are over. Corrupt files are said.
        """
        self.title = title
        self._start_clock()
        hidden = None if self.world.is_main else True
        self.bar = tqdm(batches, title, steps, initial=done, leave=False, disable=hidden)
        for batch in self.bar:
            for line in batch.corrupt:
                tqdm.write(f"skipped: {line}")
            yield batch

    def curves(self, lr: float) -> dict[str, float]:
        """Loss and images a second of the steps since the last log; all processes must call it."""
        loss = self.progress.loss_since_log(self.world)
        step = self.progress.step
        now = time.monotonic()
        images = (step - self.clock_started_with) * self.batch_size
        rate = images / max(now - self.clock_started_at, 1e-9)
        self._start_clock()
        self.bar.set_postfix(loss=f"{loss:.3f}", lr=f"{lr:.1e}")
        if not sys.stderr.isatty() and now - self.said_at >= SAY_EVERY:
            self.world.say(f"{self.title}  step {step}  loss {loss:.3f}  {rate:.0f} images/s")
            self.said_at = now
        return {"loss": loss, "lr": lr, "images_per_second": rate}

    def write(self, curves: dict[str, float]) -> None:
        """Values at this step, with which the log's steps begin anew."""
        if self.board:
            for name, value in curves.items():
                self.board.add_scalar(name, value, self.progress.step)
        self.progress.logged()

    def end_epoch(self, record: dict[str, float | int | None], curves: dict[str, float]) -> None:
        """Write the epoch's line of metrics.jsonl and its curves, and print a line.

        curves: those of its last steps. What is None in the record, as the top-5 error of fewer
        than five classes, has no curve.
        """
        if self.board:
            with self.metrics.open("a") as file:
                file.write(json.dumps(record) + "\n")
                file.flush()
                os.fsync(file.fileno())
        values = dict(curves)
        for name, value in record.items():
            if name.startswith(("train_", "val_")) and value is not None:
                values[name] = value
        self.write(values)
        val_error = f"top-1 {record['val_top1_error']:.1f} %"
        if record["val_top5_error"] is not None:
            val_error += f" top-5 {record['val_top5_error']:.1f} %"
        if record["val_gt_known_loc"] is not None:
            val_error += f"  GT-known {record['val_gt_known_loc']:.1f} %"
        self.world.say(
            f"{self.title}  loss {record['train_loss']:.3f}  "
            f"train error {record['train_top1_error']:.1f} %  val error {val_error}  "
            f"{record['images_per_second']:.0f} images/s"
        )

    def maps(self, network: CamNetwork, split: Split, size: int) -> None:
        """Draw the true class's activation map over val images spread over the split.

        Nothing is drawn where the network has no such maps.
        """
        if not self.board or network.cam_obstacle:
            return
        chosen = np.linspace(0, len(split) - 1, min(MAPS, len(split)), dtype=int).tolist()
        (batch,) = evaluation_batches(
            split.subset(chosen),
            size,
            len(chosen),
            interpolation=network.interpolation,
            workers=0,
        )
        shown = batch.to(self.world.device)
        predicted = predict(network.eval(), normalise(shown.pixels), shown.labels)
        cams = predicted.maps["cam"][:, 0, -1].cpu().numpy()  # of the only view, the true class
        images = batch.pixels.permute(0, 2, 3, 1).numpy()
        drawn = []
        for image, cam in zip(images, cams, strict=True):
            drawn.append(overlay(image, resize_map(cam, size, size)))
        self.board.add_images(
            "class activation maps", np.stack(drawn), self.progress.step, dataformats="NHWC"
        )

    def flush(self) -> None:
        if self.board:
            self.board.flush()


def describe(folder: Path, config: Config, world: DistributedContext) -> None:
    """What is trained, as config.yaml, and where and with what, as environment.txt."""
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config)))
    commit, dirty = git_state()
    environment = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
        "commit": commit + (" with uncommitted changes" if dirty else ""),
        "device": f"{world.size} × {device_name(str(world.device))}",
        **versions(),
    }
    lines = [f"{key}: {value}\n" for key, value in environment.items()]
    write_text(folder / "environment.txt", "".join(lines))
