"""Each image's rows for every metric, made on all cores while the network is at work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from cam_repro.cores import available_cores, prepare_worker, worker_context
from cam_repro.data import Split
from cam_repro.data.loaders import Batch
from cam_repro.evaluation.maps import MapBatch
from cam_repro.evaluation.metric import ImageFacts, Metric, Rows
from cam_repro.localization.methods import Prediction
from cam_repro.networks import CamNetwork

IMAGES_A_TASK = 8  # enough to make a task's overhead small, few enough to keep all processes busy
TASKS_AHEAD = 4  # for each process: how far the network may run ahead before it waits

MethodAndMetric = tuple[str, Metric]


@dataclass
class RowBatch:
    """The rows of n images: what every metric is given, and what each made of a method's maps.

    images (n,): their numbers in the split; classes (n,G) and sizes (n,2) as in a MapBatch;
    of_metrics: the rows that each metric asked for, arrays (n,…).
    """

    images: np.ndarray
    classes: np.ndarray
    sizes: np.ndarray
    of_metrics: dict[MethodAndMetric, Rows]


def rows_of_images(
    batch: MapBatch, facts: list[ImageFacts], wanted: Iterable[MethodAndMetric]
) -> RowBatch:
    """A few images, in one process."""
    of_metrics = {}
    for method, metric in wanted:
        of_images = []
        for maps_vmhw, image in zip(batch.maps[method], facts, strict=True):
            of_images.append(metric.of_image(maps_vmhw, image))
        rows = {}
        for name in of_images[0]:
            rows[name] = np.stack([of_image[name] for of_image in of_images])
        of_metrics[method, metric] = rows
    return RowBatch(batch.images, batch.classes, batch.sizes, of_metrics)


def rows_of_network(
    found_by_batch: Iterable[tuple[Batch, torch.Tensor, Prediction]],
    network: CamNetwork,
    wanted: Iterable[MethodAndMetric],
    batch_size: int,
) -> Iterator[RowBatch]:
    """Of `predictions`: the rows of the metrics that ask the network, `batch_size` copies at once.

    All methods of a metric are given to it together, so that they share what is of the image.
    """
    metrics = {metric for _, metric in wanted}
    for batch, pixels, found in found_by_batch:
        of_metrics = {}
        for metric in metrics:
            for method, rows in metric.of_network(network, pixels, found, batch_size).items():
                of_metrics[method, metric] = rows
        images = batch.images.numpy().copy()
        classes = found.classes.cpu().numpy().copy()
        yield RowBatch(images, classes, batch.sizes.numpy().copy(), of_metrics)


class RowPool:
    """A process for each core that turns maps into rows; use it in a `with` block.

    wanted: which metrics are asked of which methods' maps; without any, no process is started.
    keep: is given the rows of each batch, in the order in which the batches were submitted; bar:
    counts the images of each method. `rows` holds the rows of all batches.
    """

    def __init__(
        self,
        split: Split,
        wanted: Sequence[MethodAndMetric],
        keep: Callable[[RowBatch], None],
        bar: tqdm,
    ) -> None:
        self.split = split
        self.wanted = wanted
        self.keep = keep
        self.bar = bar
        self.rows: list[RowBatch] = []
        self.waiting: deque[list[Future[RowBatch]]] = deque()  # the tasks of each batch
        self.processes = available_cores()
        self.pool = None
        if wanted:
            context = worker_context()
            self.pool = ProcessPoolExecutor(self.processes, context, initializer=prepare_worker)

    def __enter__(self) -> RowPool:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def submit(self, batch: MapBatch) -> None:
        """Have a batch's rows made; waits where the processes are far behind."""
        wanted = [key for key in self.wanted if key[0] in batch.maps]
        if not wanted:
            self.take(RowBatch(batch.images, batch.classes, batch.sizes, {}))
            return
        tasks = []
        for piece in batch.pieces(IMAGES_A_TASK):
            facts = []
            for image, size in zip(piece.images, piece.sizes.tolist(), strict=True):
                masks = None if self.split.masks is None else self.split.masks.of(image)
                facts.append(ImageFacts(tuple(size), self.split.true_boxes(image), masks))
            tasks.append(self.pool.submit(rows_of_images, piece, facts, wanted))
        self.waiting.append(tasks)
        while sum(map(len, self.waiting)) > TASKS_AHEAD * self.processes:
            self._wait_for_one()

    def take(self, batch: RowBatch) -> None:
        """Add rows that are made."""
        self.rows.append(batch)
        methods = {method for method, _ in batch.of_metrics}
        self.bar.update(len(batch.images) * max(1, len(methods)))

    def finish(self) -> None:
        """Wait for the rows that are still to be made."""
        while self.waiting:
            self._wait_for_one()

    def _wait_for_one(self) -> None:
        batch = _joined([task.result() for task in self.waiting.popleft()])
        self.keep(batch)
        self.take(batch)


def _joined(batches: Sequence[RowBatch]) -> RowBatch:
    """Batches of the same metrics as one."""
    of_metrics = {}
    for key, first_rows in batches[0].of_metrics.items():
        rows = {}
        for name in first_rows:
            rows[name] = np.concatenate([batch.of_metrics[key][name] for batch in batches])
        of_metrics[key] = rows
    images = np.concatenate([batch.images for batch in batches])
    classes = np.concatenate([batch.classes for batch in batches])
    sizes = np.concatenate([batch.sizes for batch in batches])
    return RowBatch(images, classes, sizes, of_metrics)


def in_order(batches: Sequence[RowBatch], key: MethodAndMetric | None, images: int) -> Rows:
    """The rows of all images in the split's order, `classes` and `sizes` among them.

    key: of which method and metric; None: of none. Raises RuntimeError where an image was counted
    twice or not at all.
    """
    if key is not None:
        batches = [batch for batch in batches if key in batch.of_metrics]
    joined = _joined(batches)
    order = np.argsort(joined.images, kind="stable")
    if not np.array_equal(joined.images[order], np.arange(images)):
        raise RuntimeError("an image was counted twice or not at all")
    rows = {"classes": joined.classes[order], "sizes": joined.sizes[order]}
    if key is not None:
        for name, of_images in joined.of_metrics[key].items():
            rows[name] = of_images[order]
    return rows
