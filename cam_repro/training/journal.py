"""What a run leaves to read: metrics.jsonl, TensorBoard events, environment.txt."""

from __future__ import annotations

import json
import math
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from cam_repro.data.images import decoder, read_image
from cam_repro.data.split import Split
from cam_repro.data.views import normalise, squash
from cam_repro.files import write_text
from cam_repro.localization.maps import class_activation_maps, resize_maps
from cam_repro.localization.overlay import overlay
from cam_repro.networks import CamNetwork
from cam_repro.provenance import device_name, git_state, versions
from cam_repro.training.checkpoint import ENVIRONMENT, METRICS
from cam_repro.training.progress import Progress


class Journal:
    """Epoch metrics and curves from a checkpoint on: what a lost attempt wrote beyond it is taken back."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.metrics = folder / METRICS
        kept = [line for line in _lines(self.metrics) if _epoch_of(line) <= progress.epoch]
        write_text(self.metrics, "".join(f"{line}\n" for line in kept))
        # A checkpoint at the end of an epoch comes after the curves of its step, any other before them.
        at_end = progress.step and not progress.step_in_epoch
        self.board = SummaryWriter(str(folder), purge_step=progress.step + 1 if at_end else progress.step)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def epoch(self, record: dict[str, float | int]) -> None:
        with self.metrics.open("a") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.scalars(int(record["step"]), {k: v for k, v in record.items() if k.startswith(("val_", "train_"))})

    def maps(self, step: int, network: CamNetwork, split: Split, size: int, device: torch.device) -> None:
        """The true class's activation map over a few fixed val images, where the network has such maps."""
        if network.cam_obstacle:
            return
        self.board.add_images(
            "class activation maps", example_maps(network, split, size, device), step, dataformats="NHWC"
        )

    def flush(self) -> None:
        self.board.flush()

    def close(self) -> None:
        self.board.close()


def _epoch_of(line: str) -> float:
    try:
        return json.loads(line)["epoch"]
    except (ValueError, KeyError, TypeError):  # half written when a disk was full
        return math.inf


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@torch.inference_mode()
def example_maps(network: CamNetwork, split: Split, size: int, device: torch.device, count: int = 8) -> np.ndarray:
    """(count,size,size,3) uint8: val images spread over the split under the map of their true class."""
    network.eval()
    chosen = np.linspace(0, len(split) - 1, min(count, len(split)), dtype=int)
    pixels = np.stack([squash(read_image(split.path(i)), size) for i in chosen])
    _, maps = network.forward_with_maps(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device)))
    labels = torch.from_numpy(split.labels[chosen])[:, None].to(device)
    heat = resize_maps(class_activation_maps(maps, network.classifier_weight, labels)[:, 0].cpu().numpy(), (size, size))
    return np.stack([overlay(picture, heatmap) for picture, heatmap in zip(pixels, heat, strict=True)])


def write_environment(folder: Path, device: torch.device, world: int) -> None:
    commit, dirty = git_state()
    rows = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
        "commit": commit + (" with uncommitted changes" if dirty else ""),
        "device": f"{world} × {device_name(str(device))}",
        "decoder": decoder(),
        **versions(),
    }
    write_text(folder / ENVIRONMENT, "".join(f"{key}: {value}\n" for key, value in rows.items()))
