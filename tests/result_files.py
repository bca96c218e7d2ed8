"""Result files as evaluations leave them, with numbers of a test's own choice."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cam_repro.evaluation.record import file_name

METRICS = {
    "classification": {"cls_top1_error": 41.2, "cls_top5_error": 7.4},
    "localization": {
        "cls_top1_error": 41.2,
        "cls_top5_error": 7.4,
        "loc_top1_error": 58.0,
        "loc_top5_error": 33.6,
        "gt_known_loc": 63.4,
        "loc_given_cls": 71.43,
        "baseline_whole_image": 8.8,
        "baseline_centre_box": 21.6,
    },
    "max_box_acc": {
        "max_box_acc_v1": 66.0,
        "max_box_acc_v2": 60.5,
        "max_box_acc_v2_one_threshold": 59.1,
        "max_box_acc_v1_at_20": 62.2,
        "max_box_acc_v2_at_20": 57.7,
        "baseline_whole_image": 8.6,
        "baseline_centre_box": 21.4,
        "baseline_whole_image_v2": 9.1,
        "baseline_centre_box_v2": 24.3,
    },
    "pointing": {"pointing_game": 80.0, "energy_inside": 50.0},
    "faithfulness": {
        "insertion": 60.0,
        "deletion": 10.0,
        "average_drop": 20.0,
        "average_drop_matched": 12.0,
        "increase": 30.0,
        "increase_matched": 40.0,
        "road": -2.0,
    },
}
PROTOCOL = {"name": "paper", "view": "squash", "boxes": "paper", "threshold": 0.2}
RELEASE = {
    "name": "release",
    "view": "ten_crop",
    "boxes": "release",
    "thresholds": [20, 100, 110],
    "guesses": "loose",
}
HEURISTICS = RELEASE | {"name": "release_heuristics", "guesses": "heuristics"}
MAX_BOX_ACC = {"name": "wsol", "view": "squash", "metric": "max_box_acc"}
POINTING = {"name": "pointing", "view": "squash", "metric": "pointing"}
FAITHFULNESS = {"name": "faithfulness", "view": "squash", "metric": "faithfulness", "steps": 32}
THRESHOLDS = {
    "v1": 0.345,
    "v2_iou30": 0.4,
    "v2_iou50": 0.3,
    "v2_iou70": 0.2,
    "v2_one_threshold": 0.301,
}
PROVENANCE = {
    "commit": "0123456789abcdef",
    "dirty": False,
    "date": "2026-11-22T10:00:00Z",
    "weights": "77aa",
    "data": "d00d",
    "blacklist": None,
}

Writer = Callable[..., Path]


def writer(results: Path) -> Writer:
    """Writes one result file; keywords replace whole keys, `metrics` only those named."""

    def write(
        model: str, method: str | None = None, data: str = "shapes", file: str = "", **changes: Any
    ) -> Path:
        protocol = changes.get("protocol", PROTOCOL)
        kind = "classification" if method is None else protocol.get("metric", "localization")
        metrics = METRICS[kind] | changes.pop("metrics", {})
        document = {
            "schema": 1,
            "model": model,
            "data": data,
            "split": "val",
            "images": 500,
            "input_size": 224,
        }
        document |= {
            "interpolation": "bilinear",
            "method": method or "cam",
            "protocol": protocol,
            "metrics": metrics,
            "provenance": PROVENANCE,
        }
        document["confidence"] = {
            name: [value - 1, value + 1] for name, value in metrics.items() if value
        }
        document |= {"thresholds": THRESHOLDS} if kind == "max_box_acc" else {}
        if protocol.get("guesses") == "heuristics":  # three classes in five guesses
            metrics.pop("cls_top5_error")
        name = file_name(method, protocol["name"], changes.get("split", "val"))
        path = results / data / changes.get("name", model) / (file or name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document | changes))
        return path

    return write


def csv_rows(path: Path, key: str = "network") -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {line[key]: line for line in csv.DictReader(file)}
