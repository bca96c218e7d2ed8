"""The report page: whole in a real browser without a network, its boxes those of Python, and what it refuses."""

from __future__ import annotations

import io
import json
import re
import shutil
from base64 import b64decode
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import composed
from PIL import Image

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data.ilsvrc import ANNOTATIONS, IMAGE_SETS, IMAGES, MAPPING
from cam_repro.data.views import resize_map
from cam_repro.localization.boxes import paper_box
from cam_repro.localization.failures import KINDS, kind_of_guess
from cam_repro.localization.iou import box_iou
from cam_repro.networks import build_network
from cam_repro.reporting import results
from cam_repro.reporting.report import make_report

STRIKE = "document.title='struck'"
ODD_WORD, ODD_FILE = f"<script>{STRIKE}</script> é&amp;", f'é<img src=x onerror="{STRIKE}">'
Settings = Callable[..., Config]


@pytest.fixture(scope="module")
def settings(tiny_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """settings("model=…", …) on a tree with an odd class and file name, and two random networks as trained runs."""
    folder = tmp_path_factory.mktemp("report")
    root = shutil.copytree(tiny_shapes, folder / "tree")
    lines = (root / MAPPING).read_text().splitlines()
    (root / MAPPING).write_text("\n".join(f"{line.split()[0]} {ODD_WORD}" for line in lines[:5]) + "\n" + "\n".join(lines[5:]))
    (root / IMAGE_SETS["val"]).unlink()
    first = min((root / IMAGES / "val").iterdir())
    (root / ANNOTATIONS / f"{first.stem}.xml").rename(root / ANNOTATIONS / f"{ODD_FILE}.xml")
    first.rename(first.with_name(f"{ODD_FILE}.JPEG"))

    def of(*overrides: str) -> Config:
        where = [f"{key}={folder / key}" for key in ("runs", "results", "cache")]
        data = ["data=ilsvrc", "data.name=tree", f"data.root={root}", "data.workers=0", "device=cpu"]
        return composed([*where, *data, *overrides])

    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        (folder / "runs/tree" / name).mkdir(parents=True)
        torch.save(build_network("alexnet_gap", 10).state_dict(), folder / "runs/tree" / name / "checkpoint.pt")
        evaluate = import_module("scripts.eval_localization").main
        evaluate(of("model=alexnet_gap", "protocol.size=64", f"name={name}"))
    return of


