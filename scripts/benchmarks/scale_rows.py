"""What grows with the number of images and what must not: memory, work an image, the index,
start-up.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from benchmarks.evaluation_rows import configured
from benchmarks.timing import Row, by_turns, row, seconds
from cam_repro.data import ilsvrc, load_split
from cam_repro.data.shapes import make_shapes
from cam_repro.distributed import join_world
from cam_repro.evaluation.maps import predict_split
from cam_repro.evaluation.metrics import METRICS
from cam_repro.evaluation.rows import RowPool
from cam_repro.networks.network import CamNetwork

SCRIPTS = Path(__file__).resolve().parent.parent
FEW, HALF, MANY, FILES = 1_000, 10_000, 20_000, 200_000
STARTED = ["data=ilsvrc", "data.root=/nowhere"]  # refused where the real work would begin
SLOWEST = ("train", "eval_localization", "score")  # of all scripts to start


def rows(work: Path) -> Iterator[Row]:
    yield from _growth(work)
    yield from _index(work)
    yield _start_up(work)


def _growth(work: Path) -> Iterator[Row]:
    tree = _links(_small_tree(work / "links"), MANY)
    (few, few_mb), (half, _), (many, many_mb) = _in_a_process(tree, work)
    grown = many_mb - few_mb
    first, second = (
        (HALF - FEW) / (half - few),
        (MANY - HALF) / (many - half),
    )  # images/s, without the start
    slope = first / second
    yield Row(
        "scale", f"peak memory of {MANY:,} images (protocol=paper)", f"after {FEW:,} images", "MB", many_mb, few_mb,
        grown, (grown, grown), "≤ 50", note="the ratio is the difference in MB",
    )  # fmt: skip
    yield Row(
        "scale", f"a network of one layer, images {HALF:,} to {MANY:,}", f"images {FEW:,} to {HALF:,}", "images/s",
        second, first, slope, (slope, slope), "≤ 1.10", note="seconds an image",
    )  # fmt: skip


def _small_tree(root: Path) -> Path:
    """Ten train and eight val pictures of 64×48 pixels, without lists, so that whatever lies there
    counts.
    """
    make_shapes(root, 0, train=10, val=8)
    for image_set in ilsvrc.IMAGE_SETS.values():
        (root / image_set).unlink()
    for path in root.glob(f"{ilsvrc.IMAGES}/**/*.JPEG"):
        Image.open(path).resize((64, 48)).save(path)
    return root


def _links(tree: Path, images: int) -> Path:
    """The tree with as many val images, all links to its eight."""
    pictures = sorted(tree.glob(f"{ilsvrc.IMAGES}/val/*.JPEG"))
    annotations = sorted(tree.glob(f"{ilsvrc.ANNOTATIONS}/*.xml"))
    for number in range(len(pictures), images):
        for file in (pictures[number % 8], annotations[number % 8]):
            os.link(file, file.with_name(f"ILSVRC2012_val_{number + 1:08d}{file.suffix}"))
    return tree


def _in_a_process(tree: Path, work: Path) -> list[tuple[float, float]]:
    """Of FEW images, of HALF, of MANY: seconds, and the peak so far of the process in MB."""
    command = [sys.executable, "-m", "benchmarks.scale_rows", str(tree), str(work)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SCRIPTS), str(SCRIPTS.parent)])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def _evaluations(tree: Path, work: Path) -> list[tuple[float, float]]:
    config = configured(tree, work, "data.name=links", "eval_batch_size=64")
    trunk = nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 16, 1), nn.ReLU())
    network = CamNetwork(trunk, nn.Identity(), nn.Linear(16, 10), "average", 0.0)
    torch.set_num_threads(1)
    measured = []
    with join_world("cpu") as world:
        split = load_split(config.data, "val", work / "cache", world)
        for images in (FEW, FEW, HALF, MANY):  # the first warms up
            part, began = split.subset(range(images)), time.perf_counter()
            wanted = [("cam", METRICS["localization"](config.protocol, 64))]
            with RowPool(part, wanted, lambda rows: None, tqdm(disable=True)) as pool:
                for batch in predict_split(network, part, "squash", 64, ["cam"], world):
                    pool.submit(batch)
                pool.finish()
            measured.append((time.perf_counter() - began, _peak_megabytes()))
    return measured[1:]


def _peak_megabytes() -> float:
    """Of this process since its program began; getrusage's would begin with the peak of the bench
    that started it.
    """
    status = Path("/proc/self/status")
    if not status.is_file():  # macOS, where getrusage counts in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    said = status.read_text()
    return int(said.split("VmHWM:")[1].split()[0]) / 1024


def _index(work: Path) -> Iterator[Row]:
    tree = _small_tree(work / "index")
    for folder in (tree / ilsvrc.IMAGES / "train").iterdir():
        for number in range(FILES // 10 - 1):
            os.close(os.open(folder / f"{folder.name}_{number + 2}.JPEG", os.O_CREAT | os.O_WRONLY))
    config = configured(tree, work, "data.name=index")

    def load() -> None:
        with join_world("cpu") as world:
            load_split(config.data, "train", work / "cache-index", world)

    first, again = seconds(load), median(seconds(load) for _ in range(5))
    for what, took, wanted in (("first", first, "≤ 10"), ("again", again, "≤ 1")):
        yield Row(
            "scale", f"index of {FILES:,} files, {what}", "a second", "files/s", FILES / took, FILES, took,
            (took, took), wanted, note="the ratio is seconds",
        )  # fmt: skip


def _start_up(work: Path) -> Row:
    _, name = max((seconds(lambda n=name: _start(n, work)), name) for name in SLOWEST)
    libraries = [sys.executable, "-c", "import hydra, torch"]
    works = [lambda: _start(name, work), lambda: subprocess.run(libraries, check=True)]
    what = f"start-up of the slowest script, {name}, until its real work begins"
    return row(
        "scale",
        what,
        "the import of hydra and torch",
        by_turns(works, rounds=5),
        1,
        "starts/s",
        "≤ 1.3",
    )


def _start(name: str, work: Path) -> None:
    """Start a script that refuses data which is not there."""
    options = [
        *STARTED,
        *(["model=resnet18"] if name == "train" else []),
        *(f"{key}={work / 'nothing'}" for key in ("runs", "results", "cache")),
    ]
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 1 or not done.stderr.startswith("error: "):
        raise AssertionError(f"{name} was to be refused for want of data: {done.stderr[-500:]}")


if __name__ == "__main__":
    print(json.dumps(_evaluations(Path(sys.argv[1]), Path(sys.argv[2]))))
