"""One picture: what is in it, and where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data.ilsvrc import read_synset_mapping
from cam_repro.data.images import CorruptImage, read_image
from cam_repro.data.views import squash, to_device
from cam_repro.devices import team
from cam_repro.localization.evaluation import image_boxes
from cam_repro.localization.maps import class_activation_maps, resize_maps, top_classes
from cam_repro.networks import CamNetwork
from cam_repro.reporting.evaluate import subject_of
from cam_repro.reporting.figures import panel, save_picture
from cam_repro.reporting.results import input_size


def predict(config: Config) -> Path:
    """Print the five best classes with their boxes; write the best one's heatmap and box beside the picture."""
    if config.image is None:
        raise UserError("image= is needed: make cam image=cat.jpg model=alexnet_gap")
    picture = _read(Path(config.image))
    with team(config.device) as us:
        wnids, words = class_names(config)
        subject = subject_of(config, config.model, wnids, us)
        pixels = squash(picture, input_size(config, subject.model))
        classes, shares, maps = look_at_one(subject.network, pixels, us.device)
    height, width = picture.shape[:2]
    boxes = image_boxes(maps, (width, height), config.protocol)
    for label, share, box in zip(classes, shares, boxes, strict=True):
        print(f"{100 * share:5.1f} %  {wnids[label]} {words[label]}  box {' '.join(map(str, box))}")
    heatmap = resize_maps(maps[:1], (height, width), config.protocol.resize)[0]
    path = Path(config.image).with_suffix(".cam.png")
    save_picture(path, panel(picture, heatmap, np.array(boxes[0]), np.empty((0, 4))))
    print(path)
    return path


def _read(path: Path) -> np.ndarray:
    try:
        return read_image(path)
    except CorruptImage as error:
        raise UserError(f"image={error}") from None


def class_names(config: Config) -> tuple[list[str], list[str]]:
    """wnids and words in the network's class order, from the mapping file alone: no images are needed."""
    mapping = config.data.synset_mapping or Path(config.data.root or "") / "LOC_synset_mapping.txt"
    return read_synset_mapping(Path(mapping))


@torch.inference_mode()
def look_at_one(
    network: CamNetwork, pixels: np.ndarray, device: torch.device
) -> tuple[list[int], list[float], np.ndarray]:
    """(S,S,3) uint8 → the five best classes, their probabilities and their maps (5,h,w)."""
    network.eval()
    logits, maps = network.forward_with_maps(
        to_device(torch.from_numpy(pixels.copy())[None].permute(0, 3, 1, 2), device)
    )
    classes = top_classes(logits)
    shares = logits.softmax(1).gather(1, classes)[0].tolist()
    heat = class_activation_maps(maps, network.classifier_weight, classes)[0].cpu().numpy()
    return classes[0].tolist(), shares, heat
