"""One picture: what is in it, and where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data import load_classes
from cam_repro.data.images import CorruptImage, read_image
from cam_repro.data.views import crops_in, normalise, take_view
from cam_repro.distributed import join_world
from cam_repro.evaluation.drawing import heatmap_boxes
from cam_repro.evaluation.predictions import LOOSE
from cam_repro.evaluation.subjects import subject_of
from cam_repro.localization.methods import look
from cam_repro.localization.placement import picture_heatmaps
from cam_repro.reporting.figures import panel, save_picture
from cam_repro.reporting.results import input_size


def predict(config: Config) -> Path:
    """Print the five best classes with their boxes; write the best one's heatmap and box beside the picture."""
    if config.image is None:
        raise UserError("image= is needed: make cam image=cat.jpg model=alexnet_gap")
    if config.protocol.boxes == "sweep" or config.protocol.name == "all":
        raise UserError(f"protocol={config.protocol.name} draws no single box; choose protocol=paper or release")
    picture, protocol, method = _read(Path(config.image)), config.protocol, config.method or "cam"
    wnids, words = load_classes(config.data)
    with join_world(config.device, config.deterministic) as world:
        subject = subject_of(config, config.model, wnids, world)
        size, crops = input_size(protocol, subject.model), crops_in(protocol.view)
        pixels = torch.from_numpy(np.ascontiguousarray(take_view(picture, protocol.view, size)))
        images = normalise(pixels.permute(0, 3, 1, 2).to(world.device))
        seen = look(subject.network.eval(), images, methods=[method], crops=crops)
    shares = (seen.scores if crops > 1 else seen.scores.softmax(1))[0]
    width, height = picture.shape[1::-1]
    heatmaps = picture_heatmaps(
        seen.heat[method][0].cpu().numpy(), protocol.view, (width, height), size, protocol.resize
    )
    boxes = heatmap_boxes(heatmaps, protocol)[:, LOOSE].tolist()
    for label, box in zip(seen.guesses[0].tolist(), boxes, strict=True):
        print(f"{100 * shares[label]:5.1f} %  {wnids[label]} {words[label]}  box {' '.join(map(str, box))}")
    path = Path(config.image).with_suffix(".cam.png")
    save_picture(path, panel(picture, heatmaps[0], np.array(boxes[0]), np.empty((0, 4))))
    print(path)
    return path


def _read(path: Path) -> np.ndarray:
    try:
        return read_image(path)
    except CorruptImage as error:
        raise UserError(f"image={error}") from None
