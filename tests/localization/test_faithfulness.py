"""What a network says of changed copies of an image, with networks whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cam_repro.localization import faithfulness as ours
from cam_repro.localization.faithfulness import (
    Perturbation,
    area,
    black,
    blurred,
    faithfulness,
    imputed,
    mask_of,
    matched_mask,
    pixels_by_step,
    places_in_order,
    probabilities,
    subjects,
)

HOW = Perturbation(steps=4, insertion_from="mean", deletion_to="mean", percentiles=(25, 50))


class Additive(nn.Module):
    """The first class's probability is Σ weight · the first colour, of weights (H,W) that sum to 1.

    The second class has the rest. nothing: the value of the colour that adds nothing.
    """

    def __init__(self, weights: torch.Tensor, nothing: float = 0.0) -> None:
        super().__init__()
        self.weights = weights
        self.nothing = nothing

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        added = self.weights * (images[:, 0] - self.nothing)
        p = added.sum((1, 2)).clamp(1e-6, 1 - 1e-6)
        return torch.stack([p, 1 - p], 1).log()


WEIGHTS = torch.tensor([[0.4, 0.3], [0.2, 0.1]])
ONES = torch.ones(1, 3, 2, 2)  # the mean colour is 0 and adds nothing


def scores_of(heatmap: torch.Tensor, how: Perturbation = HOW) -> dict[str, float]:
    network = Additive(WEIGHTS)
    (subject,) = subjects(network, ONES, network(ONES).softmax(1), how)
    return faithfulness(network, subject, heatmap, how, 3)


# --- insertion and deletion


def test_insertion_and_deletion_are_the_areas_under_the_probability_with_both_ends() -> None:
    found = scores_of(WEIGHTS)
    # pixel by pixel 0, 0.4, 0.7, 0.9, 1 comes, and 1, 0.6, 0.3, 0.1, 0 is left
    assert found["insertion"] == pytest.approx((0.4 + 0.7 + 0.9 + 0.5) / 4, abs=1e-5)
    assert found["deletion"] == pytest.approx((0.5 + 0.6 + 0.3 + 0.1) / 4, abs=1e-5)
    reverse = scores_of(-WEIGHTS)
    assert reverse["insertion"] == pytest.approx((0.1 + 0.3 + 0.6 + 0.5) / 4, abs=1e-5)


@given(st.permutations([1.0, 2.0, 3.0, 4.0]))
def test_no_map_inserts_or_deletes_better_than_an_additive_networks_own(order: list[float]) -> None:
    other = scores_of(torch.tensor(order).view(2, 2))
    best = scores_of(WEIGHTS)
    assert best["insertion"] >= other["insertion"] - 1e-6
    assert best["deletion"] <= other["deletion"] + 1e-6
    assert best["road"] >= other["road"] - 1e-2  # the noise's


def test_insertion_and_deletion_depend_on_the_maps_order_alone() -> None:
    found = scores_of(WEIGHTS)
    risen = scores_of(torch.exp(5 * WEIGHTS) - 9)
    for name in ("insertion", "deletion", "average_drop_matched", "increase_matched", "road"):
        assert risen[name] == found[name]
    assert risen["average_drop"] != found["average_drop"]


def test_the_steps_go_from_no_pixel_to_all_and_the_area_of_a_line_is_its_middle() -> None:
    assert pixels_by_step(10, 4).tolist() == [0, 2, 5, 8, 10]
    assert area(np.linspace(0.2, 0.8, 7)) == pytest.approx(0.5)


def test_pixels_of_equal_value_are_in_a_random_order_that_is_the_same_for_each_map() -> None:
    places = places_in_order(torch.ones(20, 20))
    assert torch.equal(places, places_in_order(torch.full((20, 20), -3.0)))
    assert places.flatten().sort().values.tolist() == list(range(400))
    first_half = (places < 200)[:10].float().mean()
    assert 0.4 < first_half < 0.6


def test_copies_of_each_substrate_start_or_end_with_it() -> None:
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(blurred(torch.ones_like(images)), torch.ones_like(images))
    assert blurred(images).std() < 0.2 * images.std()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = black(images)[1, :, 5, 7] * std + mean
    torch.testing.assert_close(pixels, torch.zeros(3), atol=1e-7, rtol=0)


# --- average drop and increase


def test_a_mask_is_the_positive_map_by_its_maximum_and_a_map_below_zero_masks_all() -> None:
    mask = mask_of(torch.tensor([[-1.0, 0.0], [2.0, 4.0]]))
    assert mask.tolist() == [[0.0, 0.0], [0.5, 1.0]]
    assert mask_of(-torch.ones(2, 2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@given(st.lists(st.integers(-9, 9), min_size=6, max_size=6))
def test_a_matched_mask_is_equally_bright_for_every_map(values: list[int]) -> None:
    mask = matched_mask(torch.tensor(values, dtype=torch.float64).view(2, 3))
    assert float(mask.mean()) == pytest.approx(0.5)


def test_equal_pixels_of_a_matched_mask_share_their_rank() -> None:
    mask = matched_mask(torch.tensor([[5.0, 7.0, 5.0], [0.0, 9.0, 5.0]]))
    torch.testing.assert_close(mask, torch.tensor([[0.4, 0.8, 0.4], [0.0, 1.0, 0.4]]))


def test_average_drop_is_of_the_probability_and_an_increase_is_no_drop() -> None:
    dark = black(ONES)
    network = Additive(torch.full((2, 2), 0.25), nothing=float(dark[0, 0, 0, 0]))
    images = torch.cat([dark + 0.8, dark + 0.2])
    bright, dim = subjects(network, images, network(images).softmax(1), HOW)
    upper_half = torch.tensor([[2.0, 2.0], [0.0, -3.0]])
    found = faithfulness(network, bright, upper_half, HOW, 8)  # of 0.8 there is 0.4 left
    assert found["average_drop"] == pytest.approx(0.5, abs=1e-5) and found["increase"] == 0
    found = faithfulness(network, dim, upper_half, HOW, 8)  # the dark class has 0.9 in place of 0.8
    assert found["average_drop"] == 0 and found["increase"] == 1


def test_a_constant_map_drops_nothing_unless_its_mask_is_matched() -> None:
    found = scores_of(torch.ones(2, 2))
    assert found["average_drop"] == 0 and found["average_drop_matched"] > 0.1


# --- ROAD


def test_a_removed_pixel_is_the_weighted_mean_of_its_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ours, "NOISE", 0.0)
    image = torch.arange(27.0).view(3, 3, 3)
    removed = torch.zeros(3, 3, dtype=torch.bool)
    removed[0, 0] = True
    found = imputed(image, removed)
    # of its three neighbours the two beside it weigh twice as much as the diagonal one
    expected = (2 * image[:, 0, 1] + 2 * image[:, 1, 0] + image[:, 1, 1]) / 5
    torch.testing.assert_close(found[:, 0, 0], expected)
    assert torch.equal(found[:, ~removed], image[:, ~removed])


def test_a_slope_that_is_taken_out_of_the_middle_is_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ours, "NOISE", 0.0)
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(10.0), indexing="ij")
    image = torch.stack([x, y, 2 * x - y])
    removed = torch.zeros(12, 10, dtype=torch.bool)
    removed[2:10, 1:9] = True
    torch.testing.assert_close(imputed(image, removed), image, atol=1e-4, rtol=0)


def test_the_noise_is_small_and_the_same_every_time_and_all_pixels_cannot_be_removed() -> None:
    image = torch.zeros(3, 16, 16)
    removed = torch.rand(16, 16) < 0.5
    removed[0, 0] = False
    found = imputed(image, removed)
    assert torch.equal(found, imputed(image, removed))
    assert 0.005 < float(found[:, removed].std()) < 0.02
    with pytest.raises(ValueError, match="must be left"):
        imputed(image, torch.ones(16, 16, dtype=torch.bool))
    assert torch.equal(imputed(image, torch.zeros(16, 16, dtype=torch.bool)), image)


def test_road_is_half_of_the_difference_between_both_orders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = {}

    def keep(network: nn.Module, copies: torch.Tensor, *_: int) -> np.ndarray:
        kept["copies"] = len(copies)
        found = np.linspace(0.1, 0.9, len(copies))
        found[-4:] = [0.2, 0.8, 0.1, 0.5]  # without the most, the least relevant 25 %, then 50 %
        return found

    monkeypatch.setattr(ours, "probabilities", keep)
    found = scores_of(WEIGHTS)
    assert found["road"] == pytest.approx(((0.8 - 0.2) / 2 + (0.5 - 0.1) / 2) / 2)
    assert kept["copies"] == 2 * (HOW.steps - 1) + 2 + 2 * 2  # ends are not made again


# --- the batches


def test_copies_go_through_the_network_in_full_batches() -> None:
    seen = []

    class Watched(Additive):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(len(images))
            return super().forward(images)

    copies = torch.rand(10, 3, 2, 2)
    found = probabilities(Watched(WEIGHTS), copies, 0, 4)
    assert seen == [4, 4, 2]
    expected = Additive(WEIGHTS)(copies).softmax(1)[:, 0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)


def test_subjects_are_scored_for_the_best_class_of_the_whole_image() -> None:
    network = Additive(WEIGHTS)
    images = torch.stack([ONES[0], 0.2 * ONES[0]])
    bright, dim = subjects(network, images, network(images).softmax(1), HOW)
    assert (bright.wanted, dim.wanted) == (0, 1)
    assert dim.whole == pytest.approx(0.8, abs=1e-5)
    assert bright.at_insertion == pytest.approx(0, abs=1e-5)
    assert dim.at_deletion == pytest.approx(1, abs=1e-5)
