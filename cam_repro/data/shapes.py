"""The built-in data set: ten kinds of drawn objects with boxes, made on first use as an ILSVRC CLS-LOC tree.

It needs nothing but a seed and some 15 seconds, so that every command can be tried without ImageNet.
"""

import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.data.drawing import KINDS, Box, draw_picture

GENERATOR = 2  # to be raised whenever the same seed gives other pictures
SPLITS = ("train", "val")
IMAGES = Path("ILSVRC/Data/CLS-LOC")
ANNOTATIONS = Path("ILSVRC/Annotations/CLS-LOC/val")
LISTS = Path("ILSVRC/ImageSets/CLS-LOC")


class Task(NamedTuple):
    """One picture to make: all that it depends on."""

    seed: int
    split: str
    index: int

    @property
    def label(self) -> int:
        return self.index % len(KINDS)

    @property
    def name(self) -> str:
        """As the lists of ILSVRC name it: `<wnid>/<wnid>_<n>` in train, a running number in val."""
        if self.split == "val":
            return f"shapes_val_{self.index + 1:08d}"
        return f"{wnid(self.label)}/{wnid(self.label)}_{self.index // len(KINDS) + 1}"


class Picture(NamedTuple):
    task: Task
    jpeg: bytes
    size: tuple[int, int]  # width, height
    boxes: list[Box]


def wnid(label: int) -> str:
    """Beyond WordNet's own numbers, so that no class is taken for one of ImageNet's."""
    return f"n{90000001 + label}"


def make_shapes(root: Path, seed: int = 0, train: int = 2000, val: int = 500, workers: int | None = None) -> Path:
    """Makes the data set at `root` unless it is there already: `train` + `val` pictures, over ten classes.

    It appears at `root` whole or not at all. Picture i of a split depends on (seed, split, i) alone.
    Raises UserError when something else is at `root` or the disk does not take it.
    """
    root = Path(root).expanduser().resolve()
    wanted = {"generator": GENERATOR, "seed": seed, "train": train, "val": val}
    if min(seed, train - 1, val - 1) < 0:
        raise UserError(f"data=shapes needs seed >= 0, train >= 1 and val >= 1, found {describe(wanted)}")
    try:
        if not is_made(root, wanted):
            make_once(root, wanted, workers or available_cores())
    except OSError as error:
        raise UserError(
            f"cannot make data=shapes at {root}: {error.strerror or error}; "
            "it needs a writable folder with 30 MB free: mend that or give another data.root="
        ) from error
    return root


def is_made(root: Path, wanted: dict[str, int]) -> bool:
    """Whether the wanted data set is at `root`; UserError if something else is."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    found = recorded(root / "shapes.json")
    if found == wanted:
        return True
    if found is None:
        raise UserError(f"{root} holds something other than data=shapes: move it away or give another data.root=")
    raise UserError(
        f"{root} holds data=shapes with {describe(found)}, expected {describe(wanted)}: "
        f"remove it (rm -r {root}) or give another data.root="
    )


def recorded(path: Path) -> dict[str, int] | None:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def describe(parameters: dict[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items())


def make_once(root: Path, wanted: dict[str, int], workers: int) -> None:
    """Makes it in a sibling of `root`, then renames it; of several processes one does so, the others wait."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with locked(root.with_name(root.name + ".lock")):
        if is_made(root, wanted):
            return
        # Whoever holds the lock is the only maker, so what lies here was left by one that was killed.
        for stale in root.parent.glob(f"{root.name}.making-*"):
            shutil.rmtree(stale)
        making = root.with_name(f"{root.name}.making-{os.getpid()}")
        try:
            write_tree(making, wanted, workers)
            making.rename(root)
        finally:
            shutil.rmtree(making, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on the file; the system frees it if the process dies, so the file may stay."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_tree(root: Path, wanted: dict[str, int], workers: int) -> None:
    tasks = {split: [Task(wanted["seed"], split, i) for i in range(wanted[split])] for split in SPLITS}
    write_lists(root, tasks)
    for folder in (IMAGES / "val", ANNOTATIONS, *(IMAGES / "train" / wnid(i) for i in range(len(KINDS)))):
        (root / folder).mkdir(parents=True)
    # closing: an error while writing ends the processes at once, not when its traceback is forgotten.
    with closing(make_pictures([*tasks["train"], *tasks["val"]], workers)) as pictures:
        total = wanted["train"] + wanted["val"]
        for picture in tqdm(pictures, "drawing data=shapes", total, unit=" pictures", disable=None):
            write_picture(root, picture)
    (root / "shapes.json").write_text(json.dumps(wanted) + "\n")


def write_lists(root: Path, tasks: dict[str, list[Task]]) -> None:
    """The class names, and each split's list of `<name> <running number>` in the alphabet's order."""
    (root / LISTS).mkdir(parents=True)
    classes = [f"{wnid(i)} {kind.words}\n" for i, kind in enumerate(KINDS)]
    (root / "LOC_synset_mapping.txt").write_text("".join(classes))
    for split, file in (("train", "train_cls.txt"), ("val", "val.txt")):
        names = sorted(task.name for task in tasks[split])
        lines = [f"{name} {number}\n" for number, name in enumerate(names, 1)]
        (root / LISTS / file).write_text("".join(lines))


def write_picture(root: Path, picture: Picture) -> None:
    split, name = picture.task.split, picture.task.name
    (root / IMAGES / split / f"{name}.JPEG").write_bytes(picture.jpeg)
    if split == "val":
        (root / ANNOTATIONS / f"{name}.xml").write_text(annotation(picture))


def annotation(picture: Picture) -> str:
    """The picture's boxes as ILSVRC writes them."""
    width, height = picture.size
    objects = "".join(OBJECT_XML.format(wnid(picture.task.label), *box) for box in picture.boxes)
    return PICTURE_XML.format(picture.task.name, width, height, objects)


OBJECT_XML = """\
	<object>
		<name>{}</name>
		<pose>Unspecified</pose>
		<truncated>0</truncated>
		<difficult>0</difficult>
		<bndbox>
			<xmin>{}</xmin>
			<ymin>{}</ymin>
			<xmax>{}</xmax>
			<ymax>{}</ymax>
		</bndbox>
	</object>
"""
PICTURE_XML = """\
<annotation>
	<folder>val</folder>
	<filename>{}</filename>
	<source>
		<database>shapes</database>
	</source>
	<size>
		<width>{}</width>
		<height>{}</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
{}</annotation>
"""


def make_picture(task: Task) -> Picture:
    rng = np.random.default_rng([task.seed, SPLITS.index(task.split), task.index])
    pixels, boxes = draw_picture(task.label, rng)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    return Picture(task, file.getvalue(), (pixels.shape[1], pixels.shape[0]), boxes)


def make_pictures(tasks: list[Task], workers: int) -> Generator[Picture, None, None]:
    """The pictures in the tasks' order; the processes only compute, so that one that dies leaves no files."""
    if workers == 1:
        yield from map(make_picture, tasks)
        return
    # fork: spawn would import the caller's main script, torch and all, once more in every process. It is safe
    # because the children run only numpy's arithmetic and Pillow, which wait for no lock of another thread.
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(workers, context, initializer=follow_parent)
    try:
        yield from pool.map(make_picture, tasks, chunksize=16)
    finally:
        pool.shutdown(cancel_futures=True)


def follow_parent() -> None:
    """Leaves Ctrl-C to the parent and dies with it: an orphan would keep the inherited lock for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=exit_after_parent, daemon=True).start()


def exit_after_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def available_cores() -> int:
    return min(os.cpu_count() or 1, 16)
