"""The small maps of a network in a split, kept on disk: another rule scores them again without the network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cam_repro.files import replacing
from cam_repro.localization.methods import OF_THE_PIXELS


@dataclass
class Seen:
    """What a network saw in n images.

    images (n,): their numbers in the split; labels (n,G): the G = min(5, C) best classes; sizes (n,2): width and
    height of the images as stored; maps: method -> (n,G+1,h,w), of a ten-crop view (n,10,G+1,h,w), float32: the
    maps of the best classes and of the true one, before upsampling.
    """

    images: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    maps: dict[str, np.ndarray]


class MapCache:
    """One network's maps of one split by one view: a file a method, a record of fixed size an image.

    float32, so that a second scoring has the very maps of the first: 4 kB an image for a network with 13×13 maps,
    40 kB for its ten crops. Maps as large as the picture (of backpropagation) are not kept.
    """

    def __init__(self, folder: Path, identity: dict[str, object], fresh: bool = False) -> None:
        """identity: everything that decides the maps but the method; as JSON it names the files.

        fresh: maps kept before are not read but replaced.
        """
        self.folder, self.identity, self.fresh = folder, identity, fresh

    def path(self, method: str) -> Path:
        text = json.dumps({**self.identity, "method": method}, sort_keys=True)
        return self.folder / f"{method}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.npy"

    def holds(self, methods: Sequence[str]) -> bool:
        return bool(methods) and not self.fresh and all(_is_whole(self.path(method)) for method in methods)

    def read(self, methods: Sequence[str], batch_size: int) -> Iterator[Seen]:
        """The kept maps in the split's order, a batch of images at a time."""
        with ExitStack() as stack:
            files = {method: stack.enter_context(self.path(method).open("rb")) for method in methods}
            headers = {method: _read_header(file) for method, file in files.items()}
            count, _ = headers[methods[0]]
            for start in range(0, count, batch_size):
                asked = min(batch_size, count - start)
                records = {m: np.fromfile(files[m], headers[m][1], asked) for m in methods}
                labels, sizes = (records[methods[0]][field] for field in ("labels", "sizes"))
                maps = {method: np.ascontiguousarray(of_method["maps"]) for method, of_method in records.items()}
                yield Seen(np.arange(start, start + asked), labels, sizes, maps)

    @contextmanager
    def recording(self, methods: Sequence[str], images: int) -> Iterator[Callable[[Seen], None]]:
        """A function that keeps each batch, in the split's order; the files appear once all `images` are in them."""
        small = [method for method in methods if method not in OF_THE_PIXELS]
        kept = [method for method in small if self.fresh or not _is_whole(self.path(method))]
        with ExitStack() as stack:
            paths = {method: stack.enter_context(replacing(self.path(method))) for method in kept}
            files = {method: stack.enter_context(path.open("wb")) for method, path in paths.items()}

            def record(seen: Seen) -> None:
                for method, file in files.items():
                    _append(file, _records(seen, method), images)

            yield record


def _is_whole(path: Path) -> bool:
    """A file that was cut off or overwritten is made anew."""
    try:
        with path.open("rb") as file:
            count, dtype = _read_header(file)
            return path.stat().st_size == file.tell() + count * dtype.itemsize
    except (OSError, ValueError):
        return False


def _records(seen: Seen, method: str) -> np.ndarray:
    maps = seen.maps[method]
    fields = [("labels", "<i8", seen.labels.shape[1:]), ("sizes", "<i8", (2,)), ("maps", "<f4", maps.shape[1:])]
    records = np.empty(len(maps), np.dtype(fields))
    records["labels"], records["sizes"], records["maps"] = seen.labels, seen.sizes, maps
    return records


def _append(file: object, records: np.ndarray, images: int) -> None:
    """NumPy's own file format, written piece by piece."""
    if not file.tell():
        description = np.lib.format.dtype_to_descr(records.dtype)
        header = {"descr": description, "fortran_order": False, "shape": (images,)}
        np.lib.format.write_array_header_1_0(file, header)
    file.write(records.tobytes())


def _read_header(file: object) -> tuple[int, np.dtype]:
    np.lib.format.read_magic(file)
    (count,), _, dtype = np.lib.format.read_array_header_1_0(file)
    return count, dtype
