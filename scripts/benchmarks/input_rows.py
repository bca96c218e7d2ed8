"""JPEG → what the network sees, on one core, beside torchvision's classification reference recipe."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from benchmarks.timing import Row, beside
from cam_repro.config import RecipeConfig
from cam_repro.data.images import read_image
from cam_repro.data.views import IMAGENET_MEAN, IMAGENET_STD, center_crop, squash, training_crop

NORMALISED = (transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD))
TRAINING = transforms.Compose(
    [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *NORMALISED]
)
VIEWS = {
    "center_crop": (center_crop, [transforms.Resize(256), transforms.CenterCrop(224)]),
    "squash": (squash, [transforms.Resize((224, 224))]),
}
RECIPE = RecipeConfig(
    name="reference", crop="resized", crop_area=0.08
)  # RandomResizedCrop's own distribution


def rows(tree: Path) -> Iterator[Row]:
    paths = sorted(tree.glob("ILSVRC/Data/CLS-LOC/val/*.JPEG"))[:64]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    yield _row(
        "training crops", paths, lambda picture: training_crop(picture, 224, RECIPE, rng), TRAINING
    )
    for name, (view, steps) in VIEWS.items():
        recipe = transforms.Compose([*steps, *NORMALISED])
        yield _row(
            f"evaluation view {name}", paths, lambda picture, view=view: view(picture, 224), recipe
        )
    torch.set_num_threads(threads)


def _row(
    what: str,
    paths: list[Path],
    crop: Callable[[np.ndarray], np.ndarray],
    recipe: transforms.Compose,
) -> Row:
    return beside(
        "input", f"{what} 224, uint8 batch, one core", "torchvision's reference: PIL, ToTensor, Normalize",
        (lambda: _uint8(crop(read_image(path)) for path in paths), lambda: _reference(paths, recipe)),
        len(paths), "images/s", "≥ 1.6",
    )  # fmt: skip


def _uint8(crops: Iterator[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(list(crops)))


def _reference(paths: list[Path], recipe: transforms.Compose) -> torch.Tensor:
    return torch.stack([recipe(Image.open(path).convert("RGB")) for path in paths])
