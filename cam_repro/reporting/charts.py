"""Charts and tables of the report page: HTML with SVG inside, coloured by the page's style sheet.

They are as wide as the page is: places across are percentages of the width, so that a phone shows
the same text size. All text is escaped here.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from cam_repro.reporting.figures import first_name
from cam_repro.reporting.plots import PAPER_THRESHOLD

PAPERS = round(100 * PAPER_THRESHOLD)  # %
CURVE_COLOURS = (
    "right",
    "wrong_both",
    "too_large",
    "several",
    "part",
    "wrong_class",
)  # of the style sheet
CLASSES_SHOWN = 40  # rows of a chart of classes, those of the highest errors
MATRIX_CLASSES = 30  # more do not fit beside each other
PAIRS_SHOWN = 20


class Answers(NamedTuple):
    """What a network said of N images.

    labels (N,) and guesses (N,G), the best first, in the network's numbers of classes; names (C,)
    of these, no two the same.
    """

    labels: np.ndarray
    guesses: np.ndarray
    names: list[str]


class Measured(NamedTuple):
    """A row of a chart, in percent; the interval and the paper's number are not always there."""

    name: str
    value: float
    low: float | None
    high: float | None
    paper: float | None = None


def interval_chart(
    title: str, rows: Sequence[Measured], baselines: Mapping[str, float] | None = None
) -> str:
    """A point with its interval for each row on a scale of 0…100 %; baselines: name -> %, lines
    through all rows.
    """
    lines, key = "", f"{escape(title)}, 0 to 100 %"
    kinds_of_line = (("", "dashed"), (" lower", "dotted"))
    for (name, value), (lower, line) in zip((baselines or {}).items(), kinds_of_line, strict=False):
        lines += f'<line class="floor{lower}" x1="{value}%" x2="{value}%" y1="-8" y2="34"/>'
        key += f"; {line}: {escape(name)} {value:.1f}"
    drawn = ""
    for name, value, low, high, paper in rows:
        mark, said = "", f"{value:.1f}"
        if low is not None:
            mark += f'<line class="interval" x1="{low}%" x2="{high}%" y1="13" y2="13"/>'
            said += f" ({low:.1f} … {high:.1f})"
        if paper is not None:
            mark += f'<circle class="paper" cx="{paper}%" cy="13" r="5"/>'
            said += f" paper {paper:.1f}"
        drawn += (
            f'<tr><th scope="row">{escape(name)}</th><td><svg height="26" role="img" aria-label="{said} %">'
            f'<line class="axis" x1="0" x2="100%" y1="13" y2="13"/>{lines}{mark}'
            f'<circle class="point" cx="{value}%" cy="13" r="5"/></svg></td><td>{said}</td></tr>'
        )
    key += "; ring: the paper’s" if any(row.paper is not None for row in rows) else ""
    return f'<table class="chart"><caption>{key}</caption>{drawn}</table>'


def share_chart(rows: Sequence[tuple[str, Sequence[float]]], kinds: Mapping[str, str]) -> str:
    """A bar for each row, cut into the shares of `kinds` (key -> heading), in percent."""
    drawn = ""
    for name, shares in rows:
        bars, start = "", 0.0
        for (kind, heading), share in zip(kinds.items(), shares, strict=True):
            bars += f'<rect x="{start:.3f}%" width="{share:.3f}%" height="22" style="fill: var(--{kind})">'
            bars += f"<title>{escape(heading)} {share:.1f} %</title></rect>"
            start += share
        drawn += f'<tr><th scope="row">{escape(name)}</th><td colspan="2"><svg height="22">{bars}</svg></td></tr>'
    key = "".join(_key(kind, heading) for kind, heading in kinds.items())
    return f'<p class="shares">{key}</p><table class="chart">{drawn}</table>'


def curve_chart(curves: Mapping[str, np.ndarray]) -> str:
    """name -> (points,2), a threshold and an accuracy in percent; the paper's threshold is marked."""
    lines = key = ""
    for (name, points), colour in zip(curves.items(), CURVE_COLOURS * len(curves), strict=False):
        places = " ".join(f"{threshold:.1f},{100 - accuracy:.2f}" for threshold, accuracy in points)
        at_20 = points[np.abs(points[:, 0] - PAPERS).argmin(), 1]
        best_at, best = points[points[:, 1].argmax()]
        lines += f'<polyline class="curve" style="--colour: var(--{colour})" points="{places}"/>'
        key += _key(colour, f"{name}: {at_20:.1f} % at 20 %, best {best:.1f} % at {best_at:.1f} %")
    grid = "".join(
        f'<line class="axis" x1="0" x2="100%" y1="{y}%" y2="{y}%"/>' for y in range(0, 101, 25)
    )
    labels = "".join(f'<text x="0" y="{100 - y}%" dy="-3">{y} %</text>' for y in range(0, 100, 25))
    for x, anchor in zip(range(0, 101, 20), ("start", *["middle"] * 4, "end"), strict=True):
        labels += f'<text x="{x}%" y="100%" dy="16" text-anchor="{anchor}">{x} %</text>'
    return (
        f'<figure><svg height="260" role="img" aria-label="Accuracy over the threshold">{grid}{labels}'
        f'<line class="floor" x1="{PAPERS}%" x2="{PAPERS}%" y1="0" y2="100%"/>'
        f'<text x="{PAPERS}%" y="14" dx="5">the paper’s 20 %</text>'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" width="100%" height="100%">{lines}</svg></svg>'
        f'<figcaption class="curve-key" style="margin-top: 1.6rem">{key}</figcaption></figure>'
    )


def _key(colour: str, text: str) -> str:
    return f'<span><i class="swatch" style="--colour: var(--{colour})"></i>{escape(text)}</span>'


def class_names(words: Sequence[str], wnids: Sequence[str]) -> list[str]:
    """The first name of each class, with its wnid where another has the same, as ILSVRC's crane."""
    names = []
    firsts = [first_name(of_class) for of_class in words]
    for name, wnid in zip(firsts, wnids, strict=True):
        names.append(f"{name} ({wnid})" if firsts.count(name) > 1 else name)
    return names


def class_chart(answers: Answers) -> str:
    """The error of each class that the images have, with its Wilson interval, the highest first."""
    from scipy.stats import binomtest  # takes half a second to import

    wrong = answers.guesses[:, 0] != answers.labels
    rows = []
    for label in np.unique(answers.labels).tolist():
        of_class = answers.labels == label
        images = int(of_class.sum())
        errors = int(wrong[of_class].sum())
        interval = binomtest(errors, images).proportion_ci(method="wilson")
        name = f"{answers.names[label]}: {errors} of {images}"
        rows.append(Measured(name, 100 * errors / images, 100 * interval.low, 100 * interval.high))
    rows.sort(key=lambda row: -row.value)
    title = "Top-1 error of each class: wrong of all its images"
    chart = interval_chart(title, rows[:CLASSES_SHOWN])
    if len(rows) > CLASSES_SHOWN:
        chart += f"<p>The {CLASSES_SHOWN} of {len(rows)} classes with the highest error.</p>"
    return chart


def confusions(answers: Answers) -> str:
    """The confusion matrix, where its classes fit on a page, and the pairs confused most often."""
    classes = np.unique(answers.labels)
    if len(classes) > MATRIX_CLASSES:
        matrix = f"<p>The matrix of {len(classes)} classes is too large; its largest cells:</p>"
    else:
        matrix = _confusion_matrix(answers, classes)
    return matrix + _confused_pairs(answers)


def _confusion_matrix(answers: Answers, classes: np.ndarray) -> str:
    """Of the images' classes, a row and a column each; a last column is for any other answer."""
    counts = np.zeros((len(classes), len(classes) + 1), int)
    for row, label in enumerate(classes):
        guesses = answers.guesses[answers.labels == label, 0]
        counts[row, :-1] = (guesses[:, None] == classes).sum(0)
        counts[row, -1] = len(guesses) - counts[row].sum()
    names = [answers.names[label] for label in classes]
    columns = [*names, "any other class"]
    if not counts[:, -1].any():  # a network of 1000 classes has such answers to images of ten
        columns.pop()

    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in columns)
    lines = ""
    for name, of_class in zip(names, counts.tolist(), strict=True):
        cells = ""
        for guess, count in zip(columns, of_class, strict=False):
            kind = "hit" if guess == name else "miss"
            share = 100 * count / sum(of_class)  # the larger, the darker
            title = f"{escape(name)} taken for {escape(guess)}: {count} of {sum(of_class)}"
            cells += f'<td class="{kind}" style="--share: {share:.0f}%" title="{title}">'
            cells += f"{count or ''}</td>"
        lines += f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'
    caption = "A row: the images of a class; a column: what they were taken for"
    body = f"<thead><tr><td></td>{head}</tr></thead><tbody>{lines}</tbody>"
    inside = f"<caption>{caption}</caption>{body}"
    return f'<div class="scroll" tabindex="0"><table class="confusion">{inside}</table></div>'


def _confused_pairs(answers: Answers) -> str:
    """Which class was taken for which other how often, the most frequent first."""
    wrong = answers.guesses[:, 0] != answers.labels
    if not wrong.any():
        return "<p>No image is taken for another class.</p>"
    pairs = np.stack([answers.labels[wrong], answers.guesses[wrong, 0]], axis=1)
    pairs, counts = np.unique(pairs, axis=0, return_counts=True)
    rows = [["true class", "taken for", "images", "of the class’s images"]]
    for place in np.argsort(-counts, kind="stable")[:PAIRS_SHOWN]:
        label, guess = pairs[place]
        share = 100 * counts[place] / (answers.labels == label).sum()
        names = [answers.names[label], answers.names[guess]]
        rows.append([*names, str(counts[place]), f"{share:.1f} %"])
    return table(rows)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Cells as an HTML table, the heading first."""
    header, *body = [[escape(cell) for cell in row] for row in rows]
    head, lines = "".join(f'<th scope="col">{cell}</th>' for cell in header), ""
    for first, *others in body:
        lines += (
            f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'
        )
    inside = f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody>"
    return f'<div class="scroll" tabindex="0"><table class="numbers">{inside}</table></div>'
