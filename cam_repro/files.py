"""Files that are whole or not there, and what to do where the system cannot say which."""

import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from cam_repro import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WAITS = (0.1, 0.5, 2.0)  # seconds before each new attempt: a network may fail for a moment
Found = TypeVar("Found")


def reason(error: OSError) -> str:
    """What the system refused, of which file, and what to do."""
    advice = "allow it, or choose another"
    if error.errno in (None, *FULL):
        advice = "free space or choose another folder"
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{where}; {advice}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; at the end it is synced and takes `path`'s place in one step.

    Whatever was at `path` stays until then. A full disk or a folder without write permission is a
    UserError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary, os.O_RDWR)
        temporary.replace(path)
        with suppress(OSError):  # not every file system lets a folder be synced
            _sync(path.parent, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_together(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """As `replacing`, for files that belong together: none is replaced before all are written.

    Between the renames at the end a kill may leave some of them new: the last file, which is
    replaced last, has to say what belongs to it.
    """
    with ExitStack() as stack:
        temporaries = [stack.enter_context(replacing(path)) for path in reversed(paths)]
        yield temporaries[::-1]
        for temporary in temporaries:
            _sync(temporary, os.O_RDWR)


def _sync(path: Path, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bytes(path: Path) -> bytes:
    """The whole content of a file, read `patiently`."""
    return patiently(path, path.read_bytes)


def is_there(path: Path) -> bool:
    """Whether there is a file or folder. Raises UserError where the system cannot say."""
    try:
        patiently(path, path.stat)
    except FileNotFoundError:
        return False
    return True


def patiently(path: Path | bytes, look: Callable[[], Found]) -> Found:
    """What `look` finds at `path`, tried again a few times where the system fails to read it.

    Raises FileNotFoundError where nothing is there, and UserError where it still cannot be read: it
    is then neither absent nor damaged, so nothing may be made in its place.
    """
    name = os.fsdecode(path)
    waits = list(WAITS)
    while True:
        try:
            return look()
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from None
        except OSError as error:
            if not waits or error.errno == errno.EISDIR:
                raise UserError(
                    f"cannot read {name}: {error.strerror or error}; it is left as it is, "
                    "run again when it can be read"
                ) from error
            time.sleep(waits.pop(0))


def remove_leftovers(folder: Path) -> None:
    """Delete the temporaries of killed processes; only for who alone writes to the folder."""
    for temporary in folder.glob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def read_text(path: Path) -> str:
    """A UTF-8 list of somebody else's, with or without a byte-order mark. Raises UserError."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}; fetch it again"
        ) from None


def make_folder(root: Path, check_made: Callable[[], None], fill: Callable[[Path], None]) -> None:
    """Fill a folder beside `root` and rename it, so that it is whole or not there.

    Nothing is done where it is made already; `check_made` raises UserError where something else is
    at `root`. Of several processes one makes it and the others wait. Raises UserError where the
    disk does not take it.
    """

    def is_made() -> bool:
        if not is_there(root) or (root.is_dir() and not any(root.iterdir())):
            return False
        check_made()
        return True

    making = root.with_name(f"{root.name}.making")
    try:
        if is_made():
            return
        root.parent.mkdir(parents=True, exist_ok=True)
        with root.with_name(f"{root.name}.lock").open("w") as lock:
            # The system frees it with the process, so the file may stay
            fcntl.flock(lock, fcntl.LOCK_EX)
            if is_made():
                return
            # What lies there was left by a process that was killed: the lock is ours
            shutil.rmtree(making, ignore_errors=True)
            try:
                making.mkdir()
                fill(making)
                os.sync()  # before the name: a power cut must not leave a whole tree of empty files
                making.rename(root)
            finally:
                shutil.rmtree(making, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot make {root}: {reason(error)}") from error
