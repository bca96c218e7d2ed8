"""One of two gloo processes: what one without any image does must match the other's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from cam_repro.config import Config, DataConfig
from cam_repro.data import open_split
from cam_repro.distributed import DistributedContext, join_distributed
from cam_repro.training.preemption import Preemption
from cam_repro.training.validation import validate


class Brightness(nn.Module):
    interpolation = "bilinear"
    num_classes = 10
    cam_obstacle = "its classes are the colours"

    def forward_with_maps(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images.mean((2, 3)).repeat(1, 4)[:, :10], images


def agree(root: Path, cache: Path, place: dict[str, str]) -> None:
    """place: what torchrun would say in the environment."""
    os.environ.update(place)
    val = open_split(DataConfig(name="shapes", root=str(root)), "val", cache)
    config = Config(eval_batch_size=2, data=DataConfig(workers=0))
    with join_distributed("cpu") as world:
        alone = DistributedContext(0, 1, world.device)
        for images in (1, 2, 3, len(val)):
            some = val.subset(list(range(images)))
            one, two = (
                validate(Brightness(), some, config, 32, who, Preemption(who))
                for who in (alone, world)
            )
            assert one.pop("val_gt_known_loc") is two.pop("val_gt_known_loc") is None
            assert one.pop("val_box_area") is two.pop("val_box_area") is None
            assert two == pytest.approx(one, rel=1e-6)
            assert all(one[key] == two[key] for key in one if key.endswith("error"))
        assert world.broadcast({"rank": world.rank}) == {"rank": 0}
