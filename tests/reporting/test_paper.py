"""The published numbers, and the names that lead to them."""

import pytest

from cam_repro.reporting import paper


@pytest.mark.parametrize(
    ("model", "errors"),
    [("vgg_gap", (33.4, 12.2)), ("alexnet_star_gap", (44.9, 20.9)), ("googlenet_gmp", (35.6, 13.9))],
)
def test_table_1_holds_the_papers_classification_errors(model: str, errors: tuple[float, float]) -> None:
    assert paper.TABLE1[model] == errors


@pytest.mark.parametrize(
    ("key", "title", "errors"),
    [
        (("googlenet_gap", "cam"), "GoogLeNet-GAP", (56.40, 43.00)),
        (("alexnet_star_gap", "cam"), "AlexNet*-GAP", (63.75, 49.53)),
        (("vgg", "backprop"), "Backprop on VGGnet", (61.12, 51.46)),
        (("nin", "cam"), "NIN", (65.47, 54.19)),
    ],
)
def test_table_2_is_keyed_by_model_and_method(key: tuple, title: str, errors: tuple) -> None:
    assert paper.TABLE2[key] == errors
    assert paper.row_title(*key) == title


def test_rows_keep_the_papers_order() -> None:
    first = "VGGnet-GAP GoogLeNet-GAP AlexNet*-GAP AlexNet-GAP GoogLeNet VGGnet AlexNet NIN GoogLeNet-GMP"
    assert [paper.row_title(model) for model in paper.TABLE1] == first.split()
    second = "GoogLeNet-GAP, VGGnet-GAP, GoogLeNet, AlexNet*-GAP, AlexNet-GAP, NIN, Backprop on GoogLeNet, "
    second += "Backprop on VGGnet, Backprop on AlexNet, GoogLeNet-GMP"
    assert [paper.row_title(*key) for key in paper.TABLE2] == second.split(", ")


def test_share_of_right_boxes_follows_from_tables_1_and_2() -> None:
    cam = {"googlenet_gap": 67.1, "alexnet_gap": 67.1, "alexnet_star_gap": 65.8, "googlenet_gmp": 65.6,
           "vgg_gap": 64.3, "nin": 59.4, "googlenet": 58.6}  # fmt: skip
    assert {model: round(paper.loc_given_cls(model), 1) for model in cam} == cam
    backprop = {"alexnet": 60.7, "googlenet": 56.8, "vgg": 56.5}
    assert {model: round(paper.loc_given_cls(model, "backprop"), 1) for model in backprop} == backprop


def test_what_the_paper_did_not_measure_has_no_value() -> None:
    assert paper.loc_given_cls("squeezenet") is None
    assert paper.loc_given_cls("vgg_gap", "backprop") is None
    assert paper.row_title("squeezenet", "backprop") == "Backprop on squeezenet"


def test_table_3_is_keyed_by_title_and_supervision() -> None:
    assert paper.TABLE3["GoogLeNet-GAP (heuristics)", "weakly"] == 37.1
    assert paper.TABLE3["GoogLeNet-GAP", "weakly"] == 42.9
    assert paper.TABLE3["GoogLeNet", "full"] == 26.7
