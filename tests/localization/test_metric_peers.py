"""Each metric of explanations beside the libraries', on a real network and real images, by hand.

docs/peers.md says how they are installed, and shows the table that the last test prints.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from cam_repro.data.images import read_upright
from cam_repro.data.views import normalise, resize_map, squash
from cam_repro.localization import faithfulness as ours
from cam_repro.localization.faithfulness import (
    Perturbation,
    faithfulness,
    mask_of,
    probabilities,
    subjects,
)
from cam_repro.localization.max_box_acc import normalised
from cam_repro.localization.methods import predict
from cam_repro.localization.pointing import energy_inside, pointing_game
from cam_repro.localization.randomisation import ssim
from cam_repro.networks import build_network

gradcam_metrics = pytest.importorskip("pytorch_grad_cam.metrics.road", reason="no grad-cam")
torchcam_metrics = pytest.importorskip("torchcam.metrics", reason="no torchcam")
captum_metrics = pytest.importorskip("captum.metrics", reason="no captum")
quantus = pytest.importorskip("quantus", reason="no quantus")
if "ILSVRC_ROOT" not in os.environ:
    pytest.skip("ILSVRC_ROOT= names no real images", allow_module_level=True)
FOLDER = Path(os.environ["ILSVRC_ROOT"], "ILSVRC/Data/CLS-LOC/val")
IMAGES = int(os.environ.get("PEER_IMAGES", "2"))
METHODS = ("cam", "centre", "uniform", "edges")
STEPS = 8
PIXELS = 224 * 224
HOW = Perturbation(STEPS, "mean", "mean", (20, 50, 80))
measured: dict[str, dict[str, float]] = {}  # what -> method -> mean over the images


class Case:
    """EfficientNet-Lite0, some images, each one's best class, and maps of it at 224 pixels."""

    def __init__(self) -> None:
        self.network = build_network("efficientnet_lite0", 1000, weights="DEFAULT").eval()
        self.network.requires_grad_(False)
        pixels = []
        for path in sorted(FOLDER.glob("*.JPEG"))[:IMAGES]:
            image, _ = read_upright(path, 2048)
            pixels.append(squash(image, 224, self.network.interpolation))
        self.images = normalise(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
        found = predict(self.network, self.images, methods=METHODS, count=1)
        self.scores = found.scores
        self.labels = found.classes[:, 0]
        self.heatmaps: dict[str, torch.Tensor] = {}  # (N,224,224)
        for method in METHODS:
            small = found.maps[method][:, 0, 0].numpy()
            enlarged = [resize_map(heatmap, 224, 224, "bilinear") for heatmap in small]
            self.heatmaps[method] = torch.from_numpy(np.stack(enlarged))

    @lru_cache  # noqa: B019 - there is one case
    def ours(self, method: str, how: Perturbation = HOW) -> list[dict[str, float]]:
        with torch.inference_mode():
            of_images = subjects(self.network, self.images, self.scores, how)
            found = []
            for subject, heatmap in zip(of_images, self.heatmaps[method], strict=True):
                found.append(faithfulness(self.network, subject, heatmap, how, 32))
        return found

    def scaled(self, method: str) -> np.ndarray:
        """(N,224,224): from 0 to 1, as grad-cam gives its maps."""
        maps = self.heatmaps[method].clamp_min(0).numpy()
        return maps / maps.max((1, 2), keepdims=True)

    @property
    def whole(self) -> np.ndarray:
        return self.scores.gather(1, self.labels[:, None])[:, 0].double().numpy()


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


def mean_of(found: list[dict[str, float]], name: str) -> float:
    return float(np.mean([of_image[name] for of_image in found]))


def note(what: str, method: str, value: float) -> float:
    measured.setdefault(what, {})[method] = value
    return value


# --- torchcam


def of_torchcam(case: Case, metric: Any) -> dict[str, float]:
    for image in case.images.split(1):
        metric.update(image)
    return metric.summary()


def test_torchcam_has_the_same_insertion_and_deletion_of_cam(case: Case) -> None:
    softmax = partial(torch.softmax, dim=-1)
    extractor = torchcam_metrics_cam(case)
    with extractor:
        metric = torchcam_metrics.DeletionInsertionMetric(extractor, softmax, steps=STEPS)
        theirs = of_torchcam(case, metric)
    found = case.ours("cam")
    for name in ("insertion", "deletion"):
        assert mean_of(found, name) == pytest.approx(theirs[f"{name}_auc"], abs=2e-3)
        note(f"torchcam: {name}, {STEPS} steps, mean", "cam", theirs[f"{name}_auc"])
        note(f"ours: {name}, {STEPS} steps, mean", "cam", mean_of(found, name))


def torchcam_metrics_cam(case: Case) -> Any:
    from torchcam.methods import CAM

    return CAM(case.network, case.network.head, case.network.classifier)


def test_torchcams_average_drop_masks_normalised_pixels_by_the_min_max_scaled_map(
    case: Case,
) -> None:
    softmax = partial(torch.softmax, dim=-1)
    extractor = torchcam_metrics_cam(case)
    with extractor:
        theirs = of_torchcam(case, torchcam_metrics.ClassificationMetric(extractor, softmax))
    drops = []
    for image, heatmap, label, whole in zip(
        case.images, case.heatmaps["cam"], case.labels.tolist(), case.whole, strict=True
    ):
        # The small map is scaled first; bilinear enlargement keeps its range.
        mask = (heatmap - heatmap.min()) / (heatmap.max() - heatmap.min())
        (after,) = probabilities(case.network, (mask * image)[None], label, 1)
        drops.append(max(0, whole - after) / whole)
    note("torchcam: average drop", "cam", theirs["avg_drop"])
    assert np.mean(drops) == pytest.approx(theirs["avg_drop"], abs=0.01)


# --- grad-cam


def targets_of(case: Case) -> list[Any]:
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    return [ClassifierOutputSoftmaxTarget(int(label)) for label in case.labels]


@pytest.mark.parametrize("method", ["cam", "centre"])
def test_grad_cam_has_the_same_road_without_the_noise(case: Case, method: str) -> None:
    imputer = gradcam_metrics.NoisyLinearImputer
    noiseless = mock.patch.object(imputer.__init__, "__defaults__", (0.0, None))
    with noiseless, mock.patch.object(ours, "NOISE", 0.0):
        road = gradcam_metrics.ROADCombined(percentiles=list(HOW.percentiles))
        maps = case.scaled(method)
        theirs = road(case.images.contiguous(), maps, targets_of(case), case.network)
        how = replace(HOW, steps=2)  # of which nothing is kept from before
        found = [of_image["road"] for of_image in case.ours(method, how)]
    # A map's equal pixels are all removed by theirs, and a share of them by ours.
    np.testing.assert_allclose(found, theirs, atol=5e-3)
    note("grad-cam: ROAD without noise", method, float(np.mean(theirs)))
    note("ours: ROAD without noise", method, float(np.mean(found)))


def test_grad_cams_drop_is_not_divided_by_the_probability_and_masks_normalised_pixels(
    case: Case,
) -> None:
    from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence

    for method in METHODS:
        maps = case.scaled(method)
        theirs = DropInConfidence()(case.images, maps, targets_of(case), case.network)
        after = []
        for image, heatmap, label in zip(
            case.images, case.heatmaps[method], case.labels.tolist(), strict=True
        ):
            masked = mask_of(heatmap) * image
            after.extend(probabilities(case.network, masked[None], label, 1))
        by_their_rule = np.maximum(case.whole - np.array(after), 0)
        np.testing.assert_allclose(by_their_rule, theirs, atol=1e-4)
        note("grad-cam: drop in confidence", method, float(theirs.mean()))
        for name in ("average_drop", "average_drop_matched"):
            note(f"ours: {name.replace('_', ' ')}", method, mean_of(case.ours(method), name))


# --- quantus


def of_quantus(metric: Any, case: Case, method: str, **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return metric(
            model=case.network,
            x_batch=case.images.numpy(),
            y_batch=case.labels.numpy(),
            a_batch=case.heatmaps[method][:, None].numpy(),
            softmax=True,
            device="cpu",
            **more,
        )


def flipped(case: Case, method: str, features: int) -> np.ndarray:
    """(N,S): quantus's probabilities as so many features a step become the mean colour."""
    options = {"normalise": False, "perturb_baseline": 0.0, "disable_warnings": True}
    return np.array(of_quantus(quantus.PixelFlipping(features, **options), case, method))


def test_quantus_counts_features_in_step_over_the_colours_and_checks_them_over_the_pixels(
    case: Case,
) -> None:
    assert flipped(case, "cam", PIXELS // STEPS).shape == (IMAGES, 3 * STEPS)
    with pytest.raises(AssertionError, match="50176 % 18816"):  # no step of whole pixels fits
        flipped(case, "cam", 3 * PIXELS // STEPS)


def test_quantus_leaves_the_unperturbed_start_out_and_with_it_has_our_deletion(case: Case) -> None:
    curves = flipped(case, "cam", PIXELS // STEPS)
    whole = case.whole[:, None]
    of_whole_pixels = np.concatenate([whole, curves[:, 2::3]], axis=1)
    found = [of_image["deletion"] for of_image in case.ours("cam")]
    # Of a pixel at a step's edge some of the colours may be gone before the others.
    np.testing.assert_allclose(ours.area(of_whole_pixels), found, atol=0.01)
    for steps in (STEPS, 2 * STEPS):
        finer = flipped(case, "cam", PIXELS // steps)
        note(f"quantus: mean of the curve, {3 * steps} steps", "cam", float(finer.mean()))
        with_start = np.concatenate([whole, finer], axis=1)
        what = f"the same curve with its start, by trapezoids, {3 * steps} steps"
        note(what, "cam", float(ours.area(with_start).mean()))


def test_quantuss_pointing_game_is_won_by_one_of_many_maxima_and_its_mass_is_our_energy(
    case: Case,
) -> None:
    box = (60, 50, 149, 179)
    x1, y1, x2, y2 = box
    inside = np.zeros((IMAGES, 1, 224, 224), bool)
    inside[:, :, y1 : y2 + 1, x1 : x2 + 1] = True
    options = {"normalise": False, "abs": False, "disable_warnings": True}
    plateau = torch.ones(IMAGES, 224, 224)
    plateau[:, 0, 0] = 0  # quantus refuses a constant map
    with mock.patch.dict(case.heatmaps, {"plateau": plateau}):
        for method in ("cam", "edges", "plateau"):
            hits = of_quantus(quantus.PointingGame(**options), case, method, s_batch=inside)
            maps = case.heatmaps[method].numpy()
            found = [pointing_game(heatmap, [box]) for heatmap in maps]
            note("quantus: pointing game, one box", method, float(np.mean(hits)))
            note("ours: pointing game, one box", method, float(np.mean(found)))
            if method == "plateau":
                assert all(hits) and found == pytest.approx([90 * 130 / (PIXELS - 1)] * IMAGES)
            else:
                assert np.array_equal(np.array(hits, float), found)
    for method in ("cam", "edges"):
        positive = case.heatmaps[method].clamp_min(0)
        with mock.patch.dict(case.heatmaps, {method: positive}):
            metric = quantus.RelevanceMassAccuracy(**options)
            mass = of_quantus(metric, case, method, s_batch=inside)
        energy = [energy_inside(heatmap, [box]) for heatmap in positive.numpy()]
        np.testing.assert_allclose(mass, energy, rtol=1e-4)


# --- captum


def test_captums_infidelity_puts_a_map_of_zeros_before_cam_until_it_is_normalised(
    case: Case,
) -> None:
    def noisy(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        noise = 0.1 * torch.randn_like(images)
        return noise, images - noise

    def probability(images: torch.Tensor) -> torch.Tensor:
        return case.network(images).softmax(1)

    maps = {"zeros": torch.zeros(IMAGES, 224, 224)} | case.heatmaps
    for normalize in (False, True):
        for method, heatmaps in maps.items():
            torch.manual_seed(0)
            found = captum_metrics.infidelity(
                probability,
                noisy,
                case.images,
                heatmaps[:, None].expand(case.images.shape),
                target=case.labels,
                n_perturb_samples=4,
                normalize=normalize,
            )
            what = "captum: infidelity, normalised" if normalize else "captum: infidelity"
            note(what, method, float(found.mean()))
    raw = measured["captum: infidelity"]
    assert raw["zeros"] == min(raw.values()) < raw["cam"]
    scaled = measured["captum: infidelity, normalised"]
    order_before = sorted(METHODS, key=raw.get)
    order_after = sorted(METHODS, key=scaled.get)
    assert order_before != order_after


# --- scikit-image


def test_scikit_image_has_the_same_ssim(case: Case) -> None:
    structure = pytest.importorskip("skimage.metrics", reason="no scikit-image")
    one = normalised(case.heatmaps["cam"][0].numpy())
    other = normalised(case.heatmaps["centre"][0].numpy())
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    theirs = structure.structural_similarity(one, other, data_range=1, **options)
    assert ssim(one, other) == pytest.approx(theirs, abs=1e-5)


# --- what stands in place of pixels


def test_insertion_tells_cam_from_the_centre_at_least_as_often_as_not_from_every_start(
    case: Case,
) -> None:
    for substrate in ours.SUBSTRATES:
        how = Perturbation(STEPS, "blur", substrate, (50,))
        cam = [of_image["deletion"] for of_image in case.ours("cam", how)]
        centre = [of_image["deletion"] for of_image in case.ours("centre", how)]
        lower = np.mean(np.array(cam) < np.array(centre))
        note(f"ours: images whose deletion to {substrate} is lower than the centre's", "cam", lower)
    for start in ours.SUBSTRATES:
        how = Perturbation(STEPS, start, "mean", (50,))
        cam = [of_image["insertion"] for of_image in case.ours("cam", how)]
        centre = [of_image["insertion"] for of_image in case.ours("centre", how)]
        higher = np.mean(np.array(cam) > np.array(centre))
        note(f"ours: images whose insertion from {start} is higher", "cam", higher)
        assert higher >= 0.5


def test_what_was_measured_is_printed_as_a_table() -> None:
    names = [*METHODS, "zeros", "plateau"]
    print(f"\n| of {IMAGES} images | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for what, by_method in measured.items():
        cells = [f"{by_method[name]:.3g}" if name in by_method else "–" for name in names]
        print(f"| {what} | {' | '.join(cells)} |")
