"""Tables that put a result beside the paper's, or refuse to."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cam_repro import UserError
from cam_repro.reporting.tables import build_tables, render_markdown, write_tables

METRICS = {
    "classification": {"cls_top1_error": 41.2, "cls_top5_error": 7.4},
    "localization": {
        "loc_top1_error": 58.0,
        "loc_top5_error": 33.6,
        "gt_known_loc": 63.4,
        "loc_given_cls": 71.43,
        "floor_whole_image": 8.8,
        "floor_centre_box": 21.6,
    },
}
PROTOCOL = {"name": "paper", "view": "squash", "boxes": "paper", "threshold": 0.2}
PROVENANCE = {"commit": "0123456789abcdef", "dirty": False, "date": "2026-11-22T10:00:00Z"}

Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Writes one result file at its place; keywords replace whole keys, `metrics` only those named."""

    def write_result(
        model: str, method: str | None = None, data: str = "shapes", file: str = "", **changes: Any
    ) -> Path:
        kind = "localization" if method else "classification"
        metrics = METRICS[kind] | changes.pop("metrics", {})
        document = {
            "schema": 1,
            "model": model,
            "data": data,
            "split": "val",
            "images": 500,
            "input_size": 224,
            "method": method,
        }
        document |= {"protocol": PROTOCOL, "metrics": metrics, "provenance": PROVENANCE}
        document["confidence"] = {name: [38.1, 44.3] for name in metrics if not name.startswith("floor")}
        protocol = changes.get("protocol", PROTOCOL)["name"]
        name = file or (f"{kind}-{method}-{protocol}.json" if method else f"{kind}.json")
        path = tmp_path / data / model / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document | changes))
        return path

    return write_result


def markdown(results: Path, number: int, data: str = "shapes", protocol: str = "paper") -> str:
    return render_markdown(build_tables(results, data, protocol)[number - 1])


def row(text: str, title: str) -> list[str]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    (found,) = [cells for cells in lines if cells[0].strip() == title]
    return found[1:]


def refusal(results: Path, data: str = "shapes") -> str:
    with pytest.raises(UserError) as caught:
        write_tables(results, data)
    assert "\n" not in str(caught.value)
    assert not list(results.glob("*/table*")), "a refused table must not be written in part"
    return str(caught.value)


def csv_rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {line["network"]: line for line in csv.DictReader(file)}


def test_a_row_without_a_result_says_not_run(tmp_path: Path, write: Writer) -> None:
    write("alexnet_gap")
    text = markdown(tmp_path, 1)
    assert row(text, "VGGnet-GAP") == ["not run", "", "33.4 / 12.2"]
    assert "Rows with a result: 1 of 9." in text
    assert "Rows with a result: 0 of 10." in markdown(tmp_path, 2)


def test_a_subset_is_named_in_the_title_and_gets_no_differences(tmp_path: Path, write: Writer) -> None:
    write("alexnet_gap", data="ilsvrc", images=1300)
    write("alexnet_gap", "cam", data="ilsvrc", images=1300)
    _, _, _, path = write_tables(tmp_path, "ilsvrc")
    for number in (1, 2):
        text = markdown(tmp_path, number, "ilsvrc")
        assert "ilsvrc, split val, 1,300 images" in text.splitlines()[0]
        assert "paper (ILSVRC val, context only)" in text
        assert "difference" not in text
    assert row(markdown(tmp_path, 1, "ilsvrc"), "AlexNet-GAP") == ["41.2 ± 3.1", "7.4 ± 3.1", "51.1 / 26.3"]
    assert csv_rows(path)["AlexNet-GAP"]["loc_top1_error_difference"] == ""


@pytest.mark.parametrize("changes", [{"split": "train"}, {"images": 49_999}, {"data": "imagenette"}])
def test_only_all_of_ilsvrc_val_is_compared_with_the_paper(
    tmp_path: Path, write: Writer, changes: dict[str, Any]
) -> None:
    write("vgg_gap", **({"data": "ilsvrc", "images": 50_000} | changes))
    assert "difference" not in markdown(tmp_path, 1, changes.get("data", "ilsvrc"))


def test_full_ilsvrc_val_gives_differences(tmp_path: Path, write: Writer) -> None:
    write("vgg_gap", data="ilsvrc", images=50_000, metrics={"cls_top1_error": 33.0})
    write("vgg", "backprop", data="ilsvrc", images=50_000)
    one, two = markdown(tmp_path, 1, "ilsvrc"), markdown(tmp_path, 2, "ilsvrc")
    assert "ILSVRC val, 50,000 images" in one.splitlines()[0]
    assert row(one, "VGGnet-GAP") == ["33.4", "33.0 ± 3.1", "−0.4", "12.2", "7.4 ± 3.1", "−4.8"]
    assert row(two, "Backprop on VGGnet")[:3] == ["61.12", "58.0 ± 3.1", "−3.1"]
    assert row(two, "Backprop on VGGnet")[6:] == ["63.4 ± 3.1", "56.5", "71.4 ± 3.1", "+14.9"]


def test_localization_without_the_blacklisted_images_is_still_full_val(tmp_path: Path, write: Writer) -> None:
    write("vgg_gap", "cam", data="ilsvrc", images=48_238)
    assert "difference" in markdown(tmp_path, 2, "ilsvrc")


def test_gt_known_stands_above_the_floors_of_the_same_images(tmp_path: Path, write: Writer) -> None:
    write("alexnet_gap", "cam")
    text = markdown(tmp_path, 2)
    assert row(text, "AlexNet-GAP")[2] == "63.4 ± 3.1"
    assert row(text, "floor: the whole image") == ["", "", "8.8", "", ""]
    assert row(text, "floor: a centred box") == ["", "", "21.6", "", ""]


def test_a_network_that_is_not_in_the_paper_is_appended(tmp_path: Path, write: Writer) -> None:
    write("squeezenet")
    write("squeezenet", "backprop")
    assert row(markdown(tmp_path, 1), "squeezenet") == ["41.2 ± 3.1", "7.4 ± 3.1", "—"]
    assert row(markdown(tmp_path, 2), "Backprop on squeezenet")[-1] == "—"


def test_a_method_that_is_not_in_the_paper_for_a_network_is_appended(tmp_path: Path, write: Writer) -> None:
    write("vgg_gap", "cam")
    write("vgg_gap", "backprop")
    assert row(markdown(tmp_path, 2), "Backprop on VGGnet-GAP")[-1] == "—"


def test_no_right_class_leaves_the_share_of_boxes_undefined(tmp_path: Path, write: Writer) -> None:
    write("alexnet_gap", "cam", metrics={"loc_given_cls": None}, confidence={})
    assert row(markdown(tmp_path, 2), "AlexNet-GAP") == [
        "58.0",
        "33.6",
        "63.4",
        "undefined",
        "67.19 / 52.16 / — / 67.1",
    ]


def test_the_footer_says_protocol_images_commits_and_dates(tmp_path: Path, write: Writer) -> None:
    write("alexnet_gap", "cam")
    write("vgg_gap", "cam", provenance=PROVENANCE | {"dirty": True, "commit": "fedcba9876543210"})
    text = markdown(tmp_path, 2)
    assert "- Protocol `paper`: view squash, boxes paper, threshold 0.2." in text
    assert "- Images scored: 500 of shapes, split val." in text
    assert "commit `0123456789` (2026-11-22), commit `fedcba9876` (2026-11-22, uncommitted changes)." in text
    assert text.endswith("- Generated by `make tables`; do not edit.\n")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"protocol": PROTOCOL | {"threshold": 0.15}}, "protocol.threshold (0.2 against 0.15)"),
        ({"protocol": PROTOCOL | {"view": "ten_crop"}}, "protocol.view (squash against ten_crop)"),
        ({"split": "train"}, "split (val against train)"),
        ({"images": 499}, "images (500 against 499)"),
        ({"metrics": {"floor_centre_box": 20.0}}, "floor_centre_box of the images (21.6 against 20.0)"),
    ],
)
def test_rows_that_cannot_be_compared_are_refused(
    tmp_path: Path, write: Writer, changes: dict[str, Any], reason: str
) -> None:
    paths = write("alexnet_gap", "cam"), write("vgg", "backprop", **changes)
    message = refusal(tmp_path)
    assert all(str(path) in message for path in paths)
    assert reason in message
    assert 'make eval-localization data=shapes model=vgg protocol=paper args="method=backprop"' in message


def test_classifications_of_different_views_are_refused(tmp_path: Path, write: Writer) -> None:
    write("alexnet_gap")
    write("vgg_gap", protocol=PROTOCOL | {"view": "center_crop"})
    assert "protocol.view (squash against center_crop)" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": 2}, "has schema 2, this version reads 1"),
        (
            {"data": "imagenette", "file": "../../shapes/vgg_gap/classification.json"},
            "says data is 'imagenette'",
        ),
        ({"model": "vgg", "file": "../vgg_gap/classification.json"}, "says model is 'vgg'"),
        ({"images": "500"}, "has no valid 'images'"),
        ({"metrics": {"cls_top5_error": None}}, "no percentage at metrics.cls_top5_error (found None)"),
        (
            {"metrics": {"cls_top1_error": float("nan")}},
            "no percentage at metrics.cls_top1_error (found nan)",
        ),
        (
            {"confidence": {"cls_top1_error": [44.3, 38.1]}},
            "no interval [low, high] at confidence.cls_top1_error",
        ),
        ({"confidence": {"cls_top1_error": [1]}}, "no interval [low, high] at confidence.cls_top1_error"),
    ],
)
def test_an_unfit_file_is_refused_by_name_and_key(
    tmp_path: Path, write: Writer, changes: dict[str, Any], reason: str
) -> None:
    (tmp_path / "shapes" / "vgg_gap").mkdir(parents=True)
    write(**({"model": "vgg_gap"} | changes))
    message = refusal(tmp_path)
    assert str(tmp_path / "shapes" / "vgg_gap" / "classification.json") in message
    assert reason in message
    assert "make eval-classification data=shapes model=vgg_gap" in message


def test_a_localization_under_another_methods_name_is_refused(tmp_path: Path, write: Writer) -> None:
    write("vgg", "gradcam", file="localization-cam-paper.json")
    assert "says method is 'gradcam', but its place says 'cam'" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b'{"schema": 1', b"\xff\xfe", b"[]"])
def test_broken_json_is_refused(tmp_path: Path, write: Writer, content: bytes) -> None:
    path = write("vgg_gap")
    path.write_bytes(content)
    assert str(path) in refusal(tmp_path)


def test_a_data_set_without_results_says_what_to_type(tmp_path: Path) -> None:
    assert "make eval-classification data=shapes" in refusal(tmp_path)


def test_the_csv_holds_exact_values_and_interval_ends(tmp_path: Path, write: Writer) -> None:
    write("vgg_gap", "cam", data="ilsvrc", images=50_000, metrics={"loc_top1_error": 57.123456789})
    rows = csv_rows(write_tables(tmp_path, "ilsvrc")[3])
    vgg = rows["VGGnet-GAP"]
    assert (vgg["model"], vgg["method"], vgg["status"], vgg["images"]) == ("vgg_gap", "cam", "run", "50000")
    assert (vgg["loc_top1_error"], vgg["loc_top1_error_low"]) == ("57.123456789", "38.1")
    assert float(vgg["loc_top1_error_difference"]) == pytest.approx(57.123456789 - 57.2, abs=1e-6)
    assert (vgg["gt_known_loc"], vgg["floor_whole_image"]) == ("63.4", "8.8")
    assert (rows["NIN"]["status"], rows["NIN"]["loc_top1_error"]) == ("not run", "")


def test_the_same_results_give_the_same_bytes_and_leave_no_other_file(tmp_path: Path, write: Writer) -> None:
    for model in ("vgg_gap", "alexnet_gap", "squeezenet"):
        write(model), write(model, "cam")
    paths = write_tables(tmp_path, "shapes")
    first = [path.read_bytes() for path in paths]
    assert write_tables(tmp_path, "shapes") == paths
    assert [path.read_bytes() for path in paths] == first
    files = sorted(path.name for path in (tmp_path / "shapes").iterdir() if path.is_file())
    assert files == ["table1.csv", "table1.md", "table2.csv", "table2.md"]


def test_each_protocol_has_a_table_2_of_its_own(tmp_path: Path, write: Writer) -> None:
    write("vgg_gap", "cam")
    write("vgg_gap", "cam", protocol=PROTOCOL | {"name": "release", "view": "ten_crop"})
    assert "table2-release.md" in [path.name for path in write_tables(tmp_path, "shapes", "release")]
    assert "Protocol `release`: view ten_crop" in markdown(tmp_path, 2, protocol="release")


def test_plain_text_columns_line_up(tmp_path: Path, write: Writer) -> None:
    write("alexnet_gap", "cam")
    lines = [line for line in markdown(tmp_path, 2).splitlines() if line.startswith("|")]
    assert len({tuple(i for i, sign in enumerate(line) if sign == "|") for line in lines}) == 1
