"""The two generated sentences, however the numbers turn out."""

import pytest

from cam_repro.reporting.findings import Known, best_against_centre, rule_against_method


def cells(values: dict[tuple[str, str], float], centre: float = 50.0, half: float | None = None) -> dict:
    return {
        key: Known(value, None if half is None else [value - half, value + half], centre)
        for key, value in values.items()
    }


@pytest.mark.parametrize(
    ("backprop", "verdict"),
    [
        (48.0, "the rule is worth more than the method"),
        (30.0, "the rule is worth less than the method"),
        (40.0, "the rule is worth as much as the method"),
        (40.04, "the rule is worth as much as the method"),  # 9.96 points are written 10.0
    ],
)
def test_the_verdict_follows_the_written_numbers(backprop: float, verdict: str) -> None:
    found = cells({("cam", "`paper`"): 50.0, ("cam", "`wsol`"): 60.0, ("backprop", "`paper`"): backprop})
    sentence = rule_against_method(found)
    assert "For `cam`, the choice of rule alone moves GT-known by 10.0 points" in sentence
    assert "from 50.0 % (`paper`) to 60.0 % (`wsol`)" in sentence
    assert sentence.endswith(f": {verdict}.")


def test_the_method_is_compared_under_the_rule_where_it_matters_most() -> None:
    values = {("cam", "a"): 50.0, ("cam", "b"): 51.0, ("gradcam", "a"): 53.0, ("gradcam", "b"): 44.0}
    assert "at most 7.0 points, from 44.0 % (gradcam) to 51.0 % (cam), under b" in rule_against_method(cells(values))


def test_without_cam_another_method_stands_for_the_rules() -> None:
    values = {("gradcam", "a"): 50.0, ("backprop", "a"): 42.0, ("backprop", "b"): 44.0}
    assert rule_against_method(cells(values)).startswith(
        "For `backprop`, the choice of rule alone moves GT-known by 2.0"
    )


def test_equal_values_are_said_to_be_equal() -> None:
    assert "moves GT-known by 0.0 points (50.0 % throughout)" in rule_against_method(
        cells({("cam", "a"): 50.0, ("cam", "b"): 50.0})
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({("cam", "a"): 1.0}, "do not say what either choice is worth"),
        ({("cam", "a"): 1.0, ("gradcam", "b"): 2.0}, "do not say what either choice is worth"),
        ({("cam", "a"): 1.0, ("cam", "b"): 2.0}, "no rule was run with a second method"),
        ({("cam", "a"): 1.0, ("gradcam", "a"): 2.0}, "No method was run under two rules; under one rule"),
    ],
)
def test_what_cannot_be_compared_is_not(values: dict, said: str) -> None:
    assert said in rule_against_method(cells(values))


def test_the_widest_interval_stands_beside_the_verdict() -> None:
    values = {("cam", "a"): 50.0, ("cam", "b"): 60.0, ("gradcam", "a"): 48.0}
    assert "(each value is uncertain by up to ± 2.5)" in rule_against_method(cells(values, half=2.5))


@pytest.mark.parametrize(
    ("best", "half", "said"),
    [
        (53.0, 2.0, "53.0 %, of `cam` under `b`: above the 50.0 % of a centred box"),
        (53.0, 2.0, "(95 % interval 51.0 … 55.0, which excludes that)"),
        (53.0, 4.0, "(95 % interval 49.0 … 57.0, which includes that)"),
        (50.04, None, "50.0 %, of `cam` under `b`: level with the 50.0 % of a centred box"),
        (45.0, 2.0, "45.0 %, of `cam` under `b`: below the 50.0 % of a centred box"),
        (45.0, 2.0, "(95 % interval 43.0 … 47.0, which excludes that)"),
    ],
)
def test_the_best_cell_stands_beside_the_centred_box(best: float, half: float | None, said: str) -> None:
    assert said in best_against_centre(cells({("gradcam", "`a`"): 40.0, ("cam", "`b`"): best}, half=half))


@pytest.mark.parametrize(("values", "count"), [((40.0, 41.0), 0), ((50.04, 51.0), 1), ((51.0, 52.0), 2)])
def test_cells_above_the_centred_box_are_counted(values: tuple, count: int) -> None:
    sentence = best_against_centre(cells({("cam", "a"): values[0], ("cam", "b"): values[1]}))
    assert sentence.endswith(f"cells above it: {count} of 2.")


def test_each_cell_is_held_against_the_centred_box_of_its_own_images() -> None:
    found = {("cam", "a"): Known(52.0, None, 60.0), ("cam", "b"): Known(51.0, None, 50.0)}
    sentence = best_against_centre(found)
    assert "below the 60.0 %" in sentence and sentence.endswith("cells above it: 1 of 2.")
