"""Methods down, protocols across: the cells, what is said of them, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from result_files import HEURISTICS, PROTOCOL, PROVENANCE, RELEASE, SWEEP, TIGHT, Writer, csv_rows, row, rows

from cam_repro import UserError
from cam_repro.reporting.tables import write_tables

TOP1, TOP5, KNOWN = range(3)  # the order of the tables that have a row for each method


def page(results: Path) -> str:
    write_tables(results, "shapes")
    return (results / "shapes" / "protocols.md").read_text()


def refusal(results: Path) -> str:
    with pytest.raises(UserError) as caught:
        write_tables(results, "shapes")
    assert not list((results / "shapes").glob("*.md")), "refused tables must not be written in part"
    return str(caught.value)


@pytest.fixture
def everything(tmp_path: Path, write: Writer) -> Path:
    """Every method under every protocol, on one network."""
    for method in ("cam", "gradcam", "backprop"):
        for protocol in (PROTOCOL, RELEASE, TIGHT, HEURISTICS, SWEEP):
            write("squeezenet", method, protocol=protocol)
    return tmp_path


def test_methods_go_down_and_protocols_across(everything: Path) -> None:
    text = page(everything)
    names = ["paper", "release", "release_tight", "release_heuristics"]
    assert rows(text, "method")[TOP1] == [*names, "wsol"]
    assert rows(text, "method")[KNOWN] == [*names, "wsol, best threshold", "wsol, at 20 %"]
    for method in ("cam", "gradcam", "backprop"):
        assert rows(text, method)[TOP1] == ["58.0 ± 3.1"] * 4 + ["–"]
        assert rows(text, method)[TOP5] == ["33.6 ± 3.1"] * 4 + ["–"]
        assert rows(text, method)[KNOWN] == ["63.4 ± 3.1"] * 4 + ["66.0 ± 3.1", "62.2 ± 3.1"]
    assert "not run" not in text


def test_v2_and_both_thresholds_stand_beside(everything: Path) -> None:
    text = page(everything)
    assert rows(text, "method")[3] == ["V1: best threshold", "V2: best threshold", "V2 there", "V2 at 20 %"]
    assert rows(text, "cam")[3] == ["0.345", "0.301", "60.5 ± 3.1", "57.7 ± 3.1"]
    assert rows(text, "floor: a centred box")[1] == ["", "", "24.3", "24.3"]


def test_every_column_has_the_floors_of_its_own_boxes(everything: Path) -> None:
    text = page(everything)
    assert rows(text, "floor: the whole image")[0] == ["8.8"] * 4 + ["8.6"] * 2
    assert rows(text, "floor: a centred box")[0] == ["21.6"] * 4 + ["21.4"] * 2


def test_classification_errors_are_given_by_view(tmp_path: Path, write: Writer) -> None:
    write("squeezenet", "cam")
    write("squeezenet", "cam", protocol=RELEASE, metrics={"cls_top1_error": 38.0})
    write("squeezenet", "gradcam", protocol=RELEASE, metrics={"cls_top1_error": 38.2})
    write("squeezenet", "cam", protocol=HEURISTICS, metrics={"cls_top1_error": 38.0, "cls_top5_error": 12.3})
    text = page(tmp_path)
    assert row(text, "squash, 224 pixels") == ["41.2 ± 3.1", "7.4 ± 3.1", "paper"]
    ten_crop = row(text, "ten_crop, 224 pixels")
    assert ten_crop[0] == "38.00 … 38.20", "methods that differ are shown to"
    assert ten_crop[1] == "7.4 ± 3.1", "five guesses of three classes have no top-5"
    assert ten_crop[2] == "release, release_heuristics"


def test_a_box_counts_once_in_the_sentences(everything: Path, write: Writer) -> None:
    write("squeezenet", "gradcam", protocol=SWEEP, metrics={"max_box_acc_v1": 70.0})
    text = page(everything)
    assert (
        "choice of rule alone moves GT-known by 3.8 points, from 62.2 % (`wsol`, at 20 %) to 66.0 % (`wsol`, best"
        in text
    )
    assert "at most 4.0 points, from 66.0 % (cam) to 70.0 % (gradcam), under `wsol`, best threshold" in text
    assert "No GT-known here is higher than 70.0 %, of `gradcam` under `wsol`, best threshold: above the 21.4 %" in text
    assert "cells above it: 15 of 15" in text, "3 methods × paper, release, release_tight, and wsol twice"


def test_an_empty_cell_says_how_to_fill_it(tmp_path: Path, write: Writer) -> None:
    write("vgg_gap", "cam")
    write("vgg_gap", "backprop_sum", protocol=RELEASE)
    text = page(tmp_path)
    assert rows(text, "cam")[TOP1][:2] == ["58.0 ± 3.1", "not run [1]"]
    assert rows(text, "backprop_sum")[KNOWN][:2] == ["not run [2]", "63.4 ± 3.1"]
    command = "not run: type `make eval-localization data=shapes model=vgg_gap protocol=all"
    assert f"- [1] {command}`." in text
    assert f'- [2] {command} args="method=backprop_sum"`.' in text
    assert rows(text, "floor: a centred box")[0] == ["21.6", "21.6", "", "", "", ""]


def test_a_method_that_the_network_cannot_serve_says_why(tmp_path: Path, write: Writer) -> None:
    write("alexnet", "gradcam")
    write("alexnet", "backprop")
    text = page(tmp_path)
    assert "[1] not run: this network has no class activation map: fully connected layers" in text
    assert rows(text, "cam")[TOP1] == ["not run [1]"] * 5


def test_networks_with_one_result_have_no_section(tmp_path: Path, write: Writer) -> None:
    write("vgg_gap", "cam")
    write("nin", "cam")
    write("nin", "gradcam")
    text = page(tmp_path)
    assert "## NIN (`nin`): shapes, split val, 500 images" in text and "VGG" not in text
    assert "protocols.csv" in [path.name for path in write_tables(tmp_path, "shapes")]


def test_without_a_second_result_there_is_no_page(tmp_path: Path, write: Writer) -> None:
    write("vgg_gap", "cam")
    assert [path.stem for path in write_tables(tmp_path, "shapes")] == ["table1", "table1", "table2", "table2"]


def test_each_section_says_what_its_numbers_come_from(tmp_path: Path, write: Writer) -> None:
    write("vgg_gap", "cam", loc_images=480, provenance=PROVENANCE | {"blacklist": "b1ac"})
    write("vgg_gap", "gradcam", loc_images=480, provenance=PROVENANCE | {"blacklist": "b1ac", "dirty": True})
    text = page(tmp_path)
    assert "- Images scored: 500 of shapes, split val, 480 of them for localization; blacklist: b1ac." in text
    assert "commit `0123456789` (2026-11-22), commit `0123456789` (2026-11-22, uncommitted changes)." in text
    assert "- Weights: `77aa`; data fingerprint: `d00d`." in text
    assert "- Protocol `paper`: view squash, boxes paper, threshold 0.2." in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"split": "train"}, "split (val against train)"),
        ({"images": 499}, "images (500 against 499)"),
        ({"provenance": PROVENANCE | {"blacklist": "b1ac"}}, "blacklist (none against b1ac)"),
    ],
)
def test_other_images_never_share_a_section(
    tmp_path: Path, write: Writer, changes: dict[str, Any], reason: str
) -> None:
    paths = write("vgg_gap", "cam"), write("vgg_gap", "cam", protocol=SWEEP, **changes)
    message = refusal(tmp_path)
    assert reason in message and all(str(path) in message for path in paths)
    assert "make eval-localization data=shapes model=vgg_gap protocol=wsol" in message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"protocol": PROTOCOL | {"view": "center_crop"}}, "protocol.view (squash against center_crop)"),
        ({"protocol": PROTOCOL | {"threshold": 0.15}}, "protocol.threshold (0.2 against 0.15)"),
        ({"input_size": 448}, "input_size (224 against 448)"),
        ({"metrics": {"floor_centre_box": 20.0}}, "floor_centre_box of the images (21.6 against 20.0)"),
    ],
)
def test_a_column_holds_one_protocol_as_it_is(
    tmp_path: Path, write: Writer, changes: dict[str, Any], reason: str
) -> None:
    write("vgg_gap", "cam")
    write("vgg_gap", "gradcam", **changes)
    assert reason in refusal(tmp_path)


@pytest.mark.parametrize(
    ("key", "reason"),
    [("weights", "weights (77aa against new)"), ("data", "data fingerprint (d00d against new)")],
)
def test_results_from_before_a_training_get_no_tables_and_leave_the_others_theirs(
    tmp_path: Path, write: Writer, key: str, reason: str
) -> None:
    write("vgg_gap", "cam", protocol=RELEASE)
    write("vgg_gap", "gradcam", protocol=TIGHT, provenance=PROVENANCE | {key: "new"})
    write("nin", "cam"), write("nin", "gradcam")
    text = page(tmp_path)
    assert f"`localization-cam-release.json` and `localization-gradcam-release_tight.json` differ in {reason}" in text
    assert len(rows(text, "cam")) == 3, "NIN's alone: top-1, top-5, GT-known"
    with (tmp_path / "shapes" / "protocols.csv").open() as file:
        refused = [line for line in file if line.startswith("vgg_gap")]
    assert all(",refused," in line and "63.4" not in line for line in refused)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"thresholds": {"v1": 0.3}}, "no fraction at thresholds.v2 (found None)"),
        ({"thresholds": {"v1": 1.3, "v2": 0.2}}, "no fraction at thresholds.v1 (found 1.3)"),
        ({"metrics": {"max_box_acc_v2": None}}, "no percentage at metrics.max_box_acc_v2 (found None)"),
        ({"confidence": {"max_box_acc_v1": [9]}}, "no interval [low, high] at confidence.max_box_acc_v1 (found [9])"),
    ],
)
def test_an_unfit_sweep_is_refused(tmp_path: Path, write: Writer, changes: dict[str, Any], reason: str) -> None:
    write("vgg_gap", "cam")
    path = write("vgg_gap", "cam", protocol=SWEEP, **changes)
    message = refusal(tmp_path)
    assert reason in message and str(path) in message


def test_the_csv_has_a_line_for_every_cell(everything: Path) -> None:
    (everything / "shapes" / "squeezenet" / "localization-gradcam-wsol.json").unlink()
    write_tables(everything, "shapes")
    path = everything / "shapes" / "protocols.csv"
    assert len(path.read_text().splitlines()) == 1 + 15
    lines = csv_rows(path, "protocol")  # of backprop, the last method
    assert (lines["paper"]["gt_known_loc"], lines["paper"]["gt_known_loc_high"]) == ("63.4", "44.3")
    assert (lines["wsol"]["threshold_v1"], lines["wsol"]["max_box_acc_v2"]) == ("0.345", "60.5")
    assert lines["release_heuristics"]["cls_top5_error"] == ""
    (gap,) = [line for line in path.read_text().splitlines() if line.startswith("squeezenet,gradcam,wsol")]
    assert "not run,type `make eval-localization" in gap


def test_the_same_results_give_the_same_bytes(everything: Path) -> None:
    paths = write_tables(everything, "shapes")
    first = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_tables(everything, "shapes")] == first
