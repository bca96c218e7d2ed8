"""Boxes from heatmaps: the paper's rule and the release's, on maps small enough to check by eye."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cam_repro.localization.boxes import (
    _slightly_eroded,
    _without_overlaps,
    eight_bit,
    paper_box,
    paper_boxes,
    release_boxes,
    release_boxes_of,
    threshold_sweep,
)
from cam_repro.localization.contours import contour_rectangles, contour_rectangles_of
from cam_repro.localization.erosion import slightly_eroded

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


def batches(elements: st.SearchStrategy, dtype: type = np.float64, largest_side: int = 10) -> st.SearchStrategy:
    """Up to five maps of one shape, 1×1, 1×N and N×1 among them."""
    shape = st.tuples(st.integers(0, 5), st.integers(1, largest_side), st.integers(1, largest_side))
    return hnp.arrays(dtype, shape, elements=elements)


def smooth_heatmaps(count: int, height: int, width: int) -> np.ndarray:
    from scipy.ndimage import zoom

    small = np.random.default_rng(count).random((count, 13, 13)) ** 2
    return zoom(small, (1, height / 13, width / 13), order=3).astype(np.float32)


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


# --- many maps at once


@settings(UNHURRIED, max_examples=150)
@given(batches(st.integers(-1, 4).map(float)), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_paper_boxes_of_many_maps_are_those_of_each(heatmaps: np.ndarray, threshold: float) -> None:
    boxes = paper_boxes(heatmaps, threshold)
    assert boxes.dtype == np.int64
    assert boxes.shape == (len(heatmaps), 4)
    assert [tuple(box) for box in boxes.tolist()] == [paper_box(heatmap, threshold) for heatmap in heatmaps]


@settings(UNHURRIED, max_examples=150)
@given(batches(st.sampled_from([0, 20, 21, 105, 255]), np.uint8))
def test_release_boxes_of_many_maps_are_those_of_each(heatmaps: np.ndarray) -> None:
    assert release_boxes_of(heatmaps) == [release_boxes(heatmap) for heatmap in heatmaps]


@pytest.mark.parametrize("shape", [(4, 224, 224), (3, 150, 301)])
def test_boxes_of_many_smooth_maps_are_those_of_each(shape: tuple[int, int, int]) -> None:
    heatmaps = smooth_heatmaps(*shape)
    assert [tuple(box) for box in paper_boxes(heatmaps).tolist()] == [paper_box(heatmap) for heatmap in heatmaps]
    assert release_boxes_of(heatmaps) == [release_boxes(heatmap) for heatmap in heatmaps]


@pytest.mark.parametrize("rule", [paper_boxes, release_boxes_of])
def test_one_broken_map_among_many_is_refused(rule: Callable) -> None:
    heatmaps = np.ones((3, 4, 4))
    for broken in (np.nan, np.inf, -np.inf):
        heatmaps[1, 2, 3] = broken
        with pytest.raises(ValueError, match="NaN or infinity"):
            rule(heatmaps)
    with pytest.raises(ValueError, match="shape"):
        rule(np.ones((3, 3)))
    with pytest.raises(ValueError, match="shape"):
        rule(np.ones((2, 0, 3)))


@settings(UNHURRIED, max_examples=150)
@given(batches(st.booleans(), bool))
def test_contours_of_many_masks_are_those_of_each(masks: np.ndarray) -> None:
    listed = [rectangles.tolist() for rectangles in contour_rectangles_of(masks)]
    assert listed == [contour_rectangles(mask).tolist() for mask in masks]


@settings(UNHURRIED, max_examples=100)
@given(st.data())
def test_erosion_of_many_masks_is_that_of_each_distance_transform(data: st.DataObject) -> None:
    """Masks thick enough to lose pixels: more than 24 deep."""
    height, width = data.draw(st.integers(1, 160)), data.draw(st.integers(1, 160))
    masks = np.ones((3, height, width), dtype=bool)
    for mask in masks[: data.draw(st.integers(0, 3))]:
        for _ in range(data.draw(st.integers(1, 6))):
            top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
            mask[top : top + data.draw(st.sampled_from([1, 2, 30])), left : left + data.draw(st.integers(1, 60))] = (
                False
            )
    assert np.array_equal(slightly_eroded(masks), [_slightly_eroded(mask) for mask in masks])


def test_erosion_rounds_as_the_release_where_a_depth_is_just_at_the_limit() -> None:
    mask = np.zeros((341, 399), dtype=bool)
    mask[1:340, 1:390] = True  # 170 deep: a pixel 7 deep scales to 10.5 exactly, and is rounded up
    eroded = slightly_eroded(mask[None])[0]
    assert np.array_equal(eroded, _slightly_eroded(mask))
    assert eroded[7, 200] and not eroded[6, 200]


# --- the sweep


@settings(UNHURRIED, max_examples=200)
@given(heatmaps(), st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=9))
def test_sweep_equals_single_paper_boxes(heatmap: np.ndarray, thresholds: list[float]) -> None:
    expected = [paper_box(heatmap, threshold) for threshold in thresholds]
    assert [tuple(box) for box in threshold_sweep(heatmap, thresholds).tolist()] == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sweep_equals_single_paper_boxes_on_a_smooth_map(dtype: type) -> None:
    heatmap = smooth_heatmaps(1, 70, 90)[0].astype(dtype)
    thresholds = np.linspace(0, 1, 256, endpoint=False)
    swept = threshold_sweep(heatmap, thresholds)
    assert swept.dtype == np.int64
    assert swept.tolist() == [list(paper_box(heatmap, float(threshold))) for threshold in thresholds]


def test_sweep_over_no_threshold_is_empty() -> None:
    assert threshold_sweep(np.eye(3), []).shape == (0, 4)


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
@given(hnp.arrays(np.uint8, (14, 17), elements=st.sampled_from([0, 30, 105, 255])))
def test_release_removes_boxes_as_its_own_loop_does(heatmap: np.ndarray) -> None:
    rectangles = contour_rectangles(heatmap > 20)
    rectangles = rectangles[np.argsort(-rectangles[:, 2] * rectangles[:, 3], kind="stable")]
    expected = slow_release_boxes(rectangles.tolist())
    assert _without_overlaps(rectangles).tolist() == [list(rectangle) for rectangle in expected]


def test_contours_come_in_opencv_s_order_with_holes_one_pixel_larger() -> None:
    mask = drawn("""
        #####..
        #.#.#..
        #####..
        .......
        ....###
        .##.#.#
        ....###""")
    assert contour_rectangles(mask > 0).tolist() == [
        [1, 5, 2, 1],
        [4, 4, 3, 3],
        [4, 4, 3, 3],  # its hole
        [0, 0, 5, 3],
        [2, 0, 3, 3],  # the later hole first
        [0, 0, 3, 3],
    ]


def test_a_gap_that_touches_the_image_border_or_opens_diagonally_is_judged_as_opencv_does() -> None:
    open_at_the_border = drawn("""
        #####
        #...#
        #.###
        #.###""")
    diagonal_corner = drawn("""
        .##
        #.#
        ##.""")
    assert contour_rectangles(open_at_the_border > 0).tolist() == [[0, 0, 5, 4]]
    assert contour_rectangles(diagonal_corner > 0).tolist() == [[0, 0, 3, 3], [0, 0, 3, 3]]


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
    assert paper_boxes(heatmap[None]).tolist() == [list(whole)]
    assert release_boxes(heatmap) == [whole]
    assert release_boxes_of(heatmap[None]) == [[whole]]
    assert threshold_sweep(heatmap, [0.2, 0.5]).tolist() == [list(whole)] * 2


@pytest.mark.parametrize(
    "heatmap",
    [np.full((3, 3), np.nan), np.array([[1.0, np.inf]]), np.zeros((0, 4)), np.zeros(5), np.zeros((2, 3, 4))],
    ids=["nan", "infinite", "empty", "1-D", "3-D"],
)
def test_a_broken_heatmap_is_refused_in_one_line(heatmap: np.ndarray) -> None:
    for rule in (paper_box, release_boxes, lambda broken: threshold_sweep(broken, [0.2])):
        with pytest.raises(ValueError, match="heatmap") as refusal:
            rule(heatmap)
        assert "\n" not in str(refusal.value)
