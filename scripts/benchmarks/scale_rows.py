"""What grows with the number of images: memory, seconds an image, the index, start-up."""

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from benchmarks.evaluation_rows import configured
from benchmarks.timing import Row, by_turns, row, seconds
from cam_repro.config import options_of
from cam_repro.data import ilsvrc, load_split
from cam_repro.data.shapes import make_shapes
from cam_repro.distributed import join_distributed
from cam_repro.evaluation.maps import predict_split
from cam_repro.evaluation.metrics import METRICS
from cam_repro.evaluation.rows import RowPool
from cam_repro.networks.network import CamNetwork

SCRIPTS = Path(__file__).resolve().parent.parent
FEW = 1_024  # whole batches of 32
HALF = 10_240
MANY = 20_480
ROUNDS = 5
FILES = 200_000
STARTED = ["data=ilsvrc", "data.root=/nowhere"]  # refused where the real work would begin
SLOWEST = ("train", "eval_localization", "score")  # of all scripts to start


class Measured(NamedTuple):
    """An evaluation's time so far, and the peak so far of its process's memory."""

    seconds: float
    megabytes: float


def rows(_tree: Path, work: Path) -> Iterator[Row]:
    yield from _growth(work)
    yield from _index(work)
    yield _start_up(work)


def _growth(work: Path) -> Iterator[Row]:
    tree = _links(_small_tree(work / "links"), MANY)
    passes = _in_a_process(tree, work)
    few, _, many = passes[0]
    grown = many.megabytes - few.megabytes
    yield Row(
        part="scale",
        what=f"peak memory of {MANY:,} images (protocol=paper)",
        peer=f"after {FEW:,} images",
        unit="MB",
        rate=many.megabytes,
        peer_rate=few.megabytes,
        ratio=grown,
        spread=(grown, grown),
        wanted="≤ 50",
        note="the ratio is the difference in MB",
    )
    times = []
    for few, half, many in passes:
        later = (many.seconds - half.seconds) / (MANY - HALF)
        before = (half.seconds - few.seconds) / (HALF - FEW)
        times.append([later, before])
    yield row(
        part="scale",
        what=f"a network of one layer, images {HALF:,} to {MANY:,}",
        peer=f"images {FEW:,} to {HALF:,} of the same evaluation",
        times=times,
        count=1,
        unit="images/s",
        wanted="≤ 1.05",
    )


def _small_tree(root: Path) -> Path:
    """Ten train and eight val images of 64×48 pixels, without lists, so that all files count."""
    make_shapes(root, 0, train=10, val=8)
    for image_set in ilsvrc.IMAGE_SETS.values():
        (root / image_set).unlink()
    for path in root.glob(f"{ilsvrc.IMAGES}/**/*.JPEG"):
        Image.open(path).resize((64, 48)).save(path)
    for path in (root / ilsvrc.ANNOTATIONS).glob("*.xml"):
        text = re.sub("<size>.*</size>", "", path.read_text())
        text = re.sub("<(xmin|ymin)>[0-9]+", r"<\1>8", text)
        path.write_text(re.sub("<(xmax|ymax)>[0-9]+", r"<\1>40", text))
    return root


def _links(tree: Path, images: int) -> Path:
    """The tree with as many val images, all links to its eight."""
    files = sorted(tree.glob(f"{ilsvrc.IMAGES}/val/*.JPEG"))
    annotations = sorted(tree.glob(f"{ilsvrc.ANNOTATIONS}/*.xml"))
    for number in range(len(files), images):
        for file in (files[number % 8], annotations[number % 8]):
            os.link(file, file.with_name(f"ILSVRC2012_val_{number + 1:08d}{file.suffix}"))
    return tree


def _in_a_process(tree: Path, work: Path) -> list[list[Measured]]:
    """`_evaluations` in a process that does nothing else."""
    command = [sys.executable, "-m", "benchmarks.scale_rows", str(tree), str(work)]
    paths = os.pathsep.join([str(SCRIPTS), str(SCRIPTS.parent)])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    passes = json.loads(done.stdout.splitlines()[-1])
    return [[Measured(*after) for after in marks] for marks in passes]


def _evaluations(tree: Path, work: Path) -> list[list[Measured]]:
    """ROUNDS evaluations of MANY images, each measured after FEW of them, after HALF and all."""
    config = configured(tree, work, "data.name=links", "eval_batch_size=64")
    trunk = nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 16, 1), nn.ReLU())
    network = CamNetwork(trunk, nn.Identity(), nn.Linear(16, 10), "average", 0.0)
    torch.set_num_threads(1)
    passes = []
    with join_distributed("cpu") as world:
        split = load_split(config.data, "val", work / "cache", world)
        wanted = [("cam", METRICS["localization"](config.protocol, 64))]
        for _ in range(ROUNDS):
            marks = []
            began = time.perf_counter()
            seen = 0
            with RowPool(split, wanted, lambda rows: None, tqdm(disable=True)) as pool:
                for batch in predict_split(network, split, "squash", 64, ["cam"], world):
                    pool.submit(batch)
                    seen += len(batch)
                    if seen in (FEW, HALF):
                        marks.append(Measured(time.perf_counter() - began, _peak_megabytes()))
                pool.finish()
            marks.append(Measured(time.perf_counter() - began, _peak_megabytes()))
            passes.append(marks)
    return passes


def _peak_megabytes() -> float:
    """Of this process since its program began.

    getrusage's would begin with the peak of the bench that started it.
    """
    status = Path("/proc/self/status")
    if not status.is_file():  # macOS, where getrusage counts in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    _, _, peak = status.read_text().partition("VmHWM:")
    kilobytes, *_ = peak.split()
    return int(kilobytes) / 1024


def _index(work: Path) -> Iterator[Row]:
    tree = _small_tree(work / "index")
    for folder in (tree / ilsvrc.IMAGES / "train").iterdir():
        for number in range(2, FILES // 10 + 1):
            (folder / f"{folder.name}_{number}.JPEG").touch()
    config = configured(tree, work, "data.name=index")

    def load() -> None:
        with join_distributed("cpu") as world:
            load_split(config.data, "train", work / "cache-index", world)

    first = seconds(load)
    again = median(seconds(load) for _ in range(5))
    for what, took, wanted in (("first", first, "≤ 10"), ("again", again, "≤ 1")):
        yield Row(
            part="scale",
            what=f"index of {FILES:,} files, {what}",
            peer="a second",
            unit="files/s",
            rate=FILES / took,
            peer_rate=FILES,
            ratio=took,
            spread=(took, took),
            wanted=wanted,
            note="the ratio is seconds",
        )


def _start_up(work: Path) -> Row:
    took = {name: seconds(partial(_start, name, work)) for name in SLOWEST}
    name = max(took, key=took.get)
    libraries = [sys.executable, "-c", "import hydra, torch"]
    works = [partial(_start, name, work), partial(subprocess.run, libraries, check=True)]
    return row(
        part="scale",
        what=f"start-up of the slowest script, {name}, until its real work begins",
        peer="the import of hydra and torch",
        times=by_turns(works, rounds=5),
        count=1,
        unit="starts/s",
        wanted="≤ 1.3",
    )


def _start(name: str, work: Path) -> None:
    """Start a script that refuses data which is not there."""
    options = [*STARTED]
    if name == "train":
        options.append("model=resnet18")
    known = options_of(name.replace("_", "-"))
    for key in ("runs", "results", "cache"):
        if key in known:
            options.append(f"{key}={work / 'nothing'}")
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 1 or not done.stderr.startswith("error: "):
        raise AssertionError(f"{name} was to be refused for want of data: {done.stderr[-500:]}")


if __name__ == "__main__":
    print(json.dumps(_evaluations(Path(sys.argv[1]), Path(sys.argv[2]))))
