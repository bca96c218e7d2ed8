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
    names = list(percentages(shares))
    drawn = _redrawn([shares[name] for name in names], seed, samples)
    low_and_high = np.nanpercentile(drawn, INTERVAL, axis=0).T
    return dict(zip(names, low_and_high.tolist(), strict=True))


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
    runs = [*ones, *twos]
    _refuse_other_images(runs)
    rng = np.random.default_rng((seed, 1))
    in_ones = np.arange(len(ones))
    in_twos = np.arange(len(ones), len(runs))
    drawn_ones = rng.choice(in_ones, (samples, len(ones)))
    drawn_twos = rng.choice(in_twos, (samples, len(twos)))
    if metrics is None:
        metrics = runs[0]
    found = {}
    for name in metrics:
        shares = []
        for run in runs:
            if name in run and run[name][1].any():
                shares.append(run[name])
        if len(shares) < len(runs):
            continue
        measured = np.array([100 * part.sum() / whole.sum() for part, whole in shares])
        difference = measured[in_twos].mean() - measured[in_ones].mean()
        drawn = _redrawn(shares, seed, samples)
        of_ones = np.take_along_axis(drawn, drawn_ones, axis=1).mean(axis=1)
        of_twos = np.take_along_axis(drawn, drawn_twos, axis=1).mean(axis=1)
        low, high = np.nanpercentile(of_twos - of_ones, INTERVAL)
        found[name] = (float(difference), float(low), float(high))
    return found


def difference_over_draws(
    right_one: np.ndarray, right_two: np.ndarray, *, seed: int = 0, samples: int = 1000
) -> tuple[float, float, float]:
    """The accuracy of two less that of one in points, and the ends of its 95 % interval.

    right_one, right_two (D,N): in each draw 1 where an image's answer is right, 0 where it is
    wrong, -1 where it was not tested. Draws and images are redrawn with replacement, each time the
    same for both. ValueError where other images were tested.
    """
    tested = right_one >= 0
    if not np.array_equal(tested, right_two >= 0):
        raise ValueError("the results do not count the same images")
    gains = np.where(tested, right_two - right_one, 0).astype(np.float64)
    in_some_draw = tested.any(axis=0)
    gains = gains[:, in_some_draw]
    counts = tested[:, in_some_draw].astype(np.float64)
    draws, images = counts.shape
    rng = np.random.default_rng(seed)
    of_draws = rng.multinomial(draws, np.full(draws, 1 / draws), size=samples)
    of_images = rng.multinomial(images, np.full(images, 1 / images), size=samples)
    gained = ((of_images @ gains.T) * of_draws).sum(axis=1)
    counted = ((of_images @ counts.T) * of_draws).sum(axis=1)
    low, high = 100 * np.percentile(gained / counted, INTERVAL)
    return 100 * float(gains.sum() / counts.sum()), float(low), float(high)


def _refuse_other_images(runs: Sequence[Shares]) -> None:
    """ValueError unless all metrics but the network's own ratio are measured on the same images."""
    for name, (_, whole) in runs[0].items():
        if name == "loc_given_cls":  # its whole is where the network's class is right
            continue
        for other in runs[1:]:
            _, other_whole = other.get(name, (None, whole))
            if not np.array_equal(whole, other_whole):
                raise ValueError("the results do not count the same images")


def _redrawn(
    shares: Sequence[tuple[np.ndarray, np.ndarray]], seed: int, samples: int
) -> np.ndarray:
    """M shares (part, whole) of N images in each redrawing, in percent: (samples, M).

    NaN where a share is undefined.
    """
    # Images with the same entries are interchangeable: drawing how many of each is cheaper.
    columns = np.stack([column for share in shares for column in share], axis=1)
    kinds, images_of_kind = np.unique(columns, axis=0, return_counts=True)
    images = images_of_kind.sum()
    rng = np.random.default_rng(seed)
    chosen = rng.multinomial(images, images_of_kind / images, size=samples)
    counts = chosen @ kinds.astype(np.float64)
    parts = counts[:, ::2]
    wholes = counts[:, 1::2]
    with np.errstate(invalid="ignore"):
        return 100.0 * parts / wholes
