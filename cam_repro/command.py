"""What every script does around its work: compose and check the configuration, and say mistakes in one line."""

from __future__ import annotations

import errno
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cam_repro import UserError
from cam_repro.agreement import is_published
from cam_repro.config import CONFIGS, Config, model_names, register_schema, validated
from cam_repro.mistakes import did_you_mean, in_one_line, keys_of, shown

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's matrices here are small; its threads would fight torch's

DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
GROUPS = ("model", "data", "recipe", "protocol", "experiment")
OPTIONAL = ("data.generate.", "data.download.")  # parts that not every data set has
FILES = {  # options that name a file which must be there
    "weights": "is not a file; give a .pth state dict, a .safetensors, a checkpoint.pt, or IMAGENET1K_V1",
    "image": "No such file; give the path of one picture",
    "predictions": "No such file; give a file of five guesses a line",
    "blacklist": "No such file; give the devkit's list of image numbers, or leave blacklist= out",
}


def command(work: Callable[[Config], None], needs_model: bool = False, makes_maps: bool = False) -> None:
    """Run a script's work on the configuration its command line describes; makes_maps: it draws class maps.

    A UserError ends it with one line on stderr and exit code 1; a mistake in the command line with exit code 2.
    """
    register_schema()
    try:
        asked = _arguments()
        if not _hydra_alone(asked):
            only_shown = asked.help or asked.cfg or asked.info
            configuration(asked.overrides, needs_model and not only_shown, makes_maps)
    except UserError as error:
        _fail(str(error), 2)

    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
    def entry(raw: DictConfig) -> None:
        try:
            config = _checked(raw, needs_model, makes_maps)
            _check_files(config)
            work(config)
        except UserError as error:
            _fail(str(error), 1)
        except OSError as error:
            if error.errno not in DISK_TROUBLE:
                raise
            _fail(f"cannot write {error.filename or ''}: {error.strerror}; free space or choose another folder", 1)
        except KeyboardInterrupt:
            _fail("stopped; run the same command to go on", 130)

    entry()


def _fail(message: str, code: int) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(code)


def _arguments() -> Namespace:
    """The command line as Hydra itself reads it."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; write options as key=value, all before or all after Hydra's flags (--hydra-help)")

    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_args()


def _hydra_alone(asked: Namespace) -> bool:
    """Whether Hydra does something that composing once by ourselves cannot foresee."""
    other_files = asked.config_path or asked.config_name or asked.config_dir or asked.experimental_rerun
    return bool(other_files or asked.multirun or asked.hydra_help or asked.shell_completion)


def configuration(overrides: list[str], needs_model: bool = False, makes_maps: bool = False) -> Config:
    """What a command line describes, composed by ourselves: Hydra would answer a mistake with a page of its own.

    Raises UserError with one line that names the option.
    """
    for override in overrides:
        _check_override(override)
    of_model = [override for override in overrides if override.startswith("model.")]
    if of_model and not any(override.startswith("model=") for override in overrides):
        raise UserError(_model_needed(f" for {of_model[0]}"))
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            raw = compose("config", overrides=overrides)
    except AssertionError:  # Hydra's answer to a key inside of something that is null
        inner = next((override for override in overrides if override.lstrip("+~").startswith(OPTIONAL)), overrides)
        raise UserError(f"{shown(inner)}: this data= has no such part to change; choose another with data=") from None
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(in_one_line(error, keys_of(Config))) from None
    return _checked(raw, needs_model, makes_maps)


def _checked(raw: DictConfig, needs_model: bool, makes_maps: bool) -> Config:
    config = validated(raw, makes_maps)
    if needs_model and config.model is None:
        raise UserError(_model_needed(""))
    return config


def _model_needed(wanted_by: str) -> str:
    return f"model= is needed{wanted_by}; choose one of: {', '.join(model_names())}"


def _check_override(override: str) -> None:
    """One word of the command line: a key, an equals sign, a value that can be read; of a group, a known file."""
    key, equals, choice = override.partition("=")
    if not key.lstrip("+~") or not (equals or key.startswith("~")):
        raise UserError(f"{shown(override)!r} is no option; options are written key=value, see --help")
    try:
        OverridesParser.create().parse_override(override)
    except (HydraException, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{shown(override)} cannot be read ({reason}); put the value into quotes") from None
    if key in GROUPS and "," not in choice:
        known = sorted(path.stem for path in (CONFIGS / key).glob("*.yaml"))
        if choice not in known:
            raise UserError(f"unknown {key} {choice!r}; {did_you_mean(choice, known)}choose one of: {', '.join(known)}")


def _check_files(config: Config) -> None:
    """Before anything heavy is imported: every file the configuration names is there."""
    for key, trouble in FILES.items():
        value = getattr(config, key)
        if value is None or (key == "weights" and is_published(value)) or _is_file(value):
            continue
        raise UserError(f"{key}={shown(value)}{' ' if trouble.startswith('is') else ': '}{trouble}")


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # a name too long
        return False
