"""What a rehearsal measures on a machine, and what it makes of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import composed, under

from cam_repro import throughput
from cam_repro.config import RecipeConfig
from cam_repro.throughput import DECODING, STEPS_ALONE, WITH_DATA, outlook, rehearse


def test_the_slowest_part_decides_how_long_it_takes() -> None:
    """8 epochs × 1,281,167 images: 2,847.04 hours at one image a second."""
    recipe = RecipeConfig(name="finetune", epochs=8)
    rates = {
        DECODING: 4000.0,
        STEPS_ALONE: 1000.0,
        WITH_DATA: 950.0,
        "evaluation, protocol=release": 100.0,
    }
    fed, length, evaluation, _ = outlook("vgg_gap", recipe, rates)
    assert fed == "the network limits; the input side could feed 4.0 × what the network takes"
    assert (
        length
        == "vgg_gap on ILSVRC, recipe finetune: 8 epochs × 1,281,167 images at 950 images/s = 3.0 h"
    )
    assert evaluation == "evaluation, protocol=release, of 50,000 images: 0.1 h"

    # decoded ahead, the few batches of a rehearsal come faster than those of a week
    fed, length, _ = outlook("vgg_gap", recipe, {DECODING: 200, STEPS_ALONE: 1000, WITH_DATA: 900})
    assert fed.startswith("decoding limits: give it more cores; the input side could feed 0.2 ×")
    assert " at 200 images/s = 14.2 h" in length


def test_a_rehearsal_needs_no_data_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(throughput, "SECONDS", 0.2)
    monkeypatch.setattr(throughput, "VAL", 6)
    tiny = (
        "recipe.batch_size=8",
        "recipe.sizes=[32]",
        "model=squeezenet_gap",
        "model.input_size=64",
        "model.units=8",
    )
    rehearse(composed(["data=ilsvrc", "data.workers=1", *tiny, *under(tmp_path)]))
    out = capsys.readouterr().out
    measured = (
        "decoding, one core",
        "decoding, all cores",
        "steps, images in memory",
        "steps with data",
        "protocol=paper",
        "protocol=release",
    )
    for part in measured:
        assert re.search(rf"{part} +[\d,]+\.\d images/s", out), out
    assert re.search(r"to write, [\d.]+ s to read, \d+ MB", out)
    assert re.search(
        r"stop and resume +stopped and saved at step 2; then the same weights, bit for bit", out
    )
    assert "squeezenet_gap on ILSVRC, recipe finetune: 8 epochs" in out and "Traceback" not in out
    assert not any((tmp_path / "cache").iterdir()) and not (tmp_path / "runs").exists()


def test_its_images_are_of_as_many_bytes_as_photographs(tmp_path: Path) -> None:
    throughput.write_images(tmp_path / "tree", 8, 2)
    sizes = [path.stat().st_size for path in tmp_path.glob("**/*.JPEG")]
    assert len(sizes) == 10 and 60_000 < sum(sizes) / len(sizes) < 250_000
