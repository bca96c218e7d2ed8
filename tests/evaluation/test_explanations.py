"""Metrics of maps as explanations, from the network to the record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import Settings, evaluated
from random_networks import configured, random_network

from cam_repro import UserError
from cam_repro.data.split import load_arrays
from cam_repro.evaluation import evaluate as evaluations
from cam_repro.evaluation.explanations import Faithfulness, Pointing
from cam_repro.evaluation.metric import ImageFacts
from cam_repro.evaluation.spec import localization_specs, open_evaluations
from cam_repro.localization.faithfulness import Perturbation
from cam_repro.localization.methods import METHODS
from cam_repro.networks import CamNetwork
from cam_repro.reporting.methods_table import methods_tables
from cam_repro.reporting.results import read_results

FEW = ("protocol.steps=3", "protocol.percentiles=[20]", "protocol.images=3")
COPIES = 2 * (3 - 1) + 2 + 2  # of an image and method: both orders without ends, two masks, ROAD


@pytest.fixture
def config(tmp_path: Path, tiny_shapes: Path) -> Settings:
    """config("protocol=faithfulness", …) of a random network at 48 pixels."""
    random_network(tmp_path, tiny_shapes)

    def make(*overrides: str) -> object:
        return configured(tmp_path, tiny_shapes, "name=one", *overrides)

    return make


# --- pointing


def test_an_images_pointing_is_of_the_true_classs_map_in_its_own_pixels() -> None:
    maps = np.zeros((1, 2, 4, 4), np.float32)
    maps[0, 0, 3, 3] = 9  # of the best class
    maps[0, 1, 0, 0] = 5  # of the true one
    box = np.array([[0, 0, 19, 9]])
    found = Pointing("bilinear", 0).of_image(maps, ImageFacts((80, 40), box))
    assert found["pointing_game"] == 1 and found["energy_inside"] > 0.5
    found = Pointing("bilinear", 0).of_image(maps[:, ::-1], ImageFacts((80, 40), box))
    assert found["pointing_game"] == 0 and found["energy_inside"] == 0


def test_an_image_without_a_box_is_left_out_of_pointing_and_counted(config: Settings) -> None:
    (evaluation,) = open_evaluations(config("protocol=pointing"))
    split = evaluation.split
    starts = split.box_starts.copy()
    starts[1:] -= starts[1]
    split = replace(split, boxes=split.boxes[split.box_starts[1] :], box_starts=starts)
    rows = {
        "pointing_game": np.arange(len(split)) % 2,
        "energy_inside": np.full(len(split), 0.25),
    }
    scores = Pointing("bicubic", 0).compute(rows, split, frozenset())
    assert scores.counts["without_true_box"] == 1
    assert scores.metrics["energy_inside"] == 25
    assert scores.metrics["pointing_game"] == pytest.approx(100 * rows["pointing_game"][1:].mean())
    assert scores.confidence["energy_inside"] == [25, 25]


# --- what asks the network


def test_all_methods_and_baselines_are_scored_on_the_same_images_with_one_pass_of_each(
    config: Settings,
) -> None:
    seen = 0
    forward = CamNetwork.forward

    def counting(network: CamNetwork, images: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        seen += len(images)
        return forward(network, images)

    # Score-CAM's own masked images would be counted too.
    methods = {}
    for name, method in METHODS.items():
        if name != "scorecam" and not method.of_attention:
            methods[name] = method
    with (
        mock.patch.object(CamNetwork, "forward", counting),
        mock.patch("cam_repro.evaluation.spec.METHODS", methods),
    ):
        records = evaluated(config("protocol=faithfulness", "method=all", *FEW))
    assert {record["method"] for record in records} == set(methods)
    assert seen == 3 * len(methods) * COPIES + 2 * 3  # and the ends, once for all methods
    for record in records:
        assert record["images"] == 3 and record["protocol"]["images"] == 3
        assert record["protocol"]["name"] == "faithfulness-steps3-percentiles20-images3"
        assert set(record["definitions"]) == set(Faithfulness.names)
        assert "in 3 equal parts" in record["definitions"]["insertion"]
        assert "lower is better" in record["definitions"]["deletion"]
    by_method = {record["method"]: record["metrics"] for record in records}
    assert by_method["uniform"]["average_drop"] == 0
    centre, cam = by_method["centre"], by_method["cam"]
    assert centre["insertion"] != cam["insertion"]


def test_the_table_pairs_each_method_with_cam_over_the_images_of_the_records(
    config: Settings,
) -> None:
    for method in ("cam", "centre"):
        evaluated(config("protocol=faithfulness", f"method={method}", *FEW))
    folder = Path(config().results) / "shapes"
    (table,) = methods_tables(read_results(folder))
    arrays = {}
    for run in table.results:
        arrays[run.method] = load_arrays(run.path.with_suffix(".npz"))
    less = arrays["centre"]["insertion"] - arrays["cam"]["insertion"]
    number = table.rows["centre"]["insertion"]
    difference, low, high = number.less_cam
    assert difference == pytest.approx(100 * less.mean())
    assert low <= difference <= high
    assert table.rows["cam"]["insertion"].less_cam is None


def test_a_killed_evaluation_goes_on_at_the_image_where_it_was(
    config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluations, "FEW_IMAGES", 1)
    of_network = Faithfulness.of_network
    calls = []

    def killed_at_the_third(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return of_network(*arguments)

    monkeypatch.setattr(Faithfulness, "of_network", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        evaluated(config("protocol=faithfulness", *FEW))
    (resumed,) = evaluated(config("protocol=faithfulness", *FEW))
    assert len(calls) == 3 + 1  # the third image alone
    (whole,) = evaluated(config("protocol=faithfulness", "force=true", *FEW))
    assert len(calls) == 4 + 3
    assert resumed["metrics"] == whole["metrics"]


def test_a_smaller_draw_of_images_is_a_part_of_a_larger_one(config: Settings) -> None:
    drawn = []
    for images in (3, 8, 1000):
        (evaluation,) = open_evaluations(
            config("protocol=faithfulness", f"protocol.images={images}")
        )
        drawn.append(evaluation.split.files.tolist())
    assert len(drawn[0]) == 3 and len(drawn[1]) == 8 and len(drawn[2]) == 20
    assert set(drawn[0]) < set(drawn[1]) < set(drawn[2])
    assert drawn[1] == [file for file in drawn[2] if file in drawn[1]]


def test_data_without_boxes_has_faithfulness_and_is_refused_pointing(config: Settings) -> None:
    for protocol, is_refused in (("faithfulness", False), ("pointing", True)):
        (evaluation,) = open_evaluations(config(f"protocol={protocol}"))
        split = evaluation.split
        none = {"boxes": split.boxes[:0], "box_starts": 0 * split.box_starts}
        bare = replace(evaluation, split=replace(split, **none))
        if is_refused:
            with pytest.raises(UserError, match="no boxes, so nothing can be localized"):
                localization_specs(bare)
        else:
            (spec,) = localization_specs(bare)
            assert spec.metric.how == Perturbation(32, "blur", "mean", (20, 40, 60, 80))


def test_baselines_do_not_depend_on_the_weights_and_a_trained_networks_map_does(
    config: Settings,
) -> None:
    found = []
    for method in ("cam", "centre", "edges"):
        few = ("protocol.images=2", "protocol.steps=2")
        found = evaluated(config("protocol=randomisation", f"method={method}", *few))
    records = {record["method"]: record["metrics"] for record in found}
    for method in ("centre", "edges"):
        assert records[method]["rank_correlation"] == 100 == records[method]["ssim"]
    cam = records["cam"]
    assert cam["rank_correlation"] < 95
    steps = [value for name, value in cam.items() if name.startswith("rank_correlation_")]
    assert len(steps) == 2
    assert cam["rank_correlation"] == pytest.approx(np.mean(steps), abs=1e-3)
