"""The paper's sentences held against results."""

from __future__ import annotations

import csv
import shutil
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from result_files import PROVENANCE, Writer

from cam_repro import UserError
from cam_repro.localization.errors import Correctness, summarise
from cam_repro.reporting.paper import verdict
from cam_repro.reporting.tables import write_tables

IMAGES = 200


@pytest.fixture
def judge(write: Writer) -> Writer:
    """Writes a result in which the first `right` images are right, class and boxes."""

    def judge(
        model: str,
        right: int,
        *,
        new_lr: float = 1,
        done: int = 8,
        more: dict[str, str] | None = None,
        **name: Any,
    ) -> Path:
        columns = (np.arange(IMAGES) < right)[:, None].repeat(5, axis=1)
        counted = np.ones(IMAGES, bool)
        scored = Correctness(columns, counted, ~counted, columns, *[columns[:, 0]] * 3)
        training = {"name": "finetune", "epochs": 8, "epochs_done": done, "new_lr": new_lr}
        training["seed"] = int("seed1" in str(name))
        own = {"weights": f"of {model}{name}", "training": training}
        provenance = PROVENANCE | own | (more or {})
        metrics = summarise(scored) | {"baseline_whole_image": 40.0, "baseline_centre_box": 50.0}
        path = write(
            model,
            "cam",
            metrics=metrics,
            confidence={},
            images=IMAGES,
            provenance=provenance,
            **name,
        )
        judged = {key: column for key, column in vars(scored).items() if column is not None}
        np.savez_compressed(path.with_suffix(".npz"), **judged)
        return path

    return judge


def claims(results: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    write_tables(results, "shapes")
    with (results / "shapes/claims.csv").open() as file:
        return {(row["claim"], row["metric"], row["recipe"]): row for row in csv.DictReader(file)}


def test_a_claim_is_judged_by_the_paired_interval_of_the_mean_over_seeds_of_one_recipe(
    tmp_path: Path, judge: Writer
) -> None:
    judge("efficientnet_lite0", 120)
    judge("efficientnet_lite0_gap", 139)
    judge("efficientnet_lite0_gap", 141, name="efficientnet_lite0_gap-seed1")
    judge(
        "efficientnet_lite0_gap", 10, name="wider", more={"network": "another"}
    )  # of other settings, no other seed
    judge("efficientnet_lite0_gmp", 139)
    for cut, right in (("gap", 180), ("gmp", 100)):
        judge(f"efficientnet_lite0_{cut}", right, name=f"{cut}-faster", new_lr=10)
    found = claims(tmp_path)
    slow, fast = "finetune new_lr=1", "finetune new_lr=10"
    surgery = found["CAM after surgery is better than on the original", "loc_top1_error", slow]
    published = [surgery[key] for key in ("paper_one", "paper_two")]
    assert published == ["60.09", "56.4"] and surgery["runs_two"] == "2"
    measured = [float(surgery[key]) for key in ("one", "two", "difference")]
    assert measured == pytest.approx([40, 30, -10])
    assert -15 < float(surgery["low"]) < -10 < float(surgery["high"]) < -5
    assert surgery["verdict"] == "holds"
    costs = found["surgery for GAP costs some classification", "cls_top1_error", slow]
    assert costs["verdict"] == "contradicted"
    assert found["… no more than 2 points of it", "cls_top5_error", slow]["verdict"] == "holds"
    gap_or_gmp = [
        found["GAP localizes better than GMP", "loc_top1_error", recipe] for recipe in (slow, fast)
    ]
    assert [row["verdict"] for row in gap_or_gmp] == ["undecided", "holds"]
    assert [float(row["difference"]) for row in gap_or_gmp] == pytest.approx([-0.5, -40])
    assert "| holds |" in " ".join((tmp_path / "shapes/claims.md").read_text().split())
    assert not any("backprop" in says for says, *_ in found)  # nothing was measured
    assert [claim for claim, _, recipe in found if recipe == fast] == [
        "GAP localizes better than GMP"
    ] * 2


def test_results_of_other_images_and_without_correctness_make_no_claim(
    tmp_path: Path, judge: Writer
) -> None:
    judge("efficientnet_lite0", 120)
    judge("efficientnet_lite0_gap", 140, more={"data": "others"})
    judge("efficientnet_lite0_gmp", 140)
    (tmp_path / "shapes/efficientnet_lite0_gmp/localization-cam-paper.npz").unlink()
    (tmp_path / "shapes/claims.md").write_text("of results that are gone")
    write_tables(tmp_path, "shapes")
    assert not (tmp_path / "shapes/claims.md").exists()


def test_an_unfinished_training_makes_no_claim_which_is_said(tmp_path: Path, judge: Writer) -> None:
    judge("efficientnet_lite0", 120)
    judge("efficientnet_lite0_gmp", 100)
    judge("efficientnet_lite0_gap", 140)
    judge("efficientnet_lite0_gap", 10, name="stopped", done=2)
    found = claims(tmp_path)["GAP localizes better than GMP", "loc_top1_error", "finetune"]
    assert (found["runs_two"], float(found["two"])) == ("1", pytest.approx(30))
    said = (tmp_path / "shapes/claims.md").read_text()
    assert "- Left out: 1 of 4 results, whose trainings are unfinished.\n" in said
    assert "(stopped, 2 of 8 epochs)" in (tmp_path / "shapes/table2.md").read_text()
    shutil.rmtree(tmp_path / "shapes/stopped")
    claims(tmp_path)
    assert "Left out" not in (tmp_path / "shapes/claims.md").read_text()


def test_damaged_correctness_are_one_line(tmp_path: Path, judge: Writer) -> None:
    for model in ("efficientnet_lite0", "efficientnet_lite0_gap"):
        judge(model, 120)
    path = tmp_path / "shapes/efficientnet_lite0/localization-cam-paper.npz"
    whole = path.read_bytes()
    for damage in (b"", b"no archive", whole[:-40], whole[:200] + b"\0" * 50 + whole[250:]):
        path.write_bytes(damage)
        with pytest.raises(UserError) as caught:
            write_tables(tmp_path, "shapes")
        said = "what was right on each image, is not there or damaged; evaluate again with force="
        assert said in str(caught.value)


def test_an_interval_that_touches_the_claims_range_is_undecided() -> None:
    verdicts = [verdict(low, high, (-inf, 0)) for low, high in ((-3, -1), (-3, 0), (1, 3))]
    assert verdicts == ["holds", "undecided", "contradicted"]
