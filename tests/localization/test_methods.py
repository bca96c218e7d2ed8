"""Each method against the same map worked out one picture and one class at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cam_repro import UserError
from cam_repro.localization import methods
from cam_repro.localization.maps import class_activation_maps, top_classes
from cam_repro.localization.methods import METHODS, look, refusal
from cam_repro.networks.network import CamNetwork

CLASSES = 7
LABELS = torch.tensor([6, 0, 3])


def tiny_network(pool: str = "average", last: nn.Module | None = None) -> CamNetwork:
    """All that can go wrong: strides, batch norm, dropout, a ReLU in place; 3 colours → 8 maps of a quarter size."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
    head = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), last or nn.ReLU(inplace=True))
    network = CamNetwork(trunk, head, nn.Linear(8, CLASSES), pool, 0.5)
    trunk[1].running_mean.uniform_(-0.3, 0.3)
    return network.eval()


def some_images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 16, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_map_of_each_guess_and_of_the_true_class(method: str) -> None:
    network, images = tiny_network(), some_images()
    seen = look(network, images, LABELS, methods=[method])
    torch.testing.assert_close(seen.scores, network(images).detach())
    assert torch.equal(seen.guesses, top_classes(seen.scores))
    heat = seen.heat[method]
    assert heat.shape == ((3, 6, 16, 12) if method.startswith("backprop") else (3, 6, 4, 3))
    assert heat.dtype == torch.float32
    assert not heat.requires_grad
    assert torch.equal(look(network, images, methods=[method]).heat[method], heat[:, :5])


def test_scores_alone_are_the_same_without_maps() -> None:
    seen, with_maps = (look(tiny_network(), some_images(), LABELS, methods=asked) for asked in ([], ["cam"]))
    assert torch.equal(seen.scores, with_maps.scores)
    assert torch.equal(seen.guesses, with_maps.guesses)
    assert seen.heat == {}


def test_cam_weighs_the_maps_with_the_classifier() -> None:
    network, images = tiny_network(), some_images()
    seen = look(network, images, LABELS)
    logits, maps = network.forward_with_maps(images)
    every = class_activation_maps(maps, network.classifier_weight)
    for picture, label in enumerate(LABELS):
        torch.testing.assert_close(seen.heat["cam"][picture, 0], every[picture, logits[picture].argmax()])
        torch.testing.assert_close(seen.heat["cam"][picture, -1], every[picture, label])


def test_gradcam_of_average_pooling_is_the_positive_part_of_cam_over_the_number_of_positions() -> None:
    network, images = tiny_network(), some_images()
    cams, gradcams = (look(network, images, LABELS, methods=[method]).heat[method] for method in ("cam", "gradcam"))
    assert (cams < 0).any()
    assert (cams > 0).any()
    torch.testing.assert_close(gradcams, cams.relu() / (4 * 3))


@pytest.mark.parametrize("pool", ["average", "max"])
def test_gradcam_of_a_batch_is_that_of_each_picture_and_class_alone(pool: str) -> None:
    network, images = tiny_network(pool), some_images()
    seen = look(network, images, LABELS, methods=["gradcam"])
    for picture, classes in enumerate(torch.cat([seen.guesses, LABELS[:, None]], 1).tolist()):
        for position, label in enumerate(classes):
            logits, maps = network.forward_with_maps(images[picture : picture + 1])
            maps.retain_grad()
            logits[0, label].backward()
            by_hand = (maps * maps.grad.mean((2, 3), keepdim=True)).sum(1).relu()[0]
            torch.testing.assert_close(seen.heat["gradcam"][picture, position], by_hand.detach())


@pytest.mark.parametrize("pool", ["average", "max"])
def test_backprop_of_a_batch_is_that_of_each_picture_and_class_alone(pool: str) -> None:
    network, images = tiny_network(pool), some_images()
    largest, total = (
        look(network, images, LABELS, methods=[method]).heat[method] for method in ("backprop", "backprop_sum")
    )
    guesses = top_classes(network(images))
    for picture, classes in enumerate(torch.cat([guesses, LABELS[:, None]], 1).tolist()):
        for position, label in enumerate(classes):
            image = images[picture : picture + 1].clone().requires_grad_()
            network(image)[0, label].backward()
            red, green, blue = image.grad[0].abs()
            torch.testing.assert_close(largest[picture, position], torch.maximum(torch.maximum(red, green), blue))
            torch.testing.assert_close(total[picture, position], red + green + blue)


def test_backprop_is_the_change_of_the_score_with_a_pixel() -> None:
    network, images, step = tiny_network(last=nn.Softplus()), some_images(1), 0.05
    network.trunk[2] = nn.Softplus()  # smooth, so that a step of any size has a gradient beside it
    changes = torch.zeros_like(images)
    for pixel in range(images.numel()):
        nudge = torch.zeros_like(images)
        nudge.view(-1)[pixel] = step
        with torch.inference_mode():
            difference = network(images + nudge) - network(images - nudge)
        changes.view(-1)[pixel] = difference[0, 2] / (2 * step)
    heat = look(network, images, torch.tensor([2]), methods=["backprop"]).heat["backprop"][0, -1]
    torch.testing.assert_close(heat, changes[0].abs().amax(0), rtol=0.02, atol=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_looking_leaves_images_and_parameters_as_they_were(method: str) -> None:
    network, images = tiny_network(), some_images()
    before = images.clone()
    network.classifier.weight.grad = torch.ones_like(network.classifier.weight)
    look(network, images, LABELS, methods=[method])
    assert torch.equal(images, before)
    assert not images.requires_grad
    assert [p.grad is None for p in network.parameters()].count(False) == 1
    assert torch.equal(network.classifier.weight.grad, torch.ones_like(network.classifier.weight))


@pytest.mark.parametrize("method", METHODS)
def test_frozen_parameters_and_inference_mode_change_nothing(method: str) -> None:
    network = tiny_network()
    expected = look(network, some_images(), LABELS, methods=[method]).heat[method]
    network.requires_grad_(False)
    with torch.inference_mode():
        images = some_images()
        assert torch.equal(look(network, images, LABELS, methods=[method]).heat[method], expected)


@pytest.mark.parametrize("method", METHODS)
def test_the_crops_of_a_picture_are_asked_for_the_classes_of_their_mean_softmax(method: str) -> None:
    network, images = tiny_network(), 3 * some_images(6)
    seen = look(network, images, LABELS[:2], methods=[method], crops=3, count=2)
    scores = network(images).detach().softmax(1).view(2, 3, CLASSES).mean(1)
    torch.testing.assert_close(seen.scores, scores)
    assert torch.equal(seen.guesses, top_classes(scores, 2))
    assert seen.heat[method].shape[:3] == (2, 3, 3)
    crop_alone = look(network, images[4:5], seen.guesses[1, 1:], methods=[method])  # its true class: the second guess
    torch.testing.assert_close(seen.heat[method][1, 1, 1], crop_alone.heat[method][0, -1])


def test_cam_serves_maximum_pooling_as_in_the_papers_table_2() -> None:
    network, images = tiny_network("max"), some_images()
    _, maps = network.forward_with_maps(images)
    expected = class_activation_maps(maps, network.classifier_weight, LABELS[:, None])
    torch.testing.assert_close(look(network, images, LABELS).heat["cam"][:, -1:], expected.detach())


def test_backprop_is_in_full_precision_where_the_rest_is_in_half(monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = tiny_network(), some_images()
    full = {method: look(network, images, LABELS, methods=[method]) for method in METHODS}
    monkeypatch.setattr(methods, "autocast", lambda device: torch.autocast("cpu", dtype=torch.bfloat16))
    half = {method: look(network, images, LABELS, methods=[method]) for method in METHODS}
    assert torch.equal(half["backprop"].heat["backprop"], full["backprop"].heat["backprop"])
    assert not torch.equal(half["cam"].heat["cam"], full["cam"].heat["cam"])
    assert torch.equal(half["gradcam"].scores, half["cam"].scores)
    assert all(half[method].heat[method].dtype == half[method].scores.dtype == torch.float32 for method in METHODS)


def test_a_network_without_class_activation_maps_is_refused_cam_with_the_reason_and_served_the_rest() -> None:
    network = tiny_network()
    assert [refusal(method, network) for method in METHODS] == [""] * len(METHODS)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(8 * 4 * 3, 9), nn.ReLU(inplace=True), nn.Linear(9, CLASSES))
    connected = CamNetwork(network.trunk, network.head, layers, "none", 0.5).eval()
    with pytest.raises(UserError, match=r"method=cam .* fully connected .*; choose method=gradcam or method=backprop"):
        look(connected, some_images(), LABELS)
    assert look(connected, some_images(), LABELS, methods=["gradcam"]).heat["gradcam"].max() > 0
    assert look(connected, some_images(), LABELS, methods=["backprop"]).heat["backprop"].shape == (3, 6, 16, 12)


def test_methods_asked_together_give_what_each_gives_alone() -> None:
    network, images = tiny_network(), some_images(4)
    together = look(network, images, LABELS[:2], methods=METHODS, crops=2)
    for method in METHODS:
        assert torch.equal(
            together.heat[method], look(network, images, LABELS[:2], methods=[method], crops=2).heat[method]
        )


def test_a_wrong_method_is_refused_with_the_right_ones() -> None:
    with pytest.raises(UserError, match=r"method=grad is unknown; .* cam, gradcam, backprop, backprop_sum"):
        look(tiny_network(), some_images(), methods=["grad"])


def test_methods_in_passes_of_their_own_are_asked_for_the_same_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where another pass's rounding orders near-equal classes otherwise."""
    network, images = tiny_network(), some_images()
    together = look(network, images, methods=["cam", "backprop"])
    forward, passes = network.forward_with_maps, []

    def another_order_each_time(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, maps = forward(images)
        passes.append(logits)
        return (logits if len(passes) == 1 else -logits), maps

    monkeypatch.setattr(network, "forward_with_maps", another_order_each_time)
    monkeypatch.setattr(methods, "_forward_passes", lambda *_: [["cam"], ["backprop"]])
    apart = look(network, images, methods=["cam", "backprop"])
    assert len(passes) == 2
    assert torch.equal(apart.guesses, together.guesses)
    torch.testing.assert_close(apart.heat["backprop"], together.heat["backprop"])  # |gradient|: the sign is gone
