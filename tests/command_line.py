"""A command as far as its work, in this process, without the script's file."""

import io
import sys
from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

from cam_repro.command import command
from cam_repro.config import COMMANDS, Command, Config

EVERYTHING = "everything"  # a command that has every option


class Answer(NamedTuple):
    code: int
    given: list[Config]  # what the work was asked to do
    out: str
    err: str


def run(
    *words: str, name: str = EVERYTHING, needs_model: bool = False, work: Callable[[Config], None] | None = None
) -> Answer:
    """A script's start on a command line."""
    given, code, out, err = [], 0, io.StringIO(), io.StringIO()
    streams = mock.patch.multiple(sys, argv=["script.py", *words], stdout=out, stderr=err)
    commands = mock.patch.dict(COMMANDS, {EVERYTHING: Command("none", Config)} if name == EVERYTHING else {})
    with streams, commands, mock.patch.dict("os.environ"):
        try:
            command(name, work or given.append, needs_model)
        except SystemExit as end:
            code = end.code
    return Answer(code, given, out.getvalue(), err.getvalue())
