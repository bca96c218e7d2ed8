"""MaxBoxAcc (Choe et al. 2020) on hand-worked maps, and against a labelling of every cut."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cam_repro.localization.errors import box_iou, boxes_on_map, max_box_accuracy
from cam_repro.localization.max_box_acc import accuracies

LEVELS = st.integers(0, 4)


def blob(x1: int, y1: int, x2: int, y2: int, value: float = 1.0) -> np.ndarray:
    heatmap = np.zeros((20, 20))
    heatmap[y1 : y2 + 1, x1 : x2 + 1] = value
    return heatmap


def slow_boxes(stored: np.ndarray, cut: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest contour's box (4,) and all contours' (n, 4), by labelling this cut alone."""
    mask = stored > cut
    if not mask.any():
        return np.zeros(4), np.zeros((1, 4))
    limit = np.array(mask.shape[::-1]) - 1
    borders, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    rectangles = np.array([cv2.boundingRect(border) for border in borders])
    first = rectangles[:, :2]
    last = np.minimum(first + rectangles[:, 2:], limit)
    components, count = ndimage.label(ndimage.binary_fill_holes(mask), structure=np.ones((3, 3)))
    ranked = []
    for number in range(1, count + 1):
        inside = (components == number).astype(int)
        # How many of the four corners of each square between pixels are inside.
        corners = inside[1:, 1:] + inside[1:, :-1] + inside[:-1, 1:] + inside[:-1, :-1]
        enclosed = (corners == 3).sum() / 2 + (corners == 4).sum()
        rows, columns = ndimage.find_objects(inside)[0]
        box = (columns.start, rows.start, *np.minimum((columns.stop, rows.stop), limit))
        ranked.append((enclosed, np.flatnonzero(inside)[0], box))
    _, _, largest = max(ranked)
    return np.array(largest), np.hstack([first, last])


def test_a_box_is_one_pixel_more_than_its_contour_but_stays_on_the_map() -> None:
    scores = max_box_accuracy([blob(4, 4, 7, 9)], [[[4, 4, 8, 10]]])
    assert scores["curves"]["v1"][500] == 100
    scores = max_box_accuracy([blob(10, 12, 19, 19)], [[[10, 12, 19, 19]]])
    assert scores["v1"] == scores["v2"] == 100


def test_a_pixel_counts_above_the_cut_not_at_it() -> None:
    heatmap = blob(2, 2, 11, 11, 0.5)  # stored as 127
    heatmap[3, 3] = 1
    scores = max_box_accuracy([heatmap], [[[2, 2, 12, 12]]])
    right = np.flatnonzero(scores["curves"]["v1"])
    assert right.tolist() == list(range(499))  # int(0.498 × 255) = 126, int(0.499 × 255) = 127


def test_one_threshold_serves_the_whole_data_set() -> None:
    small_at_the_top = blob(0, 0, 18, 18, 0.4)
    small_at_the_top[5:9, 5:9] = 1
    truth = [[[5, 5, 9, 9]], [[5, 5, 9, 9]], [[0, 0, 19, 19]]]
    scores = max_box_accuracy([small_at_the_top] * 3, truth)
    assert scores["v1"] == pytest.approx(200 / 3)
    # The lowest: int(0.4 × 255) = 102 = the plateau.
    assert scores["best"]["v1"] == pytest.approx(0.4)
    assert scores["per_image"]["v1"].tolist() == [True, True, False]


def test_v1_takes_the_contour_that_encloses_most_v2_any() -> None:
    heatmap = blob(0, 0, 1, 15)  # 32 pixels enclose 15 …
    heatmap[10:14, 10:17] = 1  # … 28 enclose 18
    scores = max_box_accuracy([heatmap], [[[0, 0, 2, 16]]])
    assert (scores["v1"], scores["v2"]) == (0, 100)
    assert max_box_accuracy([heatmap], [[[10, 10, 17, 14]]])["v1"] == 100


def test_v2_counts_holes_and_averages_three_overlaps() -> None:
    ring = blob(2, 2, 17, 17)
    ring[8:12, 8:12] = 0
    hole = [[7, 7, 13, 13]]  # the box of its contour, and a pixel
    scores = max_box_accuracy([ring], [hole])
    assert (scores["v1"], scores["v2"]) == (0, 100)
    half = max_box_accuracy([blob(0, 0, 8, 18)], [[[0, 0, 15, 19]]])  # 200 of 320 pixels: 0.625
    assert half["v2"] == pytest.approx(200 / 3)
    assert half["per_image"]["v2"].tolist() == [pytest.approx(2 / 3)]


def test_v2_takes_each_overlaps_own_threshold_and_by_one_threshold_is_another_number() -> None:
    """The benchmark's evaluator takes the maximum of each IoU's curve, then the mean."""
    heatmap = blob(0, 0, 18, 18, 0.5)  # below 0.5 its box has 400 pixels, above 81
    heatmap[0:8, 0:8] = 1
    beside_the_peak = [[9, 4, 19, 19]]  # 176 of the 400, and none of the 81
    scores = max_box_accuracy([heatmap] * 3, [[[0, 0, 8, 8]], beside_the_peak, beside_the_peak])
    assert scores["best"]["v2_iou30"] == 0  # two of three images are right
    assert scores["best"]["v2_iou50"] == scores["best"]["v2_iou70"] == 0.499  # one of three
    assert scores["v2"] == pytest.approx((200 / 3 + 100 / 3 + 100 / 3) / 3)
    assert scores["v2_one_threshold"] == pytest.approx(100 / 3)
    assert scores["best"]["v2_one_threshold"] == 0.499
    assert scores["per_image"]["v2"].tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 3])


@settings(deadline=None, max_examples=30)
@given(
    hnp.arrays(
        bool, st.tuples(st.integers(1, 6), st.just(4), st.just(1000)), elements=st.booleans()
    )
)
def test_v2_is_the_mean_of_the_maxima_and_never_below_the_maximum_of_the_mean(
    right: np.ndarray,
) -> None:
    found = accuracies(right)
    curves = 100 * right.mean(axis=0)[1:]
    assert found["v2"] == pytest.approx(curves.max(axis=1).mean())
    assert found["v2_one_threshold"] == pytest.approx(curves.mean(axis=0).max())
    assert found["v2"] >= found["v2_one_threshold"] - 1e-9


def test_any_true_box_makes_an_image_right_and_an_image_without_one_is_wrong() -> None:
    heatmaps = [blob(4, 4, 7, 9)] * 2
    scores = max_box_accuracy(heatmaps, [[[15, 15, 18, 18], [4, 4, 8, 10]], np.empty((0, 4))])
    assert scores["v1"] == scores["v2"] == 50


def test_a_map_without_a_contour_has_the_benchmarks_empty_box() -> None:
    scores = max_box_accuracy([np.zeros((20, 20))] * 2, [[[0, 0, 0, 0]], [[0, 0, 19, 19]]])
    assert (scores["v1"], scores["best"]["v1"]) == (50, 0)


def test_a_map_that_is_not_normalised_or_has_no_boxes_beside_it_is_refused() -> None:
    with pytest.raises(ValueError, match=r"normalised to 0…1, got 0…2"):
        max_box_accuracy([blob(1, 1, 2, 2, 2.0)], [[[1, 1, 2, 2]]])
    with pytest.raises(ValueError, match="zip"):
        max_box_accuracy([blob(1, 1, 2, 2)] * 2, [[[1, 1, 2, 2]]])


def test_boxes_are_carried_to_the_map_and_cut_to_integers() -> None:
    assert boxes_on_map([[10, 20, 499, 374]], (500, 375)).tolist() == [[4, 11, 223, 223]]


@settings(deadline=None, max_examples=60)  # a loaded machine is not a failure
@given(
    hnp.arrays(
        np.int64,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=LEVELS,
        fill=st.nothing(),
    )
)
def test_all_cuts_agree_with_labelling_each_cut(levels: np.ndarray) -> None:
    heatmap = levels / 4
    stored = (heatmap * 255).astype(np.uint8)
    thresholds = (0, 260, 502, 760)
    boxes = [slow_boxes(stored, int(np.arange(0, 1, 0.001)[t] * stored.max())) for t in thresholds]
    truth = [largest for largest, _ in boxes]
    scores = max_box_accuracy([heatmap] * len(truth), [[box] for box in truth])
    for threshold, (largest, any_contour) in zip(thresholds, boxes, strict=True):
        of_largest = box_iou(largest, np.array(truth))
        assert scores["curves"]["v1"][threshold] == 100 * np.mean(of_largest >= 0.5)
        best = box_iou(any_contour[:, None], np.array(truth)).max(axis=0)
        for iou in (0.3, 0.5, 0.7):
            curve = scores["curves"][f"v2_iou{round(100 * iou)}"]
            assert curve[threshold] == pytest.approx(100 * np.mean(best >= iou))


def test_thresholds_chosen_elsewhere_are_applied_and_not_the_best_ones() -> None:
    right = np.zeros((2, 4, 1000), bool)
    right[:, :, 300] = True  # the best threshold here
    right[0, :, 100] = True
    chosen = {"v1": 0.1, "v2_iou30": 0.1, "v2_iou50": 0.3, "v2_iou70": 0.9, "v2_one_threshold": 0.1}
    assert accuracies(right)["v1"] == 100
    found = accuracies(right, chosen)
    assert found["v1"] == 50
    assert found["v2"] == pytest.approx((50 + 100 + 0) / 3)
    assert found["best"] == chosen
