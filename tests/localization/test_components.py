"""Connected components from runs, against scipy's labels of whole masks."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cam_repro.localization.components import Runs, runs

UNHURRIED = settings(deadline=None, max_examples=150)
MASKS = hnp.arrays(bool, st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9)))


def labelled(masks: np.ndarray, structure: np.ndarray | None) -> list[tuple[int, list[int], int]]:
    """Mask, box and pixels of each component, by its first pixel in raster order."""
    found = []
    for number, mask in enumerate(masks):
        labels, _ = ndimage.label(mask, structure=structure)
        for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            box = [columns.start, rows.start, columns.stop - 1, rows.stop - 1]
            found.append((number, box, np.count_nonzero(labels == label)))
    return found


def of_runs(found: Runs, diagonal: bool) -> list[tuple[int, list[int], int]]:
    components = found.components(diagonal)
    masks, boxes = found.boxes(components)
    pixels = np.bincount(components, found.ends - found.starts).astype(int)
    return list(zip(masks.tolist(), boxes.tolist(), pixels.tolist(), strict=True))


@UNHURRIED
@given(MASKS)
def test_components_are_numbered_and_measured_as_scipy_s(masks: np.ndarray) -> None:
    assert of_runs(runs(masks), diagonal=True) == labelled(masks, np.ones((3, 3)))
    assert of_runs(runs(masks), diagonal=False) == labelled(masks, None)


@UNHURRIED
@given(MASKS)
def test_the_first_background_component_is_the_outside_the_others_are_holes(masks: np.ndarray) -> None:
    holes = []
    for number, mask in enumerate(masks):
        around = np.pad(~mask, 1, constant_values=True)
        holes += [(number, np.subtract(box, 1).tolist(), size) for _, box, size in labelled(around[None], None)[1:]]
    assert of_runs(runs(masks).background(), diagonal=False)[1:] == holes


def test_runs_are_cut_at_the_end_of_a_row_and_components_at_the_end_of_a_mask() -> None:
    found = runs(np.ones((2, 2, 3), dtype=bool))
    assert (found.ends - found.starts).tolist() == [3, 3, 3, 3]
    assert found.components(diagonal=True).tolist() == [0, 0, 1, 1]


def test_runs_of_values_are_those_above_their_own_mask_s_bound() -> None:
    values = np.array([[[1, 3, 5]], [[1, 3, 5]]])
    found = runs(values, above=np.array([2, 4])[:, None, None])
    assert (found.ends - found.starts).tolist() == [2, 1]
