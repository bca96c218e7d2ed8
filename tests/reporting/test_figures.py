"""The paper's figures of one's own networks, and trainings as curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from two_networks import Settings

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.evaluation.evaluate import evaluate
from cam_repro.evaluation.spec import localization_specs, open_evaluations
from cam_repro.reporting import figures
from cam_repro.reporting.figures import chosen_images, make_figures
from cam_repro.reporting.plots import draw_curves

EPOCH = (
    '{"epoch": %d, "train_loss": 2.1, "train_top1_error": 90, "val_top1_error": 80, '
    '"val_top5_error": 40}\n'
)


def test_the_figures_show_what_their_captions_say(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}
    write = figures.write_sheet

    def noted(path: Path, cells: list[tuple[str, Image.Image]], *more: int, **how: str) -> Path:
        drawn[path] = cells
        return write(path, cells, *more, **how)

    monkeypatch.setattr(figures, "write_sheet", noted)
    config = settings(f"results={tmp_path}", "report.images=3", "shown_class=n90000001")
    paths = make_figures(config)
    names = [f"{network}/figure{number}" for network in ("one", "two") for number in (3, 4, 6, 13)]
    assert paths == [*drawn] == [tmp_path / f"tree/{name}.png" for name in (*names, "figure5")]
    assert {Image.open(path).width for path in paths} == {1049}  # 7 inches at 150 dots
    third, fourth, sixth, thirteenth, *_, fifth = drawn.values()
    captions = [[caption for caption, _ in cells] for cells in (third, fourth, thirteenth, fifth)]
    scores = [float(caption.split()[-1]) for caption in captions[1]]
    assert len(scores) == 5 and scores == sorted(scores, reverse=True) and scores[0] > 0.9
    assert len(captions[0]) == 10
    assert captions[3] == [
        f"{network}\n{method}" for network in ("one", "two") for method in ("cam", "backprop")
    ]
    weight = torch.load(Path(config.runs, "tree/one/checkpoint.pt"))["network"][
        "classifier.weight"
    ][0]
    units = [caption for caption in captions[2] if caption]
    assert units == [
        f"unit {unit}, w = {weight[unit]:.3f}" for unit in weight.argsort(descending=True)[:5]
    ]
    above, below = (np.array(sixth[place][1]) for place in (0, 5))
    assert above.shape == below.shape and (above != below).any()


def boxes_of_the_evaluation(config: Config) -> np.ndarray:
    """(N,4): the boxes of the true classes' maps that `make eval-localization` draws."""
    (evaluation,) = open_evaluations(config)
    (result,) = evaluate(evaluation, localization_specs(evaluation))
    return result.scores.predicted_boxes


@pytest.mark.parametrize(
    ("protocol", "file"),
    [
        ("protocol=release", "figure6-release.png"),
        ("protocol=paper protocol.view=center_crop", "figure6-paper-viewcenter_crop.png"),
        (
            "protocol=release_tight protocol.view=ten_crop_averaged",
            "figure6-release_tight-viewten_crop_averaged.png",
        ),
    ],
)
def test_the_boxes_of_a_figure_are_those_that_the_protocols_evaluation_drew(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, file: str
) -> None:
    drawn = []
    panel = figures.panel
    monkeypatch.setattr(figures, "panel", lambda *of: drawn.append(of) or panel(*of))
    monkeypatch.setattr(figures, "UNIT_CROPS", 20)
    options = [f"results={tmp_path}", "name=one", "report.images=3", *protocol.split()]
    paths = make_figures(settings(*options))
    assert tmp_path / "tree/one" / file in paths
    expected = boxes_of_the_evaluation(settings(*options))
    (evaluation,) = open_evaluations(settings(*options))
    images = chosen_images("3", evaluation.split, 0)
    boxes = [tuple(box) for _, heatmap, box, _ in drawn[::2]]  # every second is backprop's
    assert boxes == [tuple(expected[image]) for image in images]


def test_a_folder_without_boxes_has_every_figure_but_the_sixth(
    pets: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = make_figures(pets(f"results={tmp_path}"))
    names = [str(path.relative_to(tmp_path / "pets")) for path in paths]
    assert names == [*(f"own/figure{number}.png" for number in (3, 4, 13)), "figure5.png"]
    assert "figure 6 is left out: data=pets has no true boxes" in capsys.readouterr().out


def test_curves_are_those_of_one_run_or_of_all(settings: Settings, tmp_path: Path) -> None:
    where = [f"runs={tmp_path}", f"results={tmp_path / 'results'}"]
    with pytest.raises(UserError, match="no epoch of a training is over in .*; first: make train"):
        draw_curves(settings(*where))
    for name, epochs in (("a", 3), ("b", 1)):
        (tmp_path / "tree" / name).mkdir(parents=True)
        lines = [EPOCH % epoch for epoch in range(1, epochs + 1)]
        (tmp_path / "tree" / name / "metrics.jsonl").write_text("".join(lines))
    both, one = (
        Image.open(draw_curves(settings(*where))),
        Image.open(draw_curves(settings(*where, "name=a"))),
    )
    assert both.size == one.size == (1500, 540) and both.tobytes() != one.tobytes()
    few_classes = EPOCH.replace('"val_top5_error": 40', '"val_top5_error": null')
    (tmp_path / "tree/b/metrics.jsonl").write_text(few_classes % 1)
    assert Image.open(draw_curves(settings(*where, "name=b"))).size == (
        1050,
        540,
    )  # two panels of the three
    assert Image.open(draw_curves(settings(*where))).size == (1500, 540)
    localized = EPOCH.replace("}", ', "val_gt_known_loc": 50, "val_box_area": 30}')
    (tmp_path / "tree/b/metrics.jsonl").write_text(localized % 1)
    assert Image.open(draw_curves(settings(*where))).size == (2400, 540)  # and these two
    (tmp_path / "tree/b/metrics.jsonl").write_text('{"epoch": 1')
    with pytest.raises(UserError, match=r"b/metrics.jsonl cannot be read as a training's metrics"):
        draw_curves(settings(*where))
