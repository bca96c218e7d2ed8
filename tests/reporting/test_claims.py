"""The paper's sentences held against results."""

from __future__ import annotations

import csv
import json
from math import inf
from pathlib import Path

import numpy as np
import pytest

from cam_repro import UserError
from cam_repro.localization.errors import ScoredImages, summarise
from cam_repro.reporting.claims import verdict
from cam_repro.reporting.tables import write_tables

IMAGES = 200


def write(
    results: Path,
    model: str,
    right: int,
    *,
    name: str | None = None,
    data: str = "1mages",
    new_lr: float = 1,
    **more: str,
) -> None:
    """A result by the paper's protocol in which the first `right` images are right, class and boxes."""
    training = {"name": "finetune", "epochs": 8, "new_lr": new_lr, "seed": int("seed1" in str(name))}
    columns = (np.arange(IMAGES) < right)[:, None].repeat(5, axis=1)
    counted = np.ones(IMAGES, bool)
    scored = ScoredImages(columns, columns, counted, ~counted, *[columns[:, 0]] * 3)
    record = {
        "schema": 1, "model": model, "data": "imagenette", "split": "val", "input_size": 224, "method": "cam",
        "images": IMAGES, "protocol": {"name": "paper", "view": "squash", "boxes": "paper", "guesses": "loose"},
        "metrics": summarise(scored) | {"floor_whole_image": 40.0, "floor_centre_box": 50.0}, "confidence": {},
        "provenance": {"weights": f"weights of {name or model}", "data": data, "commit": "c0ffee"}
        | {"training": training} | more,
    }  # fmt: skip
    if name:
        record["name"] = name
    path = results / "imagenette" / (name or model) / "localization-cam-paper.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    judged = {key: column for key, column in vars(scored).items() if column is not None}
    np.savez_compressed(path.with_suffix(".npz"), **judged)


def claims(results: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    write_tables(results, "imagenette")
    with (results / "imagenette/claims.csv").open() as file:
        return {(row["claim"], row["metric"], row["recipe"]): row for row in csv.DictReader(file)}


def test_a_claim_is_judged_by_the_paired_interval_of_the_mean_over_seeds_of_one_recipe(tmp_path: Path) -> None:
    write(tmp_path, "efficientnet_lite0", 120)
    write(tmp_path, "efficientnet_lite0_gap", 139)
    write(tmp_path, "efficientnet_lite0_gap", 141, name="efficientnet_lite0_gap-seed1")
    write(tmp_path, "efficientnet_lite0_gap", 10, name="wider", network="another")  # of other settings, no other seed
    write(tmp_path, "efficientnet_lite0_gmp", 139)
    for cut, right in (("gap", 180), ("gmp", 100)):
        write(tmp_path, f"efficientnet_lite0_{cut}", right, name=f"{cut}-faster", new_lr=10)
    found = claims(tmp_path)
    slow, fast = "finetune new_lr=1", "finetune new_lr=10"
    surgery = found["CAM after surgery is better than on the original", "loc_top1_error", slow]
    assert (surgery["paper_one"], surgery["paper_two"], surgery["runs_two"]) == ("60.09", "56.4", "2")
    assert [float(surgery[key]) for key in ("one", "two", "difference")] == pytest.approx([40, 30, -10])
    assert -15 < float(surgery["low"]) < -10 < float(surgery["high"]) < -5 and surgery["verdict"] == "holds"
    assert found["surgery for GAP costs some classification", "cls_top1_error", slow]["verdict"] == "contradicted"
    assert found["… no more than 2 points of it", "cls_top5_error", slow]["verdict"] == "holds"
    gap_or_gmp = [found["GAP localizes better than GMP", "loc_top1_error", recipe] for recipe in (slow, fast)]
    assert [row["verdict"] for row in gap_or_gmp] == ["undecided", "holds"]
    assert [float(row["difference"]) for row in gap_or_gmp] == pytest.approx([-0.5, -40])
    assert "| holds |" in " ".join((tmp_path / "imagenette/claims.md").read_text().split())
    assert not any("backprop" in says for says, *_ in found)  # nothing was measured
    assert [claim for claim, _, recipe in found if recipe == fast] == ["GAP localizes better than GMP"] * 2


def test_results_of_other_images_and_without_judgements_make_no_claim(tmp_path: Path) -> None:
    write(tmp_path, "efficientnet_lite0", 120)
    write(tmp_path, "efficientnet_lite0_gap", 140, data="others")
    write(tmp_path, "efficientnet_lite0_gmp", 140)
    (tmp_path / "imagenette/efficientnet_lite0_gmp/localization-cam-paper.npz").unlink()
    (tmp_path / "imagenette/claims.md").write_text("of results that are gone")
    write_tables(tmp_path, "imagenette")
    assert not (tmp_path / "imagenette/claims.md").exists()


def test_damaged_judgements_are_one_line(tmp_path: Path) -> None:
    for model in ("efficientnet_lite0", "efficientnet_lite0_gap"):
        write(tmp_path, model, 120)
    path = tmp_path / "imagenette/efficientnet_lite0/localization-cam-paper.npz"
    whole = path.read_bytes()
    for damage in (b"", b"no archive", whole[:-40], whole[:200] + b"\0" * 50 + whole[250:]):
        path.write_bytes(damage)
        with pytest.raises(UserError, match=r"what was right on each image .* damaged; evaluate again with force=true"):
            write_tables(tmp_path, "imagenette")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-3, -1, "holds"), (-3, 0, "undecided"), (1, 3, "contradicted"), (-1, 3, "undecided")],
)
def test_verdicts_on_a_lower_error(low: float, high: float, expected: str) -> None:
    assert verdict(low, high, (-inf, 0)) == expected
