"""Files of unknown origin: only regular ones, and none larger than it can honestly be."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

from cam_repro import UserError

LARGEST_LIST = 256 << 20  # bytes; ILSVRC's longest, train_cls.txt, has 40 MB


def read_bytes(path: Path, largest: int) -> bytes:
    """The whole file. Raises OSError, also for what is no regular file (a pipe would never end) or too large."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if status.st_size > largest:
        raise OSError(errno.EFBIG, f"{status.st_size} bytes, expected {largest} at most")
    return path.read_bytes()


def read_text(path: Path) -> str:
    """A data set's list, UTF-8 with or without a byte-order mark. Raises UserError."""
    try:
        return read_bytes(path, LARGEST_LIST).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}; fetch it again") from None
