"""Boxes from heatmaps: the paper's rule and the release's, on maps small enough to check by eye."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage

from cam_repro.config import ProtocolConfig
from cam_repro.localization.boxes import (
    BOX_RULES,
    _slightly_eroded,
    _without_overlaps,
    eight_bit,
    paper_box,
    release_boxes,
)

UNHURRIED = settings(deadline=None)  # a loaded machine is not a failure
VALUES = {".": 0, "a": 60, "b": 105, "#": 255}  # below all, above the first, above the second, above all thresholds
SQUARE_IN_12 = """
    ............
    ............
    ..######....
    ..######....
    ..######....
    ..######....
    ............
    ............
    ............
    ............
    ............
    ............"""


def drawn(picture: str) -> np.ndarray:
    return np.array([[VALUES[sign] for sign in row] for row in picture.split()], dtype=np.uint8)


def heatmaps(smallest_side: int = 1) -> st.SearchStrategy[np.ndarray]:
    """Few distinct values, so that plateaus, ties and constant maps are common."""
    shape = hnp.array_shapes(min_dims=2, max_dims=2, min_side=smallest_side, max_side=smallest_side + 11)
    return hnp.arrays(np.float64, shape, elements=st.integers(-2, 9).map(float))


def slow_release_boxes(rectangles: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """The release's removal of overlaps, said as its loop."""
    kept = list(rectangles)
    i = 0
    while i < len(kept):
        j = i + 1
        while j < len(kept):
            (ax, ay, aw, ah), (bx, by, bw, bh) = kept[i], kept[j]
            across = max(0, min(ax + aw, bx + bw) - max(ax, bx))
            down = max(0, min(ay + ah, by + bh) - max(ay, by))
            if across * down > int(0.5 * max(aw * ah, bw * bh)):
                del kept[j]
            j += 1
        i += 1
    return kept


# --- the paper's rule


def test_paper_box_takes_the_component_with_the_most_pixels_not_the_highest() -> None:
    heatmap = np.array(
        [
            [0, 0, 0, 0, 9],
            [3, 3, 0, 0, 0],
            [0, 0, 3, 0, 0],
            [0, 0, 0, 0, 1],
            [0, 0, 0, 0, 1],
        ]
    )
    assert paper_box(heatmap) == (0, 1, 2, 2)  # the diagonal step connects; 1 is below 0.2 × 9


def test_paper_box_keeps_only_what_is_strictly_above_the_threshold() -> None:
    heatmap = np.array([[1, 2, 3, 10, 2]])
    assert paper_box(heatmap) == (2, 0, 3, 0)
    assert paper_box(heatmap.astype(np.float32)) == (2, 0, 3, 0)
    assert paper_box(heatmap, threshold=0.1) == (1, 0, 4, 0)


def test_paper_box_counts_negative_values_by_the_maximum_alone() -> None:
    assert paper_box(np.array([[-50.0, 1.0, 5.0, 1.5]])) == (2, 0, 3, 0)


def test_paper_box_of_equal_components_is_the_first_in_raster_order() -> None:
    assert paper_box(np.array([[0, 0, 0, 4, 4], [0, 0, 0, 0, 0], [4, 4, 0, 0, 0]])) == (3, 0, 4, 0)


def test_paper_box_reaches_the_borders_and_ignores_holes() -> None:
    heatmap = np.ones((12, 12))
    heatmap[3:9, 3:9] = 0
    assert paper_box(heatmap) == (0, 0, 11, 11)


@UNHURRIED
@given(heatmaps())
def test_paper_box_lies_in_the_image(heatmap: np.ndarray) -> None:
    x1, y1, x2, y2 = paper_box(heatmap)
    assert 0 <= x1 <= x2 < heatmap.shape[1]
    assert 0 <= y1 <= y2 < heatmap.shape[0]
    assert all(type(corner) is int for corner in (x1, y1, x2, y2))


@UNHURRIED
@given(heatmaps(), st.integers(-20, 20))
def test_scaling_a_heatmap_changes_no_paper_box(heatmap: np.ndarray, exponent: int) -> None:
    # Powers of two scale without rounding; other factors may tip a pixel that is at the threshold exactly.
    assert paper_box(heatmap * 2.0**exponent) == paper_box(heatmap)


@UNHURRIED
@given(heatmaps(), st.integers(0, 7), st.integers(0, 7))
def test_paper_box_moves_with_the_heatmap(heatmap: np.ndarray, right: int, down: int) -> None:
    if heatmap.max() <= 0:
        return
    x1, y1, x2, y2 = paper_box(heatmap)
    moved = np.pad(heatmap, ((down, 3), (right, 2)))
    assert paper_box(moved) == (x1 + right, y1 + down, x2 + right, y2 + down)


@UNHURRIED
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_paper_box_of_a_rectangle_is_the_rectangle(x: int, y: int, width: int, height: int) -> None:
    heatmap = np.zeros((24, 20), dtype=np.float32)
    heatmap[y : y + height + 1, x : x + width + 1] = 0.7
    assert paper_box(heatmap) == (x, y, x + width, y + height)


@UNHURRIED
@given(heatmaps(), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_paper_box_is_that_of_the_largest_component_as_scipy_labels_it(heatmap: np.ndarray, threshold: float) -> None:
    components, count = ndimage.label(heatmap > threshold * heatmap.max(), structure=np.ones((3, 3)))
    if not count:
        assert paper_box(heatmap, threshold) == (0, 0, heatmap.shape[1] - 1, heatmap.shape[0] - 1)
        return
    pixels = np.bincount(components.ravel())[1:]
    largest = [ndimage.find_objects(components)[number] for number in np.flatnonzero(pixels == pixels.max())]
    boxes = [(columns.start, rows.start, columns.stop - 1, rows.stop - 1) for rows, columns in largest]
    assert paper_box(heatmap, threshold) == min(boxes, key=lambda box: (box[1], box[0]))


# --- the release's rule


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        # x, y, w, h = 2 2 6 4 -> w' = min(6, 12-2-5) = 5, three times; the second is removed, the third skipped.
        (SQUARE_IN_12, [(2, 2, 7, 6), (2, 2, 7, 6)]),
        # The hole's contour (2 2 7 7) comes after the border's (1 1 9 9); w' = 5 and 6 of 12.
        (
            """
            ............
            .#########..
            .#########..
            .##.....##..
            .##.....##..
            .##.....##..
            .##.....##..
            .##.....##..
            .#########..
            .#########..
            ............
            ............""",
            [(1, 1, 7, 7), (1, 1, 7, 7)],
        ),
        # 9 7 3 5 -> x' = 7, w' = min(3, 12-9-5) = -2: re-ordered to 5…7; h' = 0, and no area overlaps none.
        (
            """
            ............
            ............
            ............
            ............
            ............
            ............
            ............
            .........###
            .........###
            .........###
            .........###
            .........###""",
            [(5, 7, 7, 7)] * 3,
        ),
        # A loose box from the first threshold, a tight one from the other two.
        (
            """
            aaaaaaaa....
            aaaaaaaa....
            aaaaaaaa....
            aa####aa....
            aa####aa....
            aa####aa....
            aaaaaaaa....
            aaaaaaaa....
            ............
            ............
            ............
            ............""",
            [(0, 0, 7, 7), (2, 3, 6, 6)],
        ),
        # Three nearly equal boxes: the second is removed, so the third, the tight one, is never compared.
        (
            """
            bbbbbbbbb...
            b#######b...
            b#######b...
            b#######b...
            b#######b...
            b#######b...
            b#######b...
            bbbbbbbbb...
            ............
            ............
            ............
            ............""",
            [(0, 0, 7, 7), (1, 1, 7, 7)],
        ),
        # Below 9 pixels the clipping leaves the image: x' = min(1, 0) = 0, w' = min(3, 5-1-5) = -1.
        (
            """
            .....
            .###.
            .###.
            .###.
            .....""",
            [(-1, -1, 0, 0)] * 3,
        ),
    ],
    ids=["square", "hole", "corner", "loose and tight", "skipped comparison", "5x5"],
)
def test_release_boxes_of_hand_worked_maps(picture: str, expected: list[tuple[int, int, int, int]]) -> None:
    assert release_boxes(drawn(picture)) == expected


def test_release_drops_blobs_much_thinner_than_the_thickest() -> None:
    heatmap = np.zeros((100, 100), dtype=np.uint8)
    heatmap[10:70, 10:70] = 255  # 30 deep: one pixel scales to round(1 / 30 × 255) = 9, which is not above 10
    heatmap[90, 20:60] = 255
    assert set(release_boxes(heatmap)) == {(11, 11, 69, 69)}


@UNHURRIED
@given(heatmaps(smallest_side=9))
def test_release_boxes_lie_in_the_image_from_9_pixels_on(heatmap: np.ndarray) -> None:
    for x1, y1, x2, y2 in release_boxes(heatmap):
        assert 0 <= x1 <= x2 < heatmap.shape[1]
        assert 0 <= y1 <= y2 < heatmap.shape[0]


@UNHURRIED
@given(st.lists(st.tuples(*[st.integers(-2, 12)] * 2, *[st.integers(-3, 9)] * 2), min_size=1, max_size=12))
def test_release_removes_boxes_as_its_own_loop_does(rectangles: list[tuple[int, int, int, int]]) -> None:
    rectangles = sorted(rectangles, key=lambda rectangle: -rectangle[2] * rectangle[3])
    expected = slow_release_boxes(rectangles)
    assert _without_overlaps(np.array(rectangles)).tolist() == [list(rectangle) for rectangle in expected]


def test_erosion_rounds_as_the_release_where_a_depth_is_just_at_the_limit() -> None:
    mask = np.zeros((341, 399), dtype=np.uint8)
    mask[1:340, 1:390] = 1  # 170 deep: a pixel 7 deep scales to 10.5 exactly, and is rounded up
    eroded = _slightly_eroded(mask)
    assert eroded[7, 200] and not eroded[6, 200]


def test_eight_bit_divides_by_the_maximum_and_rounds() -> None:
    assert eight_bit(np.array([[-1.0, 0.5, 2.0, 0.0039]])).tolist() == [[0, 64, 255, 0]]
    assert eight_bit(np.array([[7, 8]], dtype=np.uint8)).tolist() == [[7, 8]]


# --- what has no box of its own, in both rules alike


@pytest.mark.parametrize(
    "heatmap",
    [
        np.zeros((11, 13)),
        np.full((11, 13), 0.3),
        np.full((11, 13), -0.3),
        -np.arange(1.0, 144.0).reshape(11, 13),
        np.full((11, 13), 255, dtype=np.uint8),
        np.full((1, 1), 5.0),
        np.zeros((1, 1), dtype=np.uint8),
    ],
    ids=["zero", "constant", "constant negative", "negative", "constant 8-bit", "1x1", "1x1 zero"],
)
def test_a_heatmap_in_which_nothing_stands_out_has_the_whole_image_as_its_box(heatmap: np.ndarray) -> None:
    whole = (0, 0, heatmap.shape[1] - 1, heatmap.shape[0] - 1)
    assert paper_box(heatmap) == whole
    assert release_boxes(heatmap) == [whole]


def test_with_jpeg_the_release_boxes_what_a_jpeg_of_quality_75_has_left_of_the_map() -> None:
    heatmap = np.zeros((60, 80))
    heatmap[20:41, 30:61] = 1.0  # a sharp edge, around which a JPEG rings
    heatmap[0:8, 0:8] = 21 / 255  # just above the lowest threshold
    file = io.BytesIO()
    Image.fromarray(eight_bit(heatmap)).save(file, "JPEG", quality=75)
    stored = np.array(Image.open(file))
    release = ProtocolConfig("release", boxes="release", thresholds=[20, 100, 110])
    through_jpeg = BOX_RULES["release"](heatmap, ProtocolConfig(**{**vars(release), "jpeg": True}))
    assert through_jpeg == release_boxes(stored)
    assert through_jpeg != BOX_RULES["release"](heatmap, release) == release_boxes(heatmap)


@pytest.mark.parametrize(
    "heatmap",
    [np.full((3, 3), np.nan), np.array([[1.0, np.inf]]), np.zeros((0, 4)), np.zeros(5), np.zeros((2, 3, 4))],
    ids=["nan", "infinite", "empty", "1-D", "3-D"],
)
def test_a_broken_heatmap_is_refused_in_one_line(heatmap: np.ndarray) -> None:
    for rule in (paper_box, release_boxes):
        with pytest.raises(ValueError, match="heatmap") as refusal:
            rule(heatmap)
        assert "\n" not in str(refusal.value)
