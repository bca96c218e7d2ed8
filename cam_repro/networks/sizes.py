"""What maps a network gives of images of some size, found on the network without any weight."""

from collections.abc import Sequence

import torch

from cam_repro import UserError
from cam_repro.config import ModelConfig, RecipeConfig
from cam_repro.networks.network import CamNetwork, assemble
from cam_repro.networks.trunks import backbone
from cam_repro.option_errors import shown

LARGEST = 2039  # pixels a side that a network is tried with: a prime, which no window divides


def without_numbers(model: ModelConfig) -> CamNetwork:
    """The network on torch's meta device: VGG16 costs no more than SqueezeNet. Raises UserError as
    `assemble` does.
    """
    with torch.device("meta"):
        return assemble(model, backbone(model.backbone).build(), 1000).eval()


def maps_of(network: CamNetwork, size: int) -> tuple[int, int, int] | None:
    """(K, h, w) of the maps of a network without numbers at `size` pixels a side; None where it
    does not take them."""
    try:
        with torch.no_grad():
            return tuple(
                network.forward_with_maps(torch.zeros(1, 3, size, size, device="meta"))[1].shape[1:]
            )
    except (RuntimeError, AssertionError):  # too little is left of the image, or its size is fixed
        return None


def check_size(model: ModelConfig, key: str, sizes: int | Sequence[int] | None) -> None:
    """UserError where a network does not take images of `sizes` pixels a side, the value of `key`.

    A convolutional network takes any size from its smallest on. One with attention or position
    embeddings, as timm has them, may take but the size that it was made for.
    """
    asked = [sizes] if isinstance(sizes, int) else list(sizes or [])
    network = without_numbers(model)
    if all(maps_of(network, size) for size in asked):
        return
    found = f"{key}={shown(sizes)}"
    takes = f"model={model.name}: {model.backbone}{' as it is' * model.native} takes"
    if maps_of(network, LARGEST):
        larger = range(min(*asked, LARGEST), LARGEST + 1)
        smallest = next(size for size in larger if maps_of(network, size))
        raise UserError(f"{found} is too small for {takes} {smallest} pixels a side or more")
    own = backbone(model.backbone).input_size
    right = f"{key}=[{own}] recipe.size_starts=[0]" if key == "recipe.sizes" else f"{key}={own}"
    made_for = f"{own} pixels a side, the size it was made for"
    raise UserError(f"{found} does not fit {takes} {made_for}; type {right}")


def check_batch_norm(model: ModelConfig, recipe: RecipeConfig, images: int) -> None:
    """UserError where a step, of `images` a process, would leave batch norm one value a channel.

    Of one value there is no variance: it happens to one image alone whose maps have shrunk to 1×1.
    """
    if recipe.batch_norm == "frozen":
        return
    network = without_numbers(model).train()
    for size in recipe.sizes:
        try:
            network(torch.zeros(images, 3, size, size, device="meta"))
        except ValueError:
            raise UserError(
                f"a step has {images} image a process, of whose 1×1 maps at {size} pixels a side "
                f"the batch norm of model={model.name} has no variance; give a larger "
                "recipe.batch_size= or larger recipe.sizes=, or recipe.batch_norm=frozen"
            ) from None
