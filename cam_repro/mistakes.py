"""A mistake in the settings, said in one line, with the nearest thing that would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

LONGEST = 80  # characters of a value that are repeated
EXPECTED = (  # OmegaConf's words → ours
    ("converted to Integer", "expected a whole number"),
    ("converted to Float", "expected a number"),
    ("not a valid bool|converted to Boolean", "expected true or false"),
    ("is not Optional|NoneType is not a subclass", "expected a value, not null"),
    ("is not a ListConfig|DictConfig with ListConfig", "expected a list, as [1,2]"),
    ("is not a subclass of|DictConfig with", "expected settings of its own, key by key"),
    ("'dict' to string|'list' to string|converted to String", "expected one word"),
    ("does not support deletion", "it can be set to another value, not taken away"),
)


def shown(value: Any) -> str:
    """The value as it would be typed, in one line, cut where it is long."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = text.replace(", ", ",") if isinstance(value, list | tuple) else text.replace("\n", "\\n")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Asks for the nearest of the known words, or of the keys that end in such a word; empty where none is near."""
    parent, _, name = word.rpartition(".")
    parts = {key: key.rpartition(".") for key in known}
    for among in ([key for key, part in parts.items() if part[0] == parent], list(parts)):
        last = {parts[key][2]: key for key in reversed(among)}
        if close := difflib.get_close_matches(name, last, 1):
            return f"did you mean {last[close[0]]}? "
    return ""


def unknown_option(key: str, known: list[str]) -> str:
    return f"unknown option {shown(key)}; {did_you_mean(key, known)}see --help"


def keys_of(schema: type, prefix: str = "") -> list[str]:
    """Every dotted key of a dataclass of dataclasses, those of its optional parts included."""
    hints, keys = get_type_hints(schema), []
    for field in fields(schema):
        key = prefix + field.name
        parts = [kind for kind in (hints[field.name], *get_args(hints[field.name])) if is_dataclass(kind)]
        keys += [key, *(name for part in parts for name in keys_of(part, f"{key}."))]
    return keys


def in_one_line(error: Exception, known: list[str]) -> str:
    """What Hydra or OmegaConf complains of, in the words of this project; known: every dotted key."""
    text = str(error).strip() or type(error).__name__
    cause = error.__cause__ or error
    key = getattr(cause, "full_key", None) or getattr(error, "full_key", None) or ""
    if "not in '" in str(cause) or text.startswith("Could not override"):
        named = re.search(r"Could not override '([^']+)'", text)
        return unknown_option(max(key, named[1] if named else "", key=len) or text.splitlines()[0], known)
    where = re.match(r"Error merging override (.*)", text)
    told = str(cause).strip() or type(cause).__name__
    reason = next((ours for theirs, ours in EXPECTED if re.search(theirs, told)), told.splitlines()[0])
    return f"{where[1] if where else key}: {reason}" if where or key else reason
