"""Which annotated objects the map of a class lies on (Zhou et al. 2016, §4.2 and Fig. 9).

Of a scene the paper lists the six objects that it shows most often, and the six "that most
frequently overlap with the high CAM activation regions", without saying when one does. Here an
object overlaps in an image where at least half of one of its boxes lies above 20 % of the maximum
of the map of the image's class, which is the threshold of the paper's boxes. Both are shares of the
class's annotated images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cam_repro import UserError
from cam_repro.data import Split
from cam_repro.data.annotations import Object, TrueBox, in_pixels, open_annotations
from cam_repro.data.ground_truth import Annotations
from cam_repro.data.layout import Listing, Sources
from cam_repro.localization.boxes import PAPER_THRESHOLD

SHARE_OF_A_BOX = 0.5  # of an object's box that must lie in the high activation


class ObjectShares(NamedTuple):
    """In how many of a class's images (%) an object is annotated, and overlaps with the map."""

    name: str
    annotated: float
    overlapping: float


def annotated_objects(path: Path, split: Split, images: Sequence[int]) -> dict[int, list[Object]]:
    """The objects that a file of boxes names in these images, for the images that have some.

    path: in any format of data.boxes=; the names need not be classes of the data. Raises UserError
    where it is not there, or names nothing in these images.
    """
    if not path.exists():
        raise UserError(f"svm.objects={path} is not there; give a file or folder of boxes")
    listing = Listing(
        split.images, split.labels, split.wnids, split.words, split.name, split.upright
    )
    annotations = Annotations(listing, Sources([open_annotations(path)]))
    annotations.refuse_strangers()
    found = {}
    for image in images:
        ((_, annotation),) = annotations.of(image)
        objects = []
        for one in in_pixels(annotation, split.size(image)):
            if one.name is not None:
                objects.append(one)
        if objects:
            found[image] = objects
    if not found:
        raise UserError(
            f"svm.objects={path} names no object in any of the {len(images):,} test images"
        )
    return found


def object_shares(
    objects: Iterable[Sequence[Object]], heatmaps: Iterable[np.ndarray]
) -> list[ObjectShares]:
    """Of the objects of each image of a class, beside its heatmap (H,W): every object's shares."""
    annotated: Counter[str] = Counter()
    overlapping: Counter[str] = Counter()
    images = 0
    for of_image, heatmap in zip(objects, heatmaps, strict=True):
        images += 1
        is_high = heatmap > PAPER_THRESHOLD * heatmap.max()
        annotated.update({one.name for one in of_image})
        overlapping.update({one.name for one in of_image if _overlaps(one.box, is_high)})
    found = []
    for name, count in annotated.items():
        found.append(ObjectShares(name, 100 * count / images, 100 * overlapping[name] / images))
    return sorted(found)


def _overlaps(box: TrueBox, is_high: np.ndarray) -> bool:
    """Whether so much of a box lies in the high activation (H,W)."""
    x1, y1, x2, y2 = np.rint(np.maximum(box, 0)).astype(int)
    inside = is_high[y1 : y2 + 1, x1 : x2 + 1]
    return inside.size > 0 and bool(inside.mean() >= SHARE_OF_A_BOX)
