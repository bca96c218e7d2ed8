"""Which image sizes a network takes, found on a copy of it that has no weights."""

from collections.abc import Sequence

import torch

from cam_repro import UserError
from cam_repro.config import ModelConfig, RecipeConfig, typed_model
from cam_repro.networks.network import CamNetwork, assemble
from cam_repro.networks.trunks import backbone
from cam_repro.option_errors import shown

LARGEST = 2039  # pixels a side that a network is tried with: a prime, which no window divides


def on_meta_device(model: ModelConfig) -> CamNetwork:
    """The network without numbers, so that VGG16 costs no more than SqueezeNet.

    Raises UserError as `assemble` does.
    """
    with torch.device("meta"):
        return assemble(model, backbone(model.backbone).build(), 1000).eval()


def shape_of_maps(network: CamNetwork, size: int) -> tuple[int, int, int] | None:
    """(K, h, w) of the maps of a network on the meta device at `size` pixels a side.

    None where it does not take images of that size.
    """
    images = torch.zeros(1, 3, size, size, device="meta")
    try:
        with torch.no_grad():
            _, maps = network.forward_with_maps(images)
    except (RuntimeError, AssertionError):  # too little is left of the image, or its size is fixed
        return None
    return tuple(maps.shape[1:])


def check_size(model: ModelConfig, key: str, sizes: int | Sequence[int] | None) -> None:
    """UserError where a network does not take images of `sizes` pixels a side, the value of `key`.

    A convolutional network takes any size from its smallest on. One with attention or position
    embeddings, as timm has them, may take only the size that it was made for.
    """
    asked = [sizes] if isinstance(sizes, int) else list(sizes or [])
    network = on_meta_device(model)
    if all(shape_of_maps(network, size) for size in asked):
        return
    found = f"{key}={shown(sizes)}"
    as_it_is = " as it is" if model.native else ""
    takes = f"{typed_model(model)}: {model.backbone}{as_it_is} takes"
    if shape_of_maps(network, LARGEST):
        smallest = min(*asked, LARGEST)
        while not shape_of_maps(network, smallest):
            smallest += 1
        raise UserError(f"{found} is too small for {takes} {smallest} pixels a side or more")
    own = backbone(model.backbone).input_size
    right = f"{key}={own}"
    if key == "recipe.sizes":
        right = f"{key}=[{own}] recipe.size_starts=[0]"
    made_for = f"{own} pixels a side, the size it was made for"
    raise UserError(f"{found} does not fit {takes} {made_for}; type {right}")


def check_batch_norm(model: ModelConfig, recipe: RecipeConfig, images: int) -> None:
    """UserError where a step, of `images` a process, would leave batch norm one value a channel.

    One value has no variance. This happens to a single image whose maps have shrunk to 1×1.
    """
    if recipe.batch_norm == "frozen":
        return
    network = on_meta_device(model).train()
    for size in recipe.sizes:
        try:
            network(torch.zeros(images, 3, size, size, device="meta"))
        except ValueError:
            raise UserError(
                f"a step has {images} image a process, of whose 1×1 maps at {size} pixels a side "
                f"the batch norm of {typed_model(model)} has no variance; give a larger "
                "recipe.batch_size= or larger recipe.sizes=, or recipe.batch_norm=frozen"
            ) from None
