"""Any image: what is in it, and where. The work of `make cam image=cat.jpg`."""

import re
from contextlib import suppress
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config, check_choice
from cam_repro.data import load_classes
from cam_repro.data.classes import class_number, labels_by_name
from cam_repro.data.images import SUFFIXES, CorruptImage, read_upright
from cam_repro.data.views import VIEWS, normalise
from cam_repro.distributed import join_distributed
from cam_repro.evaluation.record import protocol_name
from cam_repro.evaluation.trained import Classes, TrainedNetwork, load_for_cam
from cam_repro.localization.boxes import LOOSE, loose_and_tight, resized_boxes
from cam_repro.localization.methods import predict
from cam_repro.option_errors import shown
from cam_repro.reporting.figures import panel
from cam_repro.reporting.plots import write_sheet
from cam_repro.reporting.results import first_name

CLASSES = 5  # that are printed
LARGEST_SIDE = 2048  # pixels: of a larger image the maps are made, and drawn, at this size
LONGEST_NAME = 40  # characters of a class in a drawing's name
LONGEST_STEM = 80  # and of the image's file


@dataclass(frozen=True)
class FoundClass:
    """A class that a network was asked for in an image (H,W,3)."""

    label: int  # its number among the network's
    percent: float  # its probability
    heatmap: np.ndarray  # (H,W)
    box: np.ndarray  # (4,), on the heatmap


def show_images(config: Config) -> list[Path]:
    """Print the five best classes of each image with their boxes, and draw the best ones' maps.

    config.image is an image, a folder or a pattern (`*.jpg`); config.shown_class (a name, wnid or
    number) is drawn in place of the config.top best. Boxes are printed in the image's own pixels;
    the drawings go to config.out. Raises
    UserError before any image is looked at; one of several that cannot be read is passed over, and
    the UserError comes after the last.
    """
    protocol = config.protocol
    if protocol.metric != "localization" or protocol.name == "all":
        raise UserError(
            f"protocol={protocol.name} draws no single box; choose protocol=paper or release"
        )
    check_choice("protocol.view", protocol.view, VIEWS)
    paths = images_of(config.image)
    written: list[Path] = []
    unreadable: list[str] = []
    with join_distributed(config.device, config.deterministic) as world:
        data: Classes = ([], [])  # a checkpoint goes by the words of its data set, if it is there
        with suppress(UserError):
            data = load_classes(config.data)
        trained = load_for_cam(config, data, world.device)
        asked = None
        if config.shown_class is not None:
            asked = class_number(config.shown_class, trained.wnids, trained.words)
        print(who_answers(trained, config))
        for path in tqdm(paths, "images", leave=False, disable=None if len(paths) > 1 else True):
            try:
                image, own_size = read_upright(path, LARGEST_SIDE)
            except CorruptImage as error:
                unreadable.append(str(error))
                continue
            found = classes_in(image, trained, config, asked, world.device)
            tqdm.write(str(path))
            drawn = found[: config.top] if asked is None else found[-1:]
            best = [one.label for one in found[:-1]]
            if asked in best:  # it would be told twice, last as what was asked for
                found = found[:-1]
            for one in found:
                tqdm.write(line_of(one, image, own_size, trained))
            panels = []
            for one in drawn:
                caption = f"{first_name(trained.words[one.label])}  {one.percent:.1f} %"
                no_ground_truth = np.empty((0, 4))
                panels.append((caption, panel(image, one.heatmap, one.box, no_ground_truth)))
            name = drawing_name(path, trained, [one.label for one in drawn], config)
            file = free_path(Path(config.out), name, written)
            written.append(write_sheet(file, panels, len(panels), side=0))
    if unreadable and len(paths) == 1:
        raise UserError(f"image={unreadable[0]}")
    print(*written, sep="\n")
    if unreadable:
        print("cannot be read:", *unreadable, sep="\n  ")
        raise UserError(
            f"{len(unreadable)} of {len(paths)} images cannot be read, listed above with the "
            f"reason; the drawings of the other {len(written)} are in {config.out}"
        )
    return written


def images_of(given: str | None) -> list[Path]:
    """The images that image= names. Raises UserError where there are none."""
    if given is None:
        raise UserError("image= is needed: make cam image=cat.jpg")
    path = Path(given)
    if path.is_file():
        return [path]
    inside = path.iterdir() if path.is_dir() else map(Path, glob(given))  # noqa: PTH207 (any path)
    found = []
    for file in sorted(inside):
        hidden = file.name.startswith(".")  # as a Mac's ._cat.jpg, which is no image
        if not hidden and file.suffix.lower() in SUFFIXES and file.is_file():
            found.append(file)
    if not found:
        what = "a folder without an image in it" if path.is_dir() else "not there"
        expected = "an image, a folder of them or a pattern as 'photos/*.jpg'"
        raise UserError(f"image={shown(given)} is {what}; give {expected}")
    return found


def who_answers(trained: TrainedNetwork, config: Config) -> str:
    """The network in one line: its name and weights, its classes, what it sees, how it is asked."""
    size = config.protocol.size or trained.model.input_size
    interpolation = config.protocol.interpolation or trained.network.interpolation
    names = ", ".join(first_name(words) for words in trained.words[:3])
    more = ", …" if len(trained.words) > 3 else ""
    return (
        f"{trained.name}, {trained.weights.source}: {len(trained.words)} classes ({names}{more}), "
        f"{size}×{size} pixels ({interpolation}), "
        f"method={config.method or 'cam'}, protocol={protocol_name(config.protocol)}"
    )


def classes_in(
    image: np.ndarray,
    trained: TrainedNetwork,
    config: Config,
    asked: int | None,
    device: torch.device,
) -> list[FoundClass]:
    """The five best classes of an image (H,W,3) uint8, best first, and then the class `asked`."""
    protocol = config.protocol
    method = config.method or "cam"
    view = VIEWS[protocol.view]
    size = protocol.size or trained.model.input_size
    interpolation = protocol.interpolation or trained.network.interpolation
    taken = np.ascontiguousarray(view.take(image, size, interpolation))
    crops = torch.from_numpy(taken).permute(0, 3, 1, 2)
    labels = None if asked is None else torch.tensor([asked], device=device)
    predicted = predict(
        trained.network,
        normalise(crops.to(device)),
        labels,
        methods=[method],
        crops=view.crops,
        count=CLASSES,
    )
    classes = predicted.classes[0].tolist()
    maps = list(predicted.maps[method][0].swapaxes(0, 1))  # a class's maps of all crops
    if asked is not None:
        classes.append(asked)
    height, width = image.shape[:2]
    found = []
    for label, of_class in zip(classes, maps, strict=True):
        heatmap = view.place(of_class.cpu().numpy(), (width, height), size, protocol.resize)
        box = np.array(loose_and_tight(heatmap, protocol)[LOOSE])
        percent = 100 * float(predicted.scores[0, label])
        found.append(FoundClass(label, percent, heatmap, box))
    return found


def line_of(
    found: FoundClass, image: np.ndarray, own_size: tuple[int, int], trained: TrainedNetwork
) -> str:
    """A class with its probability and its box in the pixels of the image's file."""
    height, width = image.shape[:2]
    box = resized_boxes(found.box, (width, height), own_size)
    corners = " ".join(map(str, box))
    words = f"{trained.wnids[found.label]}  {trained.words[found.label]:32.32}"
    return f"  {found.percent:5.1f} %  {words}  box {corners}"


def drawing_name(path: Path, trained: TrainedNetwork, labels: list[int], config: Config) -> str:
    """`cat.tabby.efficientnet_lite0.cam.paper` of cat.jpg: all that another call may change.

    Of several classes the first is named, and how many there are. One whose name another class has
    is told by its wnid too.
    """
    name = first_name(trained.words[labels[0]])
    alike = labels_by_name(trained.words)[name.strip().lower()]
    if len(alike) > 1:
        name = f"{name} {trained.wnids[labels[0]]}"
    name = re.sub(r"[^\w+]+", "-", name[:LONGEST_NAME]).strip("-") or f"class-{labels[0]}"
    if len(labels) > 1:
        name = f"{name}-top{len(labels)}"
    stem = path.stem[:LONGEST_STEM]
    method = config.method or "cam"
    return f"{stem}.{name}.{trained.name}.{method}.{protocol_name(config.protocol)}"


def free_path(folder: Path, name: str, taken: list[Path]) -> Path:
    """`folder/name.png`, with a number where this call has drawn it, as of cat.png and cat.jpg.

    Names that differ in case alone are one file to macOS.
    """
    used = {path.name.lower() for path in taken}
    candidate = f"{name}.png"
    number = 1
    while candidate.lower() in used:
        number += 1
        candidate = f"{name}-{number}.png"
    return folder / candidate
