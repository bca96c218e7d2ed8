"""The paper's figures of one's own networks, as PNGs at print size.

Maps of a class (Fig. 3), of the five best classes (Fig. 4), of several networks and methods
(Fig. 5), boxes beside backprop's (Fig. 6), a class's units (Fig. 12).

Every map and box is the configured protocol's, made as its evaluation makes them: the crops of its
view, placed on the image by that view, and boxed by its rule.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data import Split
from cam_repro.data.classes import class_number
from cam_repro.data.loaders import Batch, evaluation_batches
from cam_repro.data.views import VIEWS, View, normalise
from cam_repro.distributed import float32
from cam_repro.evaluation.record import protocol_name
from cam_repro.evaluation.spec import Evaluation, open_evaluations
from cam_repro.files import read_text
from cam_repro.localization.boxes import LOOSE, TIGHT, loose_and_tight
from cam_repro.localization.methods import Prediction, predict, unsupported_reason
from cam_repro.localization.overlay import overlay
from cam_repro.option_errors import shown
from cam_repro.reporting.figures import Cell, first_name, panel, write_sheet

COLUMNS = 5  # images side by side
UNIT_CROPS = 500  # crops of val images among which a unit's strongest are looked for
UNIT_BATCH = 32  # of them at a time


def make_figures(config: Config) -> list[Path]:
    """Write figures 3, 4, 6 and 12 of each network into its folder of results/; figure 5 is of all.

    Fig. 4 and 5 show the first of report.images='s images, Fig. 6 the first five; Fig. 3 and 12 the
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
    config, split = evaluation.config, evaluation.split
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
    figures[12] = f"The units that speak most for {word}", _fig12(evaluation, label)
    return figures


def _fig3(evaluation: Evaluation, label: int) -> list[Cell]:
    """Up to ten images of a class with its maps."""
    split = evaluation.split
    images = np.flatnonzero(split.labels == label)[: 2 * COLUMNS].tolist()
    if not images:
        word = first_name(split.words[label])
        raise UserError(f"no val image of data={evaluation.config.data.name} is a {word}")
    cells = []
    for image, (pixels, found) in zip(
        images, _predictions(evaluation, images, ["cam"]), strict=True
    ):
        heatmap = _heatmap(evaluation, found.maps["cam"][0, :, -1], pixels)
        # The caption is the number alone: five names such as ILSVRC2012_val_00000665 would overlap.
        caption = split.path(image).stem.rpartition("_")[2]
        cells.append((caption, _overlaid(pixels, heatmap)))
    return cells


def _fig4(evaluation: Evaluation, image: int) -> list[Cell]:
    """The maps of the five best classes, each with its probability."""
    ((pixels, found),) = _predictions(evaluation, [image], ["cam"])
    cells = []
    for place, label in enumerate(found.classes[0].tolist()):
        heatmap = _heatmap(evaluation, found.maps["cam"][0, :, place], pixels)
        caption = f"{first_name(evaluation.split.words[label])} {found.scores[0, label]:.3f}"
        cells.append((caption, _overlaid(pixels, heatmap)))
    return cells


def _fig5(evaluation: Evaluation, image: int) -> list[Cell]:
    """The true class's map: CAM, or Grad-CAM where the network has none, and backprop."""
    methods = [
        "gradcam" if unsupported_reason("cam", evaluation.trained.network) else "cam",
        "backprop",
    ]
    ((pixels, found),) = _predictions(evaluation, [image], methods)
    cells = []
    for method in methods:
        heatmap = _heatmap(evaluation, found.maps[method][0, :, -1], pixels)
        cells.append((f"{evaluation.trained.name}\n{method}", _overlaid(pixels, heatmap)))
    return cells


def _fig6(evaluation: Evaluation, images: list[int]) -> list[Cell]:
    """A row of the true classes' boxes by CAM, and one of the same images' by backprop."""
    split, protocol = evaluation.split, evaluation.config.protocol
    which = TIGHT if protocol.guesses == "tight" else LOOSE
    rows: dict[str, list[Cell]] = {"cam": [], "backprop": []}
    predictions = _predictions(evaluation, images, list(rows))
    for image, (pixels, found) in zip(images, predictions, strict=True):
        caption = first_name(split.words[split.labels[image]])
        for method, row in rows.items():
            heatmap = _heatmap(evaluation, found.maps[method][0, :, -1], pixels)
            box = np.array(loose_and_tight(heatmap, protocol)[which])
            row.append((caption, panel(pixels, heatmap, box, split.true_boxes(image))))
    nothing = [("", Image.new("RGB", (1, 1), "white"))] * (COLUMNS - len(images))
    return [*rows["cam"], *nothing, *rows["backprop"], *nothing]


def _fig12(evaluation: Evaluation, label: int) -> list[Cell]:
    """The five units of the highest weights for a class: the images that excite each most, a row."""
    network, split, view = evaluation.trained.network, evaluation.split, _view(evaluation)
    order = np.random.default_rng(evaluation.config.seed).permutation(len(split))
    pool = order[: UNIT_CROPS // view.crops].tolist()
    weights = network.classifier_weight[label].detach()
    units = [unit for unit in weights.argsort(descending=True)[:5].tolist() if weights[unit] > 0]

    at_once = max(1, UNIT_BATCH // view.crops)
    title = f"{evaluation.trained.name}: units"
    batches = _batches(evaluation, pool, at_once)
    bar = tqdm(batches, title, -(-len(pool) // at_once), leave=False, disable=None)
    with torch.inference_mode(), float32():
        of_crops = []
        for batch in bar:
            _, every_map = network.forward_with_maps(normalise(batch.pixels))
            of_crops.append(every_map[:, units].cpu())
    maps = torch.cat(of_crops).unflatten(0, (len(pool), view.crops))  # (images,crops,units,h,w)

    cells = []
    for place, unit in enumerate(units):
        excitement = maps[:, :, place].amax((1, 2, 3)).numpy()
        strongest = excitement.argsort(kind="stable")[::-1][:COLUMNS]
        for rank, number in enumerate(strongest.tolist()):
            pixels = split.read(pool[number])
            heatmap = _heatmap(evaluation, maps[number, :, place], pixels)
            caption = f"unit {unit}, w = {weights[unit]:.3f}" if rank == 0 else ""
            cells.append((caption, _overlaid(pixels, heatmap)))
    return cells


def _view(evaluation: Evaluation) -> View:
    return VIEWS[evaluation.config.protocol.view]


def _input_size(evaluation: Evaluation) -> int:
    """Pixels a side of a crop that the network sees."""
    return evaluation.config.protocol.size or evaluation.trained.model.input_size


def _interpolation(evaluation: Evaluation) -> str:
    return evaluation.config.protocol.interpolation or evaluation.trained.network.interpolation


def _batches(evaluation: Evaluation, images: list[int], at_once: int) -> Iterator[Batch]:
    """The protocol's crops of the images, on the network's device. UserError for a corrupt one."""
    config = evaluation.config
    batches = evaluation_batches(
        evaluation.split.subset(images), _input_size(evaluation), at_once,
        view=config.protocol.view, interpolation=_interpolation(evaluation), workers=config.data.workers,
    )  # fmt: skip
    for batch in batches:
        yield batch.to(evaluation.world.device)


def _predictions(
    evaluation: Evaluation, images: list[int], methods: list[str]
) -> Iterator[tuple[np.ndarray, Prediction]]:
    """Each image (H,W,3), and what the network says of its crops, the true class's maps among it.

    One image at a time: ten crops and the gradients of their pixels are as much as a laptop holds.
    """
    for image, batch in zip(images, _batches(evaluation, images, 1), strict=True):
        found = predict(
            evaluation.trained.network, normalise(batch.pixels), batch.labels,
            methods=methods, crops=_view(evaluation).crops,
        )  # fmt: skip
        yield evaluation.split.read(image), found


def _heatmap(evaluation: Evaluation, maps: torch.Tensor, pixels: np.ndarray) -> np.ndarray:
    """A class's maps (crops,h,w) -> (H,W), over the image, as the evaluation places them."""
    size, resize = _input_size(evaluation), evaluation.config.protocol.resize
    height, width = pixels.shape[:2]
    return _view(evaluation).place(maps.cpu().numpy(), (width, height), size, resize)


def _overlaid(pixels: np.ndarray, heatmap: np.ndarray) -> Image.Image:
    return Image.fromarray(overlay(pixels, heatmap))
