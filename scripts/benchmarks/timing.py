"""Two things timed by turns in one run, and what is said of them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from os import devnull
from pathlib import Path
from statistics import median

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line of the table; rate in `unit`, ratio as `wanted` defines it."""

    part: str  # of the data flow
    what: str
    peer: str  # the limit or the peer, on the same work
    unit: str
    rate: float
    peer_rate: float
    ratio: float  # median of the rounds
    spread: tuple[float, float]  # its smallest and largest
    wanted: str  # "≥ 1.6" or "≤ 1.05", of the ratio
    note: str = ""

    @property
    def met(self) -> bool:
        sign, bound = self.wanted.split()
        return self.ratio >= float(bound) if sign == "≥" else self.ratio <= float(bound)


@contextmanager
def quiet() -> Iterator[None]:
    """What is timed prints nothing."""
    with Path(devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def seconds(work: Work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def by_turns(works: list[Work], rounds: int) -> list[list[float]]:
    """Seconds, rounds × works: each round times every work once, after one that does not count."""
    for work in works:
        work()
    return [[seconds(work) for work in works] for _ in range(rounds)]


def beside(
    *,
    part: str,
    what: str,
    peer: str,
    ours: Work,
    theirs: Work,
    count: int,
    unit: str,
    wanted: str,
    rounds: int = 7,
) -> Row:
    """Ours and the peer's by turns, `count` units each."""
    times = by_turns([ours, theirs], rounds)
    return row(part=part, what=what, peer=peer, times=times, count=count, unit=unit, wanted=wanted)


def row(
    *,
    part: str,
    what: str,
    peer: str,
    times: list[list[float]],
    count: int,
    unit: str,
    wanted: str,
) -> Row:
    """Of a list of seconds (ours, the peer's), `count` units each.

    The ratio is how many times the peer's rate ours is where that should be at least something (≥),
    and what ours takes in times of what the peer takes where that should be at most something (≤).
    """
    ratios = []
    for ours, theirs in times:
        ratios.append(theirs / ours if wanted.startswith("≥") else ours / theirs)
    return Row(
        part=part,
        what=what,
        peer=peer,
        unit=unit,
        rate=count / median(ours for ours, _ in times),
        peer_rate=count / median(theirs for _, theirs in times),
        ratio=median(ratios),
        spread=(min(ratios), max(ratios)),
        wanted=wanted,
    )
