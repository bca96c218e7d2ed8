"""Each method against the same map worked out one picture and one class at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cam_repro import UserError
from cam_repro.config import REPOSITORY
from cam_repro.localization.maps import class_activation_maps, top_classes
from cam_repro.localization.methods import METHODS, Prediction, predict, unsupported_reason
from cam_repro.networks.network import CamNetwork

CLASSES = 7
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


def some_images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 16, 12, generator=torch.Generator().manual_seed(1))


def all_maps(found: Prediction, method: str) -> torch.Tensor:
    """(P,G+1,h,w) of single crops: of the guesses, then of the true class."""
    return found.maps[method][:, 0]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_map_of_each_guess_and_of_the_true_class(method: str) -> None:
    network, images = tiny_network(), some_images()
    found = predict(network, images, LABELS, methods=[method])
    torch.testing.assert_close(found.scores, network(images).detach().softmax(1))
    assert torch.equal(found.classes, top_classes(network(images)))
    heat = all_maps(found, method)
    assert heat.shape == ((3, 6, 16, 12) if method.startswith("backprop") else (3, 6, 4, 3))
    assert heat.dtype == torch.float32 and not heat.requires_grad
    unlabelled = predict(network, images, methods=[method])
    assert torch.equal(unlabelled.maps[method][:, 0], heat[:, :5])


@pytest.mark.parametrize("pool", ["average", "max"])
def test_cam_weighs_the_maps_with_the_classifier_also_under_maximum_pooling_as_in_the_papers_table_2(
    pool: str,
) -> None:
    network, images = tiny_network(pool), some_images()
    found = predict(network, images, LABELS)
    _, maps = network.forward_with_maps(images)
    classes = torch.cat([found.classes, LABELS[:, None]], 1)
    expected = class_activation_maps(maps, network.classifier_weight, classes)
    torch.testing.assert_close(all_maps(found, "cam"), expected.detach())


def test_of_average_pooling_gradcam_is_cams_positive_part_and_layercam_cam_by_the_positive_weights() -> (
    None
):
    network, images = tiny_network(), some_images()
    found = predict(network, images, LABELS, methods=["cam", "gradcam", "layercam"])
    cams, (_, maps) = all_maps(found, "cam"), network.forward_with_maps(images)
    assert (cams < 0).any() and (cams > 0).any()
    torch.testing.assert_close(all_maps(found, "gradcam"), cams.relu() / (4 * 3))
    positive = class_activation_maps(maps, network.classifier_weight.relu(), LABELS[:, None]) / (
        4 * 3
    )
    torch.testing.assert_close(found.maps["layercam"][:, :, -1], positive.detach())


@pytest.mark.parametrize("pool", ["average", "max"])
def test_gradcam_of_a_batch_is_that_of_each_picture_and_class_alone(pool: str) -> None:
    network, images = tiny_network(pool), some_images()
    found = predict(network, images, LABELS, methods=["gradcam"])
    for picture, classes in enumerate(torch.cat([found.classes, LABELS[:, None]], 1).tolist()):
        for position, label in enumerate(classes):
            logits, maps = network.forward_with_maps(images[picture : picture + 1])
            maps.retain_grad()
            logits[0, label].backward()
            by_hand = (maps * maps.grad.mean((2, 3), keepdim=True)).sum(1).relu()[0]
            torch.testing.assert_close(
                all_maps(found, "gradcam")[picture, position], by_hand.detach()
            )


@pytest.mark.parametrize("pool", ["average", "max"])
def test_backprop_of_a_batch_is_that_of_each_picture_and_class_alone(pool: str) -> None:
    network, images = tiny_network(pool), some_images()
    found = predict(network, images, LABELS, methods=["backprop", "backprop_sum"])
    largest, total = all_maps(found, "backprop"), all_maps(found, "backprop_sum")
    for picture, classes in enumerate(torch.cat([found.classes, LABELS[:, None]], 1).tolist()):
        for position, label in enumerate(classes):
            image = images[picture : picture + 1].clone().requires_grad_()
            network(image)[0, label].backward()
            red, green, blue = image.grad[0].abs()
            torch.testing.assert_close(
                largest[picture, position], torch.maximum(torch.maximum(red, green), blue)
            )
            torch.testing.assert_close(total[picture, position], red + green + blue)


@pytest.mark.parametrize("method", METHODS)
def test_a_prediction_leaves_images_and_parameters_as_they_were(method: str) -> None:
    network, images = tiny_network(), some_images()
    before = images.clone()
    network.classifier.weight.grad = torch.ones_like(network.classifier.weight)
    predict(network, images, LABELS, methods=[method])
    assert torch.equal(images, before) and not images.requires_grad
    assert [p.grad is None for p in network.parameters()].count(False) == 1
    assert torch.equal(network.classifier.weight.grad, torch.ones_like(network.classifier.weight))


@pytest.mark.parametrize("method", METHODS)
def test_frozen_parameters_and_inference_mode_change_nothing(method: str) -> None:
    network = tiny_network()
    expected = predict(network, some_images(), LABELS, methods=[method]).maps[method]
    network.requires_grad_(False)
    with torch.inference_mode():
        images = some_images()
        assert torch.equal(
            predict(network, images, LABELS, methods=[method]).maps[method], expected
        )


@pytest.mark.parametrize("method", METHODS)
def test_the_crops_of_a_picture_are_asked_for_the_classes_of_their_mean_softmax(
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
        torch.testing.assert_close(heat, alone.maps[method][0, 0, -1])


def test_a_network_without_class_activation_maps_is_refused_cam_with_the_reason_and_served_the_rest() -> (
    None
):
    network = tiny_network()
    assert [unsupported_reason(method, network) for method in METHODS] == [""] * len(METHODS)
    layers = nn.Sequential(
        nn.Flatten(), nn.Linear(8 * 4 * 3, 9), nn.ReLU(inplace=True), nn.Linear(9, CLASSES)
    )
    connected = CamNetwork(network.trunk, network.head, layers, "none", 0.5).eval()
    with pytest.raises(
        UserError, match=r"method=cam .* fully connected .*; choose method=gradcam or .*=backprop"
    ):
        predict(connected, some_images(), LABELS)
    assert predict(connected, some_images(), LABELS, methods=["gradcam"]).maps["gradcam"].max() > 0
    assert predict(connected, some_images(), methods=["backprop"]).maps["backprop"].shape == (
        3,
        1,
        5,
        16,
        12,
    )


def test_methods_asked_together_give_what_each_gives_alone_and_none_gives_scores_alone() -> None:
    network, images = tiny_network(), some_images(4)
    together = predict(network, images, LABELS[:2], methods=METHODS, crops=2)
    for method in METHODS:
        alone = predict(network, images, LABELS[:2], methods=[method], crops=2)
        assert torch.equal(together.maps[method], alone.maps[method])
    scores_alone = predict(network, images, LABELS[:2], methods=[], crops=2)
    assert torch.equal(scores_alone.scores, together.scores) and scores_alone.maps == {}


def test_a_wrong_method_is_refused_with_the_right_ones() -> None:
    with pytest.raises(UserError, match=r"method=grad is unknown; .*choose one of: cam, gradcam, "):
        predict(tiny_network(), some_images(), methods=["grad"])


def test_the_docs_show_every_method_in_the_first_words_of_its_function() -> None:
    says = {
        name: method.function.__doc__.splitlines()[0].replace("|", "\\|")
        for name, method in METHODS.items()
    }
    table = "\n".join(f"| {name} | {said} |" for name, said in says.items())
    print(table)  # to be put there, where they do not
    assert table in (REPOSITORY / "docs/networks.md").read_text()
