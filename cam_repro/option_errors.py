"""A mistake in a setting, said in one line, with the nearest thing that would be right."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from cam_repro import UserError

LONGEST = 80  # characters of a value that are repeated


def check_choice(option: str, value: str, known: Iterable[str]) -> None:
    """UserError where the value of an option is none of the known ones, such as a registry's keys."""
    known = list(known)
    if value not in known:
        near = did_you_mean(value, known)
        raise UserError(
            f"{option}={shown(value)} is unknown; {near}choose one of: {', '.join(known)}"
        )


def did_you_mean(word: str, known: list[str]) -> str:
    """Asks for the nearest of the known words, or of the dotted ones that end alike; empty where
    none is near.
    """
    last = {key.rpartition(".")[2]: key for key in sorted(known, key=len, reverse=True)}
    alike = [last[name] for name in get_close_matches(word.rpartition(".")[2], last, 1)]
    close = get_close_matches(word, known, 1, cutoff=0.8) or alike
    return f"did you mean {close[0]}? " if close else ""


def shown(value: Any) -> str:
    """The value as it would be typed, in one line, cut where it is long."""
    text = (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )
    text = text.replace(", ", ",") if isinstance(value, list | tuple) else text.replace("\n", "\\n")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
