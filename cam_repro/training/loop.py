"""Train one network: data, network, solver, then epochs of steps, a validation and a checkpoint after each.

A checkpoint in the middle of an epoch is taken after a step and before the step's curves are written, so that a run
that goes on from it writes them itself.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data import Split, load_split
from cam_repro.data.loaders import Batch, on_device, steps_per_epoch, training_batches
from cam_repro.data.views import normalise
from cam_repro.distributed import World, autocast, join_world
from cam_repro.networks import CamNetwork, build_network, initialise_from_scratch
from cam_repro.training import checkpoint
from cam_repro.training.journal import Journal, write_environment
from cam_repro.training.progress import LOG_EVERY, Progress, Window
from cam_repro.training.solver import build_optimizer, crop_size, freeze_batch_norm, schedule, set_learning_rate
from cam_repro.training.state import restore, seed_process, snapshot
from cam_repro.training.stopping import Agreement, Signals, Stop
from cam_repro.training.validation import validate


def run_folder(config: Config) -> Path:
    return Path(config.runs) / config.data.name / config.model.name


def train(config: Config) -> Path:
    """Train, or go on training, the configured network; returns the run's folder. Raises UserError."""
    folder = run_folder(config)
    with (
        join_world(config.device, config.deterministic) as world,
        checkpoint.only_writer(folder) if world.is_main else nullcontext(),
    ):
        _check_batch(config, world)
        splits = (load_split(config.data, split, Path(config.cache), world) for split in ("train", "val"))
        Run(config, world, folder, *splits).go()
    return folder


def _check_batch(config: Config, world: World) -> None:
    if config.recipe.batch_size % world.size:
        raise UserError(
            f"recipe.batch_size={config.recipe.batch_size} must be a multiple of the {world.size} processes"
        )


class Run:
    """One training run: its parts, and the order in which they are used."""

    def __init__(self, config: Config, world: World, folder: Path, train_split: Split, val_split: Split) -> None:
        self.config, self.recipe, self.world, self.folder = config, config.recipe, world, folder
        self.train_split, self.val_split = train_split, val_split
        self.steps = steps_per_epoch(len(train_split), self.recipe.batch_size)
        torch.manual_seed(config.seed)
        self.network = self._network()
        if not world.is_main:
            seed_process(
                config.seed, world.rank
            )  # the network is the leader's; what dropout leaves out is each one's own
        self.optimizer = build_optimizer(self.network, self.recipe, fused=world.device.type == "cuda")
        self.progress, self.window = Progress(), Window()
        self.signals = Signals()
        self.agreement = Agreement(world, self.signals)
        self.journal: Journal | None = None

    def _network(self) -> CamNetwork:
        config = self.config
        network = build_network(config.model, len(self.train_split.wnids), config.weights, new_classes=True)
        if self.recipe.init == "he" and config.weights is None:
            initialise_from_scratch(network)
        return network.to(self.world.device, memory_format=torch.channels_last)

    def go(self) -> None:
        self._resume()
        if self.progress.epoch >= self.recipe.epochs:
            return self._say(f"already trained ({self.recipe.epochs} epochs): {self.folder}; to train anew, remove it")
        self._announce()
        forward = self._parallel()
        with self.signals:
            self.journal = Journal(self.folder, self.progress) if self.world.is_main else None
            self._rehearse()
            for epoch in range(self.progress.epoch, self.recipe.epochs):
                self._epoch(epoch, forward)
        if self.journal:
            self.journal.close()
        return self._say(f"trained {self.recipe.epochs} epochs: {self.folder}/{checkpoint.CHECKPOINT}")

    def _say(self, text: str) -> None:
        if self.world.is_main:
            tqdm.write(text)

    def _announce(self) -> None:
        recipe, world, start = self.recipe, self.world.size, "resumes" if self.progress.step else "starts"
        self._say(
            f"{self.config.model.name} on {self.config.data.name}: {len(self.train_split)} train and "
            f"{len(self.val_split)} val images, {len(self.train_split.wnids)} classes; "
            f"recipe {recipe.name}, {recipe.epochs} epochs of {self.steps} steps of {recipe.batch_size} images: "
            f"{world} process(es) × {recipe.batch_size // world} on {self.world.device}; learning rate {recipe.lr} for "
            f"the {recipe.batch_size} images of a step, not scaled by the number of processes; "
            f"{start} at step {self.progress.step}; {self.folder}"
        )

    def _parallel(self) -> nn.Module:
        if self.recipe.compile and self.world.device.type == "cuda":
            self.network.compile()
        if self.world.size == 1:
            return self.network
        devices = [self.world.device] if self.world.device.type == "cuda" else None
        return DistributedDataParallel(self.network, device_ids=devices)

    def _rehearse(self) -> None:
        """Two batches through validation and maps, so that what breaks there breaks now."""
        size = crop_size(self.recipe, self.progress.epoch)
        self._validate(size, limit=2 * self.config.eval_batch_size * self.world.size)
        if self.journal and not self.progress.step:
            self.journal.maps(0, self.network, self.val_split, size, self.world.device)

    def _validate(self, size: int, limit: int | None = None) -> dict[str, float]:
        config, state = self.config, self._state()
        try:
            with self.signals.at_once():
                return validate(
                    self.network, self.val_split, size, config.eval_batch_size, self.world,
                    workers=config.data.workers, limit=limit,
                )  # fmt: skip
        except Stop:
            self._save(state)
            raise self._stopped() from None

    def _epoch(self, epoch: int, forward: nn.Module) -> None:
        size, began, first_image = crop_size(self.recipe, epoch), time.perf_counter(), self.progress.images
        self._steps(epoch, size, forward)
        seconds = time.perf_counter() - began
        record = self._train_metrics(epoch, size, (self.progress.images - first_image) / seconds)
        record |= self._validate(size)
        self.progress = Progress(epoch=epoch + 1, step=self.progress.step)
        if self.journal:
            self.journal.maps(record["step"], self.network, self.val_split, size, self.world.device)
            self.journal.epoch(record)
        self._save(self._state())
        self._say(
            f"epoch {epoch + 1}/{self.recipe.epochs}  {size} px  loss {record['train_loss']:.3f}  "
            f"train error {record['train_top1_error']:.1f} %  val error top-1 {record['val_top1_error']:.1f} % "
            f"top-5 {record['val_top5_error']:.1f} %  {record['images_per_second']:.0f} images/s"
        )

    def _steps(self, epoch: int, size: int, forward: nn.Module) -> None:
        batches = training_batches(
            self.train_split, self.recipe, size, self.config.seed, epoch, first_step=self.progress.step_in_epoch,
            rank=self.world.rank, world=self.world.size, workers=self.config.data.workers,
            pin=self.world.device.type == "cuda",
        )  # fmt: skip
        bar = tqdm(
            on_device(batches, self.world.device), f"epoch {epoch + 1}/{self.recipe.epochs} {size} px", self.steps,
            initial=self.progress.step_in_epoch, leave=False, disable=None if self.world.is_main else True,
        )  # fmt: skip
        self._log(bar)  # of the step after which the checkpoint was taken
        for batch in bar:
            set_learning_rate(self.optimizer, self.recipe, self._done(self.progress.step))
            self.window.add(self._step(batch, forward))
            self._count(batch)
            stop, save = self.agreement.after_step()
            if stop or save:
                self._save(self._state())
            if stop:
                self.world.barrier()  # for the leader's disk: torchrun ends all when one has ended
                raise self._stopped()
            self._log(bar)

    def _done(self, step: int) -> float:
        """The share of training before a step, counted from 0."""
        return step / (self.steps * self.recipe.epochs)

    def _step(self, batch: Batch, forward: nn.Module) -> torch.Tensor:
        """Forward, backward, update on a batch of the device; returns (summed loss, right answers, images, corrupt
        files) there.

        The loss is divided by the recipe's batch, also where corrupt files leave fewer images: so it is the same
        over any number of processes, and a share without any image still takes part.
        """
        forward.train()
        if self.recipe.batch_norm == "frozen" or not len(batch):
            freeze_batch_norm(forward)
        with autocast(self.world.device):
            logits = forward(normalise(batch.pixels))[: len(batch)]
        loss = nn.functional.cross_entropy(
            logits.float(), batch.labels, label_smoothing=self.recipe.label_smoothing, reduction="sum"
        )
        self.optimizer.zero_grad(set_to_none=True)
        (loss * (self.world.size / min(self.recipe.batch_size, len(self.train_split)))).backward()
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimizer.step()
        images, corrupt = loss.new_full((), len(batch)), loss.new_full((), len(batch.corrupt))
        return torch.stack([loss.detach(), (logits.argmax(1) == batch.labels).sum(), images, corrupt])

    def _count(self, batch: Batch) -> None:
        self.progress.step += 1
        self.progress.step_in_epoch += 1
        for line in batch.corrupt:
            tqdm.write(f"skipped: {line}")

    def _log(self, bar: tqdm) -> None:
        """At each LOG_EVERY-th step of an epoch and at its last, look at the loss of the steps since."""
        step = self.progress.step_in_epoch
        if not len(self.window) or (step % LOG_EVERY and step < self.steps):
            return
        loss = self._settle()
        lr = self._learning_rate()
        bar.set_postfix(loss=f"{loss:.3f}", lr=f"{lr:.1e}")
        if self.journal:
            rate = (bar.format_dict["rate"] or 0) * self.recipe.batch_size
            self.journal.scalars(self.progress.step, {"loss": loss, "lr": lr, "images_per_second": rate})

    def _learning_rate(self) -> float:
        """Of the last step."""
        return self.recipe.lr * schedule(self.recipe, self._done(self.progress.step - 1))

    def _settle(self) -> float:
        """Take the window's steps into the sums."""
        total = self._finite_rows().sum(0)
        self.window.clear()
        self.progress.add(total)
        return float(total[0] / max(total[2], 1))

    def _finite_rows(self) -> torch.Tensor:
        """The window's rows; a loss that is not finite ends the run, in all processes and before it is saved."""
        rows = self.window.rows(self.world)
        broken = (~rows[:, 0].isfinite()).nonzero()
        if len(broken):
            raise self._diverged(self.progress.step - len(rows) + int(broken[0]) + 1)
        return rows

    def _diverged(self, step: int) -> UserError:
        return UserError(
            f"the loss or a weight is not finite at step {step}; lower recipe.lr={self.recipe.lr} or set "
            f"recipe.clip=1, and run again: the last checkpoint in {self.folder} is whole"
        )

    def _train_metrics(self, epoch: int, size: int, rate: float) -> dict[str, Any]:
        done = self.progress
        if not done.images:
            raise UserError(f"not one train image of epoch {epoch + 1} could be read; see the lines above, fetch them")
        return {
            "epoch": epoch + 1, "step": done.step, "size": size, "lr": self._learning_rate(),
            "train_loss": done.loss_sum / done.images, "train_top1_error": 100 * (1 - done.right / done.images),
            "skipped": done.skipped, "images_per_second": round(rate, 1),
        }  # fmt: skip

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds; all processes must call it."""
        self._finite_rows()
        if not all(bool(values.isfinite().all()) for values in self.network.state_dict().values()):
            raise self._diverged(self.progress.step)
        return {
            **snapshot(self.network, self.optimizer, self.progress, self.window, self.world),
            "wnids": self.train_split.wnids, "images": len(self.train_split), "model": asdict(self.config.model),
        }  # fmt: skip

    def _save(self, state: dict[str, Any]) -> None:
        if self.journal:
            self.journal.flush()  # what was written before the step is not written again
            checkpoint.save(self.folder, state)
        self.agreement.saved()

    def _resume(self) -> None:
        """The leader reads the folder, which need not be there for the other machines."""
        state = self._read() if self.world.is_main else None
        state = self.world.broadcast(state)
        if state is None:
            return
        if not self.world.is_main:
            self._restore(state)
        if len(state.get("random", [0])) != self.world.size:
            self._say(
                f"trained by {len(state['random'])} process(es) so far, now by {self.world.size}: the same batches, "
                "but dropout draws anew and sums round differently"
            )

    def _read(self) -> dict[str, Any] | None:
        if checkpoint.exists(self.folder):
            checkpoint.refuse_other_settings(self.folder, self.config)
            return checkpoint.load(self.folder, self._restore)
        checkpoint.write_settings(self.folder, self.config)
        write_environment(self.folder, self.world.device, self.world.size)
        return None

    def _restore(self, state: dict[str, Any]) -> None:
        wnids, images = state["wnids"], state.get("images", len(self.train_split))
        if (wnids, images) != (self.train_split.wnids, len(self.train_split)):
            raise UserError(
                f"{self.folder} was trained on {images} images of {len(wnids)} classes, now there are "
                f"{len(self.train_split)} of {len(self.train_split.wnids)}, or others; give it the same data back, or "
                "train elsewhere with runs="
            )
        self.progress, self.window = restore(state, self.network, self.optimizer, self.world, self.config.seed)

    def _stopped(self) -> UserError:
        return UserError(
            f"stopped and saved at step {self.progress.step} in {self.folder}; run the same command to go on"
        )
