"""What every script does around its work: Hydra composes the configuration, and a mistake ends in one line."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import NoReturn

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cam_repro import UserError
from cam_repro.config import CONFIGS, Config, explained, model_names, names_in, register_schema, validated
from cam_repro.mistakes import check_choice, shown

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's matrices here are small; its threads would fight torch's

DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
OPTIONAL = re.compile(r"\+*data\.(generate|download)\.")  # what not every data set has: Hydra asserts that it is there


def command(work: Callable[[Config], None], needs_model: bool = False) -> None:
    """Run a script's work on the configuration that its command line describes.

    A mistake on the command line ends it with one line on stderr and exit code 2, a mistake found later with 1.
    """
    register_schema()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what it would print as a page of its own
    words, code = sys.argv[1:], 2

    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
    def entry(raw: DictConfig) -> None:  # what leaves it as an exception, Hydra adds a line to
        nonlocal code
        try:
            config = validated(raw)
            if needs_model and config.model is None:
                raise UserError(f"model= is needed; choose one of: {', '.join(model_names())}")
            code = 1
            _check_files(config)
            work(config)
            code = 2  # of several (--multirun) the next is composed
        except UserError as error:
            _fail(str(error), code)
        except OSError as error:
            if error.errno not in DISK_TROUBLE:
                raise
            _fail(f"cannot write {error.filename or ''}: {error.strerror}; free space or choose another folder", 1)
        except KeyboardInterrupt:
            _fail("stopped; run the same command to go on", 130)

    try:
        _check_words(words)
        entry()
    except (UserError, HydraException, OmegaConfBaseException, ValueError, AssertionError) as error:
        if code == 1:  # a fault of the work
            raise
        if isinstance(error, AssertionError) and (inner := [word for word in words if OPTIONAL.match(word)]):
            error = UserError(f"{shown(inner[0])}: this data= has no such part to change; choose another data=")
        _fail(explained(error), 2)


def _fail(message: str, code: int) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(code)


def _check_words(words: list[str]) -> None:
    """UserError for what Hydra would not name: a file of configs/ that is not there, a network's option without one."""
    groups = [path.name for path in CONFIGS.iterdir() if path.is_dir()]
    for word in words:
        group, equals, names = word.partition("=")
        if equals and group in groups and re.fullmatch(r"[\s\w.,-]*", names):  # else a list, or Hydra's glob(…)
            for name in names.split(","):
                check_choice(group, name.strip(), names_in(group))
    inner = [word for word in words if word.startswith("model.")]
    if inner and not any(word.startswith("model=") for word in words):
        raise UserError(f"model= is needed for {shown(inner[0])}; choose one of: {', '.join(model_names())}")


def _check_files(config: Config) -> None:
    """UserError for a file that is not there, before anything heavy is imported."""
    for setting in fields(config):
        path = getattr(config, setting.name)
        if "file" not in setting.metadata or path is None or os.path.isfile(path):  # noqa: PTH113 (takes any text)
            continue
        if setting.name == "weights" and re.fullmatch(r"\w+", path):
            continue  # published ones, which the network knows by name
        raise UserError(f"{setting.name}={shown(path)} is not a file; give the path of one that is there")
