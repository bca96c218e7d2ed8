"""The published numbers, and the names that lead to them."""

from cam_repro.reporting import paper


def test_rows_have_the_papers_titles_and_order() -> None:
    first = "VGGnet-GAP GoogLeNet-GAP AlexNet*-GAP AlexNet-GAP "
    first += "GoogLeNet VGGnet AlexNet NIN GoogLeNet-GMP"
    assert [paper.row_title(model) for model in paper.TABLE1] == first.split()
    second = "GoogLeNet-GAP, VGGnet-GAP, GoogLeNet, AlexNet*-GAP, AlexNet-GAP, NIN, "
    second += "Backprop on GoogLeNet, Backprop on VGGnet, Backprop on AlexNet, GoogLeNet-GMP"
    assert [paper.row_title(*key) for key in paper.TABLE2] == second.split(", ")
    assert paper.row_title("squeezenet", "backprop") == "Backprop on squeezenet"


def test_numbers_are_the_papers_and_none_where_it_measured_nothing() -> None:
    assert paper.TABLE1["alexnet_star_gap"] == ("AlexNet*-GAP", 44.9, 20.9)
    assert paper.TABLE2["vgg", "backprop"] == (61.12, 51.46)
    assert paper.TABLE3["GoogLeNet-GAP (heuristics)", "weakly"] == 37.1
    assert paper.TABLE3["GoogLeNet", "full"] == 26.7
    assert paper.published("squeezenet") == {}
    assert "loc_given_cls" not in paper.published("vgg_gap", "backprop")


def test_share_of_right_boxes_follows_from_tables_1_and_2() -> None:
    cam = {"googlenet_gap": 67.1, "alexnet_gap": 67.1, "alexnet_star_gap": 65.8}
    cam |= {"googlenet_gmp": 65.6, "vgg_gap": 64.3, "nin": 59.4, "googlenet": 58.6}
    backprop = {"alexnet": 60.7, "googlenet": 56.8, "vgg": 56.5}
    for method, shares in (("cam", cam), ("backprop", backprop)):
        for model, share in shares.items():
            assert round(paper.published(model, method)["loc_given_cls"], 1) == share
