"""Two sentences on GT-known localization by method and rule, computed from the numbers whichever way they turn out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Known(NamedTuple):
    """A GT-known accuracy in %, its 95 % interval, and what a centred box reaches on the same images."""

    value: float
    interval: list[float] | None
    centre_box: float


Cells = Mapping[tuple[str, str], Known]  # (method, rule) -> what was found


def rule_against_method(cells: Cells) -> str:
    """How far the choice of rule moves one method, and at most the choice of method under one rule."""
    by_rule = _most_spread({method: _row(cells, 0, method) for method in _preferred_methods(cells)}, first=True)
    by_method = _most_spread({rule: _row(cells, 1, rule) for _, rule in cells})
    if by_rule is None and by_method is None:
        return "No two results here share a method or a rule, so they do not say what either choice is worth."
    if by_rule is None:
        return f"No method was run under two rules; {_method_moves(*by_method)}."
    rule_moves = f"For `{by_rule[0]}`, the choice of rule alone moves GT-known by {_extent(by_rule[1])}"
    if by_method is None:
        return f"{rule_moves}; no rule was run with a second method to compare that with."
    verdict = _verdict(_points(by_rule[1]), _points(by_method[1]))
    return f"{rule_moves}; {_method_moves(*by_method)}: {verdict}{_uncertainty(cells)}."


def best_against_centre(cells: Cells) -> str:
    """The highest cell beside the box that never looks, and how many cells lie above theirs."""
    (method, rule), best = max(cells.items(), key=lambda item: item[1].value)
    value, centre = round(best.value, 1), round(best.centre_box, 1)
    side = "above" if value > centre else "below" if value < centre else "level with"
    text = f"No GT-known here is higher than {value:.1f} %, of `{method}` under {rule}: {side} the {centre:.1f} % of a "
    text += "centred box that never looks"
    if best.interval:
        low, high = best.interval
        holds = "includes" if low <= best.centre_box <= high else "excludes"
        text += f" (95 % interval {low:.1f} … {high:.1f}, which {holds} that)"
    above = sum(round(cell.value, 1) > round(cell.centre_box, 1) for cell in cells.values())
    return f"{text}; cells above it: {above} of {len(cells)}."


def _preferred_methods(cells: Cells) -> list[str]:
    """The paper's own method first."""
    return sorted(dict.fromkeys(method for method, _ in cells), key=lambda method: method != "cam")


def _row(cells: Cells, place: int, name: str) -> dict[str, float]:
    """A method's values by rule (place 0), or a rule's by method (place 1)."""
    return {key[1 - place]: cell.value for key, cell in cells.items() if key[place] == name}


def _most_spread(rows: dict[str, dict[str, float]], first: bool = False) -> tuple[str, dict[str, float]] | None:
    """The row with at least two values that spreads most, or the first one."""
    several = {name: row for name, row in rows.items() if len(row) > 1}
    if not several:
        return None
    name = next(iter(several)) if first else max(several, key=lambda name: _points(several[name]))
    return name, several[name]


def _points(row: dict[str, float]) -> float:
    return round(max(row.values()) - min(row.values()), 1)


def _extent(row: dict[str, float]) -> str:
    low, high = min(row, key=row.__getitem__), max(row, key=row.__getitem__)
    if not _points(row):
        return f"0.0 points ({row[low]:.1f} % throughout)"
    return f"{_points(row):.1f} points, from {row[low]:.1f} % ({low}) to {row[high]:.1f} % ({high})"


def _method_moves(rule: str, row: dict[str, float]) -> str:
    return f"under one rule, the choice of method moves GT-known by at most {_extent(row)}, under {rule}"


def _verdict(of_rule: float, of_method: float) -> str:
    if of_rule == of_method:
        return "the rule is worth as much as the method"
    return f"the rule is worth {'more' if of_rule > of_method else 'less'} than the method"


def _uncertainty(cells: Cells) -> str:
    halves = [(cell.interval[1] - cell.interval[0]) / 2 for cell in cells.values() if cell.interval]
    return f" (each value is uncertain by up to ± {max(halves):.1f})" if halves else ""
