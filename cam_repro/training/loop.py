"""Train one network: data, network, solver, then epochs of steps, a validation and a checkpoint after each."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data import Split, load_split
from cam_repro.data.loaders import Batch, steps_per_epoch, training_batches
from cam_repro.data.views import to_device
from cam_repro.devices import Team, autocast, team
from cam_repro.networks import CamNetwork, build_network, initialise_from_scratch
from cam_repro.training import checkpoint
from cam_repro.training.journal import Journal, write_environment
from cam_repro.training.solver import build_optimizer, crop_size, freeze_batch_norm, set_learning_rate
from cam_repro.training.validation import validate

LOG_EVERY = 50  # steps between looks at the loss, each of which waits for the device


@dataclass
class Progress:
    """How far a run is; the sums are over the epoch so far."""

    epoch: int = 0  # whole epochs done
    step_in_epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    right: float = 0.0
    images: int = 0
    skipped: int = 0


def run_folder(config: Config) -> Path:
    return Path(config.runs) / config.data.name / config.model.name


def train(config: Config) -> Path:
    """Train, or go on training, the configured network; returns the run's folder. Raises UserError."""
    folder = run_folder(config)
    with team(config.device) as us, checkpoint.only_writer(folder) if us.leads else nullcontext():
        _check_batch(config, us)
        splits = (load_split(config.data, split, Path(config.cache), us) for split in ("train", "val"))
        Run(config, us, folder, *splits).go()
    return folder


def _check_batch(config: Config, us: Team) -> None:
    if config.recipe.batch_size % us.world:
        raise UserError(f"recipe.batch_size={config.recipe.batch_size} must be a multiple of the {us.world} processes")


class Run:
    """One training run: its parts, and the order in which they are used."""

    def __init__(self, config: Config, us: Team, folder: Path, train_split: Split, val_split: Split) -> None:
        self.config, self.recipe, self.us, self.folder = config, config.recipe, us, folder
        self.train_split, self.val_split = train_split, val_split
        self.steps = steps_per_epoch(len(train_split), self.recipe.batch_size)
        torch.manual_seed(config.seed)
        self.network = self._network()
        self.optimizer = build_optimizer(self.network, self.recipe, fused=us.device.type == "cuda")
        self.progress = Progress()
        self.stop_asked = False

    def _network(self) -> CamNetwork:
        config = self.config
        network = build_network(config.model, len(self.train_split.wnids), config.weights, new_classes=True)
        if self.recipe.init == "he" and config.weights is None:
            initialise_from_scratch(network)
        return network.to(self.us.device, memory_format=torch.channels_last)

    def go(self) -> None:
        self._resume()
        if self.progress.epoch >= self.recipe.epochs:
            return self._say(f"already trained ({self.recipe.epochs} epochs): {self.folder}; to train anew, remove it")
        self._announce()
        forward = self._parallel()
        journal = Journal(self.folder, self.progress.step) if self.us.leads else None
        self._rehearse(journal)
        with self._signals():
            for epoch in range(self.progress.epoch, self.recipe.epochs):
                self._epoch(epoch, forward, journal)
        if journal:
            journal.close()
        return self._say(f"trained {self.recipe.epochs} epochs: {self.folder}/{checkpoint.CHECKPOINT}")

    def _say(self, text: str) -> None:
        if self.us.leads:
            tqdm.write(text)

    def _announce(self) -> None:
        recipe, start = self.recipe, "resumes" if self.progress.step else "starts"
        self._say(
            f"{self.config.model.name} on {self.config.data.name}: {len(self.train_split)} train and "
            f"{len(self.val_split)} val images, {len(self.train_split.wnids)} classes; "
            f"recipe {recipe.name}, {recipe.epochs} epochs of "
            f"{self.steps} steps of {recipe.batch_size} images over {self.us.world} process(es) on {self.us.device}, "
            f"learning rate {recipe.lr} (not scaled); {start} at step {self.progress.step}; {self.folder}"
        )

    def _parallel(self) -> nn.Module:
        if self.recipe.compile and self.us.device.type == "cuda":
            self.network.compile()
        if self.us.world == 1:
            return self.network
        devices = [self.us.device] if self.us.device.type == "cuda" else None
        return DistributedDataParallel(self.network, device_ids=devices)

    def _rehearse(self, journal: Journal | None) -> None:
        """Two batches through validation and maps, so that what breaks there breaks now."""
        size = crop_size(self.recipe, self.progress.epoch)
        self._validate(size, limit=2 * self.config.eval_batch_size * self.us.world)
        if journal and not self.progress.step:
            journal.maps(0, self.network, self.val_split, size, self.us.device)

    def _validate(self, size: int, limit: int | None = None) -> dict[str, float]:
        config = self.config
        return validate(
            self.network, self.val_split, size, config.eval_batch_size, self.us,
            workers=config.data.workers, limit=limit,
        )  # fmt: skip

    def _epoch(self, epoch: int, forward: nn.Module, journal: Journal | None) -> None:
        size, began, first_image = crop_size(self.recipe, epoch), time.perf_counter(), self.progress.images
        lr = self._steps(epoch, size, forward, journal)
        seconds = time.perf_counter() - began
        record = self._train_metrics(epoch, size, lr, (self.progress.images - first_image) / seconds)
        record |= self._validate(size)
        self.progress = Progress(epoch=epoch + 1, step=self.progress.step)
        if journal:
            journal.maps(record["step"], self.network, self.val_split, size, self.us.device)
            journal.epoch(record)
        self._save()
        self._say(
            f"epoch {epoch + 1}/{self.recipe.epochs}  {size} px  loss {record['train_loss']:.3f}  "
            f"train error {record['train_top1_error']:.1f} %  val error top-1 {record['val_top1_error']:.1f} % "
            f"top-5 {record['val_top5_error']:.1f} %  {record['images_per_second']:.0f} images/s"
        )

    def _steps(self, epoch: int, size: int, forward: nn.Module, journal: Journal | None) -> float:
        batches = training_batches(
            self.train_split, self.recipe, size, self.config.seed, epoch, first_step=self.progress.step_in_epoch,
            rank=self.us.rank, world=self.us.world, workers=self.config.data.workers, pin=self.us.device.type == "cuda",
        )  # fmt: skip
        bar = tqdm(
            batches, f"epoch {epoch + 1}/{self.recipe.epochs} {size} px", self.steps,
            initial=self.progress.step_in_epoch, leave=False, disable=None if self.us.leads else True,
        )  # fmt: skip
        pending: list[torch.Tensor] = []
        for batch in bar:
            lr = set_learning_rate(self.optimizer, self.recipe, self.progress.step / (self.steps * self.recipe.epochs))
            pending.append(self._step(batch, forward))
            self._count(batch)
            stop = self.us.any(self.stop_asked)
            if len(pending) == LOG_EVERY or stop or self.progress.step_in_epoch == self.steps:
                loss = self._settle(pending)
                bar.set_postfix(loss=f"{loss:.3f}", lr=f"{lr:.1e}")
                if journal:
                    rate = (bar.format_dict["rate"] or 0) * self.recipe.batch_size
                    journal.scalars(self.progress.step, {"loss": loss, "lr": lr, "images_per_second": rate})
            if stop:
                self._stop()
        return lr

    def _step(self, batch: Batch, forward: nn.Module) -> torch.Tensor:
        """Forward, backward, update; returns (summed loss, right answers, images) on the device."""
        forward.train()
        if self.recipe.batch_norm == "frozen":
            freeze_batch_norm(forward)
        labels = batch.labels.to(self.us.device, non_blocking=True)
        with autocast(self.us.device):
            logits = forward(to_device(batch.pixels, self.us.device))
        loss = nn.functional.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimizer.step()
        return torch.stack(
            [loss.detach() * len(batch), (logits.argmax(1) == labels).sum(), loss.new_tensor(len(batch))]
        )

    def _count(self, batch: Batch) -> None:
        self.progress.step += 1
        self.progress.step_in_epoch += 1
        self.progress.skipped += len(batch.corrupt)
        for line in batch.corrupt:
            tqdm.write(f"skipped: {line}")

    def _settle(self, pending: list[torch.Tensor]) -> float:
        """Take the steps since the last look into the sums; a loss that is not finite ends the run."""
        steps = torch.stack(pending).double().cpu()
        pending.clear()
        broken = (~steps[:, 0].isfinite()).nonzero()
        if len(broken):
            step = self.progress.step - len(steps) + int(broken[0]) + 1
            raise UserError(
                f"the loss is not finite at step {step}; lower recipe.lr={self.recipe.lr} or set recipe.clip=1, and "
                f"run again: the last checkpoint in {self.folder} is whole"
            )
        loss, right, images = self.us.sum(steps.sum(0)).tolist()
        self.progress.loss_sum += loss
        self.progress.right += right
        self.progress.images += int(images)
        return loss / max(images, 1)

    def _train_metrics(self, epoch: int, size: int, lr: float, rate: float) -> dict[str, Any]:
        done = self.progress
        return {
            "epoch": epoch + 1, "step": done.step, "size": size, "lr": lr,
            "train_loss": done.loss_sum / done.images, "train_top1_error": 100 * (1 - done.right / done.images),
            "skipped": done.skipped, "images_per_second": round(rate, 1),
        }  # fmt: skip

    def _save(self) -> None:
        if self.us.leads:
            state = {
                "network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
                "progress": asdict(self.progress), "rng": torch.get_rng_state(),
                "wnids": self.train_split.wnids, "model": asdict(self.config.model),
            }  # fmt: skip
            checkpoint.save(self.folder, state)
        self.us.wait()

    def _resume(self) -> None:
        state = checkpoint.load(self.folder)
        if state is None:
            if self.us.leads:
                checkpoint.write_settings(self.folder, self.config)
                write_environment(self.folder, self.us.device, self.us.world)
            return self.us.wait()
        checkpoint.refuse_other_settings(self.folder, self.config)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        self.progress = Progress(**state["progress"])
        return None

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C ask for a stop after the step in hand."""

        def ask(*_: object) -> None:
            self.stop_asked = True

        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self) -> None:
        self._save()
        raise UserError(
            f"stopped and saved at step {self.progress.step} in {self.folder}; run the same command to go on"
        )
