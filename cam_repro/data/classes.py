"""The class that a person means by a name, a wnid or a number."""

import re

from cam_repro import UserError
from cam_repro.option_errors import did_you_mean, shown

OFFERED = 5  # classes that a message lists of those that contain a word


def class_number(asked: str, wnids: list[str], words: list[str]) -> int:
    """The number of the class `asked`: by its wnid (C,), that number, or a name in its words (C,).

    words: a class's names as ILSVRC lists them, "tabby, tabby cat"; the case does not matter.
    Raises UserError for a name that several classes have, listing them; and for what is no class,
    with the classes whose names contain it or else the name that is spelled most alike.
    """
    if asked in wnids:
        return wnids.index(asked)
    if asked in map(str, range(len(wnids))):
        return int(asked)
    wanted, named = asked.strip().lower(), labels_by_name(words)
    labels = named.get(wanted, [])
    if len(labels) == 1:
        return labels[0]
    found = f"class={shown(asked)}"
    if labels:
        listed = ", ".join(f"{wnids[label]} ({words[label]})" for label in labels)
        several = f"the name of {len(labels)} classes"
        raise UserError(f"{found} is {several}; give the wnid of one: {listed}")
    containing = names_with_word(wanted, words)
    if containing:
        listed = ", ".join(containing[:OFFERED])
        more = f" and {len(containing) - OFFERED} more" if len(containing) > OFFERED else ""
        near = f"classes that contain the word ({len(containing)}): {listed}{more}; "
    else:
        near = did_you_mean(wanted, list(named))
    advice = f"give a name, a wnid or 0…{len(wnids) - 1}"
    raise UserError(f"{found} is no class of this network; {near}{advice}")


def labels_by_name(words: list[str]) -> dict[str, list[int]]:
    """Each name, and each whole list of names, in lower case: the numbers of its classes."""
    named: dict[str, list[int]] = {}
    for label, synonyms in enumerate(words):
        names = [synonyms, *synonyms.split(",")]
        for name in {name.strip().lower() for name in names}:
            named.setdefault(name, []).append(label)
    return named


def names_with_word(word: str, words: list[str]) -> list[str]:
    """Of each class that has the word, or words one after the other, in a name: the first such."""
    whole_word = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
    found = []
    for synonyms in words:
        names = [name.strip() for name in synonyms.split(",")]
        containing = [name for name in names if whole_word.search(name)]
        found += containing[:1] if word else []
    return found
