"""From a picture to a box in original pixels, with a network whose map is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from cam_repro.config import DataConfig, ProtocolConfig
from cam_repro.data.ilsvrc import open_split
from cam_repro.devices import Team
from cam_repro.localization.evaluation import draw_boxes, look_at_split
from cam_repro.networks.network import CamNetwork

ALONE = Team(0, 1, torch.device("cpu"))


def brightness_network(classes: int) -> CamNetwork:
    """Maps = how bright each 8×8 patch is; every class weighs them alike."""
    patches = nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 1, 1), nn.ReLU())
    with torch.no_grad():
        patches[1].weight.fill_(1.0)
        patches[1].bias.fill_(6.0)  # black is −2.1, −2.0 and −1.8 after normalisation
    classifier = nn.Linear(1, classes)
    nn.init.ones_(classifier.weight)
    return CamNetwork(patches, nn.Identity(), classifier, "average", 0.0)


def tree_with_a_bright_blob(root: Path, width: int, height: int, box: tuple[int, int, int, int]) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[box[1] : box[3] + 1, box[0] : box[2] + 1] = 255
    folder = root / "ILSVRC/Data/CLS-LOC/val/n1"
    folder.mkdir(parents=True)
    Image.fromarray(pixels).save(folder / "a.png")
    (root / "LOC_synset_mapping.txt").write_text("n1 blob\nn2 other\n")


def test_the_box_of_a_blob_is_found_in_original_pixels(tmp_path: Path) -> None:
    blob = (300, 40, 419, 99)
    tree_with_a_bright_blob(tmp_path / "tree", 480, 160, blob)
    split = open_split(DataConfig(name="blob", root=str(tmp_path / "tree")), "val", tmp_path)
    seen = look_at_split(brightness_network(2), split, "squash", 224, "cam", ALONE, workers=0)
    assert seen.sizes.tolist() == [[480, 160]]
    boxes = draw_boxes(seen, ProtocolConfig(name="paper", threshold=0.5))
    assert boxes.shape == (1, 3, 1, 4)
    patch = np.array([480, 160, 480, 160]) / 28  # the map's resolution in the picture's pixels
    assert (np.abs(boxes[0, -1, 0] - blob) <= patch).all()
