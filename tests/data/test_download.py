"""Downloads from a server that does all the harm a server can, and archives that try to leave their folder."""

from __future__ import annotations

import hashlib
import io
import random
import resource
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest
from archive_server import ArchiveServer, serving

from cam_repro import UserError
from cam_repro.data import download
from cam_repro.data.download import Source, fetch, unpack

BODY = random.Random(0).randbytes(300_000)
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BACKOFF", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    with serving() as server:
        server.files["a.tgz"] = BODY
        yield server


@pytest.fixture
def get(server: ArchiveServer, tmp_path: Path) -> Callable[..., Path]:
    def run(name: str = "a.tgz", checksum: str | None = MD5, tries: int = 3, timeout: float = 20.0) -> Path:
        source = Source("data.download.images", server.url(name), checksum, "get it elsewhere")
        return fetch(source, tmp_path / "down", timeout, tries)

    return run


def refusal(run: Callable[..., object], *arguments: object, **options: object) -> str:
    with pytest.raises(UserError) as error:
        run(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def parts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix == ".part")


def cut_off(get: Callable[..., Path], server: ArchiveServer) -> None:
    """Half of the file is here, and the run that got it is over."""
    server.plan = ["half"]
    refusal(get, tries=1)
    server.seen.clear()


def test_whole_file_arrives_once(get: Callable[..., Path], server: ArchiveServer, tmp_path: Path) -> None:
    path = get()
    assert path.read_bytes() == BODY
    assert list((tmp_path / "down").iterdir()) == [path]
    assert get() == path and server.seen == [None]


@pytest.mark.parametrize("checksum", [f"sha256:{hashlib.sha256(BODY).hexdigest()}", MD5.upper().replace("MD5", "md5")])
def test_either_checksum_verifies(get: Callable[..., Path], checksum: str) -> None:
    assert get(checksum=checksum).read_bytes() == BODY


def test_dropped_connection_goes_on_within_the_run(get: Callable[..., Path], server: ArchiveServer) -> None:
    server.plan = ["half", "half"]
    assert get().read_bytes() == BODY
    assert server.seen == [None, "bytes=150000-", "bytes=225000-"]


def test_next_run_goes_on_where_the_last_was_cut_off(
    get: Callable[..., Path], server: ArchiveServer, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off(get, server)
    assert get().read_bytes() == BODY
    assert server.seen == ["bytes=150000-"]
    assert "going on at 150,000 of 300,000 bytes" in capsys.readouterr().out


def test_tries_are_counted_anew_after_progress(get: Callable[..., Path], server: ArchiveServer) -> None:
    server.plan = [503, 503, "half", 503, "half", 503]
    assert get(tries=3).read_bytes() == BODY


def test_server_without_ranges_is_asked_for_the_whole_again(get: Callable[..., Path], server: ArchiveServer) -> None:
    server.ranges = False
    cut_off(get, server)
    assert get().read_bytes() == BODY


def test_server_without_ranges_that_always_cuts_off_is_given_up(
    get: Callable[..., Path], server: ArchiveServer
) -> None:
    server.ranges, server.always = False, "half"
    message = refusal(get)
    assert "truncated, found 150,000 of 300,000 bytes" in message and "run again" in message
    assert len(server.seen) == 3


@pytest.mark.parametrize("validator", [("ETag", '"two"'), None, ("Last-Modified", "Fri, 02 Jan 2026 00:00:00 GMT")])
def test_file_that_changed_meanwhile_is_begun_anew(
    get: Callable[..., Path], server: ArchiveServer, validator: tuple[str, str] | None
) -> None:
    """In one request by its ETag; by its length where the server gives nothing else."""
    if validator is None:
        server.validator = None
    cut_off(get, server)
    other = BODY[::-1] + b"more"
    server.files["a.tgz"], server.validator = other, validator
    assert get(checksum=f"md5:{hashlib.md5(other).hexdigest()}").read_bytes() == other
    assert len(server.seen) == (1 if validator else 2)


def test_range_of_another_version_is_not_appended(
    get: Callable[..., Path], server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that ignores If-Range and answers 206 with another ETag."""
    monkeypatch.setattr("archive_server.Handler.is_unchanged", lambda handler: True)
    cut_off(get, server)
    other = BODY[::-1]
    server.files["a.tgz"], server.validator = other, ("ETag", '"two"')
    assert get(checksum=f"md5:{hashlib.md5(other).hexdigest()}").read_bytes() == other
    assert server.seen == ["bytes=150000-", None]


def test_file_that_became_shorter_is_begun_anew(get: Callable[..., Path], server: ArchiveServer) -> None:
    server.validator = None
    cut_off(get, server)
    server.files["a.tgz"] = BODY[:1000]
    assert get(checksum=f"md5:{hashlib.md5(BODY[:1000]).hexdigest()}").read_bytes() == BODY[:1000]


def test_part_without_record_is_begun_anew(get: Callable[..., Path], server: ArchiveServer, tmp_path: Path) -> None:
    cut_off(get, server)
    part = parts(tmp_path / "down")[0]
    part.with_name(f"{part.name}.json").write_text("{")
    assert get().read_bytes() == BODY and server.seen == [None]


def test_complete_part_needs_no_request(get: Callable[..., Path], server: ArchiveServer, tmp_path: Path) -> None:
    """Killed between the last byte and the new name."""
    cut_off(get, server)
    parts(tmp_path / "down")[0].write_bytes(BODY)
    assert get().read_bytes() == BODY and server.seen == []


def test_stalled_connection_is_given_up_and_goes_on(get: Callable[..., Path], server: ArchiveServer) -> None:
    server.plan = ["stall"]
    assert get(timeout=0.2).read_bytes() == BODY
    assert server.seen == [None, "bytes=150000-"]


def test_server_that_only_stalls_is_given_up(get: Callable[..., Path], server: ArchiveServer) -> None:
    server.always, server.ranges = "stall", False
    assert "timed out (tries: 2" in refusal(get, timeout=0.2, tries=2)


def test_slow_server_is_waited_for(get: Callable[..., Path], server: ArchiveServer) -> None:
    server.always = "slow"
    assert get(tries=1).read_bytes() == BODY and len(server.seen) == 1


def test_missing_file_is_refused_at_once(get: Callable[..., Path], server: ArchiveServer) -> None:
    message = refusal(get, "b.tgz")
    assert "b.tgz: HTTP 404" in message and message.endswith("get it elsewhere")
    assert len(server.seen) == 1


def test_broken_server_is_tried_again(get: Callable[..., Path], server: ArchiveServer) -> None:
    server.plan = [503, 429]
    assert get().read_bytes() == BODY
    server.always = 500
    server.files["c.tgz"] = BODY
    assert "HTTP Error 500" in refusal(get, "c.tgz")


def test_waits_grow_between_tries(
    get: Callable[..., Path], server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(download, "BACKOFF", 1.0)
    monkeypatch.setattr(download.time, "sleep", waits.append)
    server.always = 503
    refusal(get, tries=9)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_nobody_listening_is_one_line(tmp_path: Path) -> None:
    with serving() as server:
        url = server.url("a.tgz")
    message = refusal(fetch, Source("key", url, None, "get it elsewhere"), tmp_path, 5.0, 2)
    assert "Connection refused (tries: 2" in message


@pytest.mark.parametrize("address", ["http://127.0.0.1:port/a.tgz", "http://[a/b.tgz", "https://127.0.0.1/a b"])
def test_address_that_is_none_is_named(tmp_path: Path, address: str) -> None:
    message = refusal(fetch, Source("data.download.images", address, None, "mend it"), tmp_path, 1.0, 1)
    assert f"data.download.images={address} is not an address" in message


def test_login_page_is_not_taken_for_an_archive(get: Callable[..., Path], server: ArchiveServer) -> None:
    server.always = "page"
    assert "answers with a web page" in refusal(get)


def test_wrong_checksum_is_named_and_the_file_removed(
    get: Callable[..., Path], server: ArchiveServer, tmp_path: Path
) -> None:
    server.files["a.tgz"] = BODY[:-1] + b"?"
    message = refusal(get)
    assert f"has md5:{hashlib.md5(server.files['a.tgz']).hexdigest()}, expected {MD5}" in message
    assert list((tmp_path / "down").iterdir()) == []
    server.files["a.tgz"] = BODY
    assert get().read_bytes() == BODY


def test_damaged_finished_download_is_noticed_later(get: Callable[..., Path]) -> None:
    path = get()
    path.write_bytes(BODY[:-1])
    assert "expected md5" in refusal(get)
    assert get().read_bytes() == BODY


@pytest.mark.parametrize(
    "checksum", ["md5:12", "sha1:" + "0" * 40, "fe2fc210e6bb7c5664d602c3cd71e612", "md5:" + "g" * 32]
)
def test_checksum_of_another_form_is_refused_before_the_download(
    get: Callable[..., Path], server: ArchiveServer, checksum: str
) -> None:
    assert f"data.download.images_checksum={checksum} is not md5:" in refusal(get, checksum=checksum)
    assert server.seen == []


def test_full_disk_is_foreseen(get: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 8, 1000))
    assert "needs 300,000 bytes in " in refusal(get)


def test_disk_that_fills_up_is_one_line_and_the_part_stays(
    get: Callable[..., Path], server: ArchiveServer, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        message = refusal(get)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large; free space" in message
    assert parts(tmp_path / "down")[0].stat().st_size == 100_000
    assert get().read_bytes() == BODY and server.seen == [None, "bytes=100000-"]


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_local_archive_is_taken_where_it_lies(tmp_path: Path, form: str) -> None:
    archive = tmp_path / "an archive.tgz"
    archive.write_bytes(BODY)
    address = form.format(str(archive).replace(" ", "%20") if form != "{}" else archive)
    assert fetch(Source("key", address, MD5, ""), tmp_path / "down", 1.0, 1) == archive
    assert not (tmp_path / "down").exists()


def test_local_archive_that_is_another_stays_and_can_be_trusted(tmp_path: Path) -> None:
    archive = tmp_path / "a.tgz"
    archive.write_bytes(b"other")
    message = refusal(fetch, Source("data.download.boxes", str(archive), MD5, "get it"), tmp_path, 1.0, 1)
    assert f"add data.download.boxes_checksum=md5:{hashlib.md5(b'other').hexdigest()}" in message
    assert archive.exists()


def test_local_archive_that_is_not_there_is_named(tmp_path: Path) -> None:
    source = Source("data.download.boxes", str(tmp_path / "b.tgz"), MD5, "get it at X and add Y")
    assert refusal(fetch, source, tmp_path, 1.0, 1).endswith("b.tgz is not there; get it at X and add Y")
    assert "is a folder" in refusal(fetch, source._replace(address=str(tmp_path)), tmp_path, 1.0, 1)


def archive_of(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content) if content else None)
    return path


def member(name: str, content: bytes = b"x", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def as_named(name: PurePosixPath) -> Path:
    """The most trusting placement there is."""
    return Path(name)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_files_land_where_they_are_placed(tmp_path: Path, mode: str) -> None:
    archive = archive_of(tmp_path / "a", member("top/1.JPEG", b"one"), member("./top/2.txt"), mode=mode)
    target = tmp_path / "out"
    target.mkdir()
    found = unpack(archive, target, lambda name: Path("in", name.name) if name.suffix == ".JPEG" else None)
    assert found == {Path("in/1.JPEG"): PurePosixPath("top/1.JPEG")}
    assert [path.name for path in target.rglob("*")] == ["in", "1.JPEG"]
    assert (target / "in/1.JPEG").read_bytes() == b"one"


HARMFUL = {
    "parent": (member("../evil.JPEG"), "leads out"),
    "parent inside": (member("a/../../evil.JPEG"), "leads out"),
    "backslashes": (member("..\\evil.JPEG"), "leads out"),
    "absolute": (member("/tmp/evil.JPEG"), "leads out"),
    "drive": (member("C:/evil.JPEG"), "leads out"),
    "symlink": (member("evil.JPEG", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link, to '/etc/passwd'"),
    "inner symlink": (member("evil", b"", type=tarfile.SYMTYPE, linkname="good.JPEG"), "is a link"),
    "hard link": (member("evil.JPEG", b"", type=tarfile.LNKTYPE, linkname="../x"), "is a link"),
    "device": (member("evil", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3), "device"),
    "block device": (member("evil", b"", type=tarfile.BLKTYPE), "device"),
    "pipe": (member("evil", b"", type=tarfile.FIFOTYPE), "device"),
    "folder outside": (member("../evil/", b"", type=tarfile.DIRTYPE), "leads out"),
    "huge": (member("evil.JPEG", bytes(10_001)), "has 10,001 bytes, more than the 10,000 allowed"),
    "huge, so it says": (member("evil.JPEG", b"", size=1 << 40), "more than the 10,000"),
    "sparse": (member("evil.JPEG", b"", type=tarfile.GNUTYPE_SPARSE), "special file"),
}


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("kind", HARMFUL)
def test_harmful_member_is_refused_by_name(tmp_path: Path, kind: str, wanted: bool) -> None:
    """Whether or not it is one of those that are wanted."""
    evil, trouble = HARMFUL[kind]
    archive = archive_of(tmp_path / "a.tgz", member("good.JPEG"), evil)
    target = tmp_path / "deep/out"
    target.mkdir(parents=True)
    before = {path for path in tmp_path.rglob("*") if target not in path.parents}
    message = refusal(unpack, archive, target, as_named if wanted else lambda name: None, largest=10_000)
    assert trouble in message and repr(evil[0].name.rstrip("/")) in message
    assert {path for path in tmp_path.rglob("*") if target not in path.parents} == before
    assert {path.name for path in target.rglob("*")} <= {"good.JPEG"}


def test_same_place_twice_is_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "a.tgz", member("a/1.JPEG"), member("b/1.JPEG"))
    assert "holds 1.JPEG twice: a/1.JPEG and b/1.JPEG" in refusal(unpack, archive, tmp_path, lambda n: Path(n.name))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated_archive_is_refused(tmp_path: Path, share: float) -> None:
    archive = archive_of(tmp_path / "a.tgz", *[member(f"{i}.JPEG", BODY[i * 9000 : i * 9000 + 9000]) for i in range(9)])
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * share)])
    assert "is not a whole tar archive" in refusal(unpack, archive, tmp_path, as_named)


def test_flipped_bits_are_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "a.tgz", member("1.JPEG", BODY))
    damaged = bytearray(archive.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    archive.write_bytes(damaged)
    assert "is not a whole tar archive" in refusal(unpack, archive, tmp_path, as_named)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.tgz"
    archive.write_bytes(BODY)
    assert "is not a whole tar archive" in refusal(unpack, archive, tmp_path, as_named)


def test_unpacking_foresees_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(tmp_path / "a.tgz", member("1.JPEG", BODY))
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 8, 1000))
    assert "unpacking a.tgz needs" in refusal(unpack, archive, tmp_path, as_named)
