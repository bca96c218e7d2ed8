"""The leaderboard: which runs share a row, where the baselines stand, and what measures a row."""

from __future__ import annotations

from pathlib import Path

import pytest
from result_files import HEURISTICS, PROVENANCE, Writer

from cam_repro.config import written_recipe
from cam_repro.reporting.leaderboard import (
    cells_of_leaderboard,
    commands_of,
    leaderboard,
    write_leaderboard,
)
from cam_repro.reporting.results import read_results

SCRATCH = {"name": "scratch", "epochs": 30, "seed": 0, "commit": "c0", "epochs_done": 30}


def _trained(**changes: object) -> dict[str, object]:
    return PROVENANCE | {"training": SCRATCH | changes}


def _rows(results: Path) -> dict[tuple[str, str, str], list[str]]:
    heading, *rows = cells_of_leaderboard(leaderboard(read_results(results / "shapes")))
    assert heading[4] == "GT-known ↑"
    return {(row[0], row[1], row[2]): row[3:] for row in rows}


def test_runs_that_differ_in_their_seed_alone_share_a_row(write: Writer, tmp_path: Path) -> None:
    for seed, gt_known in enumerate((30.0, 40.0, 44.0)):
        metrics = {"gt_known_loc": gt_known}
        provenance = _trained(seed=seed, commit=f"c{seed}")
        name = f"alexnet_gap-seed{seed}"
        write("alexnet_gap", "cam", name=name, metrics=metrics, provenance=provenance)
    of_fewer_units = _trained() | {"network": "units=512"}
    write("alexnet_gap", "cam", name="narrow", provenance=of_fewer_units)
    write(
        "alexnet_gap",
        "cam",
        name="later",
        provenance=_trained(val_size=None, seed=9),
        metrics={"gt_known_loc": 38.0},
    )
    faster = _trained(new_lr=10.0)
    write("alexnet_gap", "cam", name="faster", provenance=faster, metrics={"gt_known_loc": 15.0})
    rows = _rows(tmp_path)
    runs, gt_known, *_ = rows["AlexNet-GAP", "scratch, 30 epochs", "cam"]
    assert (runs, gt_known) == ("4", "38.0 (30.0 … 44.0)")
    of_faster = rows["AlexNet-GAP", "scratch, 30 epochs, new layers 10 × as fast", "cam"]
    assert of_faster[:2] == ["1", "**15.0 ± 1.0**"]  # the centred box has 21.6


def test_the_baselines_stand_where_they_belong(write: Writer, tmp_path: Path) -> None:
    write("alexnet_gap", "cam", metrics={"gt_known_loc": 30.0})
    write("vgg_gap", "cam", metrics={"gt_known_loc": 10.0})
    names = [name for name, _, _ in _rows(tmp_path)]
    assert names == ["AlexNet-GAP", "centred box", "VGGnet-GAP", "whole image"]


def test_other_protocols_and_other_images_are_no_rows(write: Writer, tmp_path: Path) -> None:
    write("alexnet_gap", "cam")
    write("vgg_gap", "cam")
    write("googlenet_gap", "cam", protocol=HEURISTICS)
    write("nin", "cam")
    write("alexnet_gap", "cam", metrics={"baseline_centre_box": 50.0})  # the first by name
    rows = _rows(tmp_path)
    names = {name for name, _, _ in rows}
    assert names == {"NIN", "VGGnet-GAP", "centred box", "whole image"}
    assert rows["centred box", "–", "–"][1] == "21.6"


def test_a_training_that_was_not_recorded_is_no_obstacle(write: Writer, tmp_path: Path) -> None:
    write("vgg_gap", "cam", provenance=PROVENANCE | {"training": {"epochs_done": 1}})
    assert ("VGGnet-GAP", "by an unknown recipe", "cam") in _rows(tmp_path)


def test_images_that_were_shrunk_otherwise_are_told_apart(write: Writer, tmp_path: Path) -> None:
    write("vgg_gap", "cam")
    write("vgg_gap", "gradcam", interpolation="bicubic")
    write("nin", "cam")
    names = {name for name, _, method in _rows(tmp_path) if method != "–"}
    assert names == {"VGGnet-GAP (bilinear)", "VGGnet-GAP (bicubic)", "NIN"}


def test_a_row_has_the_command_that_trains_and_measures_it(write: Writer, tmp_path: Path) -> None:
    trained = _trained(seed=2, epochs=12, sizes=[64, 96, 128, 160])
    write("alexnet_gap", "gradcam", name="mine", provenance=trained)
    write("timm-resnet18", "cam", data="pets")
    (command,) = commands_of(leaderboard(read_results(tmp_path / "shapes")))
    assert command == (
        "make train data=shapes model=alexnet_gap name=mine recipe=scratch recipe.epochs=12 seed=2"
        " && make eval-localization data=shapes model=alexnet_gap name=mine method=gradcam"
    )
    (command,) = commands_of(leaderboard(read_results(tmp_path / "pets")))
    assert command == ("make eval-localization data=… data.name=pets model=timm/resnet18 weights=…")


def test_it_has_a_table_of_each_data_set(write: Writer, tmp_path: Path) -> None:
    assert write_leaderboard(tmp_path) is None
    write("alexnet_gap", "cam")
    write("alexnet_gap", None, data="without_boxes")
    write("vgg_gap", "cam", data="pets", images=9, loc_images=7)
    path = write_leaderboard(tmp_path)
    assert path == tmp_path / "leaderboard.md"
    text = path.read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## pets val, 7 images with boxes", "## shapes val, 500 images with boxes"]
    assert "1. `make eval-localization data=shapes model=alexnet_gap weights=…`" in text


def test_a_damaged_record_of_another_data_set_is_passed_over_and_said(
    write: Writer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write("alexnet_gap", "cam")
    write("vgg_gap", "cam", data="pets").write_text("{")
    assert "shapes val" in write_leaderboard(tmp_path).read_text()
    assert f"{tmp_path / 'pets'} is passed over: " in capsys.readouterr().out


def test_a_recipe_that_begins_with_another_has_its_settings() -> None:
    short = written_recipe("finetune_short")
    assert (short.name, short.epochs, short.sizes) == ("finetune_short", 2, [112])
    assert short.new_lr == written_recipe("finetune_small").new_lr == 10
