"""The real make: what stands on its command line reaches the script, whatever signs are in it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, succeeds
from PIL import Image

from cam_repro.config import COMMANDS, options_of

ODD = "it's (1), a=$b é.jpg"


@pytest.fixture
def make(tmp_path: Path):
    """make(target, …) with a .venv that is ready; its Python is this one, or the `program`."""

    def run(*words: str, program: str = f'exec {sys.executable} "$@"', **environment: str):
        python = tmp_path / "venv/bin/python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(f"#!/bin/sh\n{program}\n")
        python.chmod(0o755)
        (tmp_path / "venv/.ready").touch()
        # The tests themselves may be run by make.
        outer = {"MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS"}
        settings = {name: value for name, value in os.environ.items() if name not in outer}
        settings |= {"OMP_NUM_THREADS": "1", "ILSVRC_ROOT": "", **environment}
        command = ["make", f"VENV={tmp_path / 'venv'}", *words]
        return subprocess.run(
            command, capture_output=True, text=True, env=settings, cwd=REPOSITORY, timeout=240
        )

    return run


def test_options_on_makes_command_line_reach_the_script_and_the_shells_variables_do_not(
    make,
) -> None:
    words = [
        f"image={ODD}",
        "class=tabby cat",
        "top=3",
        "recipe.epochs=3",
        "data.root=/home/josé's",
    ]
    shell = {
        "model": "vgg",
        "data": "ilsvrc",
        "args": "seed=2",
        "image": "none.jpg",
        "DATA": "data=x",
    }
    program = 'printf "%s\\n" "$@"'
    out = succeeds(make("figures", *words, "args=seed=1 --multirun", program=program, **shell))
    said, script, *given = out.splitlines()
    assert said.startswith("data=shapes, built in, because") and script == "scripts/figures.py"
    assert sorted(given) == sorted({"data=shapes", "seed=1", "--multirun", *words})


VALUES = ["second", ODD, "[1, 2]", '"tabby, cat" #3 {x: ${y}}', "$(shell false) `x` \\ %", "*?~!"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_reaches_its_script_as_it_was_typed(make, name: str) -> None:
    """Whatever make calls its own variables, and whatever the shell has under the same names."""
    keys = sorted(options_of(name) | {"class"})
    words = [f"{key}={value}" for key, value in zip(keys, cycle(VALUES), strict=False)]
    shell = {key: "the shell's" for key in keys if key.isidentifier()}
    lines = succeeds(make("-n", name, *words, **shell)).splitlines()
    scripts = [shlex.split(line)[1:] for line in lines if " scripts/" in line]
    assert scripts[0][0] == f"scripts/{name.replace('-', '_')}.py"
    for _, *given in scripts:
        assert set(words) <= set(given)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_data_set_goes_to_the_scripts_that_have_one(make, name: str) -> None:
    for root, data in (("", "data=shapes"), ("/here", "data=ilsvrc")):
        *_, script = succeeds(make("-n", name, ILSVRC_ROOT=root)).splitlines()
        assert (f" {data}" in script) == ("data" in options_of(name))
    assert "data='a b'" in succeeds(make("-n", name, "data=a b"))


def test_what_takes_no_options_refuses_them(make) -> None:
    for target in ("help", "setup", "test", "lint"):
        done = make("-n", target, "seed=1")
        assert done.returncode == 2 and f"make {target} takes no options: seed='1'" in done.stderr
    done = make("bench", "seed=1", program='exec echo "$@"')
    assert done.stdout.split()[-2:] == ["scripts/bench.py", "seed=1"]  # which knows no such part


def test_windows_is_told_of_wsl_before_anything_else(make) -> None:
    done = make("train", "model=vgg_gap", OS="Windows_NT")
    assert done.returncode == 2 and done.stdout == "" and "on Windows use WSL" in done.stderr


def test_make_cam_turns_and_shrinks_a_photograph_of_any_name(
    make, tiny_shapes: Path, tmp_path: Path
) -> None:
    """A large photograph from a phone is stored on its side; its upper part is white as seen."""
    stored = np.zeros((1500, 3000, 3), np.uint8)
    stored[:, :1000] = 255  # on the left as stored, at the top once turned by its tag
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / ODD, exif=exif)
    tiny = (f"data.root={tiny_shapes}", "data.generate.train=60", "data.generate.val=20")
    options = (
        f"image={tmp_path / ODD}",
        "class=tabby cat",
        f"out={tmp_path / 'my maps'}",
        f"runs={tmp_path / 'r'}",
    )
    out = succeeds(make("cam", *options, *tiny))
    name = f"{Path(ODD).stem}.tabby.efficientnet_lite0.cam.paper.png"
    drawn = Image.open(tmp_path / "my maps" / name).convert("L")
    assert drawn.height > 1.5 * drawn.width and max(drawn.size) < 2200
    pixels = np.asarray(drawn)
    assert pixels[60:200].mean() > pixels[-200:-60].mean() + 40
    lines = [line for line in out.splitlines() if "  box " in line]
    boxes = np.array([line.split("  box ")[1].split() for line in lines], int)
    assert len(boxes) >= 5 and boxes[:, 2].max() <= 1499 and 2048 < boxes[:, 3].max() <= 2999
    assert "tabby" in out
