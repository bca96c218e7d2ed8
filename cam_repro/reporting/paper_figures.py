"""The paper's figures of one's own networks, as PNGs at print size: maps of a class (Fig. 3), of the five best classes
(Fig. 4), of several networks and methods (Fig. 5), boxes beside backprop's (Fig. 6), a class's units (Fig. 12)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data.classes import class_number
from cam_repro.data.images import read_image
from cam_repro.data.loaders import Batch, evaluation_batches
from cam_repro.data.views import normalise, resize_map
from cam_repro.distributed import float32
from cam_repro.evaluation.draw import loose_and_tight
from cam_repro.evaluation.evaluate import Evaluation, evaluations
from cam_repro.localization.boxes import LOOSE
from cam_repro.localization.methods import Prediction, predict, refusal
from cam_repro.localization.overlay import overlay
from cam_repro.reporting.figures import Cell, first_name, panel, write_sheet
from cam_repro.reporting.report import chosen_images

COLUMNS = 5  # pictures side by side
POOL, BATCH = 500, 32  # val pictures among which a unit's are looked for


def make_figures(config: Config) -> list[Path]:
    """Write figures 3, 4, 6 and 12 of each network into its folder of results/, figure 5 of all beside the folders.

    Fig. 4 and 5 show the first of report.images='s pictures, Fig. 6 the first five; Fig. 3 and 12 the class
    shown_class=, or that picture's. Raises UserError where no network has class activation maps.
    """
    if config.protocol.boxes == "sweep" or config.protocol.name == "all":
        raise UserError(f"protocol={config.protocol.name} draws no single box; choose protocol=paper or release")
    folder, written, fifth = Path(config.results) / config.data.name, [], []
    for evaluation in evaluations(config):
        name, split = evaluation.trained.name, evaluation.split
        images = chosen_images(config.report.images, split, config.seed)
        fifth += _fig5(evaluation, images[0])
        if reason := refusal("cam", evaluation.trained.network):
            print(f"{name} has figure 5 alone: {reason}")
            continue
        label = int(split.labels[images[0]])
        if config.shown_class is not None:
            label = class_number(config.shown_class, split.wnids, split.words)
        of_network = (
            (3, f"Class activation maps of {_word(evaluation, label)}", _fig3(evaluation, label)),
            (4, "The five best classes of one picture", _fig4(evaluation, images[0])),
            (6, "Boxes (red) of CAM, above, and of backprop, below; true boxes green", _fig6(evaluation, images)),
            (12, f"The units that speak most for {_word(evaluation, label)}", _fig12(evaluation, label)),
        )
        for number, title, cells in of_network:
            path = folder / name / f"figure{number}.png"
            written.append(write_sheet(path, cells, COLUMNS, title=f"{title}. {name}, {config.data.name} val."))
    title = f"One picture, several networks and methods. {config.data.name}"
    written.append(write_sheet(folder / "figure5.png", fifth, COLUMNS, title=title))
    print(*written, sep="\n")
    return written


def _fig3(evaluation: Evaluation, label: int) -> list[Cell]:
    """Up to ten pictures of a class with its maps."""
    images = np.flatnonzero(evaluation.split.labels == label)[: 2 * COLUMNS].tolist()
    if not images:
        raise UserError(f"no val picture of data={evaluation.config.data.name} is a {_word(evaluation, label)}")
    pictures, found = _predicted(evaluation, images, ["cam"])
    # Captions are the numbers alone: five names such as ILSVRC2012_val_00000665 would overlap.
    numbers = [evaluation.split.path(image).stem.rpartition("_")[2] for image in images]
    maps = found.true_class_maps["cam"][:, 0]
    return [(number, _overlaid(*of)) for number, *of in zip(numbers, pictures, maps, strict=True)]


def _fig4(evaluation: Evaluation, image: int) -> list[Cell]:
    (picture,), found = _predicted(evaluation, [image], ["cam"])
    classes = found.classes[0].tolist()
    captions = [f"{_word(evaluation, label)} {found.scores[0, label]:.3f}" for label in classes]
    maps = found.maps["cam"][0, 0]
    return [(caption, _overlaid(picture, of_class)) for caption, of_class in zip(captions, maps, strict=True)]


def _fig5(evaluation: Evaluation, image: int) -> list[Cell]:
    """The true class's map: CAM, or Grad-CAM where the network has none, and backprop."""
    methods = ["gradcam" if refusal("cam", evaluation.trained.network) else "cam", "backprop"]
    (picture,), found = _predicted(evaluation, [image], methods)
    maps = {f"{evaluation.trained.name}\n{method}": found.true_class_maps[method][0, 0] for method in methods}
    return [(caption, _overlaid(picture, of_method)) for caption, of_method in maps.items()]


def _fig6(evaluation: Evaluation, images: list[int]) -> list[Cell]:
    images = images[:COLUMNS]
    pictures, found = _predicted(evaluation, images, ["cam", "backprop"])
    cells = []
    for method in ("cam", "backprop"):
        for image, picture, maps in zip(images, pictures, found.true_class_maps[method][:, 0], strict=True):
            heatmap, truth = _enlarged(maps, picture), evaluation.split.true_boxes(image)
            box = np.array(loose_and_tight(heatmap, evaluation.config.protocol)[LOOSE])
            caption = _word(evaluation, evaluation.split.labels[image])
            cells.append((caption, panel(picture, heatmap, box, truth)))
        cells += [("", Image.new("RGB", (1, 1), "white"))] * (COLUMNS - len(images))
    return cells


def _fig12(evaluation: Evaluation, label: int) -> list[Cell]:
    """The five units of the highest weights for a class, a row each: the pictures that excite it most, and where."""
    network, split = evaluation.trained.network, evaluation.split
    pool = np.random.default_rng(evaluation.config.seed).permutation(len(split))[:POOL]
    weights = network.classifier_weight[label].detach()
    units = [unit for unit in weights.argsort(descending=True)[:5].tolist() if weights[unit] > 0]
    shown, cells = _batches(evaluation, pool.tolist()), []
    bar = tqdm(shown, f"{evaluation.trained.name}: units", -(-len(pool) // BATCH), leave=False, disable=None)
    with torch.inference_mode(), float32():
        maps = [network.forward_with_maps(normalise(batch.pixels))[1][:, units].cpu() for batch in bar]
    of_units = torch.cat(maps)
    for place, unit in enumerate(units):
        best = of_units[:, place].numpy().max((1, 2)).argsort(kind="stable")[::-1][:COLUMNS]
        for rank, number in enumerate(best):
            caption = f"unit {unit}, w = {weights[unit]:.3f}" if rank == 0 else ""
            cells.append((caption, _overlaid(read_image(split.path(pool[number])), of_units[number, place])))
    return cells


def _word(evaluation: Evaluation, label: int) -> str:
    return first_name(evaluation.split.words[label])


def _batches(evaluation: Evaluation, images: list[int]) -> Iterator[Batch]:
    """The whole pictures as the network sees them, on its device. Raises UserError for a corrupt one."""
    config, size = evaluation.config, evaluation.config.protocol.size or evaluation.trained.model.input_size
    for batch in evaluation_batches(evaluation.split.subset(images), size, BATCH, workers=config.data.workers):
        yield batch.to(evaluation.world.device)


def _predicted(evaluation: Evaluation, images: list[int], methods: list[str]) -> tuple[list[np.ndarray], Prediction]:
    """At most BATCH pictures (H,W,3), and what the network says of them, asked for each one's true class too."""
    (batch,) = _batches(evaluation, images)
    found = predict(evaluation.trained.network, normalise(batch.pixels), batch.labels, methods=methods)
    return [read_image(evaluation.split.path(image)) for image in images], found


def _enlarged(maps: torch.Tensor, picture: np.ndarray) -> np.ndarray:
    return resize_map(maps.cpu().numpy(), picture.shape[1], picture.shape[0])


def _overlaid(picture: np.ndarray, maps: torch.Tensor) -> Image.Image:
    return Image.fromarray(overlay(picture, _enlarged(maps, picture)))
