"""The MaxBoxAcc curve: what is drawn on it, and that it is the same file each time."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cam_repro.evaluation.metric import Scores
from cam_repro.localization.max_box_acc import THRESHOLDS
from cam_repro.reporting.plots import LINE, SIDE, draw_max_box_acc, write_sheet

V1 = 70 * np.exp(-(((THRESHOLDS - 0.3) / 0.2) ** 2))
NAMES = ("v1", "v2_iou30", "v2_iou50", "v2_iou70")
CURVES = dict(zip(NAMES, (V1, V1 / 2, V1 / 3, V1 / 4), strict=True))
BEST = dict(zip(NAMES, (0.3, 0.345, 0.4, 0.25), strict=True))
SCORES = Scores(
    {}, {"baseline_whole_image": 48.2, "baseline_centre_box": 61.5}, {}, {}, BEST, CURVES
)


def test_each_curve_marks_its_best_and_the_fixed_threshold_beside_the_baselines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, path, **_: drawn.append(figure) or path.touch()
    )
    draw_max_box_acc(tmp_path / "curve.png", SCORES, "squeezenet, cam")
    lines = drawn[0].axes[0].lines
    points = {
        tuple(np.round(line.get_xydata()[0], 3)) for line in lines if len(line.get_xdata()) == 1
    }
    expected = set()
    for name, curve in CURVES.items():
        for threshold in (BEST[name], 0.2):
            expected.add((threshold, round(curve[round(threshold * 1000)], 3)))
    assert points == expected
    levels = {line.get_label(): set(line.get_ydata()) for line in lines}
    assert levels["48.2 %, the whole image (V1)"] == {48.2}
    assert levels["61.5 %, a centred box (V1)"] == {61.5}


def test_the_same_curves_give_the_same_bytes_whatever_matplotlib_is_set_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_max_box_acc(tmp_path / "a.png", SCORES, "squeezenet, cam")
    monkeypatch.setitem(matplotlib.rcParams, "lines.linewidth", 9.0)
    draw_max_box_acc(tmp_path / "b.png", SCORES, "squeezenet, cam")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert "Software" not in image.info


def test_a_caption_stays_over_its_own_image_and_a_long_one_is_wrapped(tmp_path: Path) -> None:
    def sheet(caption: str) -> np.ndarray:
        red = Image.new("RGB", (40, 30), "red")
        blue = Image.new("RGB", (30, 40), "blue")
        cells = [(caption, red), ("", blue)]
        return np.array(Image.open(write_sheet(tmp_path / "sheet.png", cells, columns=2)))

    empty, wide, accent, plain = map(sheet, ("", "W" * 29, "é", "e"))
    assert np.array_equal(empty[:, SIDE:], wide[:, SIDE:]) and not np.array_equal(empty, wide)
    assert (accent < 128).sum() > (plain < 128).sum() and not np.array_equal(accent, sheet("ß"))
    wrapped = sheet("one name of a class after another " * 3)
    assert len(wrapped) == len(empty) + 3 * LINE
    for line in range(4):
        assert (wrapped[line * LINE : (line + 1) * LINE, :SIDE] < 128).any()


def test_an_image_at_its_own_size_is_drawn_pixel_by_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (211, 307, 3), dtype=np.uint8)
    no_formula = r"a class named $\price$"
    cells = [(no_formula, Image.fromarray(pixels))]
    sheet = Image.open(write_sheet(tmp_path / "sheet.png", cells, columns=1, side=0))
    assert np.array_equal(np.array(sheet.convert("RGB"))[-211:], pixels)
