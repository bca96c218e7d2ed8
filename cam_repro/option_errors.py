"""A mistake in a setting, said in one line, with the nearest value that would be right."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from cam_repro import UserError

LONGEST = 80  # characters of a value that are repeated


def check_choice(option: str, value: str, known: Iterable[str]) -> None:
    """UserError where an option's value is none of the known ones, such as a registry's keys."""
    known = list(known)
    if value not in known:
        near = did_you_mean(value, known)
        raise UserError(
            f"{option}={shown(value)} is unknown; {near}choose one of: {', '.join(known)}"
        )


def did_you_mean(word: str, known: list[str]) -> str:
    """A question that proposes the known word most like this one; empty where none is like it.

    Of dotted words the last parts are compared too: `lr` is near `recipe.lr`.
    """
    close = get_close_matches(word, known, 1, cutoff=0.8)
    if not close:
        # Of several with the same last part the shortest is meant
        by_last_part = {}
        for key in sorted(known, key=len, reverse=True):
            by_last_part[key.rpartition(".")[2]] = key
        last_part = word.rpartition(".")[2]
        close = [by_last_part[name] for name in get_close_matches(last_part, by_last_part, 1)]
    return f"did you mean {close[0]}? " if close else ""


def as_typed(value: Any) -> str:
    """The value as it would be typed on a command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def shown(value: Any) -> str:
    """The value as it would be typed, in one line, cut where it is long."""
    text = as_typed(value)
    if isinstance(value, list | tuple):
        text = text.replace(", ", ",")
    text = text.replace("\n", "\\n")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
