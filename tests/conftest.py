"""A tiny data set and the real scripts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from processes import Program, settings

from cam_repro.config import CONFIGS, Config, register_schema, validated
from cam_repro.data.shapes import make_shapes
from cam_repro.reporting.results import read_record

REPOSITORY = Path(__file__).resolve().parent.parent
TINY = (
    "data.generate.train=60",
    "data.generate.val=20",
    "data.workers=1",
    "recipe.epochs=2",
    "recipe.batch_size=16",
    "recipe.sizes=[32,48]",
    "recipe.size_starts=[0,0.5]",
)

Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def tiny_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in data set with 60 train and 20 val pictures; tests must not change it."""
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", seed=0, train=60, val=20)


def composed(overrides: list[str]) -> Config:
    """The configuration of a command line, without the script."""
    register_schema()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return validated(compose("config", overrides=overrides))


def run_script(name: str, folder: Path, *arguments: str, environment: dict[str, str] | None = None):
    """Run a real script with everything it writes under `folder`."""
    where = [f"{key}={folder / key}" for key in ("runs", "results", "cache")]
    file, words = REPOSITORY / "scripts" / f"{name}.py", [*where, *arguments]
    with TemporaryDirectory() as said:
        out, err = Path(said, "out"), Path(said, "err")
        code = Program(file, words, out, err, settings(**(environment or {})), REPOSITORY).wait(240)
        return subprocess.CompletedProcess([str(file), *words], code, out.read_text(), err.read_text())


@pytest.fixture
def script(tmp_path: Path, tiny_shapes: Path) -> Script:
    """script("train", "model=alexnet_gap", …) on the tiny data set."""

    def run(name: str, *arguments: str, environment: dict[str, str] | None = None, tiny: bool = True):
        options = (f"data.root={tiny_shapes}", *TINY) if tiny else ()
        if tiny and any(argument.startswith("model=") for argument in arguments):
            options += ("model.input_size=64",)
        return run_script(name, tmp_path, *options, *arguments, environment=environment)

    return run


def evaluated(config: Config, kind: str = "localization") -> list[dict[str, Any]]:
    """The work of the real script; every record of its kind that is then there, by file name."""
    import_module(f"scripts.eval_{kind}").main(config)
    return [read_record(path) for path in sorted(Path(config.results).glob(f"*/*/{kind}*.json"))]
