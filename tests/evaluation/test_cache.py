"""What is cached of an evaluation: read back, resumed, and never taken for what it is not."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cam_repro.evaluation.cache import LENGTH, BatchFile, EvaluationCache
from cam_repro.evaluation.maps import MapBatch
from cam_repro.evaluation.metrics import MaxBoxAcc
from cam_repro.evaluation.rows import RowBatch


def batch_of(first: int, count: int) -> dict[str, np.ndarray]:
    images = np.arange(first, first + count)
    return {"images": images, "maps": images.astype(np.float32)[:, None] / 3}


def written(folder: Path, *counts: int, **identity: Any) -> Path:
    file = BatchFile(folder, "cam", identity)
    first = 0
    for count in counts:
        file.append(batch_of(first, count))
        first += count
    file.close()
    return file.path


def read(folder: Path, **identity: Any) -> tuple[BatchFile, list[np.ndarray]]:
    file = BatchFile(folder, "cam", identity)
    batches = list(file.read())
    return file, [batch["maps"] for batch in batches]


def test_batches_are_read_back_and_added_to(tmp_path: Path) -> None:
    written(tmp_path, 4, 4, 2)
    file, maps = read(tmp_path)
    assert (file.images, file.images_a_batch) == (10, 4)
    assert np.array_equal(np.concatenate(maps), batch_of(0, 10)["maps"])
    file.append(batch_of(10, 4))
    file.close()
    assert len(np.concatenate(read(tmp_path)[1])) == 14


def test_another_identity_has_another_file(tmp_path: Path) -> None:
    written(tmp_path, 4, weights="a")
    assert read(tmp_path, weights="b")[1] == []


@pytest.mark.parametrize("lost", [1, 40, 200])
def test_what_was_cut_off_is_written_again_and_the_rest_is_kept(tmp_path: Path, lost: int) -> None:
    path = written(tmp_path, 4, 4, 4)
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    file, maps = read(tmp_path)
    assert file.images == 8 and len(maps) == 2
    file.append(batch_of(8, 4))
    file.close()
    assert np.array_equal(np.concatenate(read(tmp_path)[1]), batch_of(0, 12)["maps"])
    assert path.stat().st_size == len(whole)


def test_a_damaged_batch_ends_what_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, 4, 4)
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[:LENGTH], "little")
    place = content.rindex(b"\x93NUMPY") + 128  # the numbers of the second batch's maps
    assert place > LENGTH + length
    content[place] ^= 0xFF
    path.write_bytes(content)
    assert len(read(tmp_path)[1]) == 1


def test_a_full_disk_ends_the_keeping_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = BatchFile(tmp_path, "cam", {})
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        for first in range(0, 40, 4):
            file.append(batch_of(first, 4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().out
    assert said.count("what is computed is not kept") == said.count("\n") == 1
    assert "free space" in said
    assert 0 < read(tmp_path)[0].images < 40


def test_a_second_evaluation_at_once_keeps_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = BatchFile(tmp_path, "cam", {})
    second = BatchFile(tmp_path, "cam", {})
    second.append(batch_of(0, 4))
    assert "another evaluation writes to" in capsys.readouterr().out
    first.append(batch_of(0, 2))
    first.close()
    assert read(tmp_path)[0].images == 2


def map_batch(first: int, count: int, *methods: str) -> MapBatch:
    images = np.arange(first, first + count)
    maps = {method: np.full((count, 1, 3, 2, 2), len(method), np.float32) for method in methods}
    return MapBatch(images, np.zeros((count, 2), int), np.full((count, 2), 9), maps)


def opened(folder: Path, methods: list[str], **options: Any) -> EvaluationCache:
    wanted = [(method, MaxBoxAcc("bicubic")) for method in methods]
    return EvaluationCache(folder, {"weights": "a"}, wanted, **options)


def test_each_method_resumes_where_it_was_with_batches_as_long_as_before(tmp_path: Path) -> None:
    with opened(tmp_path, ["cam"]) as cache:
        cache.add_maps(map_batch(0, 4, "cam"))
    with opened(tmp_path, ["cam", "gradcam"]) as cache:
        assert [len(batch) for batch in cache.cached_maps()] == [4]
        assert cache.missing(10) == [(["cam"], 4, 4), (["gradcam"], 0, 0)]
        assert cache.missing(4) == [(["gradcam"], 0, 0)]
    with opened(tmp_path, ["cam"], fresh=True) as cache:
        assert list(cache.cached_maps()) == [] and cache.missing(10) == [(["cam"], 0, 0)]


def test_of_maps_as_large_as_the_image_the_rows_are_cached(tmp_path: Path) -> None:
    metric = MaxBoxAcc("bicubic")
    rows = {("backprop", metric): {"right": np.arange(8, dtype=np.uint8).reshape(2, 4)}}
    batch = RowBatch(np.arange(2), np.zeros((2, 5), int), np.full((2, 2), 9), rows)
    with opened(tmp_path, ["backprop"]) as cache:
        cache.add_maps(map_batch(0, 2, "backprop"))  # not cached
        cache.add_rows(batch)
    with opened(tmp_path, ["backprop"]) as cache:
        (cached,) = cache.cached_rows()
        assert list(cache.cached_maps()) == [] and cache.missing(5) == [(["backprop"], 2, 2)]
    right = cached.of_metrics["backprop", metric]["right"]
    assert np.array_equal(right, rows["backprop", metric]["right"])


def test_a_classification_caches_its_classes(tmp_path: Path) -> None:
    with opened(tmp_path, []) as cache:
        cache.add_maps(map_batch(0, 3))
    with opened(tmp_path, []) as cache:
        (cached,) = cache.cached_maps()
        assert len(cached) == 3 and cached.maps == {}
        assert cache.missing(5) == [([], 3, 3)]
