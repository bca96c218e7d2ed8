"""Train one network: settings, data, network, optimizer, then steps, with a validation after each
epoch.
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cam_repro import UserError
from cam_repro.config import Config, RecipeConfig, run_folder
from cam_repro.data import load_split
from cam_repro.data.loaders import Batch, Decoders, steps_per_epoch, training_batches
from cam_repro.data.views import normalise
from cam_repro.distributed import World, autocast, join_world
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
from cam_repro.training.journal import Journal, describe
from cam_repro.training.solver import (
    begins_at,
    build_optimizer,
    crop_size,
    fitted,
    freeze_batch_norm,
    set_learning_rate,
)
from cam_repro.training.state import EPOCH, Progress, restore, seed_process, snapshot
from cam_repro.training.stopping import Stop, Stopping
from cam_repro.training.validation import validate

LOG_EVERY = 50  # steps between looks at the loss, each of which waits for the device


def train(config: Config) -> Path:
    """Train, or go on training, the configured network; returns the run's folder. Raises UserError."""
    recipe, folder = config.recipe, run_folder(config)
    check_size(config.model, "recipe.sizes", recipe.sizes)
    with (
        join_world(config.device, config.deterministic) as world,
        checkpoint.only_writer(folder) if world.is_main else nullcontext(),
        ExitStack() as stack,
        Stopping(world) as stopping,
    ):
        # Data
        on_gpu = world.device.type == "cuda"
        if config.data.split != "val":
            raise UserError(
                f"data.split={config.data.split} chooses what is evaluated; leave it out of a training"
            )
        if recipe.batch_size % world.size:
            raise UserError(
                f"recipe.batch_size={recipe.batch_size} must be a multiple of the {world.size} processes"
            )
        train_split, val_split = (
            load_split(config.data, name, Path(config.cache), world) for name in ("train", "val")
        )
        recipe = fitted(recipe, len(train_split), world.size)
        smallest_share = max(1, min(recipe.batch_size, len(train_split)) // world.size)
        check_batch_norm(config.model, recipe, smallest_share)
        if len({*world.gather([train_split.listing()])}) > 1:
            raise UserError(
                f"the processes find different images in data.root={config.data.root}; give them the same"
            )
        trained_on = checkpoint.images_of(config, train_split, val_split) if world.is_main else {}
        steps, classes = (
            steps_per_epoch(len(train_split), recipe.batch_size),
            len(train_split.wnids),
        )
        chance = math.log(classes) if classes > 1 else math.inf  # the loss of a guess

        decoders = stack.enter_context(Decoders(config.data.workers, pin=on_gpu))

        # Network and optimizer, as they start or as the checkpoint has them
        resumes = world.broadcast(
            checkpoint.exists(folder)
        )  # rank 0's answer: the others may not see its folder
        network, start = starting_network(config, classes, world, resumes)
        optimizer = build_optimizer(network, recipe, fused=on_gpu)
        progress = Progress.none(world.device)
        if resumes:
            start = go_on(config, folder, trained_on, network, optimizer, progress, world)
        elif world.is_main:
            describe(folder, config, world)
        if progress.epoch >= recipe.epochs:
            world.say(
                f"already trained ({recipe.epochs} epochs): {folder}; to train another, give it a name="
            )
            return folder
        world.say(
            f"{config.model.name} on {config.data.name}: {len(train_split)} train and {len(val_split)} val images of "
            f"{classes} classes; recipe {recipe.name}: {recipe.epochs} epochs of {steps} steps of {recipe.batch_size} "
            f"images, {world.size} process(es) × {recipe.batch_size // world.size} on {world.device}; {start}; {folder}"
        )
        if recipe.batch_size < config.recipe.batch_size:
            world.say(
                f"recipe.min_steps={recipe.min_steps} makes the batch {recipe.batch_size} images instead of "
                f"{config.recipe.batch_size}, and the learning rate {recipe.lr:g} instead of {config.recipe.lr:g}"
            )
        names = [words.split(",")[0] for words in train_split.words]
        world.say(
            f"classes: {', '.join(names[:20])}{f', … {classes - 20} more' if classes > 20 else ''}"
        )
        torch.backends.cudnn.benchmark = not config.deterministic  # an epoch's crops have one size
        if recipe.compile and on_gpu:
            network.compile()
        forward = data_parallel(network, recipe, world)
        journal = Journal(folder, progress, recipe.batch_size, world)

        def save() -> None:
            state = snapshot(network, optimizer, progress, world)
            journal.flush()  # a run that goes on from here does not write again what was written before
            if world.is_main:
                begun = {"seed": config.seed, "weights": config.weights, "commit": git_state()[0]}
                checkpoint.save(folder, {
                    **state, "wnids": train_split.wnids, "images": len(train_split), "model": asdict(config.model),
                    "interpolation": network.interpolation, "words": train_split.words,
                    "starting_weights": network.starting_weights,
                    "settings": checkpoint.what_matters(config), "trained_on": trained_on,
                    "training": {**asdict(recipe), "epochs_done": progress.epoch, **begun},
                })  # fmt: skip
            stopping.saved()

        # The loop
        stopping.listen()
        try:
            size = crop_size(
                recipe, progress.epoch
            )  # first what comes after an epoch, so that it breaks now or never
            first_images = list(range(min(len(val_split), 2 * config.eval_batch_size * world.size)))
            validate(
                network, val_split.subset(first_images), config, size, world, stopping, decoders
            )
            if not progress.step:
                journal.maps(network, val_split, size)
                journal.write({})
            for epoch in range(progress.epoch, recipe.epochs):
                size, began, first_step = crop_size(recipe, epoch), time.monotonic(), progress.step
                batches = training_batches(
                    train_split, recipe, size, config.seed, epoch, first_step=first_step - epoch * steps,
                    rank=world.rank, world_size=world.size, interpolation=network.interpolation, decoders=decoders,
                )  # fmt: skip
                title = f"epoch {epoch + 1}/{recipe.epochs}  {size} px"
                for batch in journal.watch(batches, title, first_step - epoch * steps, steps):
                    lr = set_learning_rate(optimizer, recipe, progress.step, steps * recipe.epochs)
                    progress.add(
                        take_step(
                            forward,
                            optimizer,
                            batch.to(world.device),
                            recipe,
                            len(train_split),
                            world,
                        )
                    )
                    due = progress.step == 1 or progress.step % LOG_EVERY == 0
                    if due and progress.step < (epoch + 1) * steps:
                        curves = journal.curves(lr)
                        journal.write(curves)
                        if progress.step == 1 and network.untrained and curves["loss"] > 2 * chance:
                            world.say(
                                f"the first loss is {curves['loss']:.3g}, where {network.untrained}, new as it is, "
                                f"should give that of a guess, ln {classes} = {chance:.3g}: it may never learn"
                            )
                    if stopping.after_step():
                        save()
                rate = (progress.step - first_step) * recipe.batch_size / (time.monotonic() - began)
                record = {
                    "epoch": epoch + 1, "step": progress.step, "size": size, "lr": optimizer.param_groups[0]["lr"],
                    **train_metrics(progress, world), "images_per_second": round(rate, 1),
                }  # fmt: skip
                curves = journal.curves(record["lr"])
                record |= validate(network, val_split, config, size, world, stopping, decoders)
                journal.maps(network, val_split, size)
                journal.end_epoch(record, curves)
                progress.end_epoch()
                save()
                warm = epoch >= begins_at(recipe.warmup, recipe.epochs)
                as_a_guess = is_as_a_guess(record["val_top1_error"], val_split.labels)
                if warm and record["train_loss"] > 0.99 * chance and as_a_guess:
                    world.say(
                        f"the training loss has not left ln {classes} = {chance:.3g}, that of a guess: the network "
                        "learns nothing so far; try another recipe.lr= or other weights="
                    )
        except Stop:
            save()
            world.barrier()  # torchrun ends all when one has ended: not before rank 0's disk has the checkpoint
            raise UserError(
                f"stopped and saved at step {progress.step} in {folder}; run the same command to go on"
            ) from None
        journal.flush()
        world.say(f"trained {recipe.epochs} epochs: {folder}/{checkpoint.CHECKPOINT}")
    return folder


def is_as_a_guess(error: float, labels: np.ndarray) -> bool:
    """Whether a top-1 error (%) is, within three standard errors, that of answering the commonest
    label throughout.
    """
    images = len(labels)
    guess = 1 - np.bincount(labels).max() / images
    deviation = math.sqrt(guess * (1 - guess) / images)
    return error >= 100 * (guess - 3 * deviation)


def starting_network(
    config: Config, classes: int, world: World, resumes: bool
) -> tuple[CamNetwork, str]:
    """The network before its first step, the same in all processes, and in words what it starts
    from.

    Rank 0 alone reads or fetches weights, and nobody does where a checkpoint follows.
    """
    torch.manual_seed(config.seed)
    asked, backbone, weights = config.weights, config.model.backbone, None
    if (
        asked is None and config.recipe.init == "pretrained"
    ):  # a fine-tuning starts from published weights
        if not published(backbone):
            raise UserError(
                f"recipe={config.recipe.name} starts from published weights, and there are none of {backbone}; give a "
                "file with weights=, or train from random ones: recipe=scratch, or weights=none"
            )
        asked = "DEFAULT"
    if asked not in (None, "none") and world.is_main and not resumes:
        weights = read_weights(asked, backbone)
    network = build_network(config.model, classes, weights, new_classes=True)
    if config.recipe.init == "he" and asked in (None, "none"):
        initialise_from_scratch(network)
    if not resumes:
        network.load_state_dict(world.broadcast(network.state_dict()))
        network.interpolation = world.broadcast(network.interpolation)
    if not world.is_main:  # what dropout leaves out is each process's own
        seed_process(config.seed, world.rank)
    source = f"{weights.source}, sha256 {weights.sha256}" if weights else "random weights"
    return network.to(world.device, memory_format=torch.channels_last), f"starts from {source}"


def data_parallel(network: nn.Module, recipe: RecipeConfig, world: World) -> nn.Module:
    """The network whose gradients are the mean over all processes."""
    if world.size == 1:
        return network
    devices = [world.device] if world.device.type == "cuda" else None
    copied = (
        recipe.batch_norm != "frozen"
    )  # statistics that are frozen need no copy from rank 0 at each step
    return DistributedDataParallel(network, devices, forward_sync_buffers=copied)


def go_on(
    config: Config, folder: Path, images: dict[str, Any], network: CamNetwork,
    optimizer: torch.optim.Optimizer, progress: Progress, world: World,
) -> str:  # fmt: skip
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
    if (before := len(state["processes"])) != world.size:
        world.say(
            f"trained by {before} process(es) so far, now by {world.size}: the same batches, but dropout draws anew "
            "and sums round differently"
        )
    return f"resumes at step {progress.step}"


def take_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    recipe: RecipeConfig,
    images: int,
    world: World,
) -> torch.Tensor:
    """Forward, backward, update on a batch of the device; (4,) float32 there: summed loss, right
    answers, images, corrupt files.

    The loss is divided by the recipe's batch, or by the `images` of a data set that has no more,
    also where corrupt files leave fewer: so it is the same over any number of processes, and a
    share without any image still takes part.
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
    (loss * (world.size / min(recipe.batch_size, images))).backward()
    if recipe.clip:
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
    optimizer.step()
    shown, corrupt = loss.new_full((), len(batch)), loss.new_full((), len(batch.corrupt))
    return torch.stack([loss.detach(), (logits.argmax(1) == batch.labels).sum(), shown, corrupt])


def train_metrics(progress: Progress, world: World) -> dict[str, float]:
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
