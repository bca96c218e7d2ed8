"""JPEG → what the network sees, on one core, beside torchvision's reference recipe."""

from collections.abc import Callable, Iterator
from functools import partial
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
# RandomResizedCrop's own distribution
RECIPE = RecipeConfig(name="reference", crop="resized", crop_area=0.08)


def rows(tree: Path, _work: Path) -> Iterator[Row]:
    paths = sorted(tree.glob("ILSVRC/Data/CLS-LOC/val/*.JPEG"))[:64]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)

    def crop(image: np.ndarray) -> np.ndarray:
        return training_crop(image, 224, RECIPE, rng)

    yield _row("training crops", paths, crop, TRAINING)
    for name, (view, steps) in VIEWS.items():
        recipe = transforms.Compose([*steps, *NORMALISED])
        yield _row(f"evaluation view {name}", paths, partial(view, size=224), recipe)
    torch.set_num_threads(threads)


def _row(
    what: str,
    paths: list[Path],
    crop: Callable[[np.ndarray], np.ndarray],
    recipe: transforms.Compose,
) -> Row:
    return beside(
        part="input",
        what=f"{what} 224, uint8 batch, one core",
        peer="torchvision's reference: PIL, ToTensor, Normalize",
        ours=lambda: _uint8(paths, crop),
        theirs=lambda: _reference(paths, recipe),
        count=len(paths),
        unit="images/s",
        wanted="≥ 1.6",
    )


def _uint8(paths: list[Path], crop: Callable[[np.ndarray], np.ndarray]) -> torch.Tensor:
    crops = [crop(read_image(path)) for path in paths]
    return torch.from_numpy(np.stack(crops))


def _reference(paths: list[Path], recipe: transforms.Compose) -> torch.Tensor:
    return torch.stack([recipe(Image.open(path).convert("RGB")) for path in paths])
