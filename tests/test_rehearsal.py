"""What a rehearsal measures on a machine, and what it makes of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import composed
from PIL import Image

from cam_repro import rehearsal
from cam_repro.config import RecipeConfig
from cam_repro.rehearsal import Rates, outlook, rehearse

RECIPE = RecipeConfig(name="finetune", epochs=8)


def test_the_slowest_part_decides_how_long_it_takes() -> None:
    """8 epochs × 1,281,167 images: 2,847.04 hours at one image a second."""
    evaluation = {"paper": 1000.0, "release": 100.0}
    fed, length, memory, _ = outlook("vgg_gap", RECIPE, Rates(500, 4000, 1000, 950, evaluation), 617 * 10**6, 8 * 10**9)
    assert fed == "the network limits; the input side could feed 4.0 × what the network takes"
    assert length.startswith("vgg_gap on ILSVRC, recipe finetune: 8 epochs × 1,281,167 images at 950 images/s = 3.0 h")
    assert length.endswith("an evaluation of 50,000: 0.0 h (paper), 0.1 h (release)")
    assert memory == "shared memory: 617 MB needed, 8,000 there"

    # decoded ahead, the few batches of a rehearsal come faster than those of a week
    fed, length, memory, _ = outlook("vgg_gap", RECIPE, Rates(100, 200, 1000, 900, evaluation), 617 * 10**6, 64 * 10**6)
    assert fed.startswith("decoding limits: give it more cores; the input side could feed 0.2 ×")
    assert " at 200 images/s = 14.2 h" in length and "--ipc=host" in memory


def test_a_rehearsal_needs_no_data_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rehearsal, "SECONDS", 0.2)
    monkeypatch.setattr(rehearsal, "VAL", 6)
    where = [f"{key}={tmp_path / key}" for key in ("runs", "results", "cache")]
    tiny = ("recipe.batch_size=8", "recipe.sizes=[32]", "model=alexnet_gap", "model.input_size=64", "model.units=8")
    rehearse(composed(["data=ilsvrc", "data.workers=1", *tiny, *where]))
    out = capsys.readouterr().out
    for part in ("decoding, one core", "decoding, all cores", "8 images in memory", "training step with data",
                 "protocol=paper", "protocol=release"):  # fmt: skip
        assert re.search(rf"{part} +[\d,]+\.\d images/s", out), out
    assert re.search(r"to write, [\d.]+ s to read, \d+ MB", out)
    assert re.search(r"stop and resume +stopped and saved at step 2; then the same weights, bit for bit", out)
    assert "alexnet_gap on ILSVRC, recipe finetune: 8 epochs" in out and "Traceback" not in out
    assert not any((tmp_path / "cache").iterdir()) and not (tmp_path / "runs").exists()


def test_its_pictures_have_ilsvrcs_oddities(tmp_path: Path) -> None:
    rehearsal.write_pictures(tmp_path / "tree", 8, 2)
    pictures = [Image.open(path) for path in tmp_path.glob("**/*.JPEG")]
    kinds = {(picture.format, picture.mode, picture.getexif().get(0x0112, 1)) for picture in pictures}
    assert kinds == {
        ("JPEG", "RGB", 1), ("JPEG", "RGB", 6), ("JPEG", "CMYK", 1), ("JPEG", "L", 1), ("PNG", "RGB", 1)
    }  # fmt: skip
    assert 60_000 < sum(path.stat().st_size for path in tmp_path.glob("**/*.JPEG")) / len(pictures) < 250_000
