"""Any images: what is in them, and where. The work of `make cam image=cat.jpg`."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from glob import glob
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config, check_choice
from cam_repro.cores import available_cores, prepare_worker, worker_context
from cam_repro.data import load_classes
from cam_repro.data.classes import class_number, labels_by_name
from cam_repro.data.images import SUFFIXES
from cam_repro.data.loaders import Batch, BatchRequest, Decoders, EvaluationCrops
from cam_repro.data.storage import Files
from cam_repro.data.views import VIEWS, normalise
from cam_repro.distributed import join_distributed
from cam_repro.evaluation.maps import images_a_batch
from cam_repro.evaluation.record import protocol_name
from cam_repro.evaluation.trained import Classes, TrainedNetwork, load_for_cam
from cam_repro.localization.methods import predict
from cam_repro.option_errors import shown
from cam_repro.reporting.cam_files import (
    DRAWINGS,
    ENDINGS,
    IMAGE_FORMATS,
    TABLE_FORMATS,
    Answer,
    BoxRule,
    FoundImage,
    ImageTask,
    finish_image,
)
from cam_repro.reporting.results import first_name

CLASSES = 5  # that are printed
FEW = 32  # images, for which no processes are started: that takes two seconds
TASKS_AHEAD = 32  # images for each process: how far the network may run ahead before it waits
LONGEST_NAME = 40  # characters of a class in a drawing's name
LONGEST_STEM = 80  # and of the image's file


def show_images(config: Config) -> list[Path]:
    """Print the five best classes of each image with their boxes, and write what format= names.

    config.image is an image, a folder or a pattern (`*.jpg`); config.shown_class (a name, wnid or
    number) is drawn in place of the config.top best. Boxes are in the image's own pixels; every
    file goes to config.out, whole or not at all, in the place of one of the same name. Returns the
    files. Raises UserError before any image is looked at; one of several that cannot be read is
    passed over, and the UserError comes after the last.
    """
    _check_protocol(config)
    paths = images_of(config.image)
    if len(paths) > FEW:
        worker_context()  # its server starts while the network is loaded
    began = time.perf_counter()
    with join_distributed(config.device, config.deterministic) as world:
        data: Classes = ([], [])  # a checkpoint goes by the words of its data set, if it is there
        with suppress(UserError):
            data = load_classes(config.data)
        trained = load_for_cam(config, data, world.device)
        print(who_answers(trained, config))
        work = ImagesThroughNetwork(config, trained, paths, world.device)
        for image in tqdm(work.found(), "images", len(paths), leave=False, disable=None):
            tqdm.write(lines_of(image, trained))
            work.done.append(image)
    if work.unreadable and len(paths) == 1:
        raise UserError(f"image={work.unreadable[0]}")
    written = write_tables(work)
    for image in work.done:
        for format_, files in image.files.items():
            written[format_] += files
    print(summary(work, written, time.perf_counter() - began))
    if work.unreadable:
        print("cannot be read:", *work.unreadable, sep="\n  ")
        raise UserError(
            f"{len(work.unreadable)} of {len(paths)} images cannot be read, listed above with the "
            f"reason; what was made of the other {len(work.done)} is in {config.out}"
        )
    return [file for files in written.values() for file in files]


def _check_protocol(config: Config) -> None:
    """UserError where a protocol cannot give what is asked for."""
    protocol = config.protocol
    if protocol.metric != "localization" or protocol.name == "all":
        raise UserError(
            f"protocol={protocol.name} draws no single box; choose protocol=paper or release"
        )
    check_choice("protocol.view", protocol.view, VIEWS)
    if protocol.boxes != "paper":
        needs_regions = {"boxes=all": config.boxes == "all", "format=mask": "mask" in config.format}
        for option, is_asked in needs_regions.items():
            if is_asked:
                raise UserError(
                    f"{option} is about the regions above one threshold, and "
                    f"protocol.boxes={protocol.boxes} has several; choose protocol=paper"
                )


class ImagesThroughNetwork:
    """Images on their way: decoded in processes, through the network in batches, boxed in others.

    done: those that are finished; unreadable: a line for each file that is no image.
    """

    def __init__(
        self, config: Config, trained: TrainedNetwork, paths: list[Path], device: torch.device
    ) -> None:
        protocol = config.protocol
        self.config = config
        self.trained = trained
        self.paths = paths
        self.device = device
        self.method = config.method or "cam"
        self.asked: int | None = None
        if config.shown_class is not None:
            self.asked = class_number(config.shown_class, trained.wnids, trained.words)
        size = protocol.size or trained.model.input_size
        interpolation = protocol.interpolation or trained.network.interpolation
        self.crops = EvaluationCrops(protocol.view, size, interpolation)
        self.rule = BoxRule(
            protocol,
            size,
            every_region=config.boxes == "all",
            run_lengths=protocol.boxes == "paper" and "coco" in config.format,
        )
        self.labels_by_name = labels_by_name(trained.words)
        self.taken: set[str] = set()  # names of files
        self.done: list[FoundImage] = []
        self.unreadable: list[str] = []

    def found(self) -> Iterator[FoundImage]:
        """Each image with its classes and boxes, its files written, in the order of the paths."""
        waiting: deque[Future[FoundImage]] = deque()
        ahead = TASKS_AHEAD * available_cores()
        with self._finishers() as pool:
            for batch in self._batches():
                self.unreadable += batch.corrupt
                if not len(batch):
                    continue
                for task in self._tasks(batch):
                    waiting.append(pool.submit(finish_image, task, self.rule))
                while len(waiting) > ahead or (waiting and waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _finishers(self) -> Executor:
        if len(self.paths) <= FEW:
            return ThreadPoolExecutor(1)
        return ProcessPoolExecutor(available_cores(), worker_context(), prepare_worker)

    def _batches(self) -> Iterator[Batch]:
        names = np.array([os.fsencode(path) for path in self.paths])
        length = images_a_batch(
            self.config.eval_batch_size, self.config.protocol.view, [self.method]
        )
        requests = []
        for start in range(0, len(names), length):
            part = names[start : start + length]
            places = np.arange(start, start + len(part))
            labels = np.full(len(part), self.asked or 0)
            source = Files(Path(), part)
            requests.append(BatchRequest(source, True, places, labels, self.crops))
        workers = self.config.data.workers
        if workers is None:
            workers = 0 if len(self.paths) <= FEW else min(available_cores(), len(requests))
        with Decoders(workers, pin=self.device.type == "cuda") as decoders:
            yield from decoders.batches(requests)

    def _tasks(self, batch: Batch) -> Iterator[ImageTask]:
        """The batch through the network, and what is then to be made of each image."""
        on_device = batch.to(self.device)
        predicted = predict(
            self.trained.network,
            normalise(on_device.pixels),
            None if self.asked is None else on_device.labels,
            methods=[self.method],
            crops=VIEWS[self.crops.view].crops,
            count=CLASSES,
        )
        best = predicted.classes.tolist()
        scores = predicted.scores.cpu().numpy()
        maps = predicted.maps[self.method].cpu().numpy()
        sizes = batch.sizes.tolist()
        for row, place in enumerate(batch.images.tolist()):
            labels = best[row]
            drawn = list(range(self.config.top))[: len(labels)]
            if self.asked is not None:
                if self.asked not in labels:
                    labels.append(self.asked)
                drawn = [labels.index(self.asked)]
            of_image = maps[row].swapaxes(0, 1)[: len(labels)].copy()
            probabilities = [round(float(scores[row, label]), 6) for label in labels]
            captions = []
            for number in drawn:
                name = first_name(self.trained.words[labels[number]])
                captions.append(f"{name}  {100 * probabilities[number]:.1f} %")
            shown_labels = [labels[number] for number in drawn]
            yield ImageTask(
                self.paths[place],
                tuple(sizes[row]),
                labels,
                probabilities,
                of_image,
                drawn,
                captions,
                self._files(self.paths[place], shown_labels),
            )

    def _files(self, path: Path, labels: list[int]) -> dict[str, list[Path]]:
        """Where each format of an image goes, of the classes that are drawn."""
        files = {}
        for format_ in self.config.format:
            if format_ in DRAWINGS:
                files[format_] = [self.free_path(path.stem, labels, format_)]
            elif format_ in IMAGE_FORMATS:
                files[format_] = [self.free_path(path.stem, [label], format_) for label in labels]
        return files

    def free_path(self, stem: str, labels: list[int], format_: str) -> Path:
        """A path that no other file of this call has, as Cat.png and cat.jpg would share one.

        Names that differ in case alone are one file to macOS.
        """
        name = self.file_stem(stem, labels)
        ending = ENDINGS.get(format_, f".{format_}")
        candidate = name + ending
        number = 1
        while candidate.lower() in self.taken:
            number += 1
            candidate = f"{name}-{number}{ending}"
        self.taken.add(candidate.lower())
        return Path(self.config.out) / candidate

    def file_stem(self, stem: str, labels: list[int]) -> str:
        """`cat.tabby.efficientnet_lite0.cam.paper` of cat.jpg: all that another call may change.

        Of several classes the first is named, and how many there are. One whose name another class
        has is told by its wnid too.
        """
        parts = [stem[:LONGEST_STEM]]
        if labels:
            first = labels[0]
            name = first_name(self.trained.words[first])
            if len(self.labels_by_name[name.strip().lower()]) > 1:
                name = f"{name} {self.trained.wnids[first]}"
            name = re.sub(r"[^\w+]+", "-", name[:LONGEST_NAME]).strip("-") or f"class-{first}"
            if len(labels) > 1:
                name = f"{name}-top{len(labels)}"
            parts.append(name)
        protocol = protocol_name(self.config.protocol)
        if self.config.boxes == "all":
            protocol += "-all"
        parts += [self.trained.name, self.method, protocol]
        return ".".join(parts)


def write_tables(work: ImagesThroughNetwork) -> dict[str, list[Path]]:
    """Write the formats that hold all images; every format → its files, as yet none of an image's.

    Of photos/ they are photos.efficientnet_lite0.cam.paper.json.
    """
    config = work.config
    trained = work.trained
    protocol = {}
    for key, value in asdict(config.protocol).items():
        if value is not None and key not in ("metric", "guesses", "thresholds_from"):
            protocol[key] = value
    heading = {
        "schema": 1,
        "network": trained.name,
        "weights": {"source": trained.weights.source, "sha256": trained.weights.sha256},
        "input_size": work.crops.size,
        "interpolation": work.crops.interpolation,
        "method": work.method,
        "protocol": protocol | {"name": protocol_name(config.protocol)},
        "boxes": config.boxes,
    }
    answer = Answer(heading, trained.wnids, trained.words, work.done, work.unreadable)
    labels = [] if work.asked is None else [work.asked]
    written: dict[str, list[Path]] = {}
    for format_ in config.format:
        written[format_] = []
        if format_ in TABLE_FORMATS and work.done:
            path = work.free_path(source_name(config.image), labels, format_)
            TABLE_FORMATS[format_](answer, path)
            written[format_].append(path)
    return written


def source_name(given: str) -> str:
    """What the images are called together: their folder, or the one image."""
    path = Path(given)
    if path.is_file():
        return path.stem
    folder = path if path.is_dir() else path.parent
    return re.sub(r"[*?\[\]]+", "", folder.resolve().name) or "images"


def summary(work: ImagesThroughNetwork, written: dict[str, list[Path]], seconds: float) -> str:
    """`200 images in 4.1 s: 200 png, photos.….json in runs/cam`."""
    parts = []
    for format_, files in written.items():
        parts.append(files[0].name if len(files) == 1 else f"{len(files):,} {format_}")
    count = len(work.done)
    images = "1 image" if count == 1 else f"{count:,} images"
    what = ", ".join(parts) or "no file (format=[])"
    return f"{images} in {seconds:.1f} s: {what} in {work.config.out}"


def images_of(given: str | None) -> list[Path]:
    """The images that image= names. Raises UserError where there are none."""
    if given is None:
        raise UserError("image= is needed: make cam image=cat.jpg")
    path = Path(given)
    if path.is_file():
        return [path]
    inside = path.iterdir() if path.is_dir() else map(Path, glob(given))  # noqa: PTH207 (any path)
    found = []
    for file in sorted(inside):
        hidden = file.name.startswith(".")  # as a Mac's ._cat.jpg, which is no image
        if not hidden and file.suffix.lower() in SUFFIXES and file.is_file():
            found.append(file)
    if not found:
        what = "a folder without an image in it" if path.is_dir() else "not there"
        expected = "an image, a folder of them or a pattern as 'photos/*.jpg'"
        raise UserError(f"image={shown(given)} is {what}; give {expected}")
    return found


def who_answers(trained: TrainedNetwork, config: Config) -> str:
    """The network in one line: its name and weights, its classes, what it sees, how it is asked."""
    size = config.protocol.size or trained.model.input_size
    interpolation = config.protocol.interpolation or trained.network.interpolation
    names = ", ".join(first_name(words) for words in trained.words[:3])
    more = ", …" if len(trained.words) > 3 else ""
    return (
        f"{trained.name}, {trained.weights.source}: {len(trained.words)} classes ({names}{more}), "
        f"{size}×{size} pixels ({interpolation}), "
        f"method={config.method or 'cam'}, protocol={protocol_name(config.protocol)}"
    )


def lines_of(image: FoundImage, trained: TrainedNetwork) -> str:
    """An image's classes with their probabilities and boxes, in its own pixels, and its files."""
    lines = [str(image.path)]
    for found in image.classes:
        boxes = []
        for one in found.boxes:
            boxes.append(" ".join(map(str, one.box)))
        words = f"{trained.wnids[found.label]}  {trained.words[found.label]:32.32}"
        lines.append(f"  {100 * found.probability:5.1f} %  {words}  box {', '.join(boxes)}")
    for files in image.files.values():
        for file in files:
            lines.append(f"  → {file}")
    return "\n".join(lines)
