"""The pointing game and its energy, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cam_repro.data.views import resize_map
from cam_repro.localization.pointing import energy_inside, pointing_game

MAP = np.array([[0.0, 1.0, 2.0, 0.0], [0.0, 3.0, 9.0, 0.0], [-4.0, 0.0, 1.0, 0.0]])


def test_the_maximum_counts_in_any_of_the_boxes_with_both_corners_inside() -> None:
    assert pointing_game(MAP, [[2, 1, 3, 2]]) == 1
    assert pointing_game(MAP, [[0, 0, 2, 1]]) == 1
    assert pointing_game(MAP, [[0, 0, 1, 2]]) == 0
    assert pointing_game(MAP, [[0, 0, 1, 2], [2, 1, 2, 1]]) == 1


def test_the_tolerance_is_a_euclidean_distance_from_the_box() -> None:
    far = np.zeros((10, 10))
    far[7, 8] = 1  # 3 to the right of the box and 4 below it
    box = [[0, 0, 5, 3]]
    assert [pointing_game(far, box, tolerance) for tolerance in (0, 4.9, 5)] == [0, 0, 1]


def test_of_equal_maxima_the_share_inside_counts_and_of_a_constant_map_the_boxes_area() -> None:
    tied = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert pointing_game(tied, [[0, 0, 0, 1]]) == pytest.approx(2 / 3)
    assert pointing_game(np.full((4, 5), 7.0), [[1, 1, 2, 3]]) == pytest.approx(6 / 20)


def test_a_constant_map_is_still_constant_when_it_is_enlarged() -> None:
    for level in (1.0, 0.3, -7.0):
        enlarged = resize_map(np.full((224, 224), level, np.float32), 227, 331)
        found = pointing_game(enlarged, [[10, 20, 59, 119]])
        assert found == pytest.approx(50 * 100 / (227 * 331))


@given(st.lists(st.integers(-9, 9), min_size=12, max_size=12), st.floats(0.1, 3))
def test_the_pointing_game_is_the_same_of_any_rising_function_of_the_map(
    values: list[int], power: float
) -> None:
    heatmap = np.array(values, float).reshape(3, 4)
    risen = np.exp(heatmap / 10) ** power - 3
    box = [[1, 0, 2, 1]]
    assert pointing_game(risen, box) == pointing_game(heatmap, box)


def test_energy_is_the_positive_maps_share_in_the_union_of_the_boxes() -> None:
    assert energy_inside(MAP, [[2, 0, 2, 2]]) == pytest.approx(12 / 16)
    assert energy_inside(MAP, [[2, 0, 2, 1], [1, 1, 2, 1]]) == pytest.approx(14 / 16)
    assert energy_inside(MAP, [[0, 0, 3, 2]]) == 1


def test_the_energy_of_a_map_without_any_is_that_of_a_constant_one() -> None:
    for level in (-2.0, 0.0, 5.0):
        assert energy_inside(np.full((4, 5), level), [[1, 1, 2, 3]]) == pytest.approx(6 / 20)


def test_no_box_and_a_map_with_nan_are_refused() -> None:
    for score in (pointing_game, energy_inside):
        with pytest.raises(ValueError, match="no box"):
            score(MAP, np.zeros((0, 4)))
        with pytest.raises(ValueError, match="NaN"):
            score(np.full((2, 2), np.nan), [[0, 0, 1, 1]])
