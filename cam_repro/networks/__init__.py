"""image → (logits, maps): backbones of torchvision, timm and Caffe, cut, with the paper's heads."""

from pathlib import Path

from cam_repro.config import ModelConfig, model_config
from cam_repro.networks.network import CamNetwork, assemble, initialise_from_scratch, scale_head
from cam_repro.networks.sizes import check_size
from cam_repro.networks.trunks import backbone
from cam_repro.networks.weights import (
    Weights,
    load_backbone,
    load_checkpoint,
    published,
    read_weights,
)

__all__ = [
    "CamNetwork",
    "Weights",
    "build_network",
    "check_size",
    "initialise_from_scratch",
    "published",
    "read_weights",
]


def build_network(
    model: str | ModelConfig,
    num_classes: int | None = None,
    weights: str | Path | Weights | None = None,
    *,
    new_classes: bool = False,
) -> CamNetwork:
    """A network of `configs/model/`, by name or by its (changed) configuration.

    num_classes: None means the file's own number, or 1000 where it says none.
    weights: None or "none" (random); "DEFAULT" (the backbone's published ones, fetched once) or one
    of their names; the path of a backbone's state dict or .caffemodel, or of one of our
    checkpoints, as trained or as exported; or what `read_weights` read. A checkpoint of ours with
    this very name brings the settings that it was trained with.
    new_classes: lets a checkpoint trained on other classes start a new classifier.

    What is still random is named in `network.untrained`. `network.interpolation`, the filter that
    shrinks its images, comes with the weights: a network trained here has kept it, published
    weights name theirs. Another program's file does not say: the best guess is the filter that is
    usual for its backbone. Without weights it is bilinear. Raises UserError for an unknown name,
    settings that contradict each other, and weights of another network.
    """
    config = model_config(model) if isinstance(model, str) else model
    check_size(config, "model.input_size", config.input_size)
    if weights is None or weights == "none":
        network = assemble(config, backbone(config.backbone).build(), num_classes or 1000)
        network.untrained = "every layer"
        return network

    if not isinstance(weights, Weights):
        weights = read_weights(weights, config.backbone)
    trained_here = weights.model is not None
    if trained_here and isinstance(model, str) and weights.model.name == model:
        config = weights.model
    chosen = backbone(config.backbone)
    whole = chosen.build()
    file_classes = len(weights.wnids) if trained_here else load_backbone(whole, weights, config)
    classes = num_classes or file_classes or 1000
    network = assemble(config, whole, classes)
    if trained_here:
        load_checkpoint(network, weights, new_classes)
    elif not config.native:
        network.untrained = "the new head"
        if config.conv_init == "he":
            scale_head(network, chosen.input_size)
    if file_classes != classes and not network.untrained:
        found = f"{file_classes} classes" if file_classes else "none that fits"
        network.untrained = f"the classifier (the file has {found}, the data {classes})"
    network.starting_weights = {"source": weights.source, "sha256": weights.sha256}
    network.interpolation = weights.interpolation or chosen.interpolation()
    weights.check_finite()
    return network
