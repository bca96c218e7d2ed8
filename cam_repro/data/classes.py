"""The class that a person means by a name, a wnid or a number."""

import re

from cam_repro import UserError
from cam_repro.option_errors import did_you_mean, shown

OFFERED = 5  # classes that a message lists of those that contain a word


def class_number(asked: str, wnids: list[str], words: list[str]) -> int:
    """The number of the class `asked`, which is a wnid, a number or one of a class's names.

    wnids, words: (C,), a class's words being its names as ILSVRC lists them, "tabby, tabby cat";
    upper and lower case do not matter. Raises UserError for a name that several classes have, and
    lists them; and for what is no class, with the classes whose names contain it, or else the name
    that is spelled most like it.
    """
    if asked in wnids:
        return wnids.index(asked)
    if asked in map(str, range(len(wnids))):
        return int(asked)
    wanted = asked.strip().lower()
    named = labels_by_name(words)
    labels = named.get(wanted, [])
    if len(labels) == 1:
        return labels[0]
    found = f"class={shown(asked)}"
    if labels:
        candidates = [f"{wnids[label]} ({words[label]})" for label in labels]
        listed = ", ".join(candidates)
        several = f"the name of {len(labels)} classes"
        raise UserError(f"{found} is {several}; give the wnid of one: {listed}")
    containing = names_with_word(wanted, words)
    if containing:
        count = len(containing)
        listed = ", ".join(containing[:OFFERED])
        if count > OFFERED:
            listed += f" and {count - OFFERED} more"
        near = f"classes that contain the word ({count}): {listed}; "
    else:
        near = did_you_mean(wanted, list(named))
    advice = f"give a name, a wnid or 0…{len(wnids) - 1}"
    raise UserError(f"{found} is no class of this network; {near}{advice}")


def labels_by_name(words: list[str]) -> dict[str, list[int]]:
    """Each name, and each whole list of names, in lower case → the numbers of its classes."""
    named: dict[str, list[int]] = {}
    for label, synonyms in enumerate(words):
        names = [synonyms, *synonyms.split(",")]
        for name in {name.strip().lower() for name in names}:
            named.setdefault(name, []).append(label)
    return named


def names_with_word(word: str, words: list[str]) -> list[str]:
    """The first name that contains the word, or the words in a row, of each class that has one."""
    whole_word = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
    found = []
    for synonyms in words:
        names = [name.strip() for name in synonyms.split(",")]
        containing = [name for name in names if whole_word.search(name)]
        if word:
            found += containing[:1]
    return found
