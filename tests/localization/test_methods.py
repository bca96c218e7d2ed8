"""Each method against the same map worked out one image and one class at a time."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cam_repro import UserError
from cam_repro.config import REPOSITORY
from cam_repro.localization.maps import class_activation_maps, top_classes
from cam_repro.localization.methods import (
    METHODS,
    ForwardPass,
    Prediction,
    eigencam,
    gradcampp,
    predict,
    unsupported_reason,
)
from cam_repro.networks.network import CamNetwork

# Those that every network can serve; the others are shown where a class token looks.
OF_MAPS = [name for name, method in METHODS.items() if not method.of_attention]
CLASSES = 7
PLACES = 4 * 3  # of a map
LABELS = torch.tensor([6, 0, 3])


def tiny_network(pool: str = "average") -> CamNetwork:
    """All that can go wrong: strides, batch norm, dropout, a ReLU in place; 3 colours → 8 maps of a
    quarter size.
    """
    torch.manual_seed(0)
    trunk = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True)
    )
    head = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU(inplace=True))
    network = CamNetwork(trunk, head, nn.Linear(8, CLASSES), pool, 0.5)
    trunk[1].running_mean.uniform_(-0.3, 0.3)
    return network.eval()


def network_with_a_map_of_zeros() -> CamNetwork:
    network = tiny_network()
    with torch.no_grad():
        network.head[0].bias[2] = -100
    return network


def some_images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 16, 12, generator=torch.Generator().manual_seed(1))


def all_maps(found: Prediction, method: str) -> torch.Tensor:
    """(P,G+1,h,w) of single crops: of the guesses, then of the true class."""
    return found.maps[method][:, 0]


def asked_classes(found: Prediction) -> torch.Tensor:
    """(P,G+1): the classes of these maps."""
    return torch.cat([found.classes, LABELS[:, None]], 1)


def seen_by(
    network: CamNetwork, images: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The logits (N,C), the last maps (N,K,h,w), and these pooled by their mean (N,K)."""
    with torch.no_grad():
        logits, maps = network.forward_with_maps(images)
    return logits, maps, maps.mean((2, 3))


@pytest.mark.parametrize("method", OF_MAPS)
def test_every_method_gives_a_map_of_each_guess_and_of_the_true_class(method: str) -> None:
    network, images = tiny_network(), some_images()
    found = predict(network, images, LABELS, methods=[method])
    torch.testing.assert_close(found.scores, network(images).detach().softmax(1))
    assert torch.equal(found.classes, top_classes(network(images)))
    heat = all_maps(found, method)
    assert heat.shape == ((3, 6, 4, 3) if METHODS[method].has_small_maps else (3, 6, 16, 12))
    assert heat.dtype == torch.float32 and not heat.requires_grad
    unlabelled = predict(network, images, methods=[method])
    assert torch.equal(unlabelled.maps[method][:, 0], heat[:, :5])


# --- what the methods are on average pooling and a linear classifier


@pytest.mark.parametrize("pool", ["average", "max"])
def test_cam_weighs_the_maps_with_the_classifier_under_maximum_pooling_too(
    pool: str,
) -> None:
    network, images = tiny_network(pool), some_images()
    found = predict(network, images, LABELS)
    _, maps, _ = seen_by(network, images)
    expected = class_activation_maps(maps, network.classifier_weight, asked_classes(found))
    torch.testing.assert_close(all_maps(found, "cam"), expected.detach())


def test_of_average_pooling_gradcam_is_cams_positive_part_and_layercam_cams_weights() -> None:
    network, images = tiny_network(), some_images()
    found = predict(network, images, LABELS, methods=["cam", "gradcam", "layercam"])
    cams, (_, maps, _) = all_maps(found, "cam"), seen_by(network, images)
    assert (cams < 0).any() and (cams > 0).any()
    torch.testing.assert_close(all_maps(found, "gradcam"), cams.relu() / PLACES)
    positive = class_activation_maps(maps, network.classifier_weight.relu(), LABELS[:, None])
    torch.testing.assert_close(found.maps["layercam"][:, :, -1], positive.detach() / PLACES)


@pytest.mark.parametrize("network", [tiny_network(), network_with_a_map_of_zeros()])
def test_of_average_pooling_hirescam_and_xgradcam_are_cam_also_with_a_map_of_zeros(
    network: CamNetwork,
) -> None:
    found = predict(network, some_images(), LABELS, methods=["cam", "hirescam", "xgradcam"])
    expected = all_maps(found, "cam") / PLACES
    assert (expected < 0).any() and (expected > 0).any()
    torch.testing.assert_close(all_maps(found, "hirescam"), expected)
    torch.testing.assert_close(all_maps(found, "xgradcam"), expected)


@pytest.mark.parametrize("pool", ["average", "max"])
def test_hirescams_places_add_up_to_the_logit_without_its_bias(pool: str) -> None:
    network, images = tiny_network(pool), some_images()
    found = predict(network, images, LABELS, methods=["hirescam"])
    classes = asked_classes(found)
    without_bias = seen_by(network, images)[0] - network.classifier.bias.detach()
    torch.testing.assert_close(
        all_maps(found, "hirescam").sum((2, 3)), without_bias.gather(1, classes)
    )


def test_of_average_pooling_ablationcam_weighs_a_map_by_w_k_f_k_over_the_logit() -> None:
    network, images = tiny_network(), some_images()
    found = predict(network, images, LABELS, methods=["ablationcam"])
    logits, maps, pooled = seen_by(network, images)
    signs = set()
    for image, classes in enumerate(asked_classes(found).tolist()):
        for place, label in enumerate(classes):
            contribution = network.classifier.weight[label].detach() * pooled[image]
            weights = contribution / logits[image, label].abs()
            expected = (weights[:, None, None] * maps[image]).sum(0).relu()
            heat = all_maps(found, "ablationcam")[image, place]
            torch.testing.assert_close(heat, expected, rtol=1e-4, atol=1e-6)
            signs.add(bool(logits[image, label] > 0))
    assert signs == {True, False}


def test_of_average_pooling_finercam_is_cam_less_the_mean_of_the_nearest_three() -> None:
    network, images = tiny_network(), some_images()
    found = predict(network, images, LABELS, methods=["finercam"])
    logits, maps, _ = seen_by(network, images)
    every_cam = class_activation_maps(maps, network.classifier_weight).detach()
    for image, classes in enumerate(asked_classes(found).tolist()):
        for place, label in enumerate(classes):
            distance = (logits[image] - logits[image, label]).abs()
            nearest = sorted(set(range(CLASSES)) - {label}, key=lambda other: distance[other])[:3]
            contrast = every_cam[image, label] - every_cam[image, nearest].mean(0)
            heat = all_maps(found, "finercam")[image, place]
            torch.testing.assert_close(heat, contrast.relu() / PLACES)


@pytest.mark.parametrize("classes", [1, 2])
def test_finercam_compares_with_fewer_classes_where_there_are_no_three(classes: int) -> None:
    network = tiny_network()
    network.classifier = nn.Linear(8, classes)
    found = predict(network, some_images(), methods=["cam", "finercam"])
    cams = found.maps["cam"][:, 0]
    others = cams.flip(1) if classes == 2 else 0 * cams
    torch.testing.assert_close(found.maps["finercam"][:, 0], (cams - others).relu() / PLACES)


# --- each method by hand


@pytest.mark.parametrize("pool", ["average", "max"])
def test_gradcam_of_a_batch_is_that_of_each_image_and_class_alone(pool: str) -> None:
    network, images = tiny_network(pool), some_images()
    found = predict(network, images, LABELS, methods=["gradcam"])
    for image, classes in enumerate(asked_classes(found).tolist()):
        for place, label in enumerate(classes):
            logits, maps = network.forward_with_maps(images[image : image + 1])
            maps.retain_grad()
            logits[0, label].backward()
            by_hand = (maps * maps.grad.mean((2, 3), keepdim=True)).sum(1).relu()[0]
            torch.testing.assert_close(all_maps(found, "gradcam")[image, place], by_hand.detach())


@pytest.mark.parametrize("pool", ["average", "max"])
def test_backprop_of_a_batch_is_that_of_each_image_and_class_alone(pool: str) -> None:
    network, images = tiny_network(pool), some_images()
    found = predict(network, images, LABELS, methods=["backprop", "backprop_sum"])
    largest, total = all_maps(found, "backprop"), all_maps(found, "backprop_sum")
    for image, classes in enumerate(asked_classes(found).tolist()):
        for place, label in enumerate(classes):
            pixels = images[image : image + 1].clone().requires_grad_()
            network(pixels)[0, label].backward()
            red, green, blue = pixels.grad[0].abs()
            of_channels = torch.maximum(torch.maximum(red, green), blue)
            torch.testing.assert_close(largest[image, place], of_channels)
            torch.testing.assert_close(total[image, place], red + green + blue)


def pass_of(maps: list[list[list[float]]], gradients: list[list[list[float]]]) -> ForwardPass:
    """Of one image and class, with maps and gradients (K,h,w) as given and nothing else."""
    none = torch.empty(0)
    found = ForwardPass(tiny_network(), none, torch.tensor([maps]), none, torch.zeros(1, 1))
    found.map_gradients = torch.tensor([[gradients]])
    return found


def test_gradcampp_weighs_a_map_by_its_positive_gradients_as_worked_by_hand() -> None:
    """α of the gradient 1 is 1 / (2 + 3 · 1), of 0.5 it is 0.25 / (0.5 + 3 · 0.125)."""
    maps = [[[1.0, 0.0], [0.0, 2.0]], [[0.0, 3.0], [0.0, 0.0]]]
    gradients = [[[1.0, -1.0], [0.0, 0.5]], [[-1.0, -1.0], [-1.0, -1.0]]]
    weight = 1 / 5 * 1 + 2 / 7 * 0.5
    expected = torch.tensor([[[[weight, 0.0], [0.0, 2 * weight]]]])
    torch.testing.assert_close(gradcampp(pass_of(maps, gradients)), expected)


def test_eigencam_of_one_pattern_is_that_pattern_and_never_its_negative() -> None:
    """Maps 2 p and 1 p have one singular vector, (2, 1) / √5: together √5 p."""
    pattern = torch.tensor([[0.0, 1.0], [3.0, 0.5]])
    found = pass_of([(2 * pattern).tolist(), pattern.tolist()], [])
    torch.testing.assert_close(eigencam(found)[0, 0], 5**0.5 * pattern)


def test_eigencam_is_the_first_direction_nowhere_negative_and_the_same_for_all() -> None:
    network, images = tiny_network(), some_images()
    heat = all_maps(predict(network, images, LABELS, methods=["eigencam"]), "eigencam")
    _, maps, _ = seen_by(network, images)
    for image, of_classes in enumerate(heat):
        assert all(torch.equal(of_class, of_classes[0]) for of_class in of_classes)
        assert of_classes.min() > -1e-6 and of_classes.max() > 0
        places = maps[image].flatten(1).T
        _, vectors = torch.linalg.eigh(places.T @ places)
        expected = (places @ vectors[:, -1]).abs().view(4, 3)
        torch.testing.assert_close(of_classes[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", [tiny_network("max"), network_with_a_map_of_zeros()])
def test_scorecam_weighs_a_map_by_the_score_of_the_image_behind_it_as_worked_one_map_at_a_time(
    network: CamNetwork,
) -> None:
    images = some_images()
    with mock.patch("cam_repro.localization.methods.COPIES", 3):  # of 8 maps
        found = predict(network, images, LABELS, methods=["scorecam"])
    _, maps, _ = seen_by(network, images)
    baseline = network(torch.zeros(1, 3, 16, 12)).detach()[0]
    for image, classes in enumerate(asked_classes(found)):
        increases = []
        for k in range(8):
            mask = F.interpolate(maps[image : image + 1, k : k + 1], (16, 12), mode="bilinear")
            mask = (mask - mask.min()) / max(float(mask.max() - mask.min()), 1e-30)
            increases.append(network(mask * images[image])[0].detach() - baseline)
        weights = torch.stack(increases)[:, classes].softmax(0)
        expected = torch.einsum("kc,khw->chw", weights, maps[image]).relu()
        torch.testing.assert_close(all_maps(found, "scorecam")[image], expected)


# --- what they cost


def test_the_gradient_methods_share_one_backward_pass_a_class() -> None:
    together = ["gradcam", "gradcampp", "hirescam", "xgradcam", "layercam"]
    with mock.patch("torch.autograd.grad", side_effect=torch.autograd.grad) as backward:
        predict(tiny_network(), some_images(), LABELS, methods=together)
    assert backward.call_count == 6


def test_all_methods_but_scorecam_send_an_image_through_the_trunk_once() -> None:
    network, sizes = tiny_network(), []
    network.trunk.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    predict(
        network, some_images(), LABELS, methods=[name for name in OF_MAPS if name != "scorecam"]
    )
    assert sizes == [3]
    sizes.clear()
    with mock.patch("cam_repro.localization.methods.COPIES", 5):
        predict(network, some_images(), LABELS, methods=["scorecam"])
    assert sizes == [3, 5, 3, 5, 3, 5, 3]  # the images, then each one behind its 8 maps


# --- what holds for each


@pytest.mark.parametrize("method", OF_MAPS)
def test_a_batch_has_each_images_own_maps(method: str) -> None:
    network, images = tiny_network(), some_images()
    together = predict(network, images, LABELS, methods=[method]).maps[method]
    for number in range(3):
        one = slice(number, number + 1)
        alone = predict(network, images[one], LABELS[one], methods=[method]).maps[method]
        torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", OF_MAPS)
def test_a_prediction_leaves_images_and_parameters_as_they_were(method: str) -> None:
    network, images = tiny_network(), some_images()
    before = images.clone()
    network.classifier.weight.grad = torch.ones_like(network.classifier.weight)
    predict(network, images, LABELS, methods=[method])
    assert torch.equal(images, before) and not images.requires_grad
    assert [p.grad is None for p in network.parameters()].count(False) == 1
    assert torch.equal(network.classifier.weight.grad, torch.ones_like(network.classifier.weight))


@pytest.mark.parametrize("method", OF_MAPS)
def test_frozen_parameters_and_inference_mode_change_nothing(method: str) -> None:
    network = tiny_network()
    expected = predict(network, some_images(), LABELS, methods=[method]).maps[method]
    network.requires_grad_(False)
    with torch.inference_mode():
        images = some_images()
        assert torch.equal(
            predict(network, images, LABELS, methods=[method]).maps[method], expected
        )


@pytest.mark.parametrize("method", OF_MAPS)
def test_the_crops_of_an_image_are_asked_for_the_classes_of_their_mean_softmax(
    method: str,
) -> None:
    network, images = tiny_network(), 3 * some_images(6)
    found = predict(network, images, LABELS[:2], methods=[method], crops=3, count=2)
    scores = network(images).detach().softmax(1).view(2, 3, CLASSES).mean(1)
    torch.testing.assert_close(found.scores, scores)
    assert torch.equal(found.classes, top_classes(scores, 2))
    assert found.maps[method].shape[:3] == (2, 3, 3)
    of_one_crop = found.maps[method][1, 1, 1], found.maps[method][1, 1, -1]
    for heat, label in zip(of_one_crop, (found.classes[1, 1:], LABELS[1:2]), strict=True):
        alone = predict(network, images[4:5], label, methods=[method])
        torch.testing.assert_close(heat, alone.maps[method][0, 0, -1], rtol=1e-4, atol=1e-6)


def test_a_network_without_weights_for_its_maps_is_refused_cam_and_served_the_rest() -> None:
    network = tiny_network()
    assert [unsupported_reason(method, network) for method in OF_MAPS] == [""] * len(OF_MAPS)
    layers = nn.Sequential(
        nn.Flatten(), nn.Linear(8 * PLACES, 9), nn.ReLU(inplace=True), nn.Linear(9, CLASSES)
    )
    connected = CamNetwork(network.trunk, network.head, layers, "none", 0.5).eval()
    with pytest.raises(
        UserError, match=r"method=cam .* fully connected .*; choose one of: gradcam, .*, backprop"
    ):
        predict(connected, some_images(), LABELS)
    others = [name for name in OF_MAPS if name != "cam"]
    found = predict(connected, some_images(), LABELS, methods=others)
    for method in others:
        assert found.maps[method].isfinite().all() and found.maps[method].max() > 0


def test_methods_asked_together_give_what_each_gives_alone_and_none_gives_scores_alone() -> None:
    network, images = tiny_network(), some_images(4)
    together = predict(network, images, LABELS[:2], methods=[*OF_MAPS], crops=2)
    for method in OF_MAPS:
        alone = predict(network, images, LABELS[:2], methods=[method], crops=2)
        assert torch.equal(together.maps[method], alone.maps[method])
    scores_alone = predict(network, images, LABELS[:2], methods=[], crops=2)
    assert torch.equal(scores_alone.scores, together.scores) and scores_alone.maps == {}


def test_a_wrong_method_is_refused_with_the_right_ones() -> None:
    with pytest.raises(UserError, match=r"method=grad is unknown; .*choose one of: cam, gradcam, "):
        predict(tiny_network(), some_images(), methods=["grad"])


def test_the_docs_show_every_method_in_the_first_line_of_its_function() -> None:
    says = {
        name: method.function.__doc__.splitlines()[0].replace("|", "\\|")
        for name, method in METHODS.items()
    }
    table = "\n".join(f"| {name} | {said} |" for name, said in says.items())
    print(table)  # to be put there, where they do not
    assert table in (REPOSITORY / "docs/networks.md").read_text()
