"""Train one network: data, network, optimizer, then steps, with a validation after each epoch."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cam_repro import UserError
from cam_repro.config import Config, RecipeConfig, run_folder
from cam_repro.data import Split, load_split
from cam_repro.data.loaders import Batch, Decoders, steps_per_epoch, training_batches
from cam_repro.data.views import normalise
from cam_repro.distributed import DistributedContext, autocast, join_distributed
from cam_repro.networks import (
    CamNetwork,
    build_network,
    initialise_from_scratch,
    published,
    read_weights,
)
from cam_repro.networks.sizes import check_batch_norm, check_size
from cam_repro.provenance import git_state
from cam_repro.training import checkpoint
from cam_repro.training.folded_norms import unfold_batch_norm
from cam_repro.training.journal import Journal, describe
from cam_repro.training.preemption import Preempted, Preemption
from cam_repro.training.solver import (
    begins_at,
    build_optimizer,
    crop_size,
    fit_batch_size,
    freeze_batch_norm,
    set_learning_rate,
)
from cam_repro.training.state import EPOCH, Progress, restore, seed_process, snapshot
from cam_repro.training.validation import validate

LOG_EVERY = 50  # steps between looks at the loss, each of which waits for the device
NAMED_CLASSES = 20  # that the first lines name


@dataclass
class Run:
    """A training between its setup and its end.

    recipe: the configured one, its batch as small as the data need. images: in rank 0
    `checkpoint.images_of` both splits. forward: the network as all processes train it together.
    """

    config: Config
    recipe: RecipeConfig
    folder: Path
    world: DistributedContext
    train_split: Split
    val_split: Split
    images: dict[str, Any]
    decoders: Decoders
    preemption: Preemption
    network: CamNetwork
    forward: nn.Module
    optimizer: torch.optim.Optimizer
    progress: Progress
    journal: Journal

    @property
    def steps(self) -> int:
        """Of one epoch."""
        return steps_per_epoch(len(self.train_split), self.recipe.batch_size)

    @property
    def loss_of_a_guess(self) -> float:
        classes = len(self.train_split.wnids)
        return math.log(classes) if classes > 1 else math.inf

    def save(self) -> None:
        """Write a checkpoint; all processes must call it."""
        state = snapshot(self.network, self.optimizer, self.progress, self.world)
        # A run that goes on from here does not write again what was written before
        self.journal.flush()
        if self.world.is_main:
            training = asdict(self.recipe)
            training["epochs_done"] = self.progress.epoch
            training["seed"] = self.config.seed
            training["weights"] = self.config.weights
            training["commit"], _ = git_state()
            about = {
                "wnids": self.train_split.wnids,
                "words": self.train_split.words,
                "images": len(self.train_split),
                "model": asdict(self.config.model),
                "interpolation": self.network.interpolation,
                "starting_weights": self.network.starting_weights,
                "settings": checkpoint.settings_that_matter(self.config),
                "trained_on": self.images,
                "training": training,
            }
            checkpoint.save(self.folder, state | about)
        self.preemption.saved()


def train(config: Config) -> Path:
    """Train, or go on training, the configured network; returns the run's folder.

    Raises UserError.
    """
    folder = run_folder(config)
    check_size(config.model, "recipe.sizes", config.recipe.sizes)
    if config.recipe.val_size is not None:
        check_size(config.model, "recipe.val_size", config.recipe.val_size)
    with (
        join_distributed(config.device, config.deterministic) as world,
        checkpoint.only_writer(folder) if world.is_main else nullcontext(),
        Preemption(world) as preemption,
    ):
        on_gpu = world.device.type == "cuda"
        train_split, val_split = load_data(config, world)
        recipe = fit_recipe(config, len(train_split), world)
        images = checkpoint.images_of(config, train_split, val_split) if world.is_main else {}
        with Decoders(config.data.workers, pin=on_gpu) as decoders:
            # Rank 0's answer: the others may not see its folder
            resumes = world.broadcast(checkpoint.exists(folder))
            network, start = starting_network(config, len(train_split.wnids), world, resumes)
            if not resumes:
                unfold_batch_norm(network, train_split, config, recipe, decoders, world)
            optimizer = build_optimizer(network, recipe, fused=on_gpu)
            progress = Progress.none(world.device)
            if resumes:
                start = resume(config, folder, images, network, optimizer, progress, world)
            elif world.is_main:
                describe(folder, config, world)
            if progress.epoch >= recipe.epochs:
                another = "to train another, give it a name="
                world.say(f"already trained ({recipe.epochs} epochs): {folder}; {another}")
                return folder

            torch.backends.cudnn.benchmark = not config.deterministic  # an epoch has one crop size
            if recipe.compile and on_gpu:
                network.compile()
            forward = data_parallel(network, recipe, world)
            journal = Journal(folder, progress, recipe.batch_size, world)
            run = Run(
                config=config,
                recipe=recipe,
                folder=folder,
                world=world,
                train_split=train_split,
                val_split=val_split,
                images=images,
                decoders=decoders,
                preemption=preemption,
                network=network,
                forward=forward,
                optimizer=optimizer,
                progress=progress,
                journal=journal,
            )
            announce(run, start)
            fit(run)
    return folder


def load_data(config: Config, world: DistributedContext) -> tuple[Split, Split]:
    """The train and the val split, of the same images in all processes. Raises UserError."""
    if config.data.split != "val":
        raise UserError(
            f"data.split={config.data.split} chooses what is evaluated; leave it out of a training"
        )
    if config.recipe.batch_size % world.size:
        raise UserError(
            f"recipe.batch_size={config.recipe.batch_size} must be a multiple of "
            f"the {world.size} processes"
        )
    train_split = load_split(config.data, "train", Path(config.cache), world)
    val_split = load_split(config.data, "val", Path(config.cache), world)
    listings = world.gather([train_split.listing()])
    if len(set(listings)) > 1:
        raise UserError(
            f"the processes find different images in data.root={config.data.root}; "
            "give them the same"
        )
    return train_split, val_split


def fit_recipe(config: Config, images: int, world: DistributedContext) -> RecipeConfig:
    """The recipe with a batch that suits so many train images.

    Raises UserError where a process would have too few of them for batch norm.
    """
    recipe = fit_batch_size(config.recipe, images, world.size)
    smallest_share = min(recipe.batch_size, images) // world.size
    check_batch_norm(config.model, recipe, max(1, smallest_share))
    return recipe


def starting_network(
    config: Config, classes: int, world: DistributedContext, resumes: bool
) -> tuple[CamNetwork, str]:
    """The network before its first step, and in words what it starts from.

    It is the same in all processes. Rank 0 alone reads or fetches weights, and nobody does where a
    checkpoint follows.
    """
    torch.manual_seed(config.seed)
    backbone = config.model.backbone
    asked = config.weights
    if asked is None and config.recipe.init == "pretrained":
        # A fine-tuning starts from published weights
        if not published(backbone):
            raise UserError(
                f"recipe={config.recipe.name} starts from published weights, and there are none of "
                f"{backbone}; give a file with weights=, or train from random ones: "
                "recipe=scratch, or weights=none"
            )
        asked = "DEFAULT"
    random_start = asked in (None, "none")
    weights = None
    if not random_start and world.is_main and not resumes:
        weights = read_weights(asked, backbone)
    network = build_network(config.model, classes, weights, new_classes=True)
    if config.recipe.init == "he" and random_start:
        initialise_from_scratch(network)
    if not resumes:
        network.load_state_dict(world.broadcast(network.state_dict()))
        network.interpolation = world.broadcast(network.interpolation)
    if not world.is_main:  # what dropout leaves out is each process's own
        seed_process(config.seed, world.rank)
    source = f"{weights.source}, sha256 {weights.sha256}" if weights else "random weights"
    return network.to(world.device, memory_format=torch.channels_last), f"starts from {source}"


def data_parallel(network: nn.Module, recipe: RecipeConfig, world: DistributedContext) -> nn.Module:
    """The network whose gradients are the mean over all processes."""
    if world.size == 1:
        return network
    devices = [world.device] if world.device.type == "cuda" else None
    # Statistics that are frozen need no copy from rank 0 at each step
    copies_statistics = recipe.batch_norm != "frozen"
    return DistributedDataParallel(network, devices, forward_sync_buffers=copies_statistics)


def resume(
    config: Config,
    folder: Path,
    images: dict[str, Any],
    network: CamNetwork,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    world: DistributedContext,
) -> str:
    """Put the run's checkpoint back in all processes; in words, where it goes on.

    Rank 0 reads it, and holds its images against `images`, `checkpoint.images_of` the data at hand.
    """

    def put_back(state: dict[str, Any]) -> None:
        checkpoint.refuse_other_settings(folder, state["settings"], config)
        if world.is_main:
            checkpoint.refuse_other_images(folder, state, images)
        restore(state, network, optimizer, progress, world, config.seed)
        network.interpolation = state.get("interpolation", "bilinear")
        network.starting_weights = state.get("starting_weights")

    state = world.broadcast(checkpoint.load(folder, put_back) if world.is_main else None)
    if not world.is_main:
        put_back(state)
    before = len(state["processes"])
    if before != world.size:
        world.say(
            f"trained by {before} process(es) so far, now by {world.size}: the same batches, "
            "but dropout draws anew and sums round differently"
        )
    return f"resumes at step {progress.step}"


def announce(run: Run, start: str) -> None:
    """The first lines: what is trained, on what, how and from where."""
    config, recipe, world = run.config, run.recipe, run.world
    classes = len(run.train_split.wnids)
    world.say(
        f"{config.model.name} on {config.data.name}: {len(run.train_split)} train and "
        f"{len(run.val_split)} val images of {classes} classes; recipe {recipe.name}: "
        f"{recipe.epochs} epochs of {run.steps} steps of {recipe.batch_size} images, "
        f"{world.size} process(es) × {recipe.batch_size // world.size} on {world.device}; "
        f"{start}; {run.folder}"
    )
    if recipe.batch_size < config.recipe.batch_size:
        world.say(
            f"recipe.min_steps={recipe.min_steps} makes the batch {recipe.batch_size} images "
            f"instead of {config.recipe.batch_size}, and the learning rate {recipe.lr:g} "
            f"instead of {config.recipe.lr:g}"
        )
    names = [words.split(",")[0] for words in run.train_split.words[:NAMED_CLASSES]]
    if classes > NAMED_CLASSES:
        names.append(f"… {classes - NAMED_CLASSES} more")
    world.say(f"classes: {', '.join(names)}")


def fit(run: Run) -> None:
    """The epochs that are left. Asked to stop, it saves and raises UserError."""
    run.preemption.listen()
    try:
        try_the_end_of_an_epoch(run)
        for epoch in range(run.progress.epoch, run.recipe.epochs):
            train_epoch(run, epoch)
    except Preempted:
        run.save()
        # torchrun ends all when one has ended: not before rank 0's disk has the checkpoint
        run.world.barrier()
        step = run.progress.step
        raise UserError(
            f"stopped and saved at step {step} in {run.folder}; run the same command to go on"
        ) from None
    run.journal.flush()
    run.world.say(f"trained {run.recipe.epochs} epochs: {run.folder}/{checkpoint.CHECKPOINT}")


def try_the_end_of_an_epoch(run: Run) -> None:
    """Two batches of a validation and the maps, so that what is broken there breaks at once."""
    size = run.recipe.val_size or crop_size(run.recipe, run.progress.epoch)
    images = min(len(run.val_split), 2 * run.config.eval_batch_size * run.world.size)
    few = run.val_split.subset(list(range(images)))
    validate(run.network, few, run.config, size, run.world, run.preemption, run.decoders)
    if not run.progress.step:
        run.journal.maps(run.network, run.val_split, size)
        run.journal.write({})


def train_epoch(run: Run, epoch: int) -> None:
    """The steps of an epoch that are left, a validation, a checkpoint."""
    recipe, progress, world = run.recipe, run.progress, run.world
    size = crop_size(recipe, epoch)
    last_step = (epoch + 1) * run.steps
    first_step = progress.step
    done = first_step - epoch * run.steps
    began = time.monotonic()
    batches = training_batches(
        run.train_split,
        recipe,
        size,
        run.config.seed,
        epoch,
        first_step=done,
        rank=world.rank,
        world_size=world.size,
        interpolation=run.network.interpolation,
        decoders=run.decoders,
    )
    title = f"epoch {epoch + 1}/{recipe.epochs}  {size} px"
    for batch in run.journal.watch(batches, title, done, run.steps):
        lr = set_learning_rate(run.optimizer, recipe, progress.step, run.steps * recipe.epochs)
        batch = batch.to(world.device)
        sums = train_step(run.forward, run.optimizer, batch, recipe, len(run.train_split), world)
        progress.add(sums)
        due = progress.step == 1 or progress.step % LOG_EVERY == 0
        if due and progress.step < last_step:  # the last step's are written with the epoch's
            log_curves(run, lr)
        if run.preemption.after_step():
            run.save()

    images = (progress.step - first_step) * recipe.batch_size
    rate = images / (time.monotonic() - began)
    record = {
        "epoch": epoch + 1,
        "step": progress.step,
        "size": size,
        "lr": run.optimizer.param_groups[0]["lr"],
        **train_metrics(progress, world),
        "images_per_second": round(rate, 1),
    }
    curves = run.journal.curves(record["lr"])
    val_size = recipe.val_size or size
    record |= validate(
        run.network, run.val_split, run.config, val_size, world, run.preemption, run.decoders
    )
    run.journal.maps(run.network, run.val_split, val_size)
    run.journal.end_epoch(record, curves)
    progress.end_epoch()
    run.save()
    if epoch >= begins_at(recipe.warmup, recipe.epochs):
        warn_if_nothing_is_learnt(run, record)


def log_curves(run: Run, lr: float) -> None:
    """Write loss and speed of the last steps; warn of a first loss far above that of a guess."""
    curves = run.journal.curves(lr)
    run.journal.write(curves)
    chance = run.loss_of_a_guess
    if run.progress.step == 1 and run.network.untrained and curves["loss"] > 2 * chance:
        run.world.say(
            f"the first loss is {curves['loss']:.3g}, where {run.network.untrained}, new as it is, "
            f"should give that of a guess, ln {len(run.train_split.wnids)} = {chance:.3g}: "
            "it may never learn"
        )


def warn_if_nothing_is_learnt(run: Run, record: dict[str, Any]) -> None:
    chance = run.loss_of_a_guess
    guesses = is_like_guessing(record["val_top1_error"], run.val_split.labels)
    if record["train_loss"] > 0.99 * chance and guesses:
        run.world.say(
            f"the training loss has not left ln {len(run.train_split.wnids)} = {chance:.3g}, "
            "that of a guess: the network learns nothing so far; "
            "try another recipe.lr= or other weights="
        )


def is_like_guessing(error: float, labels: np.ndarray) -> bool:
    """Whether a top-1 error (%) is that of always answering the commonest label.

    It is where it is no more than three standard errors below.
    """
    images = len(labels)
    guess = 1 - np.bincount(labels).max() / images
    deviation = math.sqrt(guess * (1 - guess) / images)
    return error >= 100 * (guess - 3 * deviation)


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    recipe: RecipeConfig,
    images: int,
    world: DistributedContext,
) -> torch.Tensor:
    """Forward, backward and update on a batch of the device.

    Returns (4,) float32 there: summed loss, right answers, images, corrupt files. The loss is
    divided by the recipe's batch, or by the `images` of a data set that has no more, also where
    corrupt files leave fewer: so it is the same over any number of processes, and a share without
    any image still takes part.
    """
    network.train()
    one_is_left = len(batch) == 1 and len(batch.corrupt) > 0  # of it there may be no variance
    if recipe.batch_norm == "frozen" or not len(batch) or one_is_left:
        freeze_batch_norm(network)
    with autocast(world.device):
        logits = network(normalise(batch.pixels))[: len(batch)]
    loss = nn.functional.cross_entropy(
        logits.float(), batch.labels, label_smoothing=recipe.label_smoothing, reduction="sum"
    )
    optimizer.zero_grad(set_to_none=True)
    share = world.size / min(recipe.batch_size, images)
    (loss * share).backward()
    if recipe.clip:
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
    optimizer.step()
    right = (logits.argmax(1) == batch.labels).sum()
    shown = loss.new_full((), len(batch))
    corrupt = loss.new_full((), len(batch.corrupt))
    return torch.stack([loss.detach(), right, shown, corrupt])


def train_metrics(progress: Progress, world: DistributedContext) -> dict[str, float]:
    """Of the epoch so far, over all processes, which must all call it."""
    loss, right, images, skipped = world.sum(progress.sums[EPOCH]).tolist()
    if not images:
        raise UserError(
            "not one train image of the epoch could be read; see the lines above, fetch them again"
        )
    return {
        "train_loss": loss / images,
        "train_top1_error": 100 * (1 - right / images),
        "skipped": int(skipped),
    }
