"""Percentages over images, how far they would move with other images, and differences of two.

A metric is a pair of arrays over the images of a split, (part, whole): its value is 100 · Σ part /
Σ whole. Images are redrawn with replacement (bootstrap, Efron 1979); the two sums of a ratio, and
the two sides of a difference, are redrawn together.
"""

from collections.abc import Iterable, Sequence

import numpy as np

Shares = dict[str, tuple[np.ndarray, np.ndarray]]  # metric -> part (N,) and whole (N,)
INTERVAL = (2.5, 97.5)  # percentiles: 95 %


def percentages(shares: Shares) -> dict[str, float]:
    """{metric: percent}; one that has nothing to be measured on is left out."""
    measured = {}
    for name, (part, whole) in shares.items():
        if whole.any():
            measured[name] = 100.0 * float(part.sum() / whole.sum())
    return measured


def bootstrap(shares: Shares, *, seed: int = 0, samples: int = 1000) -> dict[str, list[float]]:
    """{metric: [low, high]} in percent, over `samples` redrawings of the images.

    A drawing in which a ratio is undefined is passed over.
    """
    names = [*percentages(shares)]
    drawn = _redrawn([shares[name] for name in names], seed, samples)
    bounds = np.nanpercentile(drawn, INTERVAL, axis=0).T.tolist()
    return dict(zip(names, bounds, strict=True))


def differences(
    ones: Sequence[Shares],
    twos: Sequence[Shares],
    metrics: Iterable[str] | None = None,
    *,
    seed: int = 0,
    samples: int = 1000,
) -> dict[str, tuple[float, float, float]]:
    """{metric: (two − one, and its paired 95 % interval's low and high)}, in percentage points.

    Both sides are of the same images, which are redrawn together: what both find hard in a drawing
    cancels. Each side is one training or several of other seeds, whose mean it is; several are
    redrawn too. metrics: by default all; one that a side does not have is left out. ValueError for
    other images.
    """
    both = [*ones, *twos]
    is_two = np.repeat([False, True], [len(ones), len(twos)])
    _refuse_other_images(both)
    rng = np.random.default_rng((seed, 1))
    runs_of_one = rng.choice(np.flatnonzero(~is_two), (samples, len(ones)))
    runs_of_two = rng.choice(np.flatnonzero(is_two), (samples, len(twos)))
    runs = np.hstack([runs_of_one, runs_of_two])
    found = {}
    for name in both[0] if metrics is None else metrics:
        shares = [of_one_run.get(name) for of_one_run in both]
        if any(share is None or not share[1].any() for share in shares):
            continue
        measured = np.array([100 * part.sum() / whole.sum() for part, whole in shares])
        drawn = np.take_along_axis(_redrawn(shares, seed, samples), runs, axis=1)
        moved = drawn[:, is_two].mean(axis=1) - drawn[:, ~is_two].mean(axis=1)
        low, high = np.nanpercentile(moved, INTERVAL)
        difference = measured[is_two].mean() - measured[~is_two].mean()
        found[name] = (float(difference), float(low), float(high))
    return found


def _refuse_other_images(runs: Sequence[Shares]) -> None:
    """ValueError unless all metrics but a ratio of the network's own are measured on the same
    images.
    """
    for name, (_, whole) in runs[0].items():
        if name == "loc_given_cls":  # its whole is where the network's class is right
            continue
        for other in runs[1:]:
            if name in other and not np.array_equal(whole, other[name][1]):
                raise ValueError("the results do not count the same images")


def _redrawn(
    shares: Sequence[tuple[np.ndarray, np.ndarray]], seed: int, samples: int
) -> np.ndarray:
    """M shares (part, whole) of N images -> (samples,M): percent in each redrawing; NaN: undefined."""
    # Images with the same entries are interchangeable: drawing how many of each is cheaper.
    columns = np.stack([column for share in shares for column in share], axis=1)
    kinds, images_of_kind = np.unique(columns, axis=0, return_counts=True)
    images = images_of_kind.sum()
    rng = np.random.default_rng(seed)
    chosen = rng.multinomial(images, images_of_kind / images, size=samples)
    counts = chosen @ kinds.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return 100.0 * counts[:, ::2] / counts[:, 1::2]
