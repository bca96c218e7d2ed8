"""Images with their maps and boxes, as PNGs: of one evaluation, and the paper's figures.

A heatmap lies over its image; the predicted box is red and the true boxes are green. The figures
are maps of a class (Fig. 3), of the five best classes (Fig. 4), of several networks and methods
(Fig. 5), boxes beside backprop's (Fig. 6) and a class's units (Fig. 13), of one's own networks. In
them every map and box is the configured protocol's, made as its evaluation makes them: the crops of
its view, placed on the image by that view, and boxed by its rule.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data import Split
from cam_repro.data.classes import class_number
from cam_repro.data.loaders import Batch, evaluation_batches
from cam_repro.data.views import VIEWS, normalise
from cam_repro.distributed import float32
from cam_repro.evaluation.evaluate import Result
from cam_repro.evaluation.record import protocol_name, record_path
from cam_repro.evaluation.spec import Evaluation, open_evaluations
from cam_repro.files import read_text
from cam_repro.localization.boxes import LOOSE, TIGHT, loose_and_tight
from cam_repro.localization.methods import Prediction, predict, unsupported_reason
from cam_repro.localization.overlay import overlay
from cam_repro.option_errors import shown
from cam_repro.reporting.plots import Cell, draw_max_box_acc, draw_px_ap, write_sheet
from cam_repro.reporting.results import first_name

TRUE = (60, 230, 90)
PREDICTED = (255, 50, 50)
COLUMNS = 5  # images side by side
UNIT_CROPS = 500  # crops of val images among which a unit's strongest are looked for
UNIT_BATCH = 32  # of them at a time


def panel(
    pixels: np.ndarray, heatmap: np.ndarray, predicted: np.ndarray, true_boxes: np.ndarray
) -> Image.Image:
    """One image (H,W,3) under its heatmap (H,W), with boxes in its own pixels."""
    image = Image.fromarray(overlay(pixels, heatmap))
    draw = ImageDraw.Draw(image)
    width = max(2, round(max(image.size) / 100))
    for box in np.reshape(true_boxes, (-1, 4)):
        draw.rectangle(tuple(map(int, box)), outline=TRUE, width=width)
    draw.rectangle(tuple(map(int, predicted)), outline=PREDICTED, width=width)
    return image


def draw_result(evaluation: Evaluation, result: Result) -> Path | None:
    """The figure beside a record: the curves of its metric, or example images with maps and boxes.

    Of an image there are the true class's map and its box, and what was guessed. There is none of a
    metric without curves and boxes.
    """
    spec = result.spec
    path = record_path(evaluation, spec).with_suffix(".png")
    if result.scores.curves:
        record = result.record
        title = f"{record['model']}, {spec.method}, {record['data']}, {record['images']:,} images"
        if spec.kind == "px_ap":
            return draw_px_ap(path, result.scores, title)
        return draw_max_box_acc(path, result.scores, title)
    if result.scores.predicted_boxes is None:
        return None
    split = evaluation.split
    cells = []
    for image, maps_vhw in sorted(result.example_maps.items()):
        pixels = split.read(image)
        height, width = pixels.shape[:2]
        heatmap = spec.metric.heatmap(maps_vhw, (width, height))
        caption = first_name(split.words[split.labels[image]])
        if split.labels[image] != result.classes[image, 0]:
            best_class = first_name(split.words[result.classes[image, 0]])
            caption += f"\n(guess: {best_class})"
        predicted_box = result.scores.predicted_boxes[image]
        cells.append((caption, panel(pixels, heatmap, predicted_box, split.true_boxes(image))))
    return write_sheet(path, cells, columns=4)


# The paper's figures.


def make_figures(config: Config) -> list[Path]:
    """Write figures 3, 4, 6 and 13 of each network into its folder of results/; figure 5 is of all.

    Fig. 4 and 5 show the first of report.images='s images, Fig. 6 the first five; Fig. 3 and 13 the
    class shown_class=, or that image's. Data without boxes has no Fig. 6. Raises UserError where no
    network has class activation maps, or the protocol draws no single box.
    """
    if config.protocol.metric != "localization" or config.protocol.name == "all":
        raise UserError(
            f"protocol={config.protocol.name} draws no single box; choose protocol=paper or release"
        )
    protocol = protocol_name(config.protocol)
    ending = ".png" if protocol == "paper" else f"-{protocol}.png"
    where = config.data.name if protocol == "paper" else f"{config.data.name}, {protocol}"
    folder = Path(config.results) / config.data.name
    written = []
    fifth = []
    for evaluation in open_evaluations(config):
        name = evaluation.trained.name
        images = chosen_images(config.report.images, evaluation.split, config.seed)
        fifth += _fig5(evaluation, images[0])
        if reason := unsupported_reason("cam", evaluation.trained.network):
            print(f"{name} has figure 5 alone: {reason}")
            continue
        for number, (title, cells) in _figures(evaluation, images).items():
            path = folder / name / f"figure{number}{ending}"
            written.append(write_sheet(path, cells, COLUMNS, title=f"{title}. {name}, {where}."))
    title = f"One image, several networks and methods. {where}"
    written.append(write_sheet(folder / f"figure5{ending}", fifth, COLUMNS, title=title))
    print(*written, sep="\n")
    return written


def chosen_images(asked: str, split: Split, seed: int) -> list[int]:
    """The numbers of report.images='s images: so many, drawn by the seed, or those of a list.

    They are drawn among those with a true box; among all where the split has no boxes. Raises
    UserError for a list that is not there or names another image.
    """
    if asked.isdecimal():
        candidates = np.arange(len(split))
        if len(split.boxes):
            candidates = np.flatnonzero(np.diff(split.box_starts))
        count = min(int(asked), len(candidates))
        if not count:
            kind = "images with a true box" if len(split.boxes) else "images"
            advice = f"give a number above 0, of the {len(candidates)} {kind}"
            raise UserError(f"report.images={asked}: {advice}")
        drawn = np.random.default_rng(seed).choice(candidates, count, replace=False)
        return sorted(drawn.tolist())
    return _listed_images(Path(asked), split)


def _listed_images(path: Path, split: Split) -> list[int]:
    """The images that a file names, a line each: by stem, by file name or by whole path."""
    files = [split.path(image) for image in range(len(split))]
    numbers = {}
    for image, file in enumerate(files):
        for name in (file.stem, file.name, str(file)):
            numbers[name] = image
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    for name in names or ["(nothing)"]:
        if name not in numbers:
            advice = f"give names, as {files[0].name}"
            raise UserError(f"report.images={path}: {shown(name)} is no val image; {advice}")
    return list(dict.fromkeys(numbers[name] for name in names))


def _figures(evaluation: Evaluation, images: list[int]) -> dict[int, tuple[str, list[Cell]]]:
    """Number -> title and cells, of a network that has class activation maps."""
    config = evaluation.config
    split = evaluation.split
    label = int(split.labels[images[0]])
    if config.shown_class is not None:
        label = class_number(config.shown_class, split.wnids, split.words)
    word = first_name(split.words[label])
    figures = {
        3: (f"Class activation maps of {word}", _fig3(evaluation, label)),
        4: ("The five best classes of one image", _fig4(evaluation, images[0])),
    }
    if len(split.boxes):
        title = "Boxes (red) of CAM, above, and of backprop, below; true boxes green"
        figures[6] = title, _fig6(evaluation, images[:COLUMNS])
    else:
        reason = f"data={config.data.name} has no true boxes to draw beside CAM's"
        print(f"figure 6 is left out: {reason}")
    figures[13] = f"The units that speak most for {word}", _fig13(evaluation, label)
    return figures


def _fig3(evaluation: Evaluation, label: int) -> list[Cell]:
    """Up to ten images of a class with its maps."""
    split = evaluation.split
    of_class = np.flatnonzero(split.labels == label)
    images = of_class[: 2 * COLUMNS].tolist()
    if not images:
        word = first_name(split.words[label])
        raise UserError(f"no val image of data={evaluation.config.data.name} is a {word}")
    cells = []
    predictions = _predictions(evaluation, images, ["cam"])
    for image, (pixels, found) in zip(images, predictions, strict=True):
        maps = found.maps["cam"][0, :, -1]
        # The caption is the number alone: five names such as ILSVRC2012_val_00000665 would overlap.
        caption = split.path(image).stem.rpartition("_")[2]
        cells.append(_cell(evaluation, caption, maps, pixels))
    return cells


def _fig4(evaluation: Evaluation, image: int) -> list[Cell]:
    """The maps of the five best classes, each with its probability."""
    ((pixels, found),) = _predictions(evaluation, [image], ["cam"])
    cells = []
    for place, label in enumerate(found.classes[0].tolist()):
        word = first_name(evaluation.split.words[label])
        caption = f"{word} {found.scores[0, label]:.3f}"
        cells.append(_cell(evaluation, caption, found.maps["cam"][0, :, place], pixels))
    return cells


def _fig5(evaluation: Evaluation, image: int) -> list[Cell]:
    """The true class's map: CAM, or Grad-CAM where the network has none, and backprop."""
    has_cam = not unsupported_reason("cam", evaluation.trained.network)
    methods = ["cam" if has_cam else "gradcam", "backprop"]
    ((pixels, found),) = _predictions(evaluation, [image], methods)
    cells = []
    for method in methods:
        caption = f"{evaluation.trained.name}\n{method}"
        cells.append(_cell(evaluation, caption, found.maps[method][0, :, -1], pixels))
    return cells


def _fig6(evaluation: Evaluation, images: list[int]) -> list[Cell]:
    """A row of the true classes' boxes by CAM, and one of the same images' by backprop."""
    split = evaluation.split
    protocol = evaluation.config.protocol
    which = TIGHT if protocol.guesses == "tight" else LOOSE
    rows: dict[str, list[Cell]] = {"cam": [], "backprop": []}
    predictions = _predictions(evaluation, images, list(rows))
    for image, (pixels, found) in zip(images, predictions, strict=True):
        caption = first_name(split.words[split.labels[image]])
        for method, row in rows.items():
            maps = found.maps[method][0, :, -1]
            heatmap = _heatmap(evaluation, maps, pixels)
            box = np.array(loose_and_tight(heatmap, protocol)[which])
            row.append((caption, panel(pixels, heatmap, box, split.true_boxes(image))))
    white = Image.new("RGB", (1, 1), "white")
    rest = [("", white)] * (COLUMNS - len(images))
    return [*rows["cam"], *rest, *rows["backprop"], *rest]


def _fig13(evaluation: Evaluation, label: int) -> list[Cell]:
    """A row for each of a class's five strongest units: the images that excite it most."""
    split = evaluation.split
    crops = VIEWS[evaluation.config.protocol.view].crops
    order = np.random.default_rng(evaluation.config.seed).permutation(len(split))
    pool = order[: UNIT_CROPS // crops].tolist()
    weights = evaluation.trained.network.classifier_weight[label].detach()
    highest = weights.argsort(descending=True)[:5].tolist()
    units = [unit for unit in highest if weights[unit] > 0]
    maps = _maps_of_units(evaluation, units, pool)

    cells = []
    for place, unit in enumerate(units):
        excitement = maps[:, :, place].amax((1, 2, 3)).numpy()
        strongest = excitement.argsort(kind="stable")[::-1][:COLUMNS]
        for rank, number in enumerate(strongest.tolist()):
            pixels = split.read(pool[number])
            caption = f"unit {unit}, w = {weights[unit]:.3f}" if rank == 0 else ""
            cells.append(_cell(evaluation, caption, maps[number, :, place], pixels))
    return cells


def _maps_of_units(evaluation: Evaluation, units: list[int], images: list[int]) -> torch.Tensor:
    """(images,crops,units,h,w): the units' own activation maps in the crops of each image."""
    crops = VIEWS[evaluation.config.protocol.view].crops
    at_once = max(1, UNIT_BATCH // crops)
    maps = []
    with torch.inference_mode(), float32():
        batches = _batches(evaluation, images, at_once)
        title = f"{evaluation.trained.name}: units"
        total = math.ceil(len(images) / at_once)
        for batch in tqdm(batches, title, total, leave=False, disable=None):
            _, every_map = evaluation.trained.network.forward_with_maps(normalise(batch.pixels))
            maps.append(every_map[:, units].cpu())
    return torch.cat(maps).unflatten(0, (len(images), crops))


# What all of them are made of.


def _batches(evaluation: Evaluation, images: list[int], at_once: int) -> Iterator[Batch]:
    """The protocol's crops of the images, on the network's device. UserError for a corrupt one."""
    config = evaluation.config
    batches = evaluation_batches(
        evaluation.split.subset(images),
        _input_size(evaluation),
        at_once,
        view=config.protocol.view,
        interpolation=config.protocol.interpolation or evaluation.trained.network.interpolation,
        workers=config.data.workers,
    )
    for batch in batches:
        yield batch.to(evaluation.world.device)


def _predictions(
    evaluation: Evaluation, images: list[int], methods: list[str]
) -> Iterator[tuple[np.ndarray, Prediction]]:
    """Each image (H,W,3), and what the network says of its crops, the true class's maps among it.

    One image at a time: ten crops and the gradients of their pixels are as much as a laptop holds.
    """
    network = evaluation.trained.network
    crops = VIEWS[evaluation.config.protocol.view].crops
    for image, batch in zip(images, _batches(evaluation, images, 1), strict=True):
        pixels = normalise(batch.pixels)
        found = predict(network, pixels, batch.labels, methods=methods, crops=crops)
        yield evaluation.split.read(image), found


def _input_size(evaluation: Evaluation) -> int:
    """Pixels a side of a crop that the network sees."""
    return evaluation.config.protocol.size or evaluation.trained.model.input_size


def _heatmap(evaluation: Evaluation, maps: torch.Tensor, pixels: np.ndarray) -> np.ndarray:
    """A class's maps (crops,h,w) -> (H,W), over the image, as the evaluation places them."""
    protocol = evaluation.config.protocol
    height, width = pixels.shape[:2]
    place = VIEWS[protocol.view].place
    return place(maps.cpu().numpy(), (width, height), _input_size(evaluation), protocol.resize)


def _cell(evaluation: Evaluation, caption: str, maps: torch.Tensor, pixels: np.ndarray) -> Cell:
    """An image under a class's maps (crops,h,w), without a box."""
    return caption, Image.fromarray(overlay(pixels, _heatmap(evaluation, maps, pixels)))
