"""The table of methods: what is marked in it, and where its numbers come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from result_files import FAITHFULNESS, POINTING, csv_rows, writer

from cam_repro.reporting.methods_table import methods_tables
from cam_repro.reporting.results import read_results
from cam_repro.reporting.tables import write_tables


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Of one network: CAM and Grad-CAM, and two baselines."""
    write = writer(tmp_path)
    write("resnet50_gap", "cam", metrics={"gt_known_loc": 66.0})
    for method, pointing, deletion in (
        ("cam", 80.0, 10.0),
        ("gradcam", 85.0, 30.0),
        ("centre", 70.0, 20.0),
        ("uniform", 50.0, 40.0),
    ):
        write("resnet50_gap", method, protocol=POINTING, metrics={"pointing_game": pointing})
        write("resnet50_gap", method, protocol=FAITHFULNESS, metrics={"deletion": deletion})
    return tmp_path


def test_the_best_method_is_marked_and_one_below_a_baseline_is_bold(results: Path) -> None:
    (table,) = methods_tables(read_results(results / "shapes"))
    heading, *rows = table.cells()
    by_method = {row[0]: dict(zip(heading, row, strict=True)) for row in rows}
    assert list(by_method) == ["cam", "gradcam", "centre", "uniform", "centred box"]
    assert by_method["cam"]["pointing ↑"] == "80.0 ± 1.0"
    assert by_method["gradcam"]["pointing ↑"] == "85.0 ± 1.0 ★"
    assert by_method["centre"]["pointing ↑"] == "70.0 ± 1.0"
    assert by_method["cam"]["deletion ↓"] == "10.0 ± 1.0 ★"
    assert by_method["gradcam"]["deletion ↓"] == "**30.0 ± 1.0**"
    assert by_method["centred box"]["GT-known ↑"] == "21.6"
    assert by_method["gradcam"]["GT-known ↑"] == "–"


def test_make_tables_writes_it_and_takes_it_away_with_the_last_record(results: Path) -> None:
    folder = results / "shapes"
    written = {path.name for path in write_tables(results, "shapes")}
    assert {"methods.md", "methods.csv"} <= written
    text = (folder / "methods.md").read_text()
    assert (
        "## resnet50_gap" in text
        and "**30.0 ± 1.0**" in text
        and "resnet50_gap, less CAM" not in text
    )
    assert "Protocol `faithfulness`: 500 images; view squash" in text
    lines = csv_rows(folder / "methods.csv", "method")
    assert lines["gradcam"]["is_baseline"] == "False" and lines["uniform"]["is_baseline"] == "True"
    for path in folder.glob("*/localization-*-*.json"):
        if "paper" not in path.name:
            path.unlink()
    assert "methods.md" not in {path.name for path in write_tables(results, "shapes")}
    assert not (folder / "methods.md").exists()


def test_the_protocol_that_most_methods_have_stands_in_the_table(results: Path) -> None:
    other = FAITHFULNESS | {"name": "faithfulness-images9", "images": 9}
    write = writer(results)
    write("resnet50_gap", "cam", protocol=other, images=9, metrics={"deletion": 1.0})
    (table,) = methods_tables(read_results(results / "shapes"))
    assert table.rows["cam"]["deletion"].value == 10
    write_tables(results, "shapes")  # another draw of images is no mixture


def test_the_page_shows_it(results: Path) -> None:
    from cam_repro.reporting.report import PAGES

    tables = methods_tables(read_results(results / "shapes"))
    section = PAGES.get_template("charts.html").module.methods_section(tables, ["a note"])
    assert "<strong>30.0 ± 1.0</strong>" in section and "a note" in section
    assert "**" not in section
