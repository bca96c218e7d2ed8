"""What every script does around its work: compose and check the configuration, and say mistakes in one line."""

from __future__ import annotations

import difflib
import errno
import os
import re
import sys
from collections.abc import Callable

import hydra
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cam_repro import UserError
from cam_repro.config import CONFIGS, Config, model_names, register_schema, validated

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's matrices here are small; its threads would fight torch's

DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
GROUPS = ("model", "data", "recipe", "protocol", "experiment")


def command(work: Callable[[Config], None], needs_model: bool = False) -> None:
    """Run a script's work on the configuration its command line describes.

    A UserError ends it with one line on stderr and exit code 1; a mistake in the command line with exit code 2.
    """
    register_schema()
    overrides = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    try:
        _check_command_line(overrides, needs_model)
    except UserError as error:
        _fail(str(error), 2)

    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
    def entry(raw: DictConfig) -> None:
        try:
            work(validated(raw))
        except UserError as error:
            _fail(str(error), 1)
        except OSError as error:
            if error.errno not in DISK_TROUBLE:
                raise
            _fail(f"cannot write {error.filename or ''}: {error.strerror}; free space or choose another folder", 1)
        except KeyboardInterrupt:
            _fail("stopped; run the same command to go on", 130)

    entry()


def _fail(message: str, code: int) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(code)


def _check_command_line(overrides: list[str], needs_model: bool) -> None:
    """Compose once by ourselves, since Hydra would answer a mistake with a page of its own."""
    for override in overrides:
        _check_choice(override)
    has_model = any(override.startswith("model=") for override in overrides)
    of_model = [override for override in overrides if override.startswith("model.")]
    if not has_model and (of_model or (needs_model and "--help" not in sys.argv)):
        wanted_by = f" for {of_model[0]}" if of_model else ""
        raise UserError(f"model= is needed{wanted_by}; choose one of: {', '.join(model_names())}")
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            raw = compose("config", overrides=overrides)
        validated(raw)
    except (HydraException, OmegaConfBaseException, AssertionError) as error:
        raise UserError(_one_line(error)) from None


def _check_choice(override: str) -> None:
    group, _, choice = override.partition("=")
    if group not in GROUPS:
        return
    known = sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))
    if choice not in known and "," not in choice:
        raise UserError(f"unknown {group} {choice!r}; {_nearest(choice, known)}choose one of: {', '.join(known)}")


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f"did you mean {close[0]}? " if close else ""


def _one_line(error: Exception) -> str:
    text = str(error).strip()
    unknown = re.search(r"Could not override '([\w.]+)'", text) or re.search(r"Key '(\S+)' not in", text)
    if unknown:
        return f"unknown option {unknown[1]}; {_nearest(unknown[1], _all_keys())}see --help"
    reason = str(error.__cause__).splitlines()[0] if error.__cause__ else ""
    return f"{text.splitlines()[0]}{': ' if reason else ''}{reason}"


def _all_keys() -> list[str]:
    def keys(tree: DictConfig, prefix: str) -> list[str]:
        found = []
        for key in tree:
            node = tree._get_node(key)
            found += (
                keys(node, f"{prefix}{key}.")
                if isinstance(node, DictConfig) and not node._is_none()
                else [prefix + str(key)]
            )
        return found

    return keys(OmegaConf.structured(Config), "")
