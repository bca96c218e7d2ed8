"""Which annotated objects lie in a class's high activation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from random_networks import configured

from cam_repro import UserError
from cam_repro.data import open_split
from cam_repro.data.annotations import Object
from cam_repro.features.objects import ObjectShares, annotated_objects, object_shares


def test_an_object_overlaps_where_half_of_a_box_is_above_a_fifth_of_the_maximum() -> None:
    """The left half of the first map is high, its right half at exactly a fifth; the second is low
    but in its corner."""
    first = np.tile([5.0, 5.0, 1.0, 1.0], (4, 1))
    second = np.full((4, 4), -1.0)
    second[0, 0] = 0.5
    oven = Object((0, 0, 3, 3), "oven")  # half of it is high in the first
    sink = Object((1, 0, 3, 3), "sink")  # a third of it
    tap = Object((0, 0, 0, 0), "tap")
    far = Object((3, 3, 3, 3), "tap")
    outside = Object((4, 4, 6, 6), "sink")
    shares = object_shares([[oven, sink], [oven, far, tap, tap, outside]], [first, second])
    assert shares == [
        ObjectShares("oven", 100, 50),
        ObjectShares("sink", 100, 0),
        ObjectShares("tap", 50, 50),
    ]


def test_objects_are_those_of_any_name_in_the_images_that_the_file_names(
    tiny_shapes: Path, tmp_path: Path
) -> None:
    config = configured(tmp_path, tiny_shapes)
    split = open_split(config.data, "val", tmp_path / "cache")
    name = split.path(3).stem
    file = tmp_path / "objects.csv"
    file.write_text(f"image,x1,y1,x2,y2,class\n{name},1,2,30,40,lamp\n{name},5,5,9,9,\n")
    assert annotated_objects(file, split, [2, 3]) == {3: [Object((1, 2, 30, 40), "lamp")]}
    with pytest.raises(UserError, match="names no object in any of the 2 test images"):
        annotated_objects(file, split, [4, 5])
    with pytest.raises(UserError, match="svm.objects=nowhere.csv is not there; give a file"):
        annotated_objects(Path("nowhere.csv"), split, [3])
    file.write_text("image,x1,y1,x2,y2,class\nanother,1,2,30,40,lamp\n")
    with pytest.raises(UserError, match="names none of the 20 images"):
        annotated_objects(file, split, [3])
