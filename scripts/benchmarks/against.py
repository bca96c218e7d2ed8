"""This build beside another commit, the same work by turns, and whether both say the same.

Both are checked out into a temporary folder (this one with what is changed in the files that git
knows) and run as processes of their own, on the same inputs and with the same libraries.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torchvision.models import resnet18

from benchmarks.timing import quiet
from cam_repro import UserError
from cam_repro.config import REPOSITORY
from cam_repro.data import ilsvrc, imagenet_classes
from cam_repro.data.shapes import make_shapes
from cam_repro.files import write_text
from cam_repro.reporting.layout import aligned
from cam_repro.throughput import write_images

ROUNDS = 7
IMAGES = 512
FOLDER_IMAGES = 1_000
IN_EITHER_BUILD = Path(__file__).with_name("in_either_build.py")


@dataclass(frozen=True)
class Build:
    """A checkout, and a folder for what its commands write."""

    folder: Path
    out: Path

    def run(self, *command: str) -> str:
        """What a command prints, run in the checkout on the processor."""
        paths = [self.folder, self.folder / "scripts"]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "CUDA_VISIBLE_DEVICES": "",
        }
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise UserError(f"{' '.join(command)} failed in {self.folder}: {done.stderr[-500:]}")
        return done.stdout

    def make(self, target: str, **options: object) -> str:
        """`make target`, with the environment of this process."""
        ready = Path(sys.prefix) / ".ready"
        given = [f"{key}={value}" for key, value in options.items()]
        return self.run("make", "-s", "-o", str(ready), f"VENV={sys.prefix}", target, *given)

    def task(self, name: str, *arguments: object) -> dict[str, Any]:
        """What a task of `in_either_build.py` measures of this build."""
        words = map(str, arguments)
        printed = self.run(sys.executable, str(IN_EITHER_BUILD), name, *words)
        return json.loads(printed.splitlines()[-1])


@dataclass(frozen=True)
class Turn:
    """A build's turn: its seconds, those of the processor, and what both builds must agree on."""

    seconds: float
    processor: float
    said: object = None


@dataclass(frozen=True)
class Part:
    """Work for both builds, on inputs that are made once.

    wanted: how many times as fast this build is to be. A turn is given the build and the inputs.
    """

    what: str
    wanted: float
    prepare: Callable[[Path], dict[str, Any]]
    turn: Callable[..., Turn]
    rounds: int = ROUNDS
    asked_alone: bool = False  # it takes many minutes: only if it is named


@dataclass
class Compared:
    part: str
    what: str
    wanted: float
    before: float  # seconds, the median
    now: float
    ratio: float  # of the rounds: how many times as fast
    spread: tuple[float, float]
    processor_ratio: float
    equal: str
    rounds: list[dict[str, float]] = field(default_factory=list)


def _images(folder: Path) -> Path:
    """IMAGES val images of ILSVRC's sizes, in its layout, under the names of its classes."""
    tree = folder / "tree"
    if tree.exists():
        return tree
    write_images(tree, 10, IMAGES)
    wnids, words = imagenet_classes()
    drawn = [line.split()[0] for line in (tree / ilsvrc.MAPPING).read_text().splitlines()]
    for path in tree.glob(f"{ilsvrc.ANNOTATIONS}/*.xml"):
        text = path.read_text()
        for number in range(10):
            text = text.replace(drawn[number], wnids[number])
        path.write_text(text)
    lines = [f"{wnid} {names}\n" for wnid, names in zip(wnids, words, strict=True)]
    (tree / ilsvrc.MAPPING).write_text("".join(lines))
    return tree


def _evaluation_of(model: str) -> Callable[[Path], dict[str, Any]]:
    def prepare(folder: Path) -> dict[str, Any]:
        weights = "DEFAULT"  # of EfficientNet-Lite0, which come with a package
        if model == "resnet18":
            torch.manual_seed(0)
            weights = folder / "resnet18.pth"
            torch.save(resnet18().state_dict(), weights)
        return {"model": model, "weights": weights, "data.root": _images(folder)}

    return prepare


def _evaluate(build: Build, **options: object) -> Turn:
    """One evaluation from JPEGs to boxes by `make eval-localization`, with its start."""
    said = "data=ilsvrc device=cpu force=true" + _filter_of_old_builds(build)
    places = {key: build.out / key for key in ("runs", "results", "cache")}
    began = _clocks()
    build.make("eval-localization", **options, **places, args=said)
    return _turn(began, _predictions(build))


def _filter_of_old_builds(build: Build) -> str:
    """The option that shrinks images as builds did that know of no other filter."""
    knows = "interpolation" in (build.folder / "cam_repro/config.py").read_text()
    return " protocol.interpolation=bilinear" if knows else ""


def _predictions(build: Build) -> list[str]:
    """Labels and boxes, a line an image, of each record."""
    lines = []
    for path in sorted(build.out.glob("results/**/predictions*.txt")):
        lines += path.read_text().splitlines()
    return lines


def _another_rule(build: Build, **options: object) -> Turn:
    """Other thresholds of the release's rule on the ten crops' maps that the first turn kept.

    Seconds are those that the record says, without the start of the command.
    """
    before = len(list(build.out.glob("results/**/*.json")))
    places = {key: build.out / key for key in ("runs", "results", "cache")}
    rule = f"protocol=release protocol.thresholds=[20,100,{111 + before}]"
    said = f"data=ilsvrc device=cpu {rule}" + _filter_of_old_builds(build)
    began = _clocks()
    build.make("eval-localization", **options, **places, args=said)
    turn = _turn(began, _predictions(build))
    newest = max(build.out.glob("results/**/*.json"), key=lambda path: path.stat().st_mtime)
    record = json.loads(newest.read_text())
    return replace(turn, seconds=record["provenance"]["seconds"])


def _nothing(folder: Path) -> dict[str, Any]:
    return {}


def _boxes(build: Build) -> Turn:
    return Turn(**build.task("release"))


def _shapes(folder: Path) -> dict[str, Any]:
    shapes = folder / "shapes"
    make_shapes(shapes, seed=0, train=640, val=20)
    return {"shapes": shapes}


def _batches(build: Build, shapes: Path) -> Turn:
    return Turn(**build.task("batches", shapes, build.out))


def _folder_of_images(folder: Path) -> dict[str, Any]:
    files = sorted((_images(folder) / ilsvrc.IMAGES / "val").iterdir())
    images = folder / "images"
    images.mkdir()
    for number in range(FOLDER_IMAGES):
        os.link(files[number % len(files)], images / f"{number:04d}.jpg")
    return {"image": images}


def _cam(build: Build, image: Path) -> Turn:
    began = _clocks()
    said = "device=cpu" + _filter_of_old_builds(build)
    printed = build.make("cam", image=image, out=build.out / "cam", args=said)
    boxes = [line for line in printed.splitlines() if "%" in line]
    return _turn(began, boxes)


def _reproduce(build: Build) -> Turn:
    began = _clocks()
    build.make("reproduce")
    return _turn(began)


def _test(build: Build) -> Turn:
    began = _clocks()
    build.make("test")
    return _turn(began)


PARTS = {
    "release": Part("the release's boxes of 24 maps of 500×375, one core", 2.5, _nothing, _boxes),
    "lite0": Part(
        f"EfficientNet-Lite0, make eval-localization of {IMAGES} JPEGs",
        1.3,
        _evaluation_of("efficientnet_lite0"),
        _evaluate,
    ),
    "resnet18": Part(
        f"ResNet-18, make eval-localization of {IMAGES} JPEGs",
        1.3,
        _evaluation_of("resnet18"),
        _evaluate,
    ),
    "rule": Part(
        f"the release's rule by other thresholds on kept maps of {IMAGES} images",
        2.0,
        _evaluation_of("efficientnet_lite0"),
        _another_rule,
    ),
    "batches": Part(
        "the process that trains: its own work on 1,000 images of two workers",
        2.0,
        _shapes,
        _batches,
    ),
    "cam": Part(f"make cam of {FOLDER_IMAGES:,} images", 3.0, _folder_of_images, _cam, rounds=3),
    "reproduce": Part("make reproduce", 2.0, _nothing, _reproduce, rounds=1, asked_alone=True),
    "test": Part("make test", 1.33, _nothing, _test, rounds=1, asked_alone=True),
}


def main(commit: str, names: list[str]) -> int:
    """`make bench against=COMMIT`, or some of PARTS alone; writes results/bench/against.md."""
    for name in names:
        if name not in PARTS:
            print(f"error: unknown part {name!r}; choose some of: {', '.join(PARTS)}")
            return 2
    names = names or [name for name, part in PARTS.items() if not part.asked_alone]
    found = []
    try:
        with tempfile.TemporaryDirectory() as folder, _checkouts(commit, Path(folder)) as builds:
            for name in names:
                found.append(_compare(name, builds, Path(folder)))
                print(_line(found[-1]), flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(_write(commit, found))
    return 0


@contextmanager
def _checkouts(commit: str, folder: Path) -> Iterator[tuple[Build, Build]]:
    """The other commit and this build, each in a work tree that is removed at the end."""
    here = _git("stash", "create") or _git("rev-parse", "HEAD")
    builds = []
    try:
        for name, wanted in (("before", commit), ("now", here)):
            tree = folder / name
            _git("worktree", "add", "--detach", str(tree), wanted)
            builds.append(Build(tree, folder / f"{name}-writes"))
        yield tuple(builds)
    finally:
        for build in builds:
            _git("worktree", "remove", "--force", str(build.folder))


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(REPOSITORY), *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def _compare(name: str, checkouts: tuple[Build, Build], folder: Path) -> Compared:
    """A round is a turn of each build; where there are several, one before them does not count."""
    part = PARTS[name]
    builds = [replace(build, out=build.out / name) for build in checkouts]
    inputs = folder / "inputs"
    inputs.mkdir(exist_ok=True)
    with quiet():
        options = part.prepare(inputs)
    uncounted = 1 if part.rounds > 1 else 0
    rounds = []
    for _ in range(uncounted + part.rounds):
        rounds.append([part.turn(build, **options) for build in builds])
    rounds = rounds[uncounted:]
    ratios = [before.seconds / now.seconds for before, now in rounds]
    of_processor = [before.processor / now.processor for before, now in rounds]
    return Compared(
        part=name,
        what=part.what,
        wanted=part.wanted,
        before=median(before.seconds for before, _ in rounds),
        now=median(now.seconds for _, now in rounds),
        ratio=median(ratios),
        spread=(min(ratios), max(ratios)),
        processor_ratio=median(of_processor),
        equal=_agreement(*rounds[-1]),
        rounds=[{"before": before.seconds, "now": now.seconds} for before, now in rounds],
    )


def _agreement(before: Turn, now: Turn) -> str:
    """How many of the lines that both builds said are the same."""
    if not before.said:
        return "–"
    if len(before.said) != len(now.said):
        return f"{len(before.said)} lines, now {len(now.said)}"
    same = sum(a == b for a, b in zip(before.said, now.said, strict=True))
    return f"{same:,} of {len(now.said):,}"


def _clocks() -> tuple[float, float]:
    """Now, and the processor's seconds of the processes that this one has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), children.ru_utime + children.ru_stime


def _turn(began: tuple[float, float], said: object = None) -> Turn:
    now, processor = _clocks()
    return Turn(now - began[0], processor - began[1], said)


def _line(row: Compared) -> str:
    low, high = row.spread
    times = f"{row.before:8.3f} s before, {row.now:8.3f} s now"
    ratio = f"{row.ratio:5.2f} [{low:.2f} … {high:.2f}] × as fast, wanted ≥ {row.wanted}"
    return f"{row.what}: {times}, {ratio}; equal: {row.equal}"


def _write(commit: str, rows: list[Compared]) -> Path:
    """results/bench/against.json, and a table of it beside."""
    cells = [["what", "before", "now", "ratio", "spread", "of the processor", "equal", "wanted"]]
    for row in rows:
        low, high = row.spread
        cells.append(
            [
                row.what,
                f"{row.before:.3f} s",
                f"{row.now:.3f} s",
                f"{row.ratio:.2f}",
                f"{low:.2f} … {high:.2f}",
                f"{row.processor_ratio:.2f}",
                row.equal,
                f"≥ {row.wanted}",
            ]
        )
    heading = f"# This build (`{_git('rev-parse', '--short', 'HEAD')}`) beside `{commit}`, by turns"
    note = (
        "Ratio: how many times as fast, the median of the rounds; of the processor: the same of the"
        " processor's seconds, of all processes but workers. Equal: lines (an image's labels and "
        "boxes, a map's boxes, a batch) that both builds gave."
    )
    path = REPOSITORY / "results/bench/against.json"
    write_text(path.with_suffix(".md"), "\n".join([heading, "", *aligned(cells), "", note, ""]))
    record = [asdict(row) for row in rows]
    return write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
