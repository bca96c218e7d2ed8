"""What every script does around its work: Hydra composes the configuration, and a mistake ends in
one line.
"""

import errno
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
    keys_of,
    names_in,
    options_of,
    register_schema,
    validated,
)
from cam_repro.files import FULL, reason
from cam_repro.option_errors import check_choice, did_you_mean, shown

os.environ.setdefault(
    "OPENBLAS_NUM_THREADS", "1"
)  # numpy's matrices here are small; its threads would fight torch's

DISK_TROUBLE = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM)
TEXTS = {
    key for key, kind in keys_of(Config).items() if kind in (str, str | None)
}  # options whose values are plain
IN_QUOTES = re.compile(
    r"""null|(['"]).*\1|(choice|glob)\(.*\)"""
)  # a value that means itself to Hydra
# What sets a training of a sweep apart from the others; an evaluation may sweep over more.
TRAINS = re.compile(r"(model|recipe|data\.generate)\.|(recipe|weights|seed|deterministic)=")
PART_OF = "--part-of="  # before the words of a script that is a step of this command of several


def command(name: str, work: str | Callable[[Config], object], needs_model: bool = False) -> None:
    """Run a script's work on the configuration that its command line describes.

    name: the command's in COMMANDS, whose options alone may stand on the line. work: a function, or
    `module:function`, which is imported once the configuration is known to be right. A mistake on
    the command line ends it with one line on stderr and exit code 2, a mistake found later with 1.
    """
    register_schema()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what it would print as a page of its own
    sys.stdout, sys.stderr = map(_Lasting, (sys.stdout, sys.stderr))
    whole = name
    if sys.argv[1:] and sys.argv[1].startswith(PART_OF):
        whole = sys.argv.pop(1).removeprefix(PART_OF)
    typed = sys.argv[1:]
    words = [*COMMANDS[whole].fixed, *map(_quoted, typed)]
    sys.argv[1:] = words
    composed: list[
        tuple[DictConfig, list[str]]
    ] = []  # with the overrides of each: one, or several of a --multirun

    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
    def compose(
        raw: DictConfig,
    ) -> None:  # and no more: to what leaves it as an exception, Hydra adds a line
        composed.append(
            (raw, OmegaConf.to_container(HydraConfig.get().overrides.task))
        )  # not resolved

    try:
        _check_options(typed, name, whole)
        _check_words(words)
        compose()
        configs = [_checked(raw, words, task, needs_model) for raw, task in composed]
    except AssertionError:  # Hydra's, of an option within data.generate or data.download
        _fail(
            f"{shown(' '.join(typed))}: one of these sets a part that this data= does not have", 2
        )
    except (UserError, HydraException, OmegaConfBaseException, ValueError) as error:
        _fail(explained(error), 2)
    try:
        for config in configs:
            (resolve_name(work) if isinstance(work, str) else work)(config)
    except UserError as error:
        _fail(str(error), 1)
    except OSError as error:
        if error.errno not in DISK_TROUBLE:
            raise
        _fail(reason(error), 1)
    except KeyboardInterrupt:
        _fail("stopped; the same command begins again, a training where it was last saved", 130)


def _checked(raw: DictConfig, words: list[str], task: list[str], needs_model: bool) -> Config:
    """What was composed, typed and named; task: its own overrides, where `words` may sweep over
    several.
    """
    config = validated(raw)
    config.typed = [one.key_or_group for one in _parsed(task)]
    config.name = config.name or _name_in_sweep(config, words, task)
    if needs_model and config.model is None:
        raise UserError(f"model= is needed; choose one of: {', '.join(names_in('model'))}")
    return config


class _Lasting:
    """A stream whose reader may leave, as `head` does: what comes after is dropped, and the work
    goes on.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream or Path(os.devnull).open("w")  # noqa: SIM115  none: it was closed

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
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
            return None


def _quoted(word: str) -> str:
    """An option of plain text with its value in quotes for Hydra's grammar; in a sweep each of the
    choices.
    """
    key, equals, value = word.partition("=")
    if key == "class":  # which no field of Python's can be called
        key, word = "shown_class", f"shown_{word}"
    if not equals or key.lstrip("+") not in TEXTS or IN_QUOTES.fullmatch(value):
        return word
    choices = value.split(",") if {"-m", "--multirun"} & {*sys.argv} else [value]
    return (
        f"{key}={','.join(QuotedString(choice, Quote.single).with_quotes() for choice in choices)}"
    )


def _name_in_sweep(config: Config, words: list[str], task: list[str]) -> str | None:
    """The network and what the job's training has of its own in a --multirun:
    `vgg_gap-recipe.lr_0.01`; else none.
    """
    swept = tuple(f"{one.get_key_element()}=" for one in _parsed(words) if one.is_sweep_override())
    own = [word for word in task if word.startswith(swept) and TRAINS.match(word.lstrip("+"))]
    if config.model is None or not own:
        return None
    return "-".join(
        [config.model.name, *(re.sub(r"[^\w.+-]+", "_", word).strip("_") for word in own)]
    )


def _parsed(words: list[str]) -> list[Override]:
    """Those of the words that set something, as Hydra reads them."""
    return OverridesParser.create().parse_overrides(
        [word for word in words if _sets_something(word)]
    )


def _sets_something(word: str) -> bool:
    """Whether a word is key=value; else it is one of Hydra's flags, or its value."""
    return "=" in word and not word.startswith("-")


def _fail(message: str, code: int) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(code)


def _check_words(words: list[str]) -> None:
    """UserError for what Hydra would not name: a file of configs/ that is not there, a network's
    option without one.
    """
    groups = [path.name for path in CONFIGS.iterdir() if path.is_dir()]
    for word in words:
        if word.lstrip("+").startswith(
            "hydra/launcher="
        ):  # its jobs would compose elsewhere and do nothing
            raise UserError(
                f"{shown(word)}: a sweep's jobs run here, one after another; start each by itself instead"
            )
        group, equals, names = word.partition("=")
        if (
            equals and group in groups and re.fullmatch(r"[\s\w.,-]*", names)
        ):  # else a list, or Hydra's glob(…)
            for name in names.split(","):
                check_choice(group, name.strip(), names_in(group))
    inner = [word for word in words if word.startswith("model.")]
    if inner and not any(word.startswith("model=") for word in words):
        raise UserError(
            f"model= is needed for {shown(inner[0])}; choose one of: {', '.join(names_in('model'))}"
        )


def _check_options(words: list[str], name: str, whole: str) -> None:
    """UserError for an option that neither the command `name` has, nor the `whole` of which it is a
    step.
    """
    own = options_of(name) | options_of(whole)
    takers = {other: options_of(other) for other in COMMANDS}
    fixed = {choice.partition("=")[0]: choice for choice in COMMANDS[whole].fixed}
    typed = [word for word in words if _sets_something(word)]
    for word, parsed in zip(typed, _parsed([_quoted(word) for word in typed]), strict=True):
        key = parsed.key_or_group
        if key in own or key.startswith(("hydra.", "hydra/")):
            continue
        if key in fixed:
            raise UserError(f"{shown(word)}: `make {whole}` is always {fixed[key]}; leave it out")
        if others := [f"make {other}" for other, options in takers.items() if key in options]:
            raise UserError(
                f"{shown(word)} is no option of `make {whole}`; it is one of: {', '.join(others)}"
            )
        near = did_you_mean(key, sorted(own)) or did_you_mean(
            key, sorted(set().union(*takers.values()))
        )
        raise UserError(f"unknown option {shown(key)}; {near}see --help")
