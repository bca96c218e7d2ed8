"""Figures 7, 8 and 9: an SVM's maps, its boxes and crops, and the objects that they lie on."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from random_networks import configured, random_network

from cam_repro.data import open_split
from cam_repro.data.split import load_arrays
from cam_repro.features.kept import make_features
from cam_repro.reporting import svm_figures
from cam_repro.reporting.plots import Cell
from cam_repro.reporting.report import make_report
from cam_repro.reporting.results import first_name


def test_make_svm_draws_crops_the_maps_of_classes_and_both_lists_of_objects(
    tiny_shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_network(tmp_path, tiny_shapes)
    split = open_split(configured(tmp_path, tiny_shapes).data, "val", tmp_path / "cache")
    lines = ["image,x1,y1,x2,y2,class"]
    for image in range(len(split)):
        width, height = split.size(image)
        lines.append(f"{split.path(image).stem},0,0,{width - 1},{height - 1},room")
        lines.append(f"{split.path(image).stem},0,0,0,0,corner")
    objects = tmp_path / "objects.csv"
    objects.write_text("\n".join(lines) + "\n")
    options = ["name=one", "svm.c=[0.1]", "svm.crops=true", f"svm.objects={objects}"]
    config = configured(tmp_path, tiny_shapes, *options)
    make_features(config)

    drawn: dict[str, list[Cell]] = {}
    write = svm_figures.write_sheet

    def noted(path: Path, cells: list[Cell], *more: int, **how: str) -> Path:
        drawn[path.name] = cells
        return write(path, cells, *more, **how)

    monkeypatch.setattr(svm_figures, "write_sheet", noted)
    import_module("scripts.svm").main(config)
    assert [*drawn] == ["figure7.png", "figure8.png", "figure9.png"]
    folder = tmp_path / "results/shapes/one"
    assert {Image.open(folder / name).width for name in drawn} == {1049}

    above, below = drawn["figure7.png"][:5], drawn["figure7.png"][5:]
    (whole,) = folder.glob("svm-liblinear-*-c0.1.npz")
    arrays = load_arrays(whole)
    for (caption, image), (_, crop) in zip(above, below, strict=True):
        assert caption.partition("\n")[0] in map(first_name, split.words)
        assert crop.width <= image.width and crop.height <= image.height
    words = [caption for caption, _ in drawn["figure8.png"] if caption]
    assert len(words) == 6 and words == sorted(words, key=[*map(first_name, split.words)].index)
    assert arrays["right_of_draws"].shape == (1, 20)

    ninth = drawn["figure9.png"]
    assert len(ninth) == 20 and [ninth[place][0] for place in (4, 9)] == [
        "most frequent",
        "most often in the map",
    ]
    assert np.array(ninth[4][1]).min() == 0  # something is written there
    rows = (folder / "figure9.csv").read_text().splitlines()
    assert rows[0] == "class,images,name,annotated,overlapping"
    assert len(rows) == 5 and all(",100.0," in row for row in rows[1:])

    text = make_report(config).read_text()
    sources = re.findall(r'alt="Figure (\d), one"', text)
    assert sources == ["7", "8", "9"] and text.count("data:image/webp") == 3
    assert "Table 4: accuracy" in text and 'id="gallery"' not in text and "<script" not in text
