"""What every script does around its work: it composes the configuration and reports mistakes.

Hydra composes it from the command line and the files of configs/. A mistake ends the script with
one line.
"""

import atexit
import errno
import gc
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cam_repro import UserError
from cam_repro.config import (
    COMMANDS,
    CONFIGS,
    Config,
    explained,
    is_of_library,
    keys_of,
    names_in,
    offer_library_model,
    options_of,
    register_schema,
    validated,
)
from cam_repro.cores import worker_context
from cam_repro.files import FULL, reason
from cam_repro.option_errors import check_choice, did_you_mean, shown

# The matrices that numpy multiplies here are small; its threads would fight torch's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

DISK_TROUBLE = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM)
# Options whose values are plain text.
TEXTS = {key for key, kind in keys_of(Config).items() if kind in (str, str | None)}
# Options that are lists of words, which may be typed without brackets: format=json,csv.
LISTS = {key for key, kind in keys_of(Config).items() if kind == list[str]}
# Values that Hydra is to read itself.
READ_BY_HYDRA = re.compile(r"""null|(['"]).*\1|(choice|glob)\(.*\)""")
# What sets a training of a sweep apart from the others; an evaluation may sweep over more.
TRAINS = re.compile(r"(model|recipe|data\.generate)\.|(recipe|weights|seed|deterministic)=")
PART_OF = "--part-of="  # first on the line of a script that is a step of a command of several


def command(
    name: str,
    work: str | Callable[[Config], object],
    *,
    needs_model: bool = False,
    has_workers: bool = False,
) -> None:
    """Runs a script's work on the configuration that its command line describes.

    name: the command's in COMMANDS, whose options alone may stand on the line. work: a function, or
    `module:function`, which is imported once the configuration is known to be right. has_workers:
    the server that its worker processes come from starts beside that import. A mistake ends the
    script with one line on stderr: with exit code 2 if it is on the command line, else with 1.
    """
    atexit.register(gc.freeze)  # else Python looks through all of torch for garbage as it ends: 1 s
    register_schema()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what it would print as a page of its own
    sys.stdout = _Lasting(sys.stdout)
    sys.stderr = _Lasting(sys.stderr)
    whole = name
    if sys.argv[1:] and sys.argv[1].startswith(PART_OF):
        whole = sys.argv.pop(1).removeprefix(PART_OF)
    typed = sys.argv[1:]
    words = [*COMMANDS[whole].fixed, *map(_quoted, typed)]
    sys.argv[1:] = words
    # Configurations with the overrides of each: one, or several of a --multirun.
    composed: list[tuple[DictConfig, list[str]]] = []

    # It only notes what Hydra composes, since Hydra adds a line to what leaves it as an exception.
    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
    def compose(raw: DictConfig) -> None:
        overrides = HydraConfig.get().overrides.task
        composed.append((raw, OmegaConf.to_container(overrides)))  # not resolved

    try:
        _check_options(typed, name, whole)
        _check_words(words)
        compose()
        configs = [_checked(raw, words, task, needs_model) for raw, task in composed]
    except AssertionError:  # Hydra's, of an option within data.generate or data.download
        line = shown(" ".join(typed))
        _fail(f"{line}: one of these sets a part that this data= does not have", 2)
    except (UserError, HydraException, OmegaConfBaseException, ValueError) as error:
        _fail(explained(error), 2)
    try:
        if has_workers and configs:
            worker_context()
        for config in configs:
            function = resolve_name(work) if isinstance(work, str) else work
            function(config)
    except UserError as error:
        _fail(str(error), 1)
    except OSError as error:
        if error.errno not in DISK_TROUBLE:
            raise
        _fail(reason(error), 1)
    except KeyboardInterrupt:
        _fail("stopped; the same command begins again, a training where it was last saved", 130)


def _checked(raw: DictConfig, words: list[str], task: list[str], needs_model: bool) -> Config:
    """A composed configuration, typed and named.

    words: the command line, which may sweep over several; task: the overrides of this one alone.
    """
    config = validated(raw)
    config.typed = [one.key_or_group for one in _parsed(task)]
    config.name = config.name or _name_in_sweep(config, words, task)
    if needs_model and config.model is None:
        raise UserError(f"model= is needed; choose one of: {', '.join(names_in('model'))}")
    return config


class _Lasting:
    """A stream that drops what is written once its reader has left, so that the work goes on.

    `head` is such a reader.
    """

    def __init__(self, stream: Any) -> None:
        # None where the stream was closed before the script began.
        self.stream = stream or Path(os.devnull).open("w")  # noqa: SIM115

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        return self._or_drop(self.stream.write, text) or len(text)

    def flush(self) -> None:
        self._or_drop(self.stream.flush)

    def _or_drop(self, act: Callable[..., Any], *arguments: str) -> Any:
        try:
            return act(*arguments)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            return None


def _quoted(word: str) -> str:
    """An option of plain text with its value in quotes for Hydra's grammar.

    In a sweep each of the choices is quoted. A list of words gets the brackets that it lacks.
    """
    key, equals, value = word.partition("=")
    if key == "class":  # a keyword of Python, which no field can be called
        key = "shown_class"
        word = f"shown_{word}"
    is_sweep = "-m" in sys.argv or "--multirun" in sys.argv
    if equals and key in LISTS and re.fullmatch(r"[\w.,+-]+", value) and not is_sweep:
        return f"{key}=[{value}]"
    if not equals or key.lstrip("+") not in TEXTS or READ_BY_HYDRA.fullmatch(value):
        return word
    quoted = []
    for choice in value.split(",") if is_sweep else [value]:
        quoted.append(QuotedString(choice, Quote.single).with_quotes())
    return f"{key}={','.join(quoted)}"


def _name_in_sweep(config: Config, words: list[str], task: list[str]) -> str | None:
    """The name of a job in a --multirun: its network, and what its training has of its own.

    `vgg_gap-recipe.lr_0.01`; none where the trainings do not differ.
    """
    swept = []
    for override in _parsed(words):
        if override.is_sweep_override():
            swept.append(f"{override.get_key_element()}=")
    parts = []
    for word in task:
        if word.startswith(tuple(swept)) and TRAINS.match(word.lstrip("+")):
            parts.append(re.sub(r"[^\w.+-]+", "_", word).strip("_"))
    if config.model is None or not parts:
        return None
    return "-".join([config.model.name, *parts])


def _parsed(words: list[str]) -> list[Override]:
    """The words that set something, as Hydra reads them."""
    setting = [word for word in words if _sets_something(word)]
    return OverridesParser.create().parse_overrides(setting)


def _sets_something(word: str) -> bool:
    """Whether a word is key=value; else it is one of Hydra's flags or the value of one."""
    return "=" in word and not word.startswith("-")


def _fail(message: str, code: int) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(code)


def _check_words(words: list[str]) -> None:
    """Raises UserError for mistakes that Hydra would not name, and shows it a library's networks.

    They are a file of configs/ that is not there, and an option of a network without a network.
    """
    groups = [path.name for path in CONFIGS.iterdir() if path.is_dir()]
    for word in words:
        # A launcher's jobs would compose elsewhere and do nothing.
        if word.lstrip("+").startswith("hydra/launcher="):
            raise UserError(
                f"{shown(word)}: a sweep's jobs run here, one after another; "
                "start each by itself instead"
            )
        group, equals, names = word.partition("=")
        # Other values are lists, or Hydra's glob(…).
        are_names = re.fullmatch(r"[\s\w.,/-]*", names)
        if equals and group in groups and are_names:
            for name in map(str.strip, names.split(",")):
                if group == "model" and is_of_library(name):
                    offer_library_model(name)
                else:
                    check_choice(group, name, names_in(group))
    inner = [word for word in words if word.startswith("model.")]
    if inner and not any(word.startswith("model=") for word in words):
        models = ", ".join(names_in("model"))
        raise UserError(f"model= is needed for {shown(inner[0])}; choose one of: {models}")


def _check_options(words: list[str], name: str, whole: str) -> None:
    """Raises UserError for an option that neither a command has nor the one it is a step of.

    name: the command's; whole: that of the command of several steps, else the same.
    """
    own = options_of(name) | options_of(whole)
    fixed = {choice.partition("=")[0]: choice for choice in COMMANDS[whole].fixed}
    typed = [word for word in words if _sets_something(word)]
    parsed = _parsed([_quoted(word) for word in typed])
    for word, override in zip(typed, parsed, strict=True):
        key = override.key_or_group
        if key in own or key.startswith(("hydra.", "hydra/")):
            continue
        if key in fixed:
            raise UserError(f"{shown(word)}: `make {whole}` is always {fixed[key]}; leave it out")
        others = [f"make {other}" for other in COMMANDS if key in options_of(other)]
        if others:
            raise UserError(
                f"{shown(word)} is no option of `make {whole}`; it is one of: {', '.join(others)}"
            )
        known = set().union(*map(options_of, COMMANDS))
        near = did_you_mean(key, sorted(own)) or did_you_mean(key, sorted(known))
        raise UserError(f"unknown option {shown(key)}; {near}see --help")
