"""Boxes from heatmaps: the paper's rule and the release's, on maps small enough to check by eye."""

import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage

from cam_repro.config import ProtocolConfig
from cam_repro.data.views import resize_map
from cam_repro.localization.boxes import (
    BOX_RULES,
    LEAST_DEPTH,
    RELEASE_THRESHOLDS,
    Box,
    _without_overlaps,
    eight_bit,
    paper_box,
    paper_regions,
    release_boxes,
    resized_boxes,
)

UNHURRIED = settings(deadline=None)  # a loaded machine is not a failure
# Not above a threshold, above the first, the first two, all three.
VALUES = {".": 20, "a": 100, "b": 110, "#": 255}


def drawn(drawing: str, side: int = 12) -> np.ndarray:
    """A heatmap of 12×12 pixels; empty columns at its right and rows at its foot may be missing."""
    heatmap = np.full((side, side), VALUES["."], np.uint8)
    for y, row in enumerate(drawing.split()):
        heatmap[y, : len(row)] = [VALUES[sign] for sign in row]
    return heatmap


def heatmaps(smallest_side: int = 1) -> st.SearchStrategy[np.ndarray]:
    """Few distinct values, so that plateaus, ties and constant maps are common."""
    shape = hnp.array_shapes(
        min_dims=2, max_dims=2, min_side=smallest_side, max_side=smallest_side + 11
    )
    return hnp.arrays(np.float64, shape, elements=st.integers(-2, 9).map(float))


# --- the paper's rule


@given(heatmaps())
@UNHURRIED
def test_regions_cover_what_is_above_the_threshold_once_and_the_first_has_the_papers_box(
    heatmap: np.ndarray,
) -> None:
    covered = np.zeros(heatmap.shape, int)
    regions = paper_regions(heatmap, 0.5)
    for region in regions:
        x1, y1, x2, y2 = region.box
        covered[y1 : y2 + 1, x1 : x2 + 1] += region.mask
        assert region.share == pytest.approx(region.mask.sum() / heatmap.size)
    above = heatmap > 0.5 * heatmap.max()
    assert np.array_equal(covered, above if above.any() else np.ones(heatmap.shape))
    assert regions[0].box == paper_box(heatmap, 0.5)
    shares = [region.share for region in regions]
    assert shares == sorted(shares, reverse=True)


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
    assert paper_box(heatmap) == paper_box(heatmap.astype(np.float32)) == (2, 0, 3, 0)
    assert paper_box(heatmap, threshold=0.1) == (1, 0, 4, 0)


def test_paper_box_counts_negative_values_by_the_maximum_alone() -> None:
    assert paper_box(np.array([[-50.0, 1.0, 5.0, 1.5]])) == (2, 0, 3, 0)


def test_paper_box_of_equal_components_is_the_first_in_raster_order() -> None:
    assert paper_box(np.array([[0, 0, 0, 4, 4], [0, 0, 0, 0, 0], [4, 4, 0, 0, 0]])) == (3, 0, 4, 0)


@UNHURRIED
@given(heatmaps(), st.integers(-20, 20))
def test_scaling_a_heatmap_changes_no_paper_box(heatmap: np.ndarray, exponent: int) -> None:
    # Powers of two scale without rounding; other factors may tip a pixel that is at the threshold
    # exactly.
    assert paper_box(heatmap * 2.0**exponent) == paper_box(heatmap)


@UNHURRIED
@given(heatmaps(), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_paper_box_is_that_of_the_largest_component_as_scipy_labels_it(
    heatmap: np.ndarray, threshold: float
) -> None:
    box = paper_box(heatmap, threshold)
    assert all(type(corner) is int for corner in box)
    above = heatmap > threshold * heatmap.max()
    components, count = ndimage.label(above, structure=np.ones((3, 3)))
    if not count:
        assert box == (0, 0, heatmap.shape[1] - 1, heatmap.shape[0] - 1)
        return
    ranked = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(components), start=1):
        pixels = int((components == number).sum())
        corners = (columns.start, rows.start, columns.stop - 1, rows.stop - 1)
        ranked.append((-pixels, rows.start, columns.start, corners))
    assert box == min(ranked)[-1]


# --- the release's rule

SQUARE = """
    ........
    ........
    ..######
    ..######
    ..######
    ..######"""
FRAME = """
    ..........
    .#########
    .#########
    .#########
    .#########
    .####..###
    .####..###
    .#########
    .#########
    .#########"""
CORNER = 7 * "............\n" + 5 * ".........###\n"
PLATEAU = """
    aaaaaaaa
    aaaaaaaa
    aaaaaaaa
    aa####aa
    aa####aa
    aa####aa
    aaaaaaaa
    aaaaaaaa"""
NEARLY_EQUAL = """
    bbbbbbbbb
    b#######b
    b#######b
    b#######b
    b#######b
    b#######b
    b#######b
    bbbbbbbbb"""
TINY = """
    .....
    .###.
    .###.
    .###.
    ....."""


@pytest.mark.parametrize(
    ("drawing", "side", "expected"),
    [
        # x, y, w, h = 2 2 6 4 -> w' = min(6, 12-2-5) = 5, three times; the second is removed, the
        # third skipped.
        (SQUARE, 12, [(2, 2, 7, 6), (2, 2, 7, 6)]),
        # The border 1 1 9 9 -> w' = 6; the hole's contour lies around it, 4 4 4 4 -> w' = 3, and
        # comes last.
        (FRAME, 12, [(1, 1, 7, 7), (1, 1, 7, 7), (4, 4, 7, 7), (4, 4, 7, 7)]),
        # 9 7 3 5 -> x' = 7, w' = min(3, 12-9-5) = -2: re-ordered to 5…7; h' = 0, and no area
        # overlaps none.
        (CORNER, 12, [(5, 7, 7, 7)] * 3),
        # A loose box from the first threshold, a tight one from the other two.
        (PLATEAU, 12, [(0, 0, 7, 7), (2, 3, 6, 6)]),
        # Three nearly equal boxes: the second is removed, so the third, the tight one, is never
        # compared.
        (NEARLY_EQUAL, 12, [(0, 0, 7, 7), (1, 1, 7, 7)]),
        # Below 9 pixels the clipping leaves the image: x' = min(1, 0) = 0, w' = min(3, 5-1-5) = -1.
        (TINY, 5, [(-1, -1, 0, 0)] * 3),
    ],
    ids=["square", "hole", "corner", "loose and tight", "skipped comparison", "5x5"],
)
def test_release_boxes_of_hand_worked_maps(
    drawing: str, side: int, expected: list[tuple[int, ...]]
) -> None:
    assert release_boxes(drawn(drawing, side)) == expected


def test_release_drops_blobs_much_thinner_than_the_thickest() -> None:
    heatmap = np.zeros((100, 100), dtype=np.uint8)
    heatmap[10:70, 10:70] = 255  # 30 deep: 1 pixel is 1 / 30 × 255 = 8.5, rounded 9, not above 10
    heatmap[90, 20:60] = 255
    assert set(release_boxes(heatmap)) == {(11, 11, 69, 69)}


def test_erosion_rounds_as_the_release_where_a_depth_is_just_at_the_limit() -> None:
    heatmap = np.zeros((341, 399), dtype=np.uint8)
    heatmap[1:340, 1:390] = 255  # 170 deep: a pixel 7 deep is 10.5 exactly, which is rounded up
    assert release_boxes(heatmap)[0] == (7, 7, 384, 334)


@UNHURRIED
@given(heatmaps(smallest_side=9))
def test_release_boxes_lie_in_the_image_from_9_pixels_on(heatmap: np.ndarray) -> None:
    for x1, y1, x2, y2 in release_boxes(heatmap):
        assert 0 <= x1 <= x2 < heatmap.shape[1] and 0 <= y1 <= y2 < heatmap.shape[0]


def test_the_least_depth_is_the_releases_rounding_for_every_distance_between_pixels() -> None:
    """Up to 1,700 pixels deep, held against each deepest point near which the two could differ."""
    squares = np.arange(1, 4901)[:, None]
    deepest_squares = np.rint(squares / LEAST_DEPTH**2).astype(int) + np.arange(-30, 31)
    depth = np.sqrt(squares, dtype=np.float32).astype(np.float64)
    deepest = np.sqrt(deepest_squares, dtype=np.float32).astype(np.float64)
    kept_by_the_release = np.floor(depth * (255.0 / deepest) + 0.5) > 10
    assert np.array_equal(depth >= LEAST_DEPTH * deepest, kept_by_the_release)


def slow_release_boxes(heatmap: np.ndarray) -> list[Box]:
    """The release's rule step by step, on the whole image each time."""
    height, width = heatmap.shape
    found = []
    for threshold in RELEASE_THRESHOLDS:
        mask = (heatmap > threshold).astype(np.uint8)
        if mask.any() and not mask.all():
            depth = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(float)
            mask = (np.floor(depth * (255.0 / depth.max()) + 0.5) > 10).astype(np.uint8)
        for contour in cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0]:
            x, y, w, h = cv2.boundingRect(contour)
            w, h = min(w, width - x - 5), min(h, height - y - 5)
            found.append((min(x, width - 5), min(y, height - 5), w, h))
    if not found or heatmap.min() == heatmap.max():
        return [(0, 0, width - 1, height - 1)]
    boxes = []
    for x, y, w, h in kept_by_the_releases_loop(found):
        boxes.append((min(x, x + w), min(y, y + h), max(x, x + w), max(y, y + h)))
    return boxes


def kept_by_the_releases_loop(rectangles: list[Box]) -> list[Box]:
    """Rectangles (x, y, w, h), each compared with every smaller one, as the release compares."""
    kept = sorted(rectangles, key=lambda rectangle: -rectangle[2] * rectangle[3])
    i = 0
    while i < len(kept):
        ax, ay, aw, ah = kept[i]
        j = i + 1
        while j < len(kept):
            bx, by, bw, bh = kept[j]
            across = max(0, min(ax + aw, bx + bw) - max(ax, bx))
            down = max(0, min(ay + ah, by + bh) - max(ay, by))
            if across * down > int(0.5 * max(aw * ah, bw * bh)):
                del kept[j]
            j += 1
        i += 1
    return kept


@st.composite
def enlarged_maps(draw: st.DrawFn) -> np.ndarray:
    """8-bit heatmaps of odd sizes: smooth, flat, noisy, and with blobs that touch the border."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width, height = draw(st.tuples(st.integers(9, 90), st.integers(9, 90)))
    cells = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    small = rng.random(cells, np.float32) ** draw(st.sampled_from([1, 3]))
    heatmap = resize_map(small, width, height, draw(st.sampled_from(["bicubic", "bilinear"])))
    heatmap = heatmap - draw(st.sampled_from([0, 0.2, 0.5]))
    if draw(st.booleans()):
        heatmap = heatmap + 0.2 * rng.random(heatmap.shape, np.float32)
    return eight_bit(np.clip(heatmap, 0, draw(st.sampled_from([0.1, 0.4, 1]))))


@settings(deadline=None, max_examples=150)
@given(enlarged_maps())
def test_release_boxes_are_those_of_the_rule_step_by_step(heatmap: np.ndarray) -> None:
    assert release_boxes(heatmap) == slow_release_boxes(heatmap)


@UNHURRIED
@given(
    st.lists(
        st.tuples(*[st.integers(-2, 12)] * 2, *[st.integers(-3, 9)] * 2), min_size=1, max_size=12
    )
)
def test_release_removes_boxes_as_its_own_loop_does(rectangles: list[Box]) -> None:
    largest_first = sorted(rectangles, key=lambda rectangle: -rectangle[2] * rectangle[3])
    removed = _without_overlaps(np.array(largest_first))
    assert removed.tolist() == [list(kept) for kept in kept_by_the_releases_loop(rectangles)]


def test_eight_bit_divides_by_the_maximum_and_rounds() -> None:
    assert eight_bit(np.array([[-1.0, 0.5, 2.0, 0.0039]])).tolist() == [[0, 64, 255, 0]]
    assert eight_bit(np.array([[7, 8]], dtype=np.uint8)).tolist() == [[7, 8]]


def test_with_jpeg_the_release_boxes_what_a_jpeg_of_quality_75_has_left_of_the_map() -> None:
    heatmap = np.zeros((60, 80))
    heatmap[20:41, 30:61] = 1.0  # a sharp edge, around which a JPEG rings
    heatmap[0:8, 0:8] = 21 / 255  # just above the lowest threshold
    file = io.BytesIO()
    Image.fromarray(eight_bit(heatmap)).save(file, "JPEG", quality=75)
    release = ProtocolConfig("release", boxes="release", thresholds=[20, 100, 110])
    through_jpeg = BOX_RULES["release"](heatmap, replace(release, jpeg=True))
    assert through_jpeg == release_boxes(np.array(Image.open(file)))
    assert through_jpeg != BOX_RULES["release"](heatmap, release) == release_boxes(heatmap)


# --- what has no box of its own, in both rules alike


@pytest.mark.parametrize(
    "heatmap",
    [
        np.zeros((11, 13)),
        np.full((11, 13), 0.3),
        -np.arange(1.0, 144).reshape(11, 13),
        np.full((9, 9), 255, np.uint8),
        np.full((1, 1), 5.0),
    ],
    ids=["zero", "constant", "negative", "constant 8-bit", "1x1"],
)
def test_a_heatmap_in_which_nothing_stands_out_has_the_whole_image_as_its_box(
    heatmap: np.ndarray,
) -> None:
    whole = (0, 0, heatmap.shape[1] - 1, heatmap.shape[0] - 1)
    assert paper_box(heatmap) == whole and release_boxes(heatmap) == [whole]


@pytest.mark.parametrize(
    "heatmap",
    [np.full((3, 3), np.nan), np.array([[1.0, np.inf]]), np.zeros((0, 4)), np.zeros((2, 3, 4))],
    ids=["nan", "infinite", "empty", "3-D"],
)
def test_a_broken_heatmap_is_refused_in_one_line(heatmap: np.ndarray) -> None:
    for rule in (paper_box, release_boxes):
        with pytest.raises(ValueError, match="heatmap") as refusal:
            rule(heatmap)
        assert "\n" not in str(refusal.value)


# --- boxes of a resized image

SIDES = st.integers(1, 6000)


def test_a_pixel_is_resized_as_an_area() -> None:
    """Of 4 pixels made 10 each is 2½ wide: pixel 1 covers 2.5 to 5, which is pixels 2, 3 and 4."""
    pixels = [[x, 0, x, 0] for x in range(4)]
    larger = [[0, 0, 2, 1], [2, 0, 4, 1], [5, 0, 7, 1], [7, 0, 9, 1]]
    assert resized_boxes(pixels, (4, 1), (10, 2)).tolist() == larger
    assert resized_boxes([2, 1, 7, 1], (10, 2), (4, 1)).tolist() == [0, 0, 3, 0]


@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES))
def test_the_whole_image_stays_the_whole_image(size: tuple[int, int], new: tuple[int, int]) -> None:
    whole = resized_boxes([0, 0, size[0] - 1, size[1] - 1], size, new)
    assert whole.tolist() == [0, 0, new[0] - 1, new[1] - 1]


@given(st.data(), SIDES, SIDES)
def test_a_resized_box_covers_its_pixels_and_no_whole_pixel_more(
    data: st.DataObject,
    side: int,
    new: int,
) -> None:
    first = data.draw(st.integers(0, side - 1))
    last = data.draw(st.integers(first, side - 1))
    left, _, right, _ = resized_boxes([first, 0, last, 0], (side, 1), (new, 1)).tolist()
    assert 0 <= left <= right < new
    assert left * side <= first * new < (left + 1) * side  # the box begins within its first pixel
    assert right * side < (last + 1) * new <= (right + 1) * side  # and ends within its last
    assert resized_boxes([first, 0, last, 0], (side, 1), (side, 1)).tolist() == [first, 0, last, 0]
