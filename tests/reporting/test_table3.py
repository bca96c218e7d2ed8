"""Table 3: guesses with loose and tight boxes, val standing in for test."""

from pathlib import Path
from typing import Any

import pytest
from result_files import HEURISTICS, PROVENANCE, RELEASE, Writer, csv_rows, row

from cam_repro import UserError
from cam_repro.reporting.tables import write_tables


def refusal(results: Path) -> str:
    with pytest.raises(UserError) as caught:
        write_tables(results, "shapes")
    return str(caught.value)


def table_3(results: Path, data: str = "shapes") -> str:
    write_tables(results, data)
    return (results / data / "table3.md").read_text()


def test_table_3_stands_val_in_for_test_and_says_so(tmp_path: Path, write: Writer) -> None:
    write("googlenet_gap", "cam", "ilsvrc", images=50_000, protocol=RELEASE, metrics={"loc_top5_error": 43.5})
    write("googlenet_gap", "cam", "ilsvrc", images=50_000, protocol=HEURISTICS, metrics={"loc_top5_error": 36.6})
    text = table_3(tmp_path, "ilsvrc")
    assert "ILSVRC val, standing in for test, 50,000 images" in text.splitlines()[0]
    assert row(text, "method") == [
        "supervision", "paper: ILSVRC test", "here: ILSVRC val, standing in for test", "difference",
    ]  # fmt: skip
    assert row(text, "GoogLeNet-GAP (heuristics)") == ["weakly", "37.1", "36.6 ± 3.1", "−0.5"]
    assert row(text, "GoogLeNet-GAP") == ["weakly", "42.9", "43.5 ± 3.1", "+0.6"]
    assert row(text, "Backprop") == ["weakly", "46.4", "published only", ""]
    assert row(text, "OverFeat") == ["full", "29.9", "published only", ""]


def test_table_3_of_other_data_is_context_and_appends_other_networks(tmp_path: Path, write: Writer) -> None:
    write("squeezenet", "cam", protocol=HEURISTICS)
    write("alexnet", "backprop", protocol=RELEASE)
    text = table_3(tmp_path)
    assert "shapes val, 500 images" in text.splitlines()[0]
    assert "paper: ILSVRC test (context only)" in text and "difference |" not in text
    assert row(text, "GoogLeNet-GAP (heuristics)") == ["weakly", "37.1", "not run"]
    assert row(text, "squeezenet (heuristics)") == ["weakly", "—", "33.6 ± 3.1"]
    assert row(text, "Backprop on AlexNet") == ["weakly", "—", "33.6 ± 3.1"]
    lines = csv_rows(tmp_path / "shapes" / "table3.csv", "title")
    assert lines["squeezenet (heuristics)"]["loc_top5_error_low"] == "38.1"
    assert lines["OverFeat"]["status"] == "published only"


def test_a_trained_with_boxes_row_is_not_reproduced_by_a_network_of_its_name(tmp_path: Path, write: Writer) -> None:
    write("googlenet", "cam", protocol=RELEASE, metrics={"loc_top5_error": 50.0})
    rows = [line for line in table_3(tmp_path).splitlines() if line.startswith("| GoogLeNet ")]
    assert ["26.7" in rows[0], "published only" in rows[0]] == [True, True]
    assert "50.0 ± 3.1" in rows[1] and "weakly" in rows[1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"view": "ten_crop_averaged"}, "protocol.view (ten_crop_averaged against ten_crop)"),
        ({"thresholds": [20]}, "protocol.thresholds ([20] against [20, 100, 110])"),
    ],
)
def test_rows_differ_in_the_guesses_alone(tmp_path: Path, write: Writer, changes: dict[str, Any], reason: str) -> None:
    paths = write("vgg_gap", "cam", protocol=RELEASE), write("nin", "cam", protocol=HEURISTICS | changes)
    message = refusal(tmp_path)
    assert reason in message and all(str(path) in message for path in paths)


def test_a_networks_rows_come_from_the_same_weights(tmp_path: Path, write: Writer) -> None:
    write("vgg_gap", "cam", protocol=RELEASE)
    write("vgg_gap", "cam", protocol=HEURISTICS, provenance=PROVENANCE | {"weights": "retrained"})
    assert "weights (retrained against 77aa)" in refusal(tmp_path)


def test_without_anything_for_it_there_is_no_table_3(tmp_path: Path, write: Writer) -> None:
    write("vgg_gap", "cam")
    assert "table3.md" not in [path.name for path in write_tables(tmp_path, "shapes")]
