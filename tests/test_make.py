"""The real make: what stands on its command line reaches the script, whatever signs are in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, succeeds
from PIL import Image

ODD = "it's (1), a=$b é.jpg"


@pytest.fixture
def make(tmp_path: Path):
    """make(target, …), with a .venv that is ready, of this Python or of a `program` in its place."""

    def run(*words: str, program: str = f'exec {sys.executable} "$@"', **environment: str):
        python = tmp_path / "venv/bin/python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(f"#!/bin/sh\n{program}\n")
        python.chmod(0o755)
        (tmp_path / "venv/.ready").touch()
        outer = {"MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS"}  # the tests themselves may be run by make
        settings = {name: value for name, value in os.environ.items() if name not in outer}
        settings |= {"OMP_NUM_THREADS": "1", "ILSVRC_ROOT": "", **environment}
        command = ["make", f"VENV={tmp_path / 'venv'}", *words]
        return subprocess.run(command, capture_output=True, text=True, env=settings, cwd=REPOSITORY, timeout=240)

    return run


def test_options_on_makes_command_line_reach_the_script_and_the_shells_variables_do_not(make) -> None:
    words = [f"image={ODD}", "class=tabby cat", "top=3", "recipe.epochs=3", "data.root=/home/josé's"]
    shell = {"model": "vgg", "data": "ilsvrc", "args": "seed=2", "image": "none.jpg"}
    out = succeeds(make("figures", *words, "args=seed=1 --multirun", program='printf "%s\\n" "$@"', **shell))
    said, script, *given = out.splitlines()
    assert said.startswith("data=shapes, built in, because") and script == "scripts/figures.py"
    expected = {"data=shapes", "shown_class=tabby cat", "seed=1", "--multirun", *words} - {"class=tabby cat"}
    assert sorted(given) == sorted(expected)
    out = succeeds(make("reproduce", "data=ilsvrc", "model=vgg", "seed=1", program='printf "%s " "$@"'))
    assert out.count("data=shapes seed=1 model=alexnet_gap") == 6 and "vgg" not in out


def test_make_cam_turns_and_shrinks_a_photograph_of_any_name(make, tiny_shapes: Path, tmp_path: Path) -> None:
    """A phone's picture, larger than is looked at, stored on its side: its upper part is white as people see it."""
    stored = np.zeros((1500, 3000, 3), np.uint8)
    stored[:, :1000] = 255  # on the left as stored, at the top once turned by its tag
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / ODD, exif=exif)
    tiny = (f"data.root={tiny_shapes}", "data.generate.train=60", "data.generate.val=20")
    picture = (f"image={tmp_path / ODD}", "class=tabby cat", f"out={tmp_path / 'my maps'}", f"runs={tmp_path / 'r'}")
    out = succeeds(make("cam", *picture, *tiny))
    name = f"{Path(ODD).stem}.tabby.efficientnet_lite0.cam.paper.png"
    drawn = Image.open(tmp_path / "my maps" / name).convert("L")
    assert drawn.height > 1.5 * drawn.width and max(drawn.size) < 2200
    above, below = (np.asarray(drawn)[place].mean() for place in (slice(60, 200), slice(-200, -60)))
    assert above > below + 40
    boxes = np.array([line.split("  box ")[1].split() for line in out.splitlines() if "  box " in line], int)
    assert len(boxes) >= 5 and boxes[:, 2].max() <= 1499 and 2048 < boxes[:, 3].max() <= 2999
    assert "tabby" in out
