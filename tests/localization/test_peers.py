"""Each method beside grad-cam's and torchcam's, on a real network and real images, by hand.

docs/peers.md says how the two are installed, and shows the table that the last test prints.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cam_repro.data.images import read_upright
from cam_repro.data.views import normalise, squash
from cam_repro.localization.maps import weighted_sum
from cam_repro.localization.methods import METHODS, ForwardPass, eigencam, predict
from cam_repro.networks import build_network

grad_cam = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
torchcam = pytest.importorskip("torchcam.methods", reason="torchcam is not installed")
if "ILSVRC_ROOT" not in os.environ:
    pytest.skip("ILSVRC_ROOT= names no real images", allow_module_level=True)
FOLDER = Path(os.environ["ILSVRC_ROOT"], "ILSVRC/Data/CLS-LOC/val")
IMAGES = 4
NETWORKS = ("efficientnet_lite0", "alexnet")  # with published weights, and with random ones
FEW = 1  # images of the methods with which the libraries take a forward pass for each map
Maps = torch.Tensor
measured: dict[tuple[str, str], dict[str, float]] = {}  # (method, library) -> network -> error


class Case:
    """A network, some images, and each image's best class."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        weights = "DEFAULT" if name == "efficientnet_lite0" else None
        self.name = name
        self.kept: dict[str, Maps] = {}
        self.network = build_network(name, num_classes=1000, weights=weights).eval()
        pixels = []
        for path in sorted(FOLDER.glob("*.JPEG"))[:IMAGES]:
            image, _ = read_upright(path, 2048)
            pixels.append(squash(image, 224, self.network.interpolation))
        self.images = normalise(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
        self.labels = predict(self.network, self.images, methods=[], count=1).classes[:, 0]

    def ours(self, method: str, count: int = IMAGES) -> Maps:
        """(N,h,w): our maps of the best classes, of the first images."""
        if method not in self.kept:
            found = predict(self.network, self.images[:count], methods=[method], count=1)
            self.kept[method] = found.maps[method][:, 0, 0]
        return self.kept[method]

    def forward_pass(self) -> ForwardPass:
        with torch.no_grad():
            logits, maps = self.network.forward_with_maps(self.images)
        return ForwardPass(self.network, self.images, maps, logits, self.labels[:, None])


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def of_grad_cam(case: Case, method: str, count: int = IMAGES, *, raw: bool = False) -> Maps:
    """(N,h,w): grad-cam's maps of the best classes, its enlargement to the image left out.

    raw: before its ReLU, and before it is brought to 0…1.
    """
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    kept = []

    class Small(getattr(grad_cam, method)):
        def get_target_width_height(self, _: torch.Tensor) -> None:
            return None

        def get_cam_image(self, *arguments: Any) -> np.ndarray:
            image = super().get_cam_image(*arguments)
            kept.append(torch.from_numpy(np.array(image)))
            return image

    targets = [ClassifierOutputTarget(int(label)) for label in case.labels[:count]]
    with Small(case.network, [case.network.head]) as extractor:
        if method == "AblationCAM":
            extractor.batch_size = 4  # it takes time with the square of it
        found = torch.from_numpy(extractor(case.images[:count], targets))
    return kept[0] if raw else found


def of_finer_grad_cam(case: Case) -> Maps:
    class Small(grad_cam.GradCAM):
        def get_target_width_height(self, _: torch.Tensor) -> None:
            return None

    with grad_cam.FinerCAM(case.network, [case.network.head], base_method=Small) as extractor:
        return torch.from_numpy(extractor(case.images, alpha=1))


def of_torchcam(
    case: Case, method: str, count: int = IMAGES, *layers: torch.nn.Module, **options: float
) -> Maps:
    """(N,h,w): torchcam's maps of the best classes, before it brings them to 0…1."""
    labels = case.labels[:count].tolist()
    extractor = getattr(torchcam, method)(case.network, case.network.head, *layers, **options)
    with extractor:
        logits = case.network(case.images[:count])
        (found,) = extractor(labels, logits, normalized=False)
    return found.detach()


def scaled(maps: Maps) -> Maps:
    """What both libraries end with: a ReLU, then from 0 to 1."""
    maps = maps.float().relu().flatten(1)
    maps = maps - maps.amin(1, keepdim=True)
    return maps / maps.amax(1, keepdim=True).clamp_min(1e-12)


def difference(ours: Maps, theirs: Maps) -> float:
    """The largest, of the largest value, after the ReLU and the scaling of both."""
    return float((scaled(ours) - scaled(theirs)).abs().max())


def note(case: Case, method: str, library: str, error: float) -> float:
    measured.setdefault((method, library), {})[case.name] = error
    return error


# --- equal


@pytest.mark.parametrize(
    ("method", "theirs"),
    [("gradcam", "GradCAM"), ("hirescam", "HiResCAM"), ("xgradcam", "XGradCAM"),
     ("layercam", "LayerCAM")],
)  # fmt: skip
def test_grad_cam_has_the_same_maps(case: Case, method: str, theirs: str) -> None:
    error = difference(case.ours(method), of_grad_cam(case, theirs))
    assert note(case, method, "grad-cam", error) < 1e-3


def test_grad_cam_has_the_same_ablationcam_of_a_positive_logit(case: Case) -> None:
    error = difference(case.ours("ablationcam", FEW), of_grad_cam(case, "AblationCAM", FEW))
    assert note(case, "ablationcam", "grad-cam", error) < 1e-3


@pytest.mark.parametrize(
    ("method", "theirs", "options"),
    [("gradcam", "GradCAM", {}), ("xgradcam", "XGradCAM", {}), ("layercam", "LayerCAM", {}),
     ("finercam", "FinerCAM", {"gamma": 1.0})],
)  # fmt: skip
def test_torchcam_has_the_same_maps(
    case: Case, method: str, theirs: str, options: dict[str, float]
) -> None:
    error = difference(case.ours(method), of_torchcam(case, theirs, **options))
    assert note(case, method, "torchcam", error) < 1e-3


def test_torchcam_has_the_same_cam() -> None:
    case = Case("efficientnet_lite0")
    theirs = of_torchcam(case, "CAM", IMAGES, case.network.classifier)
    assert note(case, "cam", "torchcam", difference(case.ours("cam"), theirs)) < 1e-4


# --- other rules: each is put in place of ours, and the maps are then the same


def test_grad_cams_gradcampp_adds_a_millionth_to_the_denominator_of_squared_gradients(
    case: Case,
) -> None:
    theirs = of_grad_cam(case, "GradCAMPlusPlus")
    note(case, "gradcampp", "grad-cam", difference(case.ours("gradcampp"), theirs))
    forward = case.forward_pass()
    g = forward.map_gradients
    sums = forward.maps.sum((2, 3))[:, None, :, None, None]
    alpha = torch.where(g == 0, 0, g**2 / (2 * g**2 + g**3 * sums + 1e-6))
    weights = (alpha * g.relu()).sum((3, 4))
    by_their_rule = weighted_sum(weights, forward.maps)[:, 0]
    assert difference(by_their_rule, theirs) < 1e-3


def test_torchcams_gradcampp_leaves_the_denominator_out(case: Case) -> None:
    """It divides a copy in place, `alpha[mask].div_(…)`: α stays the squared gradient."""
    theirs = of_torchcam(case, "GradCAMpp")
    note(case, "gradcampp", "torchcam", difference(case.ours("gradcampp"), theirs))
    forward = case.forward_pass()
    g = forward.map_gradients
    weights = (g**2 * g.relu()).sum((3, 4))
    by_their_rule = weighted_sum(weights, forward.maps)[:, 0]
    assert difference(by_their_rule, theirs) < 1e-3


def test_grad_cams_eigencam_centres_the_maps_and_leaves_the_sign_open(case: Case) -> None:
    theirs = of_grad_cam(case, "EigenCAM", raw=True)
    note(case, "eigencam", "grad-cam", difference(case.ours("eigencam"), theirs))
    forward = case.forward_pass()
    forward.maps = forward.maps - forward.maps.mean((2, 3), keepdim=True)
    by_their_rule = eigencam(forward)[:, 0]
    for ours, of_image in zip(by_their_rule, theirs, strict=True):
        same, reverse = (difference(sign * ours[None], of_image[None]) for sign in (1, -1))
        assert min(same, reverse) < 1e-3


def test_grad_cams_scorecam_aligns_the_corners_of_map_and_image(case: Case) -> None:
    theirs = of_grad_cam(case, "ScoreCAM", FEW)
    note(case, "scorecam", "grad-cam", difference(case.ours("scorecam", FEW), theirs))
    enlarge = F.interpolate

    def aligned(maps: Maps, size: tuple[int, int], mode: str) -> Maps:
        return enlarge(maps, size, mode=mode, align_corners=True)

    again = Case(case.name)
    with mock.patch("cam_repro.localization.methods.F.interpolate", aligned):
        by_their_rule = again.ours("scorecam", FEW)
    assert difference(by_their_rule, theirs) < 1e-3


def test_torchcams_scorecam_brings_a_map_to_0_1_before_it_is_enlarged(case: Case) -> None:
    theirs = of_torchcam(case, "ScoreCAM", FEW)
    note(case, "scorecam", "torchcam", difference(case.ours("scorecam", FEW), theirs))
    whole = case.forward_pass()
    weights = []
    with torch.no_grad():
        for image, label in zip(range(FEW), case.labels, strict=False):
            between_0_and_1 = scaled(whole.maps[image]).view_as(whole.maps[image])
            scores = []
            for part in between_0_and_1.split(32):
                masks = F.interpolate(part[:, None], (224, 224), mode="bilinear")
                scores.append(case.network(masks * case.images[image])[:, label])
            weights.append(torch.cat(scores).softmax(0))
    by_their_rule = weighted_sum(torch.stack(weights)[:, None], whole.maps[:FEW])[:, 0]
    assert difference(by_their_rule, theirs) < 1e-3


def test_grad_cams_finercam_weighs_the_other_classes_by_their_probability(case: Case) -> None:
    theirs = of_finer_grad_cam(case)
    note(case, "finercam", "grad-cam", difference(case.ours("finercam"), theirs))
    forward = case.forward_pass()
    nearest = forward.logits.sort(dim=1, descending=True).indices[:, 1:4]

    def contrast(logits: torch.Tensor) -> torch.Tensor:
        shares = logits.softmax(1).gather(1, nearest)  # differentiated too
        differences = logits.gather(1, forward.classes) - logits.gather(1, nearest)
        return ((shares * differences).sum(1) / (shares.sum(1) + 1e-9))[:, None]

    weights = forward.map_gradients_of(contrast).mean((3, 4))
    by_their_rule = weighted_sum(weights, forward.maps)[:, 0]
    assert difference(by_their_rule, theirs) < 1e-3


def test_where_the_logit_is_negative_grad_cams_ablationcam_has_the_opposite_sign() -> None:
    case = Case("alexnet")
    forward = case.forward_pass()
    case.labels = forward.logits.argmin(1)
    forward.classes = case.labels[:, None]
    assert (forward.class_logits < 0).all()
    theirs = of_grad_cam(case, "AblationCAM", FEW, raw=True)
    with torch.no_grad():
        ours = METHODS["ablationcam"].function(forward)[:FEW, 0]
    assert difference(ours, -theirs) < 1e-3 < difference(ours, theirs)


def test_the_largest_differences_are_printed_as_a_table() -> None:
    print("\n| method= | library | EfficientNet-Lite0 | AlexNet |\n|---|---|---|---|")
    for (method, library), errors in sorted(measured.items()):
        cells = [f"{errors[name]:.0e}" if name in errors else "–" for name in NETWORKS]
        print(f"| {method} | {library} | {' | '.join(cells)} |")
