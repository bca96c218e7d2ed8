"""`make cells`: where a network's cells look, and what boxes would gain by being drawn there.

A record of each network is `results/<data>/<network>/cells.json` (schema 1, pixels of the input and
percent).
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data.loaders import evaluation_batches
from cam_repro.data.views import normalise, resize_map
from cam_repro.distributed import float32
from cam_repro.evaluation.maps import images_a_batch, predict_split
from cam_repro.evaluation.record import SCHEMA, origin_of
from cam_repro.evaluation.spec import Evaluation, open_evaluations
from cam_repro.files import read_bytes, write_text
from cam_repro.localization.boxes import LOOSE, loose_and_tight
from cam_repro.localization.cells import Cells, connected_cells, drawn_cells, seen_cells
from cam_repro.localization.intervals import Shares, differences, percentages
from cam_repro.localization.iou import IOU_OF_A_RIGHT_BOX, best_iou
from cam_repro.networks.sizes import on_meta_device, shape_of_maps

IMAGES = 60  # whose gradients are looked at
MOVED = {"halfway": 0.5, "connected": 1.0}  # boxes, from where they are drawn: how far


def measure_cells(config: Config) -> list[Path]:
    """Measure the configured network, or every trained one, and write a record of each."""
    if config.protocol.view != "squash":
        raise UserError("make cells looks at whole images; leave protocol.view= out")
    written = []
    for evaluation in open_evaluations(config):
        if evaluation.world.size > 1:
            raise UserError("make cells runs in one process: start it without torchrun")
        began = time.perf_counter()
        size = config.protocol.size or evaluation.trained.model.input_size
        network = on_meta_device(evaluation.trained.model)
        _, height, width = shape_of_maps(network, size)
        drawn = (drawn_cells(size, height), drawn_cells(size, width))
        record: dict[str, Any] = {
            "schema": SCHEMA,
            "model": evaluation.trained.model.name,
            "name": evaluation.trained.name,
            "data": config.data.name,
            "split": evaluation.split.name,
            "input_size": size,
            "maps": [height, width],
            "drawn": _numbers(drawn, (height, width)),
        }
        try:
            connected = connected_cells(network, size)
        except ValueError as error:
            print(f"{evaluation.trained.name}: {error}", flush=True)
            connected = None
        else:
            record["connected"] = _numbers(connected, (height, width))
        record |= _seen(evaluation, size)
        if (
            connected
            and len(evaluation.split.boxes)
            and not evaluation.trained.network.cam_obstacle
        ):
            record |= _moved_boxes(evaluation, size, drawn, connected)
        record["provenance"] = {
            **origin_of(evaluation),
            "seconds": round(time.perf_counter() - began, 1),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        path = cells_path(Path(config.results, config.data.name), evaluation.trained.name)
        write_text(path, json.dumps(record, indent=1) + "\n")
        _print(record)
        print(f"  {path}", flush=True)
        written.append(path)
    return written


def cells_path(folder: Path, name: str) -> Path:
    return folder / name / "cells.json"


def read_cells(path: Path) -> dict[str, Any]:
    """A record. Raises UserError where it is damaged."""
    try:
        record = json.loads(read_bytes(path))
        if record["schema"] != SCHEMA or not {"drawn", "seen", "provenance"} <= record.keys():
            raise ValueError("it is of another schema")
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read as a record of make cells: {error}; remove it and type make "
            "cells"
        ) from None
    return record


def _numbers(axes: tuple[Cells, Cells], counts: tuple[int, int]) -> dict[str, list[float]]:
    """Of rows and columns the pixel of the middle, and the stride."""
    middle = [cells.middle(count) for cells, count in zip(axes, counts, strict=True)]
    return {"middle": middle, "stride": [cells.stride for cells in axes]}


def _seen(evaluation: Evaluation, size: int) -> dict[str, Any]:
    """Where the middle looks: means over the images, with their standard errors."""
    config = evaluation.config
    network = evaluation.trained.network
    rng = np.random.default_rng(config.seed)
    count = min(IMAGES, len(evaluation.split))
    images = np.sort(rng.choice(len(evaluation.split), count, replace=False))
    batches = evaluation_batches(
        evaluation.split.subset(images.tolist()),
        size,
        images_a_batch(config.eval_batch_size, "squash", ["backprop"]),
        interpolation=config.protocol.interpolation or network.interpolation,
        workers=config.data.workers,
    )
    found = []
    bar = tqdm(batches, f"{evaluation.trained.name}: gradients", disable=None, leave=False)
    for batch in bar:
        pixels = batch.to(evaluation.world.device).pixels
        with float32():
            found.append(seen_cells(network, normalise(pixels)).double().cpu())
    of_images = torch.cat(found)  # (N,2,2): of rows and columns the pixel and the stride
    mean = of_images.mean(0)
    error = of_images.std(0) / count**0.5
    seen = {
        "middle": mean[:, 0].tolist(),
        "middle_error": error[:, 0].tolist(),
        "stride": mean[:, 1].tolist(),
        "stride_error": error[:, 1].tolist(),
    }
    return {"seen": seen, "seen_images": count}


def _moved_boxes(
    evaluation: Evaluation, size: int, drawn: tuple[Cells, Cells], connected: tuple[Cells, Cells]
) -> dict[str, Any]:
    """GT-known of the true class's boxes as they are drawn, and moved to where cells look."""
    config = evaluation.config
    split = evaluation.split
    network = evaluation.trained.network
    right: dict[str, list[bool]] = {"drawn": [], **{name: [] for name in MOVED}}
    batches = predict_split(
        network,
        split,
        "squash",
        size,
        ["cam"],
        evaluation.world,
        batch_size=config.eval_batch_size,
        interpolation=config.protocol.interpolation or network.interpolation,
        workers=config.data.workers,
    )
    bar = tqdm(total=len(split), desc=f"{evaluation.trained.name}: boxes", disable=None)
    with bar:
        for batch in batches:
            for place, image in enumerate(batch.images.tolist()):
                width, height = batch.sizes[place].tolist()
                of_true_class = batch.maps["cam"][place, 0, -1]
                heatmap = resize_map(of_true_class, width, height, config.protocol.resize)
                box = np.array(loose_and_tight(heatmap, config.protocol)[LOOSE], float)
                there = moved_box(box, (width, height), size, drawn, connected)
                boxes = {"drawn": box}
                for name, share in MOVED.items():
                    boxes[name] = box + share * (there - box)
                for name, one in boxes.items():
                    (overlap,) = best_iou([one], split.true_boxes(image))
                    right[name].append(bool(overlap >= IOU_OF_A_RIGHT_BOX))
                bar.update()
    has_box = np.diff(split.box_starts) > 0
    shares: dict[str, Shares] = {}
    for name, of_images in right.items():
        shares[name] = {"gt_known_loc": (np.array(of_images, float), has_box.astype(float))}
    boxes_moved = {"drawn": percentages(shares["drawn"])["gt_known_loc"]}
    for name in MOVED:
        (difference,) = differences([shares["drawn"]], [shares[name]]).values()
        boxes_moved[name] = percentages(shares[name])["gt_known_loc"]
        boxes_moved[f"{name}_difference"] = list(difference)
    return {"gt_known_loc": boxes_moved, "loc_images": int(has_box.sum())}


def moved_box(
    box: np.ndarray,
    image_size: tuple[int, int],
    size: int,
    drawn: tuple[Cells, Cells],
    connected: tuple[Cells, Cells],
) -> np.ndarray:
    """A box (4,) in pixels of an image (width, height), moved to what its cells are connected to.

    Corners stay in the image. size: pixels a side of the input, of which drawn and connected are.
    """
    moved = []
    for corner, value in enumerate(box.tolist()):
        is_column = corner % 2 == 0
        length = image_size[0] if is_column else image_size[1]
        here = drawn[1] if is_column else drawn[0]
        there = connected[1] if is_column else connected[0]
        scale = length / size
        in_input = (value + 0.5) / scale - 0.5
        cell = (in_input - here.first) / here.stride
        looked_at = there.first + there.stride * cell
        moved.append(min(max((looked_at + 0.5) * scale - 0.5, 0.0), length - 1.0))
    return np.array(moved)


def _print(record: dict[str, Any]) -> None:
    size = record["input_size"]
    height, width = record["maps"]
    print(f"{record['name']}, {height}×{width} cells at {size} pixels (rows, columns):")
    drawn = record["drawn"]
    for kind in ("drawn", "connected", "seen"):
        if kind not in record:
            continue
        of_kind = record[kind]
        off = []
        for axis in range(2):
            moved = of_kind["middle"][axis] - drawn["middle"][axis]
            error = f" ± {of_kind['middle_error'][axis]:.1f}" if "middle_error" in of_kind else ""
            off.append(f"{moved:+.1f}{error}")
        stride = " and ".join(f"{stride:.1f}" for stride in of_kind["stride"])
        print(f"  {kind:10} middle {', '.join(off)} pixels from where it is drawn, stride {stride}")
    if "gt_known_loc" in record:
        known = record["gt_known_loc"]
        said = [f"drawn {known['drawn']:.1f}"]
        for name in MOVED:
            difference, low, high = known[f"{name}_difference"]
            said.append(f"{name} {known[name]:.1f} ({difference:+.1f}, {low:+.1f} … {high:+.1f})")
        print(f"  GT-known of boxes, %: {'; '.join(said)}")
