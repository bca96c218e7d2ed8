"""What is there, and what cannot be read."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest import mock

import pytest

from cam_repro import UserError, files
from cam_repro.data.shapes import make_shapes
from cam_repro.networks import read_weights


def test_reading_is_tried_again_and_then_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "WAITS", (0.0, 0.0))
    stale, path = OSError(errno.ESTALE, os.strerror(errno.ESTALE)), Path("a/file")
    assert files.patiently(path, mock.Mock(side_effect=[stale, stale, b"content"])) == b"content"
    look = mock.Mock(side_effect=stale)
    with pytest.raises(
        UserError, match="cannot read a/file: Stale file handle; it is left as it is, run again"
    ):
        files.patiently(path, look)
    assert look.call_count == 3


def test_what_is_absent_is_absent_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "WAITS", (1e6,))
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path / "file/none"):
        assert not files.is_there(path)
        with pytest.raises(FileNotFoundError):
            files.read_bytes(path)
    with pytest.raises(UserError, match="Is a directory"):
        files.read_bytes(tmp_path)


@pytest.mark.parametrize("name", ["shapes.json", "weights.pth", "list.txt"])
def test_a_file_that_cannot_be_read_is_not_said_to_be_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make_shapes(tmp_path / "shapes", train=1, val=1)
    path = tmp_path / "shapes" / name
    path.touch()
    monkeypatch.setattr(files, "WAITS", ())
    monkeypatch.setattr(
        Path, "read_bytes", mock.Mock(side_effect=OSError(errno.EIO, os.strerror(errno.EIO)))
    )
    readers = {
        "shapes.json": lambda: make_shapes(tmp_path / "shapes", train=1, val=1),
        "weights.pth": lambda: read_weights(path, "vgg16"),
        "list.txt": lambda: files.read_text(path),
    }
    with pytest.raises(
        UserError, match=f"cannot read {path}: Input/output error; it is left as it is"
    ):
        readers[name]()
