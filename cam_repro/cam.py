"""Any picture: what is in it, and where. The work of `make cam image=cat.jpg`."""

from contextlib import suppress
from glob import glob
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config, check_choice
from cam_repro.data import load_classes
from cam_repro.data.classes import class_number
from cam_repro.data.images import SUFFIXES, CorruptImage, read_upright
from cam_repro.data.views import VIEWS, normalise
from cam_repro.distributed import join_world
from cam_repro.evaluation.draw import loose_and_tight
from cam_repro.evaluation.trained import Classes, load_for_pictures
from cam_repro.localization.boxes import LOOSE, resized_boxes
from cam_repro.localization.methods import predict
from cam_repro.mistakes import shown
from cam_repro.reporting.figures import first_name, panel, write_sheet

CLASSES = 5  # that are printed
LARGEST_SIDE = 2048  # pixels: of a larger picture the maps are made, and drawn, at this size


def show_images(config: Config) -> list[Path]:
    """Print the five best classes of each picture, with their boxes in its own pixels, and draw the best ones' maps.

    config.image is a picture, a folder or a pattern (`*.jpg`); config.shown_class (a name, wnid or number) is drawn in
    place of the config.top best. The drawings go to config.out. Raises UserError before any picture is looked at.
    """
    protocol, method = config.protocol, config.method or "cam"
    if protocol.boxes == "sweep" or protocol.name == "all":
        raise UserError(f"protocol={protocol.name} draws no single box; choose protocol=paper or release")
    check_choice("protocol.view", protocol.view, VIEWS)
    view, paths, written = VIEWS[protocol.view], pictures_of(config.image), []
    with join_world(config.device, config.deterministic) as world:
        data: Classes = ([], [])  # a checkpoint goes by the words of its data set, where that is there
        with suppress(UserError):
            data = load_classes(config.data)
        trained = load_for_pictures(config, data, world.device)
        asked = None if config.shown_class is None else class_number(config.shown_class, trained.wnids, trained.words)
        size = protocol.size or trained.model.input_size
        for number, path in enumerate(tqdm(paths, "pictures", leave=False, disable=None if len(paths) > 1 else True)):
            try:
                picture, own_size = read_upright(path, LARGEST_SIDE)
            except CorruptImage as error:
                raise UserError(f"image={error}") from None
            pixels = torch.from_numpy(np.ascontiguousarray(view.take(picture, size))).permute(0, 3, 1, 2)
            found = predict(
                trained.network, normalise(pixels.to(world.device)),
                None if asked is None else torch.tensor([asked], device=world.device),
                methods=[method], crops=view.crops, count=CLASSES,
            )  # fmt: skip
            classes, maps = found.classes[0].tolist(), found.maps[method][0].transpose(0, 1)
            drawn = range(len(classes))[: config.top]
            if asked is not None:
                drawn = [len(classes)]
                classes, maps = [*classes, asked], torch.cat([maps, found.true_class_maps[method][:1]])
            stored = picture.shape[1], picture.shape[0]
            heatmaps = [view.place(of_class, stored, size, protocol.resize) for of_class in maps.cpu().numpy()]
            boxes = np.array([loose_and_tight(heatmap, protocol)[LOOSE] for heatmap in heatmaps])
            shares = [100 * score for score in found.scores[0, classes].tolist()]
            tqdm.write(str(path))
            for label, share, box in zip(classes, shares, boxes, strict=True):
                corners = " ".join(map(str, resized_boxes(box, stored, own_size)))
                tqdm.write(f"  {share:5.1f} %  {trained.wnids[label]}  {trained.words[label]:32.32}  box {corners}")
            panels = []
            for place in drawn:
                caption = f"{first_name(trained.words[classes[place]])}  {shares[place]:.1f} %"
                panels.append((caption, panel(picture, heatmaps[place], boxes[place], np.empty((0, 4)))))
            twins = sum(other.stem == path.stem for other in paths[:number])  # as cat.png of cat.jpg
            name = f"{path.stem}.{method}{f'-{twins + 1}' if twins else ''}.png"
            written.append(write_sheet(Path(config.out) / name, panels, len(panels), side=0))
    print(*written, sep="\n")
    return written


def pictures_of(image: str | None) -> list[Path]:
    """The pictures that image= names. Raises UserError where there are none."""
    if image is None:
        raise UserError("image= is needed: make cam image=cat.jpg")
    path = Path(image)
    if path.is_file():
        return [path]
    inside = path.iterdir() if path.is_dir() else map(Path, glob(str(path)))  # noqa: PTH207 (any path, absolute or not)
    shown_ones = (file for file in inside if not file.name.startswith("."))  # as a Mac's ._cat.jpg, which is no picture
    if found := sorted(file for file in shown_ones if file.suffix.lower() in SUFFIXES and file.is_file()):
        return found
    what = "a folder without a picture in it" if path.is_dir() else "not there"
    raise UserError(f"image={shown(image)} is {what}; give a picture, a folder of them or a pattern as 'photos/*.jpg'")
