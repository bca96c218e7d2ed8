"""Where the bytes of images lie: files of a folder, members of tars, rows of parquet shards.

An archive is never unpacked. Its headers are read once, which gives every image's place in it. From
then on each image is read from its place alone.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cam_repro import UserError
from cam_repro.files import patiently

BLOCK = 512  # bytes; a tar's headers and contents begin at multiples of it
PAX_RECORD = re.compile(rb"\d+ (path|size)=([^\n]*)\n")


@dataclass(frozen=True)
class Files:
    """N images, each a file of its own: `names` (N,) are their paths in `folder`, as bytes."""

    folder: Path
    names: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def path(self, image: int) -> Path:
        """The image's file, or, for messages, its archive followed by its name in it."""
        return self.folder / os.fsdecode(self.names[image])

    def content(self, image: int) -> bytes | None:
        """The bytes of an image in an archive; none where it is a file of its own."""
        return None

    def size_and_time(self, image: int) -> tuple[int, int]:
        """In bytes, and in nanoseconds the time of its last change of any kind.

        Raises FileNotFoundError.
        """
        path = self._bytes_path(image)
        status = patiently(path, lambda: os.stat(path))  # noqa: PTH116
        return status.st_size, status.st_ctime_ns

    def hash(self, image: int) -> bytes:
        """Of the image's content, 16 bytes. Raises FileNotFoundError."""
        path = self._bytes_path(image)

        def read() -> bytes:
            with open(path, "rb") as opened:  # noqa: PTH123
                return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).digest()

        return patiently(path, read)

    def _bytes_path(self, image: int) -> bytes:
        """As bytes, since a million Paths are slow."""
        return os.fsencode(self.folder) + b"/" + self.names[image]

    def take(self, images: Any) -> Files:
        """These images alone, in this order."""
        parts = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                parts[field.name] = value[images]
        return replace(self, **parts)


@dataclass(frozen=True)
class Archived(Files):
    """N images in archives: image i in archives[archive[i]], a path in `folder`.

    first, second (N,): in a tar the offset and the length of the image's bytes; in a parquet shard
    the row group and the row in it.
    """

    archives: tuple[str, ...] = ()
    archive: np.ndarray = None
    first: np.ndarray = None
    second: np.ndarray = None

    def path(self, image: int) -> Path:
        return self._archive(image) / os.fsdecode(self.names[image])

    def content(self, image: int) -> bytes:
        archive = self._archive(image)
        first = int(self.first[image])
        second = int(self.second[image])
        if archive.suffix == ".parquet":
            return _row_group(archive, first)[second].as_py()

        def read() -> bytes:
            with archive.open("rb") as opened:
                return os.pread(opened.fileno(), second, first)

        return patiently(os.fsencode(archive), read)

    def size_and_time(self, image: int) -> tuple[int, int]:
        archive = self._archive(image)
        status = patiently(os.fsencode(archive), archive.stat)
        size = 0 if archive.suffix == ".parquet" else int(self.second[image])
        return size, status.st_ctime_ns

    def hash(self, image: int) -> bytes:
        return hashlib.blake2b(self.content(image), digest_size=16).digest()

    def _archive(self, image: int) -> Path:
        return self.folder / self.archives[self.archive[image]]


def to_arrays(images: Files) -> dict[str, np.ndarray]:
    """What an index keeps of the images; `from_arrays` makes the images of it again."""
    arrays = {}
    for field in fields(images):
        if field.name != "folder":
            arrays[field.name] = np.array(getattr(images, field.name))
    return arrays


def from_arrays(folder: Path, arrays: dict[str, np.ndarray]) -> Files:
    if "archives" not in arrays:
        return Files(folder, arrays["names"])
    archives = tuple(arrays["archives"].tolist())
    of_images = {name: arrays[name] for name in ("names", "archive", "first", "second")}
    return Archived(folder, archives=archives, **of_images)


@lru_cache(maxsize=2)
def _row_group(shard: Path, group: int) -> Any:
    """The images of a shard's row group; images in order share it."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(shard) as opened:
        table = opened.read_row_group(group, columns=["image.bytes"])
    return table["image"].combine_chunks().field("bytes")


def tar_members(
    tar: Path, inner: re.Pattern[bytes] | None = None
) -> Iterator[tuple[bytes, int, int]]:
    """The files in a tar: (name, offset of the content, its length), in their order.

    inner: the names of members that are tars themselves; in their place come their files, named
    `<member without .tar>/<file>`. Raises UserError for what is no whole tar.
    """
    with tar.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise UserError(f"{tar} is empty; fetch it again")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            if view[:2] == b"\x1f\x8b":
                raise UserError(
                    f"{tar} is compressed, so no image can be read by its place; gunzip it"
                )
            for name, start, length in _members(view, 0, size, tar):
                if inner is None or not inner.fullmatch(name):
                    yield name, start, length
                    continue
                folder = name.removesuffix(b".tar")
                for file_name, offset, file_length in _members(view, start, start + length, tar):
                    yield folder + b"/" + file_name, offset, file_length


def _members(view: mmap.mmap, start: int, end: int, tar: Path) -> Iterator[tuple[bytes, int, int]]:
    """The files of the tar between two offsets (POSIX ustar, with GNU's and pax's long names)."""
    said: dict[bytes, bytes] = {}  # path and size that stand in a header of their own
    while start + BLOCK <= end:
        header = view[start : start + BLOCK]
        if header[0] == 0:
            return
        content = start + BLOCK
        try:
            length = int(said.get(b"size") or 0) or _number(header[124:136])
        except ValueError:
            raise UserError(
                f"{tar} is no tar, or a damaged one, at byte {start:,}; fetch it again"
            ) from None
        if content + length > end:
            break
        kind = header[156:157]
        if kind == b"L":
            said[b"path"] = view[content : content + length].rstrip(b"\0")
        elif kind == b"x":
            said |= dict(PAX_RECORD.findall(view[content : content + length]))
        else:
            if kind in (b"0", b"\0"):
                yield said.get(b"path") or _name(header), content, length
            said = {}
        start = content + (length + BLOCK - 1) // BLOCK * BLOCK
    raise UserError(
        f"{tar} is cut off: it ends at byte {end:,} without its mark of the end; fetch it again"
    )


def _number(digits: bytes) -> int:
    """An octal number, or where the first bit is set a binary one (GNU, for 8 GB and more)."""
    if digits[0] & 0x80:
        return int.from_bytes(digits[1:], "big")
    return int(digits.strip(b"\0 "), 8)


def _name(header: bytes) -> bytes:
    name = header[:100].rstrip(b"\0")
    is_posix = header[257:263] == b"ustar\0"
    prefix = header[345:500].rstrip(b"\0") if is_posix else b""
    return prefix + b"/" + name if prefix else name
