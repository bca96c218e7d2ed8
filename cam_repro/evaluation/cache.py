"""What an evaluation has computed so far, on disk: one that was killed resumes where it was.

The small maps of a method are cached whole, so that another box rule scores the split without the
network. Maps as large as the image (backprop's) would take a terabyte of ILSVRC's val images: of
these the rows are cached, as are those of metrics that ask the network.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from cam_repro.evaluation.maps import MapBatch
from cam_repro.evaluation.rows import MethodAndMetric, RowBatch
from cam_repro.files import reason
from cam_repro.localization.methods import METHODS
from cam_repro.provenance import code_of

# The code from an image to its maps: with a change in it, cached maps are no longer the network's.
CODE_OF_THE_MAPS = (
    "data/images.py", "data/views.py", "data/loaders.py",
    "networks/network.py", "networks/pixels.py", "networks/trunks.py", "networks/caffe.py",
    "networks/inception.py", "networks/timm_backbones.py", "networks/weights.py",
    "networks/folding.py",
    "localization/maps.py", "localization/methods.py", "evaluation/maps.py", "distributed.py",
)  # fmt: skip
CODE_OF_THE_ROWS = (
    *CODE_OF_THE_MAPS,
    "localization",
    "evaluation/metrics.py",
    "evaluation/explanations.py",
)
LENGTH = 8  # bytes before each batch that say how many it has


class BatchFile:
    """Batches of arrays in one file, each with an entry `images` (n,), which are counted.

    What was cut off or damaged, by a kill or by the disk, ends the file, and is overwritten by the
    next `append`. Where another process writes to it, or the disk is full, nothing is cached.
    """

    def __init__(self, folder: Path, name: str, identity: dict[str, Any]) -> None:
        """The file of what `identity` describes; another identity has another file."""
        text = json.dumps(identity, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:24]
        self.path = folder / f"{name}-{digest}.batches"
        self.images = 0  # in the whole batches that were read or appended
        self.images_a_batch = 0  # in the first of them; 0: there is none
        self.end = 0  # bytes up to which the file is whole
        self.file: io.BufferedRandom | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("a+b")
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tqdm.write(f"another evaluation writes to {self.path}: this one keeps nothing")
            self.close()
        except OSError as error:
            self._give_up(error)

    def read(self) -> Iterator[dict[str, np.ndarray]]:
        """The whole batches, in the order in which they were written."""
        while self.file is not None:
            self.file.seek(self.end)
            header = self.file.read(LENGTH)
            length = int.from_bytes(header, "little")
            content = self.file.read(length)
            if len(header) < LENGTH or len(content) < length:
                return
            try:
                with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                    batch = dict(arrays)
            except (ValueError, KeyError, EOFError, OSError, BadZipFile, zlib.error):
                return
            self._count(batch, self.end + LENGTH + length)
            yield batch

    def append(self, batch: dict[str, np.ndarray]) -> None:
        """Write one more batch; a disk that does not take it is said once, and ends the writing."""
        if self.file is None:
            return
        content = io.BytesIO()
        np.savez(content, **batch)
        length = content.getbuffer().nbytes
        try:
            self.file.truncate(self.end)
            self.file.write(length.to_bytes(LENGTH, "little"))
            self.file.write(content.getbuffer())
            self.file.flush()
        except OSError as error:
            self._give_up(error)
            return
        self._count(batch, self.end + LENGTH + length)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def _count(self, batch: dict[str, np.ndarray], end: int) -> None:
        self.images += len(batch["images"])
        if self.images_a_batch == 0:
            self.images_a_batch = len(batch["images"])
        self.end = end

    def _give_up(self, error: OSError) -> None:
        advice = "so another box rule, or a start after a kill, will need the network again"
        tqdm.write(f"what is computed is not kept, {advice}: {self.path}: {reason(error)}")
        try:
            self.close()
        except OSError:  # closing writes what was still in memory
            self.file = None


class EvaluationCache:
    """The files of one network on one split by one view; use it in a `with` block.

    identity: all that the maps depend on but the method and the code; wanted: which metrics are
    asked of which methods' maps, [] for the classes alone; asks_network: whether they ask the
    network for more than maps; classes_with: the method whose maps are cached beside the classes
    where nothing else is wanted, for a later localization; fresh: begin anew.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        wanted: Sequence[MethodAndMetric],
        *,
        asks_network: bool = False,
        classes_with: str | None = None,
        fresh: bool = False,
    ) -> None:
        self.fresh = fresh
        self.maps: dict[str | None, BatchFile] = {}
        self.rows: dict[str, BatchFile] = {}
        self.wanted_of: dict[str, list[MethodAndMetric]] = {}
        for method, metric in wanted:
            self.wanted_of.setdefault(method, []).append((method, metric))
        of_maps = identity | {"code": code_of(CODE_OF_THE_MAPS)}
        of_rows = identity | {"code": code_of(CODE_OF_THE_ROWS)}
        if not wanted and classes_with is None:
            self.maps[None] = BatchFile(folder, "classes", of_maps)
        elif not wanted:
            self.wanted_of[classes_with] = []
        for method, of_method in self.wanted_of.items():
            if METHODS[method].has_small_maps and not asks_network:
                self.maps[method] = BatchFile(folder, method, of_maps | {"method": method})
            else:
                metrics = [repr(metric) for _, metric in of_method]
                asked = {"method": method, "metrics": metrics}
                self.rows[method] = BatchFile(folder, f"{method}-rows", of_rows | asked)

    def __enter__(self) -> EvaluationCache:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (*self.maps.values(), *self.rows.values()):
            file.close()

    def cached_maps(self) -> Iterator[MapBatch]:
        """Every cached batch of every method, one method after the other."""
        if self.fresh:
            return
        for method, file in self.maps.items():
            for arrays in file.read():
                maps = {} if method is None else {method: arrays["maps"]}
                yield MapBatch(arrays["images"], arrays["classes"], arrays["sizes"], maps)

    def cached_rows(self) -> Iterator[RowBatch]:
        """The same of the methods whose rows are cached in place of their maps."""
        if self.fresh:
            return
        for method, file in self.rows.items():
            for arrays in file.read():
                of_metrics = {}
                for number, key in enumerate(self.wanted_of[method]):
                    begin = f"{number}."
                    names = [name for name in arrays if name.startswith(begin)]
                    of_metrics[key] = {name.removeprefix(begin): arrays[name] for name in names}
                yield RowBatch(arrays["images"], arrays["classes"], arrays["sizes"], of_metrics)

    def missing(self, images: int) -> list[tuple[list[str], int, int]]:
        """After the cache was read: the methods that still need the network for these images.

        Methods that are equally far go together, as (methods, first image, images a batch): an
        evaluation that resumes must cut the images as before, since a convolution's last digits
        depend on its batch. Images a batch is 0 where nothing is cached.
        """
        together: dict[tuple[int, int], list[str]] = {}
        for method, file in (*self.maps.items(), *self.rows.items()):
            if file.images >= images:
                continue
            methods = together.setdefault((file.images, file.images_a_batch), [])
            if method is not None:
                methods.append(method)
        return [(methods, first, length) for (first, length), methods in together.items()]

    def add_maps(self, batch: MapBatch) -> None:
        """Cache a batch's maps of the methods whose maps are small."""
        common = {"images": batch.images, "classes": batch.classes, "sizes": batch.sizes}
        for method, file in self.maps.items():
            if method is None:
                file.append(common)
            elif method in batch.maps:
                file.append(common | {"maps": batch.maps[method]})

    def add_rows(self, batch: RowBatch) -> None:
        """Cache a batch's rows of the methods whose maps are not."""
        for method, file in self.rows.items():
            keys = self.wanted_of[method]
            if keys[0] not in batch.of_metrics:
                continue
            arrays = {"images": batch.images, "classes": batch.classes, "sizes": batch.sizes}
            for number, key in enumerate(keys):
                for name, of_images in batch.of_metrics[key].items():
                    arrays[f"{number}.{name}"] = of_images
            file.append(arrays)
