"""Two random networks, evaluated on a tiny tree in which a class and an image have odd names.

And one that was evaluated on a folder without boxes.
"""

from __future__ import annotations

import re
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from conftest import Settings, composed, under, write_checkpoint
from PIL import Image

from cam_repro.config import Config, model_config
from cam_repro.data.ilsvrc import ANNOTATIONS, IMAGES
from cam_repro.data.ilsvrc_lists import IMAGE_SETS, MAPPING
from cam_repro.data.split import save_arrays
from cam_repro.evaluation.spec import open_evaluations
from cam_repro.networks import build_network

STRIKE = "document.title='struck'"
ODD_WORD, ODD_FILE = f"<script>{STRIKE}</script> é&amp;", f'é<img src=x onerror="{STRIKE}">'


def evaluate_two_networks(tiny_shapes: Path, folder: Path) -> Settings:
    """Leaves runs/ and results/ of `one` and `two`, and the sweep of `one`.

    Returns settings("name=one", …) for what comes after.
    """
    root = shutil.copytree(tiny_shapes, folder / "tree")
    wnids, words = zip(
        *(line.split(maxsplit=1) for line in (root / MAPPING).read_text().splitlines()), strict=True
    )
    words = [ODD_WORD, *words[1:]]
    (root / MAPPING).write_text(
        "".join(f"{wnid} {of_class}\n" for wnid, of_class in zip(wnids, words, strict=True))
    )
    (root / IMAGE_SETS["val"]).unlink()
    # Most images are of the class that network one guesses
    for annotation in (root / ANNOTATIONS).iterdir():
        annotation.write_text(re.sub("n9000000[1-6]", wnids[0], annotation.read_text()))
    first = min((root / IMAGES / "val").iterdir())
    (root / ANNOTATIONS / f"{first.stem}.xml").rename(root / ANNOTATIONS / f"{ODD_FILE}.xml")
    first.rename(first.with_name(f"{ODD_FILE}.JPEG"))

    def settings(*overrides: str) -> Config:
        data = [
            "data=ilsvrc",
            "data.name=tree",
            f"data.root={root}",
            "data.workers=0",
            "device=cpu",
        ]
        return composed([*under(folder), *data, *overrides])

    for number, name in enumerate(("one", "two")):
        torch.manual_seed(number)
        model = model_config("squeezenet_gap", units=64, input_size=96)
        network = build_network(model, len(wnids))
        network.classifier.bias.data[number] += 10  # the best guess of every image
        checkpoint = folder / f"runs/tree/{name}/checkpoint.pt"
        write_checkpoint(checkpoint, model, network, [*wnids], training={"epochs_done": 1})
        import_module("scripts.eval_localization").main(settings(f"name={name}"))
    import_module("scripts.eval_localization").main(settings("name=one", "protocol=wsol"))
    return settings


PETS = {
    "cat": (220, 30, 30),
    "dog": (30, 30, 220),
    ODD_WORD.replace("/", ""): (30, 200, 30),
}  # class -> colour


def evaluate_on_a_folder(folder: Path) -> Settings:
    """Leaves runs/ and results/ of `own`, a random network, evaluated on a folder without boxes.

    The folder's classes are noise in three colours. Returns settings("name=own", …).
    """
    rng = np.random.default_rng(0)
    for name, colour in PETS.items():
        for split, count in (("train", 1), ("val", 6)):
            of_class = folder / "pets" / split / name
            of_class.mkdir(parents=True)
            for number in range(count):
                noise = rng.integers(-30, 30, (30, 40, 3)) + colour
                Image.fromarray(noise.astype(np.uint8)).save(of_class / f"{number}.png")

    def settings(*overrides: str) -> Config:
        data = ["data=folder", f"data.root={folder / 'pets'}", "data.workers=0", "device=cpu"]
        return composed([*under(folder), *data, *overrides])

    torch.manual_seed(0)
    model = model_config("squeezenet_gap", units=16, input_size=64)
    network = build_network(model, len(PETS))
    write_checkpoint(folder / "runs/pets/own/checkpoint.pt", model, network, sorted(PETS))
    import_module("scripts.eval_classification").main(settings("name=own"))
    (evaluation,) = open_evaluations(settings("name=own"))
    split = evaluation.split
    guesses = np.stack([split.labels, (split.labels + 1) % 3], axis=1)
    guesses[::4] = guesses[::4, ::-1]  # a quarter is taken for the next class
    save_arrays(
        folder / "results/pets/own/classification.npz",
        cls_right=np.logical_or.accumulate(guesses == split.labels[:, None], axis=1),
        labels=split.labels, classes=guesses, files=split.files,
    )  # fmt: skip
    return settings
