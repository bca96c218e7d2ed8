"""From an address to files on disk: resumable download, checksum, and unpacking that stays inside its folder."""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse, InvalidURL
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, url2pathname, urlopen

from tqdm import tqdm

from cam_repro import UserError

CHUNK = 1 << 20  # bytes
BACKOFF = 1.0  # seconds before the second try, doubled for each one after
LONGEST_WAIT = 60.0  # seconds
WORTH_ANOTHER_TRY = (408, 416, 425, 429)  # of the answers 4xx; every 5xx is
CHECKSUM = re.compile(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", re.IGNORECASE)


class Source(NamedTuple):
    """An archive and what it must be."""

    key: str  # of the configuration, whose value `address` is
    address: str  # http(s)://…, file://…, or a path
    checksum: str | None  # "md5:…" or "sha256:…" in hex; none: taken as it comes
    advice: str  # what to do where it cannot be had

    def local(self) -> Path | None:
        """The path it names on this machine, absent or not; None for an http(s) address."""
        if re.match("https?://", self.address, re.IGNORECASE):
            return None
        file = re.fullmatch("file://(?:localhost)?(/.*)", self.address, re.IGNORECASE)
        return Path(url2pathname(file[1]) if file else self.address).expanduser()


class Version(NamedTuple):
    """Of the file at an address: a download goes on only where it began with the same one."""

    total: int | None  # bytes; None where the server does not say
    validator: str | None  # a strong ETag or the date of the last change


class Broken(OSError):
    """A try that failed in a way another may not."""


def fetch(source: Source, folder: Path, timeout: float, tries: int) -> Path:
    """The archive as a verified file: where it lies if it is a local one, else downloaded into `folder`.

    A download that was cut off goes on where it stopped. timeout: seconds without an answer before a try is given up;
    tries: until giving up, counted anew from one that got further. Raises UserError when it cannot be had or has
    another checksum.
    """
    if source.checksum and not CHECKSUM.fullmatch(source.checksum):
        raise UserError(f"{source.key}_checksum={source.checksum} is not md5:<32 hex digits> or sha256:<64 hex digits>")
    local = source.local()
    if local is None:
        return _fetched(source, folder, timeout, tries)
    if not local.is_file():
        found = "is a folder, not an archive" if local.is_dir() else "is not there"
        raise UserError(f"{source.key}: {local} {found}; {source.advice}")
    if (found := _other_checksum(local, source.checksum)) is not None:
        raise UserError(
            f"{local} has {found}, expected {source.checksum}; {source.advice}; "
            f"if it is the right one all the same, add {source.key}_checksum={found}"
        )
    return local


def _fetched(source: Source, folder: Path, timeout: float, tries: int) -> Path:
    url = source.address
    # The address in the name: what was begun from another one is left alone.
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{_file_name(url)}"
    if not path.is_file():
        with disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
        _download(source, path.with_name(f"{path.name}.part"), timeout, tries).rename(path)
    if (found := _other_checksum(path, source.checksum)) is not None:
        path.unlink()
        raise UserError(
            f"{url} has {found}, expected {source.checksum}; the download was damaged, or the file there is another: "
            f"run again to download it anew, or {source.advice}"
        )
    return path


def _file_name(url: str) -> str:
    return re.sub(r"[^\w.-]", "_", re.split("[?#]", url)[0].rstrip("/").rpartition("/")[2])[-80:]


def _other_checksum(path: Path, checksum: str | None) -> str | None:
    """The file's own checksum where it is not the one wanted."""
    if checksum is None:
        return None
    kind, _, wanted = checksum.partition(":")
    digest = hashlib.new(kind.lower(), usedforsecurity=False)
    with path.open("rb") as file, _bar(f"check {path.name}", path.stat().st_size) as bar:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return None if digest.hexdigest() == wanted.lower() else f"{kind}:{digest.hexdigest()}"


def _bar(words: str, total: int | None, initial: int = 0) -> tqdm:
    return tqdm(desc=words, total=total, initial=initial, unit="B", unit_scale=True, leave=False, disable=None)


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turns what the disk refuses into one line."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise UserError(
            f"{where}: {error.strerror or error}; free space or choose another folder with data.root="
        ) from error


def need_space(folder: Path, wanted: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise UserError(
            f"{what} needs {wanted:,} bytes in {folder}, which has {free:,} free; "
            "free space or choose another folder with data.root="
        )


def _download(source: Source, part: Path, timeout: float, tries: int) -> Path:
    """`part`, complete. Tries are counted anew whenever one gets further than all before."""
    print(f"downloading {source.address}", flush=True)
    furthest, failures = _bytes_in(part), 0
    while True:
        try:
            _receive(source, part, timeout)
            _version_file(part).unlink(missing_ok=True)
            return part
        except (HTTPException, OSError) as error:
            reason = _reason(error)
        failures = 1 if _bytes_in(part) > furthest else failures + 1
        furthest = max(furthest, _bytes_in(part))
        if failures >= tries:
            raise UserError(
                f"{source.address}: {reason} (tries: {tries}, bytes so far: {_bytes_in(part):,}); "
                f"run again to go on, or {source.advice}"
            )
        time.sleep(min(BACKOFF * 2 ** (failures - 1), LONGEST_WAIT))


def _reason(error: Exception) -> str:
    inner = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    return str(inner) or type(inner).__name__


def _bytes_in(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _begun(part: Path) -> Version | None:
    """Of what the part began with; None where there is nothing to go on with."""
    try:
        return Version(**json.loads(_version_file(part).read_text())) if _bytes_in(part) else None
    except (OSError, ValueError, TypeError):
        return None


def _receive(source: Source, part: Path, timeout: float) -> None:
    """One try: appends to the part what is missing, or writes it from the start. Raises OSError if any is missing."""
    begun = _begun(part)
    start = _bytes_in(part) if begun else 0
    if begun and begun.total == start:
        return  # stopped between the last byte and the new name
    with _answer(source, part, start, begun, timeout) as response:
        if response.status == 206:
            version = _check_continuation(response, part, start, begun)
            print(f"going on at {start:,} of {version.total or 0:,} bytes", flush=True)
        else:
            start, version = 0, _version(response, response.headers.get("Content-Length"))
        need_space(part.parent, (version.total or 0) - start, source.address)
        with disk(part):
            file = FileIO(part, "a" if start else "w")
        with file, _bar(_file_name(source.address), version.total, start) as bar:
            if not start:
                with disk(part):
                    _version_file(part).write_text(json.dumps(version._asdict()))
            # read1, since read would drop what it has when the connection stalls.
            while chunk := response.read1(CHUNK):
                _write(file, chunk)
                bar.update(len(chunk))
    if version.total is not None and _bytes_in(part) != version.total:
        raise Broken(f"truncated, found {_bytes_in(part):,} of {version.total:,} bytes")


def _write(file: FileIO, chunk: bytes) -> None:
    """Unbuffered, so that nothing is left to fail when the file is closed."""
    rest = memoryview(chunk)
    with disk(Path(file.name)):
        while rest:
            rest = rest[file.write(rest) :]


def _answer(source: Source, part: Path, start: int, begun: Version | None, timeout: float) -> HTTPResponse:
    """The server's answer; UserError for one that another try would not change."""
    headers = {"User-Agent": "cam_repro", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if begun and begun.validator:
            headers["If-Range"] = begun.validator
    try:
        response = urlopen(Request(source.address, headers=headers), timeout=timeout)
    except HTTPError as error:
        with error:
            if error.code == 416:
                part.unlink(missing_ok=True)
            if error.code < 500 and error.code not in WORTH_ANOTHER_TRY:
                reason = f"HTTP {error.code} {error.reason}"
                raise UserError(f"{source.address}: {reason}; {source.advice}") from None
        raise
    except (InvalidURL, ValueError) as error:
        raise UserError(f"{source.key}={source.address} is not an address: {error}; {source.advice}") from None
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise UserError(f"{source.address} answers with a web page instead of an archive; {source.advice}")
    return response


def _version(response: HTTPResponse, total: str | None) -> Version:
    etag = response.headers.get("ETag")
    strong = etag if etag and not etag.startswith("W/") else None
    return Version(int(total) if total and total.isdigit() else None, strong or response.headers.get("Last-Modified"))


def _check_continuation(response: HTTPResponse, part: Path, start: int, begun: Version | None) -> Version:
    """The version that goes on, or Broken and nothing left of the part when it is not the one that was begun."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    version = _version(response, found[2] if found else None)
    agree = begun is not None and all(
        None in pair or pair[0] == pair[1]
        for pair in zip(begun, version, strict=True)  # None: not said
    )
    if not (found and int(found[1]) == start and agree):
        part.unlink(missing_ok=True)
        raise Broken("the file there changed since the download began")
    return version


def unpack(
    archive: Path, target: Path, place: Callable[[PurePosixPath], Path | None], largest: int = 1 << 28
) -> dict[Path, PurePosixPath]:
    """Writes the wanted files of a tar archive under `target`; returns each one's path there and name in the archive.

    `place` maps a name to a path relative to `target`, or to None for what is not wanted; no path comes from the
    archive itself. Whatever place says, one member that is a link or device, has a path that leads out of the
    archive's own folder or more than `largest` bytes makes it a UserError, as does a damaged archive.
    """
    placed: dict[Path, PurePosixPath] = {}
    need_space(target, archive.stat().st_size, f"unpacking {archive.name}")
    try:
        with (
            archive.open("rb") as raw,
            tarfile.open(fileobj=raw) as tar,
            _bar(f"unpack {archive.name}", archive.stat().st_size) as bar,
        ):
            for member in tar:
                _check_member(archive, member, largest)
                name = PurePosixPath(member.name)
                if member.isfile() and (where := place(name)) is not None:
                    if where in placed:
                        raise UserError(f"{archive} holds {where.name} twice: {placed[where]} and {name}")
                    placed[where] = name
                    _copy(tar.extractfile(member), target / where)
                bar.update(raw.tell() - bar.n)
            while tar.fileobj.read(CHUNK):
                pass  # to the end of the compressed file, where its own checksum is
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise UserError(f"{archive} is not a whole tar archive: {reason}; remove it and get it again") from error
    return placed


def _check_member(archive: Path, member: tarfile.TarInfo, largest: int) -> None:
    parts = PurePosixPath(member.name.replace("\\", "/"))
    trouble = None
    if parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:", member.name):
        trouble = "leads out of the folder it is unpacked to"
    elif member.issym() or member.islnk():
        trouble = f"is a link, to {member.linkname!r}"
    elif member.issparse() or not (member.isfile() or member.isdir()):
        trouble = "is a device or another special file"
    elif member.size > largest:
        trouble = f"has {member.size:,} bytes, more than the {largest:,} allowed"
    if trouble:
        raise UserError(f"{archive} is refused: its member {member.name!r} {trouble}; get the archive again")


def _copy(source: BinaryIO, path: Path) -> None:
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = FileIO(path, "x")
    with file:
        while chunk := source.read(CHUNK):
            _write(file, chunk)
