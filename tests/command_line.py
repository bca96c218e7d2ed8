"""A command as far as its work, in this process, without the script's file."""

import io
import logging
import re
import shlex
import sys
from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

from cam_repro.command import command
from cam_repro.config import COMMANDS, Command, Config, names_in, options_of

EVERYTHING = "everything"  # a command that has every option
GROUPS = ("data", "model", "recipe", "protocol")
ALONE = {"help", "setup", "bench", "test", "lint"}  # targets of the Makefile that take no option


class Answer(NamedTuple):
    code: int
    given: list[Config]  # what the work was asked to do
    out: str
    err: str


def run(
    *words: str,
    name: str = EVERYTHING,
    needs_model: bool = False,
    work: Callable[[Config], None] | None = None,
) -> Answer:
    """A script's start on a command line, as in a process of its own."""
    logging.disable(logging.NOTSET)
    for logger in logging.root.manager.loggerDict.values():
        logger.disabled = False  # as Hydra leaves those that it finds
    given, code, out, err = [], 0, io.StringIO(), io.StringIO()
    streams = mock.patch.multiple(sys, argv=["script.py", *words], stdout=out, stderr=err)
    commands = mock.patch.dict(
        COMMANDS, {EVERYTHING: Command(Config)} if name == EVERYTHING else {}
    )
    with streams, commands, mock.patch.dict("os.environ"):
        try:
            command(name, work or given.append, needs_model=needs_model)
        except SystemExit as end:
            code = end.code
    return Answer(code, given, out.getvalue(), err.getvalue())


def target_and_options(line: str) -> tuple[str, list[str]]:
    """The target of a `make …`, or the first of several without options, and the options.

    Raises AssertionError where there is no such target, or it does not have an option or a choice.
    """
    make, *words = shlex.split(line, comments=True)
    targets = [word for word in words if re.fullmatch(r"[a-z-]+", word)]
    options = [word for word in words if word not in targets and not word.startswith("args=")]
    for word in words:
        if word.startswith("args="):
            options += shlex.split(word.removeprefix("args="))
    assert make == "make" and targets and {*targets} <= COMMANDS.keys() | ALONE, line
    known = {"class"}
    if "bench" in targets:
        known.add("against")
    for target in targets:
        known |= options_of(target) if target in COMMANDS else set()
    for word in options:
        key, equals, value = word.partition("=")
        assert key in known or not equals, f"{line}: {targets} has no option {key}"
        if key in GROUPS:
            assert value in names_in(key), f"{line}: {word} is no choice"
    return targets[0], options


def asked_by(line: str) -> Config:
    """What a `make …`, typed as it stands, asks of the script.

    Raises AssertionError where that refuses it.
    """
    target, options = target_and_options(line)
    done = run(*options, name=target)
    assert done.code == 0, f"{line}: {done.err}"
    return done.given[0]
