"""A machine before a long training: what each part of it gives, what limits, how long it takes.

It makes the images that it measures on. Under torchrun every process does its share, and the first
one prints.
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
from cam_repro.config import Config, RecipeConfig, model_config, run_folder, written_protocols
from cam_repro.cores import available_cores, in_threads
from cam_repro.data import Split, load_split
from cam_repro.data.check import ILSVRC_IMAGES
from cam_repro.data.ilsvrc import ANNOTATIONS
from cam_repro.data.ilsvrc_lists import MAPPING
from cam_repro.data.loaders import Batch, training_batches
from cam_repro.data.shapes import make_shapes
from cam_repro.distributed import DistributedContext, join_distributed
from cam_repro.evaluation.evaluate import evaluate
from cam_repro.evaluation.spec import classification_specs, localization_specs, open_evaluations
from cam_repro.networks import check_size
from cam_repro.networks.trunks import backbone
from cam_repro.provenance import device_name
from cam_repro.training import checkpoint
from cam_repro.training.loop import data_parallel, starting_network, train, train_step
from cam_repro.training.solver import build_optimizer
from cam_repro.training.state import Progress, restore, snapshot

SECONDS = 5.0  # about, for each rate
STEPS = 5  # of the run that is stopped and resumed
VAL = 64  # images that are evaluated
SIZES = ((500, 375), (500, 333), (375, 500), (500, 400), (640, 480))  # of ILSVRC's images
CLASSES = 1000
DRAWN_CLASSES = 10
ONE_CORE = "decoding, one core"
DECODING = "decoding, all cores"
STEPS_ALONE = "steps, images in memory"
WITH_DATA = "steps with data"

# What was measured → images a second, of all processes together except for one core's
Rates = dict[str, float]


def rehearse(config: Config) -> None:
    """Measure this machine with the configured network and recipe, and print what that means.

    Raises UserError.
    """
    with ExitStack() as stack:
        with join_distributed(config.device) as world:
            short = _short_run(config, world, stack)
            where = f"{device_name(str(world.device))}, {available_cores()} cores each"
            world.say(f"{world.size} process(es) on {where}; torch {torch.__version__}")
            rates, saving = _measure(short, world)
        resuming = _stop_and_resume(short, world)
        rates |= _evaluation_rates(short)
    if not world.is_main:
        return
    for what, rate in rates.items():
        print(f"  {what:30} {rate:,.1f} images/s")
    print(f"  {'checkpoint':30} {saving}")
    print(f"  {'stop and resume':30} {resuming}")
    print(*outlook(short.model.name, config.recipe, rates), sep="\n")


def outlook(model: str, recipe: RecipeConfig, rates: Rates) -> list[str]:
    """What the rates mean for a training and its evaluations on ILSVRC."""
    feeds = rates[DECODING] / rates[STEPS_ALONE]
    limit = "the network limits"
    if feeds <= 1:
        limit = "decoding limits: give it more cores"
    slowest = min(rates[DECODING], rates[STEPS_ALONE], rates[WITH_DATA])
    train = ILSVRC_IMAGES["train"]
    hours = recipe.epochs * train / slowest / 3600
    lines = [
        f"{limit}; the input side could feed {feeds:.1f} × what the network takes",
        f"{model} on ILSVRC, recipe {recipe.name}: {recipe.epochs} epochs × {train:,} images at "
        f"{slowest:,.0f} images/s = {hours:,.1f} h",
    ]
    val = ILSVRC_IMAGES["val"]
    for what, rate in rates.items():
        if what.startswith("evaluation"):
            lines.append(f"{what}, of {val:,} images: {val / rate / 3600:.1f} h")
    lines.append("not measured: the disk that your own images are on")
    return lines


def write_images(root: Path, train: int, val: int) -> None:
    """Images of ILSVRC's sizes and bytes in its layout, with its thousand classes."""
    make_shapes(root, 0, train, val)
    with (root / MAPPING).open("a") as file:
        for number in range(CLASSES - DRAWN_CLASSES):
            file.write(f"n{91000000 + number} nothing\n")
    for annotation in (root / ANNOTATIONS).glob("*.xml"):
        # Its boxes lie in the enlarged image too, somewhere else
        annotation.write_text(re.sub("<size>.*</size>", "", annotation.read_text()))
    paths = sorted(root.glob("ILSVRC/Data/CLS-LOC/**/*.JPEG"))

    def enlarge(number: int) -> None:
        size = SIZES[number % len(SIZES)]
        drawn = Image.open(paths[number]).resize(size, Image.Resampling.BICUBIC)
        pixels = np.array(drawn)
        noise = np.random.default_rng(number).normal(0, 9, pixels.shape)
        noisy = np.clip(pixels + noise, 0, 255)  # as many bytes as a photograph
        Image.fromarray(np.uint8(noisy)).save(paths[number], "JPEG", quality=90)

    for _ in in_threads(enlarge, range(len(paths))):
        pass


def _short_run(config: Config, world: DistributedContext, stack: ExitStack) -> Config:
    """One epoch of STEPS steps at the recipe's last size, on images in a folder of its own.

    stack: at its end the folder goes.
    """
    model = config.model
    if model is None:
        model = model_config("vgg_gap" if world.device.type == "cuda" else "alexnet_gap")
    check_size(model, "recipe.sizes", config.recipe.sizes)
    recipe = replace(config.recipe, epochs=1, sizes=config.recipe.sizes[-1:], size_starts=[0.0])
    work = None
    if world.is_main:  # below cache=, which every machine sees
        Path(config.cache).mkdir(parents=True, exist_ok=True)
        work = stack.enter_context(TemporaryDirectory(prefix="rehearsal-", dir=config.cache))
        write_images(Path(work) / "tree", STEPS * recipe.batch_size, VAL)
    work = Path(world.broadcast(work))
    data = replace(
        config.data,
        name="rehearsal",
        root=str(work / "tree"),
        layout="ilsvrc",
        generate=None,
    )
    return replace(
        config,
        model=model,
        recipe=recipe,
        data=data,
        weights="none",
        method=None,
        runs=str(work / "runs"),
        results=str(work / "results"),
        cache=str(work / "cache"),
    )


def _measure(config: Config, world: DistributedContext) -> tuple[Rates, str]:
    """The rates but for the evaluations', and in words a checkpoint written and read."""
    recipe = config.recipe
    split = load_split(config.data, "train", Path(config.cache), world)
    many = split.subset([image % len(split) for image in range(400 * recipe.batch_size)])
    rates = {}
    rates[ONE_CORE] = _decoding(many, config, world, 0)
    rates[DECODING] = sum(world.gather([_decoding(many, config, world, config.data.workers)]))

    torch.backends.cudnn.benchmark = True  # as in training
    network, _ = starting_network(config, len(split.wnids), world, resumes=False)
    optimizer = build_optimizer(network, recipe, fused=world.device.type == "cuda")
    forward = data_parallel(network, recipe, world)
    progress = Progress.none(world.device)

    def seconds(batches: Iterator[Batch], steps: int) -> float:
        began = time.perf_counter()
        for batch in islice(batches, steps):
            progress.add(train_step(forward, optimizer, batch, recipe, len(many), world))
        progress.sums.tolist()  # waits for the device
        return max(world.gather([time.perf_counter() - began]))

    def rate(batches: Iterator[Batch]) -> float:
        seconds(batches, 2)
        steps = int(SECONDS / seconds(batches, 1))
        steps = max(2, min(200, steps))
        return steps * recipe.batch_size / seconds(batches, steps)

    with closing(_batches(many, config, world, config.data.workers)) as batches:
        loaded = (batch.to(world.device) for batch in batches)
        rates[STEPS_ALONE] = rate(repeat(next(loaded)))
        rates[WITH_DATA] = rate(loaded)

    state = snapshot(network, optimizer, progress, world)
    if not world.is_main:
        return rates, ""
    folder = Path(config.cache) / "saved"
    began = time.monotonic()
    checkpoint.save(folder, state)
    written = time.monotonic()
    checkpoint.load(
        folder, lambda state: restore(state, network, optimizer, progress, world, config.seed)
    )
    read = time.monotonic()
    megabytes = (folder / checkpoint.CHECKPOINT).stat().st_size / 1e6
    times = f"{written - began:.1f} s to write, {read - written:.1f} s to read"
    return rates, f"{times}, {megabytes:.0f} MB"


def _batches(
    split: Split, config: Config, world: DistributedContext, workers: int | None
) -> Iterator[Batch]:
    """This process's share of an epoch, as training has it."""
    return training_batches(
        split,
        config.recipe,
        config.recipe.sizes[0],
        config.seed,
        epoch=0,
        interpolation=backbone(config.model.backbone).interpolation(),
        rank=world.rank,
        world_size=world.size,
        workers=workers,
        pin=world.device.type == "cuda",
    )


def _decoding(
    split: Split, config: Config, world: DistributedContext, workers: int | None
) -> float:
    """This process's images a second, once each decoder has given a batch.

    workers: 0 means that it decodes itself, None one a core.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    warm_up = available_cores() if workers is None else workers
    with closing(_batches(split, config, world, workers)) as batches:
        next(islice(batches, warm_up, None))
        images = 0
        began = time.perf_counter()
        for batch in batches:
            images += len(batch)
            took = time.perf_counter() - began
            if took > SECONDS:
                break
    torch.set_num_threads(threads)
    return images / took


def _stop_and_resume(config: Config, world: DistributedContext) -> str:
    """A training that is stopped and resumed beside one that is not, in words."""
    # torchvision's networks have pooling that cannot be deterministic
    whole = replace(config, deterministic=not config.model.native)
    halved = replace(whole, runs=f"{config.runs}-stopped")
    said = "it ended before it could be stopped"
    steps = count(1)

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
    one = _trained_weights(whole)
    two = _trained_weights(halved)
    most = max((one[key].double() - two[key].double()).abs().max().item() for key in one)
    if most:
        return f"{said}; then weights that differ by up to {most:.1e}"
    return f"{said}; then the same weights, bit for bit"


def _trained_weights(config: Config) -> dict[str, torch.Tensor]:
    path = run_folder(config) / checkpoint.CHECKPOINT
    return torch.load(path, map_location="cpu", weights_only=True)["network"]


def _evaluation_rates(config: Config) -> Rates:
    """Under the paper's protocol and under the release's, from the trained network to the score."""
    rates = {}
    for name in ("paper", "release"):
        asked = replace(config, protocol=written_protocols()[name], weights=None)
        for evaluation in open_evaluations(asked):
            specs_of = localization_specs
            if evaluation.trained.network.cam_obstacle:
                specs_of = classification_specs
            for result in evaluate(evaluation, specs_of(evaluation)):
                rates[f"evaluation, protocol={name}"] = len(evaluation.split) / result.seconds
    return rates
