"""`make score` on three images of two classes, by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Settings, composed
from small_tree import write_small_tree

from cam_repro import UserError
from cam_repro.data.ilsvrc import ANNOTATIONS
from cam_repro.evaluation.score import score

# In the order of the images: a is a dog (label 2) at 1 2 3 4; b a cat (label 1) at 0 0 9 9 and at
# 5 5 20 20; c, a dog by LOC_val_solution.csv, has no box.
GUESSES = """\
2 1 2 3 4
2 0 0 9 9 1 5 5 20 20 0 0 0 0 0
0 0 0 0 0 1 0 0 9 9 2 0 0 9 9 0 0 0 0 0 0 0 0 0 0 2 0 0 9 9
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_small_tree(tmp_path / "tree")


@pytest.fixture
def config(tree: Path, tmp_path: Path) -> Settings:
    """config("kaggle=…") of the score of GUESSES."""
    guesses = tmp_path / "guesses.txt"
    guesses.write_text(GUESSES)
    places = [f"data.root={tree}", f"cache={tmp_path / 'cache'}", f"predictions={guesses}"]
    return lambda *more: composed(["data=imagenette", *places, *more])


def test_lines_of_any_length_are_scored_as_the_devkit_scores_them(
    config: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = score(config())
    loc_errors = [metrics[f"loc_top{k}_error"] for k in range(1, 6)]
    assert loc_errors == [50, 0, 0, 0, 0]  # c has no box: a is right at once, b at the second guess
    assert metrics["cls_top1_error"] == pytest.approx(100 * 2 / 3)
    assert metrics["baseline_whole_image"] == 0
    assert "3 images, 2 of them for localization" in capsys.readouterr().out


def test_guesses_become_kaggles_csv_which_scores_the_same(
    config: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv = tmp_path / "guesses.csv"
    metrics = score(config(f"kaggle={csv}"))
    assert capsys.readouterr().out.splitlines()[-1] == str(csv)
    assert csv.read_text().splitlines() == [
        "ImageId,PredictionString",
        "a,n2 1 2 3 4",
        "b,n2 0 0 9 9 n1 5 5 20 20",
        "c,n1 0 0 9 9 n2 0 0 9 9",
    ]
    again = score(config(f"predictions={csv}"))
    assert again["loc_top2_error"] == metrics["loc_top2_error"] == 0
    with pytest.raises(UserError, match="is predictions= itself"):
        score(config(f"predictions={csv}", f"kaggle={csv}"))


def test_without_a_box_in_the_data_labels_alone_are_scored(
    config: Settings, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(tree / ANNOTATIONS)
    (tree / "LOC_val_solution.csv").write_text("ImageId,PredictionString\na,n2\nb,n1\nc,n2\n")
    metrics = score(config())
    assert metrics["cls_top1_error"] == pytest.approx(100 * 2 / 3)
    assert not any(metric.startswith("loc_") for metric in metrics)
    assert "loc_top1" not in capsys.readouterr().out


def test_a_wrong_line_is_refused_by_its_number(config: Settings, tmp_path: Path) -> None:
    (tmp_path / "guesses.txt").write_text(GUESSES.replace("2 1 2 3 4", "3 1 2 3 4"))
    with pytest.raises(UserError, match="line 1, guess 1: label 3, expected 1…2"):
        score(config())


def write_map(path: Path, box: tuple[int, int, int, int]) -> None:
    """A map of 30×40 cells that is 1 in the box, whose corners it includes."""
    x1, y1, x2, y2 = box
    heatmap = np.zeros((30, 40), np.float32)
    heatmap[y1 : y2 + 1, x1 : x2 + 1] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, heatmap)


@pytest.fixture
def maps(config: Settings, tmp_path: Path) -> Settings:
    """Maps, of which the second has the very box of its image and the first none of its."""
    write_map(tmp_path / "maps/a.JPEG.npy", (25, 22, 39, 29))
    write_map(tmp_path / "maps/b.npy", (5, 5, 20, 20))
    write_map(tmp_path / "maps/c.npy", (0, 0, 39, 29))
    return lambda *more: config(f"maps={tmp_path / 'maps'}", "predictions=null", *more)


def test_a_folder_of_maps_is_scored_by_the_papers_rule_and_by_max_box_acc(
    maps: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = score(maps())
    assert metrics["gt_known_loc"] == 50
    assert metrics["max_box_acc_v1"] == 50 and metrics["max_box_acc_v2"] == 50
    assert metrics["baseline_whole_image"] == 0
    assert "2 images:\n" in capsys.readouterr().out  # c has no box


def test_maps_that_lack_or_are_none_are_refused_in_one_line(
    maps: Settings, config: Settings, tmp_path: Path
) -> None:
    (tmp_path / "maps/b.npy").unlink()
    with pytest.raises(UserError, match=r"lacks the maps of 1 of 3 images, the first b.JPEG.npy"):
        score(maps())
    (tmp_path / "maps/b.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match=r"b.npy is no map \(h,w\) of numbers"):
        score(maps())
    with pytest.raises(UserError, match="one of predictions= and maps= is needed"):
        score(config(f"maps={tmp_path / 'maps'}"))
