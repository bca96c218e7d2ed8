"""The numbers Zhou et al. published (CVPR 2016, arXiv 1512.04150), table by table, in the paper's own order.

Errors and accuracies are percentages. Tables 1 and 2 are keyed by this project's names, (model) and
(model, method), so that a result finds its row; `row_title` turns a key into the paper's wording.
`CLASSIFICATION` and `LOCALIZATION` say which measured metric belongs under which of their columns.
"""

from dataclasses import dataclass
from typing import NamedTuple

Metrics = dict[str, float | None]  # metric -> %
Intervals = dict[str, list[float]]  # metric -> [low, high] in %, 95 %


class Errors(NamedTuple):
    """A row's errors in %, lower is better."""

    top1: float
    top5: float


METHODS = ("cam", "backprop")  # the paper's two ways to a box
NETWORKS = {
    "vgg_gap": "VGGnet-GAP",
    "googlenet_gap": "GoogLeNet-GAP",
    "alexnet_star_gap": "AlexNet*-GAP",
    "alexnet_gap": "AlexNet-GAP",
    "googlenet": "GoogLeNet",
    "vgg": "VGGnet",
    "alexnet": "AlexNet",
    "nin": "NIN",
    "googlenet_gmp": "GoogLeNet-GMP",
}

# Table 1: classification error, ILSVRC val.
TABLE1 = {
    "vgg_gap": Errors(33.4, 12.2),
    "googlenet_gap": Errors(35.0, 13.2),
    "alexnet_star_gap": Errors(44.9, 20.9),
    "alexnet_gap": Errors(51.1, 26.3),
    "googlenet": Errors(31.9, 11.3),
    "vgg": Errors(31.2, 11.4),
    "alexnet": Errors(42.6, 19.5),
    "nin": Errors(41.9, 19.6),
    "googlenet_gmp": Errors(35.6, 13.9),
}

# Table 2: localization error, ILSVRC val.
TABLE2 = {
    ("googlenet_gap", "cam"): Errors(56.40, 43.00),
    ("vgg_gap", "cam"): Errors(57.20, 45.14),
    ("googlenet", "cam"): Errors(60.09, 49.34),
    ("alexnet_star_gap", "cam"): Errors(63.75, 49.53),
    ("alexnet_gap", "cam"): Errors(67.19, 52.16),
    ("nin", "cam"): Errors(65.47, 54.19),
    ("googlenet", "backprop"): Errors(61.31, 50.55),
    ("vgg", "backprop"): Errors(61.12, 51.46),
    ("alexnet", "backprop"): Errors(65.17, 52.64),
    ("googlenet_gmp", "cam"): Errors(57.78, 45.26),
}

# Table 3: (title, supervision) -> top-5 localization error, ILSVRC test, whose labels are not public.
# "Backprop" is Simonyan et al.'s own number (arXiv 1312.6034); the last three were trained with boxes.
TABLE3 = {
    ("GoogLeNet-GAP (heuristics)", "weakly"): 37.1,
    ("GoogLeNet-GAP", "weakly"): 42.9,
    ("Backprop", "weakly"): 46.4,
    ("GoogLeNet", "full"): 26.7,
    ("OverFeat", "full"): 29.9,
    ("AlexNet", "full"): 34.2,
}


def row_title(model: str, method: str = "cam") -> str:
    """The paper's wording for a model and method; a network that is not in the paper keeps its own name."""
    network = NETWORKS.get(model, model)
    return network if method == "cam" else f"{method.capitalize()} on {network}"


def loc_given_cls(model: str, method: str = "cam") -> float | None:
    """P(box right | class right) in %, top-1, which Tables 1 and 2 imply; None where they have no such row.

    A top-1 localization is right only if the class is, so the share is (100 − loc error) / (100 − cls error).
    It is the fairest target when the backbone is not the authors' own.
    """
    if (model, method) not in TABLE2:
        return None
    return 100 * (100 - TABLE2[model, method].top1) / (100 - TABLE1[model].top1)


class Column(NamedTuple):
    """A column of Table 1 or 2 and the metric of a result file that belongs in it."""

    metric: str
    heading: str
    digits: int | None  # decimals of the paper's value; None: the paper has no such column


class Cell(NamedTuple):
    """A published value beside the measured one, in %; None where there is no such value."""

    column: Column
    published: float | None
    value: float | None
    interval: list[float] | None  # 95 %, [low, high]

    @property
    def difference(self) -> float | None:
        """Reproduced minus paper, in points, without the last bits of the subtraction."""
        if self.value is None or self.published is None:
            return None
        return round(self.value - self.published, 6)


@dataclass(frozen=True)
class Comparison:
    """Table 1 or 2 as something to compare with: its columns, its rows, and its images."""

    number: int
    subject: str
    columns: tuple[Column, ...]
    floors: dict[str, str]  # metric -> row title: boxes that ignore the picture, in the GT-known column
    images: tuple[int, ...]  # how many make the full ILSVRC val split
    reading: str  # how to read the columns

    @property
    def metrics(self) -> tuple[str, ...]:
        """What a result file must hold to become a row."""
        return tuple(column.metric for column in self.columns) + tuple(self.floors)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """(model, method) in the paper's order; a classification has no method and counts as "cam"."""
        return list(TABLE2) if self.number == 2 else [(model, "cam") for model in TABLE1]

    def published(self, model: str, method: str) -> tuple[float | None, ...]:
        """The paper's value of every column, None where it has none."""
        if self.number == 1:
            return tuple(TABLE1.get(model, (None, None)))
        top1, top5 = TABLE2.get((model, method), (None, None))
        return top1, top5, None, loc_given_cls(model, method)

    def cells(self, model: str, method: str, metrics: Metrics, confidence: Intervals) -> list[Cell]:
        """A row: every column's published and measured value; both dicts are empty if nothing was run."""
        pairs = zip(self.columns, self.published(model, method), strict=True)
        return [Cell(c, value, metrics.get(c.metric), confidence.get(c.metric)) for c, value in pairs]


CLASSIFICATION = Comparison(
    number=1,
    subject="classification error",
    columns=(Column("cls_top1_error", "top-1", 1), Column("cls_top5_error", "top-5", 1)),
    floors={},
    images=(50_000,),
    reading="Errors in %, lower is better",
)
LOCALIZATION = Comparison(
    number=2,
    subject="localization error",
    columns=(
        Column("loc_top1_error", "top-1", 2),
        Column("loc_top5_error", "top-5", 2),
        Column("gt_known_loc", "GT-known ↑", None),
        Column("loc_given_cls", "box given class ↑", 1),
    ),
    floors={"floor_whole_image": "floor: the whole image", "floor_centre_box": "floor: a centred box"},
    images=(50_000, 48_238),  # the second without the devkit's 1,762 blacklisted images
    reading="Top-1 and top-5 are errors in %, lower is better; ↑ marks shares right in %, higher is better. "
    "Box given class is P(box right | class right), top-1; the paper's is derived from its Tables 1 and 2",
)
