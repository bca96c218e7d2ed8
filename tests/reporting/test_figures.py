"""The MaxBoxAcc curve: what is drawn on it, and that it is the same file each time."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cam_repro.reporting.figures import SIDE, write_curve, write_curve_csv, write_sheet

THRESHOLDS = np.arange(0, 1, 0.001)
V1 = 70 * np.exp(-(((THRESHOLDS - 0.3) / 0.2) ** 2))
SWEEP = {
    "thresholds": THRESHOLDS, "curve_v1": V1, "curve_v2": V1 / 2, "threshold_v1": 0.3, "threshold_v2": 0.345,
    "floor_whole_image": 48.2, "floor_centre_box": 61.5,
}  # fmt: skip


def test_the_curve_marks_the_best_and_the_fixed_threshold_and_the_floors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: drawn.append(figure) or path.touch())
    write_curve(tmp_path / "curve.png", SWEEP, "squeezenet, cam")
    lines = drawn[0].axes[0].lines
    points = {tuple(np.round(line.get_xydata()[0], 3)) for line in lines if len(line.get_xdata()) == 1}
    expected = {(t, c[round(t * 1000)]) for c, best in ((V1, 0.3), (V1 / 2, 0.345)) for t in (best, 0.2)}
    assert points == {(t, round(height, 3)) for t, height in expected}
    levels = {line.get_label(): set(line.get_ydata()) for line in lines}
    assert levels["48.2 %, the whole image (V1)"] == {48.2} and levels["61.5 %, a centred box (V1)"] == {61.5}


def test_the_same_curve_gives_the_same_bytes_whatever_matplotlib_is_set_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_curve(tmp_path / "a.png", SWEEP, "squeezenet, cam")
    monkeypatch.setitem(matplotlib.rcParams, "lines.linewidth", 9.0)
    write_curve(tmp_path / "b.png", SWEEP, "squeezenet, cam")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert "Software" not in picture.info


def test_the_csv_has_a_line_for_each_threshold(tmp_path: Path) -> None:
    write_curve_csv(tmp_path / "curve.csv", SWEEP)
    lines = (tmp_path / "curve.csv").read_text().splitlines()
    assert (lines[0], len(lines), lines[1 + 300]) == ("threshold,v1,v2", 1001, "0.300,70.0000,35.0000")


def test_a_caption_stays_over_its_own_picture_whatever_its_letters(tmp_path: Path) -> None:
    def sheet(caption: str) -> np.ndarray:
        cells = [(caption, Image.new("RGB", (40, 30), "red")), ("", Image.new("RGB", (30, 40), "blue"))]
        return np.array(Image.open(write_sheet(tmp_path / "sheet.png", cells, columns=2)))

    empty, long, accent, plain = map(sheet, ("", "W" * 99, "é", "e"))
    assert np.array_equal(empty[:, SIDE:], long[:, SIDE:]) and not np.array_equal(empty, long)
    assert (accent < 128).sum() > (plain < 128).sum() and not np.array_equal(accent, sheet("ß"))
