"""A machine before a long training: what each part of it gives on pictures made here, what limits,
how long it takes.

It needs no data. Under torchrun every process does its share, and the first one prints.
"""

import io
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, nullcontext, redirect_stdout
from dataclasses import replace
from itertools import count, islice, repeat
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_post_hook

from cam_repro import UserError
from cam_repro.config import Config, RecipeConfig, model_config, written_protocols
from cam_repro.cores import available_cores, in_threads
from cam_repro.data import Split, load_split
from cam_repro.data.check import ILSVRC_IMAGES
from cam_repro.data.ilsvrc import ANNOTATIONS
from cam_repro.data.ilsvrc_lists import MAPPING
from cam_repro.data.loaders import Batch, training_batches
from cam_repro.data.shapes import make_shapes
from cam_repro.distributed import World, join_world
from cam_repro.evaluation.evaluate import evaluate
from cam_repro.evaluation.spec import classification_specs, localization_specs, open_evaluations
from cam_repro.networks import check_size
from cam_repro.networks.trunks import backbone
from cam_repro.provenance import device_name
from cam_repro.training import checkpoint
from cam_repro.training.loop import data_parallel, run_folder, starting_network, take_step, train
from cam_repro.training.solver import build_optimizer
from cam_repro.training.state import Progress, restore, snapshot

SECONDS = 5.0  # about, for each rate
STEPS = 5  # of the run that is stopped and resumed
VAL = 64  # pictures that are evaluated
SIZES = ((500, 375), (500, 333), (375, 500), (500, 400), (640, 480))  # of ILSVRC's pictures
ONE_CORE, DECODING = "decoding, one core", "decoding, all cores"
STEPS_ALONE, WITH_DATA = "steps, images in memory", "steps with data"

Rates = dict[
    str, float
]  # what was measured → images a second, of all processes together but on one core


def rehearse(config: Config) -> None:
    """Measure this machine under the configured network and recipe, and print what that means.
    Raises UserError.
    """
    with ExitStack() as stack:
        with join_world(config.device) as world:
            model = config.model or model_config(
                "vgg_gap" if world.device.type == "cuda" else "alexnet_gap"
            )
            recipe = replace(
                config.recipe, epochs=1, sizes=config.recipe.sizes[-1:], size_starts=[0.0]
            )
            check_size(model, "recipe.sizes", config.recipe.sizes)
            work = None
            if world.is_main:  # below cache=, which every machine sees
                Path(config.cache).mkdir(parents=True, exist_ok=True)
                work = stack.enter_context(
                    TemporaryDirectory(prefix="rehearsal-", dir=config.cache)
                )
                write_pictures(Path(work) / "tree", STEPS * recipe.batch_size, VAL)
            work = Path(world.broadcast(work))
            data = replace(
                config.data,
                name="rehearsal",
                root=str(work / "tree"),
                layout="ilsvrc",
                generate=None,
            )
            places = {key: str(work / key) for key in ("runs", "results", "cache")}
            short = replace(
                config, model=model, recipe=recipe, data=data, weights="none", method=None, **places
            )
            where = f"{device_name(str(world.device))}, {available_cores()} cores each; torch {torch.__version__}"
            world.say(f"{world.size} process(es) on {where}")
            rates, saving = _measure(short, world)
        resuming = _stop_and_resume(short, world)
        rates |= _evaluation_rates(short)
    if world.is_main:
        print(*(f"  {what:30} {rate:,.1f} images/s" for what, rate in rates.items()), sep="\n")
        print(f"  {'checkpoint':30} {saving}", f"  {'stop and resume':30} {resuming}", sep="\n")
        print(*outlook(model.name, config.recipe, rates), sep="\n")


def outlook(model: str, recipe: RecipeConfig, rates: Rates) -> list[str]:
    """What the rates mean for a training and its evaluations on ILSVRC."""
    feeds = rates[DECODING] / rates[STEPS_ALONE]
    slowest = min(rates[part] for part in (DECODING, STEPS_ALONE, WITH_DATA))
    hours = recipe.epochs * ILSVRC_IMAGES["train"] / slowest / 3600
    val = {
        what: ILSVRC_IMAGES["val"] / rate / 3600
        for what, rate in rates.items()
        if what.startswith("evaluation")
    }
    return [
        f"{'the network limits' if feeds > 1 else 'decoding limits: give it more cores'}; the input side could feed "
        f"{feeds:.1f} × what the network takes",
        f"{model} on ILSVRC, recipe {recipe.name}: {recipe.epochs} epochs × {ILSVRC_IMAGES['train']:,} images at "
        f"{slowest:,.0f} images/s = {hours:,.1f} h",
        *(
            f"{what}, of {ILSVRC_IMAGES['val']:,} images: {hours:.1f} h"
            for what, hours in val.items()
        ),
        "not measured: the disk that your own pictures are on",
    ]


def write_pictures(root: Path, train: int, val: int) -> None:
    """Pictures of ILSVRC's sizes and bytes in its layout, with its thousand classes."""
    make_shapes(root, 0, train, val)
    with (root / MAPPING).open("a") as file:
        file.writelines(f"n{91000000 + number} nothing\n" for number in range(990))
    paths = sorted(root.glob("ILSVRC/Data/CLS-LOC/**/*.JPEG"))
    for annotation in (root / ANNOTATIONS).glob(
        "*.xml"
    ):  # its boxes lie in the enlarged image too, somewhere else
        annotation.write_text(re.sub("<size>.*</size>", "", annotation.read_text()))

    def enlarge(number: int) -> None:
        drawn = np.array(
            Image.open(paths[number]).resize(SIZES[number % len(SIZES)], Image.Resampling.BICUBIC)
        )
        noisy = drawn + np.random.default_rng(number).normal(
            0, 9, drawn.shape
        )  # as many bytes as a photograph
        Image.fromarray(np.uint8(np.clip(noisy, 0, 255))).save(paths[number], "JPEG", quality=90)

    list(in_threads(enlarge, range(len(paths))))


def _measure(config: Config, world: World) -> tuple[Rates, str]:
    """The rates but for the evaluations', and in words a checkpoint written and read."""
    recipe, split = config.recipe, load_split(config.data, "train", Path(config.cache), world)
    many = split.subset([image % len(split) for image in range(400 * recipe.batch_size)])
    rates = {ONE_CORE: _decoding(many, config, world, 0)}
    rates[DECODING] = sum(world.gather([_decoding(many, config, world, config.data.workers)]))

    torch.backends.cudnn.benchmark = True  # as in training
    network, _ = starting_network(config, len(split.wnids), world, resumes=False)
    optimizer = build_optimizer(network, recipe, fused=world.device.type == "cuda")
    forward, progress = data_parallel(network, recipe, world), Progress.none(world.device)

    def seconds(batches: Iterator[Batch], steps: int) -> float:
        began = time.perf_counter()
        for batch in islice(batches, steps):
            progress.add(take_step(forward, optimizer, batch, recipe, len(many), world))
        progress.sums.tolist()  # waits for the device
        return max(world.gather([time.perf_counter() - began]))

    def rate(batches: Iterator[Batch]) -> float:
        seconds(batches, 2)
        steps = max(2, min(200, int(SECONDS / seconds(batches, 1))))
        return steps * recipe.batch_size / seconds(batches, steps)

    with closing(_batches(many, config, world, config.data.workers)) as batches:
        loaded = (batch.to(world.device) for batch in batches)
        rates[STEPS_ALONE] = rate(repeat(next(loaded)))
        rates[WITH_DATA] = rate(loaded)
    state, folder, began = (
        snapshot(network, optimizer, progress, world),
        Path(config.cache) / "saved",
        time.monotonic(),
    )
    if not world.is_main:
        return rates, ""
    checkpoint.save(folder, state)
    written = time.monotonic()
    checkpoint.load(
        folder, lambda state: restore(state, network, optimizer, progress, world, config.seed)
    )
    size, took = (
        (folder / checkpoint.CHECKPOINT).stat().st_size,
        (written - began, time.monotonic() - written),
    )
    return rates, "{:.1f} s to write, {:.1f} s to read, {:.0f} MB".format(*took, size / 1e6)


def _batches(split: Split, config: Config, world: World, workers: int | None) -> Iterator[Batch]:
    """This process's share of an epoch, as training has it."""
    recipe, pin = config.recipe, world.device.type == "cuda"
    place = {"rank": world.rank, "world_size": world.size}
    return training_batches(
        split,
        recipe,
        recipe.sizes[0],
        config.seed,
        0,
        interpolation=backbone(config.model.backbone).interpolation(),
        **place,
        workers=workers,
        pin=pin,
    )


def _decoding(split: Split, config: Config, world: World, workers: int | None) -> float:
    """This process's images a second, once each decoder has given a batch; workers 0: it decodes
    itself.
    """
    threads, images = torch.get_num_threads(), 0
    torch.set_num_threads(1)
    with closing(_batches(split, config, world, workers)) as batches:
        next(islice(batches, available_cores() if workers is None else workers, None))
        began = time.perf_counter()
        for batch in batches:
            images, took = images + len(batch), time.perf_counter() - began
            if took > SECONDS:
                break
    torch.set_num_threads(threads)
    return images / took


def _stop_and_resume(config: Config, world: World) -> str:
    """A training that is stopped and goes on beside one that is not, in words."""
    same = replace(
        config, deterministic=not config.model.native
    )  # torchvision's own have pooling that cannot be
    whole, halved = (replace(same, runs=f"{config.runs}{way}") for way in ("", "-stopped"))
    said, steps = "it ended before it could be stopped", count(1)

    def stop(*_: object) -> None:
        if next(steps) == STEPS // 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with redirect_stdout(io.StringIO()):
        train(whole)
        with register_optimizer_step_post_hook(stop) if world.is_main else nullcontext():
            try:
                train(halved)
            except UserError as error:  # the stop; whatever else it may be comes again
                said = str(error).partition(" in ")[0]
                if world.size > 1:  # left as it was, lest a process wait for one that failed
                    torch.distributed.destroy_process_group()
        train(halved)
    if not world.is_main:
        return ""
    files = (run_folder(run) / checkpoint.CHECKPOINT for run in (whole, halved))
    one, two = (
        torch.load(file, map_location="cpu", weights_only=True)["network"] for file in files
    )
    most = max((one[key].double() - two[key].double()).abs().max().item() for key in one)
    return f"{said}; then {'the same weights, bit for bit' if not most else f'weights that differ by up to {most:.1e}'}"


def _evaluation_rates(config: Config) -> Rates:
    """Under the paper's protocol and under the release's, from the trained network to the score."""
    rates = {}
    for name in ("paper", "release"):
        for evaluation in open_evaluations(
            replace(config, protocol=written_protocols()[name], weights=None)
        ):
            specs_of = localization_specs
            if evaluation.trained.network.cam_obstacle:
                specs_of = classification_specs
            for result in evaluate(evaluation, specs_of(evaluation)):
                rates[f"evaluation, protocol={name}"] = len(evaluation.split) / result.seconds
    return rates
