"""Any picture: what is in it, and where. `make cam image=cat.jpg`"""

from __future__ import annotations

from glob import glob
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config, check_choice
from cam_repro.data.ilsvrc import SUFFIXES
from cam_repro.data.images import CorruptImage, read_upright
from cam_repro.data.views import VIEWS, normalise
from cam_repro.distributed import float32, join_world
from cam_repro.evaluation.draw import loose_and_tight
from cam_repro.evaluation.trained import TrainedNetwork, load_for_pictures
from cam_repro.files import replacing
from cam_repro.localization.boxes import LOOSE
from cam_repro.localization.methods import predict
from cam_repro.localization.overlay import draw_boxes_on, overlay
from cam_repro.mistakes import did_you_mean

PRINTED = 5  # classes
LARGEST_SIDE = 2048  # pixels: a larger picture is shown, and its maps are made, at this size
CAPTION = 28  # pixels


def show_pictures(config: Config) -> list[Path]:
    """Print each picture's five best classes with their boxes, in its own pixels; draw the best `top` of them.

    With `shown_class` that class is drawn instead. The drawings go to `out`, named after the pictures. Raises UserError.
    """
    protocol, method = config.protocol, config.method or "cam"
    if protocol.boxes == "sweep" or protocol.name == "all":
        raise UserError(f"protocol={protocol.name} draws no single box; choose protocol=paper or release")
    check_choice("protocol.view", protocol.view, VIEWS)
    pictures, written = pictures_of(config.image), []
    with join_world(config.device, config.deterministic) as world, float32():
        trained = load_for_pictures(config, world)
        shown = None if config.shown_class is None else class_number(config.shown_class, trained)
        size = protocol.size or trained.model.input_size
        for path in pictures if len(pictures) == 1 else tqdm(pictures, "pictures", disable=None):
            try:
                picture, scale = read_upright(path, LARGEST_SIDE)
            except CorruptImage as error:
                raise UserError(f"image={error}") from None
            height, width = picture.shape[:2]
            crops = torch.from_numpy(np.ascontiguousarray(VIEWS[protocol.view].take(picture, size)))
            images = normalise(crops.permute(0, 3, 1, 2).to(world.device))
            labels = None if shown is None else torch.tensor([shown], device=world.device)
            found = predict(
                trained.network, images, labels, methods=[method], crops=VIEWS[protocol.view].crops,
                count=max(PRINTED, config.top),
            )  # fmt: skip
            classes, maps = found.classes[0].tolist(), found.maps[method][0].cpu().numpy()
            if shown is not None:
                classes = [*classes, shown]
                maps = np.concatenate([maps, found.true_class_maps[method][0, :, None].cpu().numpy()], axis=1)
            heatmaps = VIEWS[protocol.view].place(maps, (width, height), size, protocol.resize)
            boxes = loose_and_tight(heatmaps, protocol)[:, LOOSE]
            tqdm.write(str(path))
            drawn = [len(classes) - 1] if shown is not None else list(range(min(config.top, len(classes))))
            for place in [*range(min(PRINTED, len(classes))), *(drawn if shown is not None else ())]:
                corners = " ".join(map(str, np.round(boxes[place] * scale).astype(int)))
                share, name = 100 * found.scores[0, classes[place]].item(), trained.words[classes[place]]
                tqdm.write(f"  {share:5.1f} %  {name}  ({trained.wnids[classes[place]]})  box {corners}")
            panels = [(trained.words[classes[p]], found.scores[0, classes[p]].item(), heatmaps[p], boxes[p]) for p in drawn]
            written.append(Path(config.out) / f"{path.stem}.{method}.png")
            with replacing(written[-1]) as temporary:
                _sheet(picture, panels).save(temporary, "PNG")
    print(*written, sep="\n")
    return written
