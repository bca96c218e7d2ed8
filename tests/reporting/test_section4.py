"""Table 5 and the heads of a data set: the paper's numbers beside those of records."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import composed, under

from cam_repro import UserError
from cam_repro.data.split import save_arrays
from cam_repro.reporting.paper import TABLE5
from cam_repro.reporting.section4 import write_section4


def write_record(results: Path, data: str, head: str = "liblinear", **changes: Any) -> Path:
    record = {
        "schema": 1, "model": "efficientnet_lite0", "data": data, "split": "all", "images": 2985,
        "train_images": 1500, "head": head, "solver": "LIBLINEAR", "scaling": "none",
        "c": [0.01, 0.1], "grid": [0.01, 0.1, 1], "tolerance": 1e-5, "intercept_scaling": 1.0,
        "draws": 2, "per_class": 100, "test_per_class": None, "features": "1,280, pooled maps",
        "protocol": {"name": "paper", "view": "squash"},
        "metrics": {"accuracy": 91.25, "class_accuracy": 91.0, "negative_share": 35.0},
        "deviation": {"accuracy": 0.31}, "confidence": {"accuracy": [90.0, 92.0]},
        "provenance": {"weights": "77aa", "commit": "0123"},
    }  # fmt: skip
    record |= changes
    record["each_draw"] = {"accuracy": [record["metrics"]["accuracy"] + 0.5]}
    crop = record.get("crop", "whole")
    name = f"svm-{head}-{len(record['c'])}-{record['scaling']}-{record['per_class']}-{crop}.json"
    path = results / data / record["model"] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def kept(path: Path, right_of_draws: list[list[int]], **more: list[int]) -> None:
    """What a record's .npz has of each draw and image."""
    arrays = {name: np.array(values, np.int32) for name, values in more.items()}
    save_arrays(
        path.with_suffix(".npz"), right_of_draws=np.array(right_of_draws, np.int8), **arrays
    )


def cells(path: Path) -> list[list[str]]:
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_table_5_has_the_papers_rows_and_a_cell_for_each_record(tmp_path: Path) -> None:
    write_record(tmp_path, "scene15")
    write_record(tmp_path, "stanford40", deviation={}, per_class=None, draws=1, c=[1.0])
    write_record(tmp_path, "shapes")
    write_section4(tmp_path, "scene15")
    header, _, *rows = cells(tmp_path / "table5.md")
    assert header[4:] == [
        "SUN397", "MIT Indoor67", "Scene15", "SUN Attribute", "Caltech101", "Caltech256",
        "Action40", "Event8",
    ]  # fmt: skip
    *papers, ours = rows
    assert [row[0].removeprefix("paper: ") for row in papers] == list(TABLE5)
    assert papers[0][4:] == ["42.61", "56.79", "84.23", "84.23", "87.22", "67.23", "54.92", "94.42"]
    assert ours[:3] == ["efficientnet_lite0: pooled maps, squash", "SVM", "LIBLINEAR, 1e-05"]
    assert ours[6] == "91.2 ± 0.3 (C 0.01/0.1, 100x2)" and ours[10] == "91.2 (C 1, official)"
    assert {*ours[4:6], *ours[7:10], ours[11]} == {"–"}


def test_two_results_of_other_draws_have_a_row_each(tmp_path: Path) -> None:
    write_record(tmp_path, "scene15")
    write_record(tmp_path, "scene15", per_class=15)
    write_section4(tmp_path, "scene15")
    rows = cells(tmp_path / "table5.md")[5:]
    assert [row[6].partition(", ")[2] for row in rows] == ["100x2)", "15x2)"]


def test_the_heads_of_a_data_set_stand_beside_both_baselines(tmp_path: Path) -> None:
    boxes = {"gt_known_loc": 40.0, "baseline_centre_box": 51.6, "baseline_whole_image": 37.2}
    write_record(tmp_path, "shapes", metrics={"accuracy": 80.0, "negative_share": 35.0} | boxes)
    write_record(tmp_path, "shapes", "softmax", intercept_scaling=None, metrics={"accuracy": 81.0})
    written = write_section4(tmp_path, "shapes")
    assert [path.name for path in written] == ["claims-section4.md", "svm.md", "svm.csv"]
    header, _, svm, softmax = cells(tmp_path / "shapes/svm.md")
    assert svm[1:] == [
        "SVM", "LIBLINEAR, 1e-05", "none", "100x2", "0.01/0.1", "80.0 ± 0.3", "35.0", "40.0",
        "51.6", "37.2",
    ]  # fmt: skip
    assert softmax[1] == "softmax" and softmax[7:] == ["–", "–", "–", "–"]
    assert header[-2:] == ["centred box ↑", "whole image ↑"]


def test_table_4_has_a_row_of_full_images_crops_and_true_boxes_of_the_first_draw(
    tmp_path: Path,
) -> None:
    write_record(tmp_path, "stanford40")
    write_record(tmp_path, "stanford40", "softmax")
    boxes = {"accuracy": 93.0, "box_right": 41.5, "baseline_centre_box": 50.0}
    first = {"deviation": {}, "draws": 1, "c": [0.1]}
    crop = {"crop": "cam", "gain": [1.7, -0.3, 3.6]}
    crops = write_record(tmp_path, "stanford40", metrics=boxes, **crop, **first)
    kept(crops, [[1, 0]], right_of_full=[0, 0])
    write_section4(tmp_path, "stanford40")
    header, _, papers, ours = cells(tmp_path / "stanford40/table4.md")
    assert header[7:12] == ["full image", "crop", "gain", "true boxes", "gain"]
    assert papers[7:] == ["63.0", "67.8", "+4.8", "70.5", "+7.5", "41.0", "–", "–"]
    assert ours[4:] == [
        "100x1", "0.01, 0.1, –", "the answer's", "91.8", "93.5", "+1.7 (-0.3 … +3.6)", "–", "–",
        "41.5", "50.0", "–",
    ]  # fmt: skip
    assert "The true boxes are persons'" in (tmp_path / "stanford40/table4.md").read_text()
    assert len(cells(tmp_path / "table5.md")) == 2 + 3 + 2  # no crops among them


def test_claims_are_judged_by_what_was_right_on_the_same_images(tmp_path: Path) -> None:
    origin = {"weights": "77aa", "commit": "0123", "data": "aa", "settings": {"seed": 0}}
    original = write_record(tmp_path, "scene15", provenance=origin)
    gap = write_record(tmp_path, "scene15", model="efficientnet_lite0_gap", provenance=origin)
    other = origin | {"settings": {"seed": 1}}
    write_record(tmp_path, "scene15", model="alexnet", provenance=other)  # of other draws
    right = [[1] * 60 + [0] * 20 + [-1] * 20, [-1] * 20 + [1] * 60 + [0] * 20]
    kept(original, right)
    kept(gap, [[0] * 30 + draw[30:] if draw[0] == 1 else draw for draw in right])
    crop = write_record(
        tmp_path, "scene15", crop="cam", gain=[5, 4, 6], c=[1.0], draws=1, provenance=origin
    )
    kept(crop, [[1] * 95 + [0] * 5], right_of_full=[1] * 90 + [0] * 10)
    write_section4(tmp_path, "scene15")
    _, _, as_good, fc7, improve, by_five = cells(tmp_path / "claims-section4.md")
    assert as_good[1:9] == [
        "scene15", "efficientnet_lite0 → efficientnet_lite0_gap", "100x2",
        "0.01/0.1 → 0.01/0.1", "none", "88.0 → 88.3", "75.0 → 56.2", "-18.8",
    ]  # fmt: skip
    assert as_good[10] == "undecided"  # one of the two draws shows no difference
    assert fc7[1:3] == ["–", "–"] and fc7[10].startswith("not measured: `make features`")
    assert improve[6:9] == ["63.0 → 67.8", "90.0 → 95.0", "+5.0"] and improve[10] == "holds"
    assert by_five[10] == "undecided"


def test_claims_of_records_without_their_arrays_are_refused_or_not_measured(
    tmp_path: Path,
) -> None:
    origin = {"weights": "77aa", "commit": "0123", "data": "aa", "settings": {"seed": 0}}
    original = write_record(tmp_path, "scene15", provenance=origin)
    gap = write_record(tmp_path, "scene15", model="efficientnet_lite0_gap", provenance=origin)
    with pytest.raises(UserError, match=r"none-100-whole.npz is not there, or damaged"):
        write_section4(tmp_path, "scene15")
    for path in (original, gap):  # as they were before draws were kept apart
        save_arrays(path.with_suffix(".npz"), right=np.ones(9), tested=np.ones(9))
    write_section4(tmp_path, "scene15")
    assert cells(tmp_path / "claims-section4.md")[2][10].startswith("not measured")


def test_make_tables_writes_them_where_there_is_no_other_result(tmp_path: Path, capsys) -> None:
    write_record(tmp_path / "results", "shapes")
    config = composed([*under(tmp_path), "data=shapes"])
    import_module("scripts.tables").main(config)
    assert "Linear classifiers on the features of shapes" in capsys.readouterr().out


def test_a_damaged_record_is_refused_and_the_old_table_stays(tmp_path: Path) -> None:
    path = write_record(tmp_path, "scene15")
    write_section4(tmp_path, "scene15")
    before = (tmp_path / "table5.md").read_text()
    path.write_text("{")
    with pytest.raises(UserError, match="cannot be read as a record of make svm"):
        write_section4(tmp_path, "scene15")
    assert (tmp_path / "table5.md").read_text() == before
