"""Metrics of a map as an explanation: where it points, whether it is faithful, what it depends on.

Each number has a definition, with its steps, ends, baseline and sense, which its record repeats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cam_repro.data import Split
from cam_repro.data.views import resize_map
from cam_repro.distributed import float32
from cam_repro.evaluation.metric import ImageFacts, Rows, Scores
from cam_repro.localization.faithfulness import Perturbation, faithfulness, subjects
from cam_repro.localization.intervals import Shares, bootstrap
from cam_repro.localization.methods import Prediction, predict
from cam_repro.localization.pointing import energy_inside, pointing_game
from cam_repro.localization.randomisation import (
    cuts,
    layers_from_the_end,
    randomised,
    rank_correlation,
    ssim,
)
from cam_repro.networks import CamNetwork


@dataclass(frozen=True)
class Pointing:
    """Whether the true class's map points into a true box, and how much of it lies there."""

    names = ("pointing_game", "energy_inside")

    resize: str
    tolerance: float

    def lacks(self, split: Split) -> str:
        return "" if len(split.boxes) else "boxes"

    def definitions(self) -> dict[str, str]:
        """What each number is, and how it was taken."""
        return {
            "pointing_game": (
                "images whose true class's map, enlarged to the image, has its maximum within "
                f"{self.tolerance:g} pixels of a true box; of equal maxima the share that has; "
                "higher is better"
            ),
            "energy_inside": (
                "mean share of the positive map's sum that lies in the true boxes; higher is better"
            ),
        }

    def of_image(self, maps_vmhw: np.ndarray, image: ImageFacts) -> Rows:
        """Each number of the image (), 0…1; 0 where it has no box, and is not counted."""
        if len(image.true_boxes) == 0:
            return {name: np.zeros(()) for name in self.names}
        heatmap = resize_map(maps_vmhw[0, -1], *image.size, self.resize)
        points = pointing_game(heatmap, image.true_boxes, self.tolerance)
        energy = energy_inside(heatmap, image.true_boxes)
        return {"pointing_game": np.array(points), "energy_inside": np.array(energy)}

    def compute(self, rows: Rows, split: Split, blacklist: frozenset[int]) -> Scores:
        has_box = np.diff(split.box_starts) > 0
        blacklisted = np.isin(split.devkit_numbers(), list(blacklist))
        counted = has_box & ~blacklisted
        counts = {
            "images": len(split),
            "loc_images": int(counted.sum()),
            "blacklisted": int(blacklisted.sum()),
            "without_true_box": int((~has_box & ~blacklisted).sum()),
        }
        added = {name: rows[name][counted] for name in self.names}
        return _means(counts, added, counted)


@dataclass(frozen=True)
class Faithfulness:
    """What the network says of images changed by the map of its best class: RISE, ROAD, … ."""

    names = (
        "insertion", "deletion", "average_drop", "average_drop_matched", "increase",
        "increase_matched", "road",
    )  # fmt: skip

    resize: str
    how: Perturbation

    def lacks(self, split: Split) -> str:
        return ""

    def definitions(self) -> dict[str, str]:
        """What each number is, and how it was taken."""
        how = self.how
        ends = f"in {how.steps} equal parts, by trapezoids with both ends, equal pixels at random"
        score = "the best class's softmax probability"
        masked = "the image times the positive map by its maximum, on black"
        matched = "the image times the pixels' ranks in 0…1, whose mean is 0.5 for every map"
        percentiles = ", ".join(map(str, how.percentiles))
        return {
            "insertion": (
                f"area under {score} as the map's highest pixels are put into "
                f"{how.insertion_from} first, {ends}; higher is better"
            ),
            "deletion": (
                f"area under {score} as the map's highest pixels become {how.deletion_to} first, "
                f"{ends}; lower is better"
            ),
            "average_drop": f"what {score} loses, of itself, with {masked}; lower is better",
            "average_drop_matched": f"the same with {matched}; lower is better",
            "increase": f"images whose probability rises with {masked}; higher is better",
            "increase_matched": f"the same with {matched}; higher is better",
            "road": (
                f"half of {score} without the least relevant pixels less that without the most "
                f"relevant ones, the mean of {percentiles} % of the pixels, replaced by noisy "
                "linear imputation; higher is better"
            ),
        }

    def of_network(
        self, network: CamNetwork, images: torch.Tensor, found: Prediction, batch_size: int
    ) -> dict[str, Rows]:
        """Method -> each number of images (N,3,H,W), (N,); found: what the network said of them."""
        height, width = images.shape[2:]
        rows = {}
        with float32(), torch.inference_mode():
            of_images = subjects(network, images, found.scores, self.how)
            for method, maps in found.maps.items():
                numbers = []
                for subject, of_image in zip(of_images, maps, strict=True):
                    heatmap = resize_map(of_image[0, 0].cpu().numpy(), width, height, self.resize)
                    on_device = torch.from_numpy(heatmap).to(images.device)
                    numbers.append(faithfulness(network, subject, on_device, self.how, batch_size))
                rows[method] = _columns(numbers)
        return rows

    def compute(self, rows: Rows, split: Split, blacklist: frozenset[int]) -> Scores:
        added = {name: rows[name] for name in self.names}
        return _means({"images": len(split)}, added, np.ones(len(split), bool))


@dataclass(frozen=True)
class Randomisation:
    """How like the trained network's map that of a more and more random network is."""

    names = ("rank_correlation", "ssim")

    resize: str
    steps: int

    def lacks(self, split: Split) -> str:
        return ""

    def definitions(self) -> dict[str, str]:
        """What each number is, and how it was taken."""
        how = (
            "of the map of the best class and that of the same class after more and more layers, "
            f"from the classifier down to all in at most {self.steps} steps, were initialised "
            "anew, both enlarged to the input; the mean of the steps; lower is better"
        )
        return {
            "rank_correlation": f"Spearman's rank correlation {how}",
            "ssim": f"the structural similarity {how}",
        }

    def of_network(
        self, network: CamNetwork, images: torch.Tensor, found: Prediction, batch_size: int
    ) -> dict[str, Rows]:
        """Method -> each number of images (N,3,H,W), (N,); found: what the network said of them.

        Beside the two that are named there are those of each step.
        """
        height, width = images.shape[2:]

        def enlarged(maps: torch.Tensor) -> list[np.ndarray]:
            of_images = maps.cpu().numpy()
            return [resize_map(heatmap, width, height, self.resize) for heatmap in of_images]

        expected = {method: enlarged(maps[:, 0, 0]) for method, maps in found.maps.items()}
        numbers: dict[str, list[dict[str, float]]] = {}
        for method in found.maps:
            numbers[method] = [{} for _ in images]
        layers = cuts(len(layers_from_the_end(network)), self.steps)
        for count, changed in zip(layers, randomised(network, self.steps), strict=True):
            best = found.classes[:, 0]
            now = predict(changed, images, best, methods=list(found.maps), count=1).maps
            for method, maps in now.items():
                of_images = zip(expected[method], enlarged(maps[:, 0, -1]), strict=True)
                for of_image, (before, after) in zip(numbers[method], of_images, strict=True):
                    of_image[f"rank_correlation_{count}_layers"] = rank_correlation(before, after)
                    of_image[f"ssim_{count}_layers"] = ssim(before, after)
        rows = {}
        for method, of_images in numbers.items():
            by_step = _columns(of_images)
            means = {}
            for name in self.names:
                of_name = [steps for key, steps in by_step.items() if key.startswith(name)]
                means[name] = np.mean(of_name, axis=0)
            rows[method] = means | by_step
        return rows

    def compute(self, rows: Rows, split: Split, blacklist: frozenset[int]) -> Scores:
        added = {name: of_images for name, of_images in rows.items() if name.startswith(self.names)}
        return _means({"images": len(split)}, added, np.ones(len(split), bool))


def _columns(of_images: list[dict[str, float]]) -> Rows:
    """A dictionary of each of N images -> an array (N,) of each key."""
    return {name: np.array([numbers[name] for numbers in of_images]) for name in of_images[0]}


def _means(counts: dict[str, int], added: dict[str, np.ndarray], counted: np.ndarray) -> Scores:
    """Of what each counted image adds to a number, 0…1 or −1…1: the means in percent."""
    metrics = {}
    shares: Shares = {}
    for name, of_images in added.items():
        of_images = np.asarray(of_images, np.float64)
        metrics[name] = 100.0 * float(of_images.mean()) if len(of_images) else None
        shares[name] = (of_images, np.ones_like(of_images))
    intervals = bootstrap(shares) if counted.any() else {}
    return Scores(counts, metrics, intervals, per_image={"counted": counted, **added})
