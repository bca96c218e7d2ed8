"""A tiny data set and the real scripts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib import import_module
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from processes import Program, settings
from torch import nn

from cam_repro.config import (
    CONFIGS,
    Config,
    ModelConfig,
    options_of,
    register_schema,
    validated,
)
from cam_repro.data.shapes import make_shapes
from cam_repro.distributed import DistributedContext
from cam_repro.evaluation.record import read_record
from cam_repro.networks import Weights

REPOSITORY = Path(__file__).resolve().parent.parent
TINY = (
    "data.generate.train=60", "data.generate.val=20", "data.workers=1",
    "recipe.epochs=2", "recipe.batch_size=16", "recipe.sizes=[32,48]", "recipe.size_starts=[0,0.5]",
)  # fmt: skip
ALONE = DistributedContext(0, 1, torch.device("cpu"))
Script = Callable[..., subprocess.CompletedProcess[str]]
Settings = Callable[..., Config]


@pytest.fixture(scope="session", autouse=True)
def server() -> None:
    """The server of all processes of the tests, before one asks `worker_context` for its own."""
    forkserver.ensure_running()


@pytest.fixture(scope="session")
def tiny_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in data set with 60 train and 20 val images; tests must not change it."""
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", seed=0, train=60, val=20)


def composed(overrides: list[str]) -> Config:
    """The configuration of a command line, without the script."""
    register_schema()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return validated(compose("config", overrides=overrides))


def under(folder: Path) -> list[str]:
    """The options that put everything that is written into a folder."""
    return [f"{key}={folder / key}" for key in ("runs", "results", "cache")]


def own(script: str, words: Iterable[str]) -> list[str]:
    """Those of the options that the command of a script in scripts/ has."""
    options = options_of(script.replace("_", "-"))
    return [word for word in words if word.partition("=")[0] in options]


def tiny_config(folder: Path, root: Path, *overrides: str) -> Config:
    """Of an evaluation, or a training, on a tiny data set at `root`."""
    return composed(
        [*under(folder), *TINY, f"data.root={root}", "data.workers=0", "device=cpu", *overrides]
    )


def run_script(name: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a real script with everything it writes under `folder`."""
    file, words = REPOSITORY / "scripts" / f"{name}.py", [*own(name, under(folder)), *arguments]
    with TemporaryDirectory() as said:
        out, err = Path(said, "out"), Path(said, "err")
        code = Program(file, words, out, err, settings(), REPOSITORY).wait(240)
        return subprocess.CompletedProcess(
            [str(file), *words], code, out.read_text(), err.read_text()
        )


def weights_of(whole: nn.Module) -> Weights:
    """As a file of another program gives them."""
    return Weights(whole.state_dict(), None, None, "theirs", "")


def write_checkpoint(
    path: Path, model: ModelConfig, network: nn.Module, wnids: list[str], **more: object
) -> Path:
    """A training's, as far as a reader of weights goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {"network": network.state_dict(), "model": asdict(model), "wnids": wnids, **more}, path
    )
    return path


def succeeds(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def says(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a command that was refused in its work."""
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    return line


@pytest.fixture
def script(tmp_path: Path, tiny_shapes: Path) -> Script:
    """script("train", "model=alexnet_gap", …) on the tiny data set."""

    def run(name: str, *arguments: str, tiny: bool = True) -> subprocess.CompletedProcess[str]:
        options = own(name, [f"data.root={tiny_shapes}", *TINY]) if tiny else []
        if tiny and any(argument.startswith("model=") for argument in arguments):
            options.append("model.input_size=64")
        return run_script(name, tmp_path, *options, *arguments)

    return run


def evaluated(config: Config, kind: str = "localization") -> list[dict[str, Any]]:
    """The work of the real script; every record of its kind that is then there, by file name."""
    import_module(f"scripts.eval_{kind}").main(config)
    return [read_record(path) for path in sorted(Path(config.results).glob(f"*/*/{kind}*.json"))]
