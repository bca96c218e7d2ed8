"""The built-in data set: drawn objects of ten classes with boxes, made as an ILSVRC CLS-LOC tree.

It is made on first use and needs nothing but a seed and a minute, so that every command can be
tried without ImageNet.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.cores import in_threads
from cam_repro.data.ilsvrc import ANNOTATIONS, IMAGES
from cam_repro.data.ilsvrc_lists import write_lists
from cam_repro.data.synthetic import SKETCHES, draw_image
from cam_repro.files import make_folder, read_bytes

GENERATOR = 4  # to be raised whenever the same seed gives other images
SPLITS = ("train", "val")
ANNOTATION = """<annotation>
	<folder>val</folder>
	<filename>{}</filename>
	<source><database>shapes</database></source>
	<size><width>{}</width><height>{}</height><depth>3</depth></size>
	<segmented>0</segmented>
{}</annotation>
"""
OBJECT = """	<object>
		<name>{}</name>
		<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>
	</object>
"""
# Beyond WordNet's own numbers, so that none is taken for a class of ImageNet.
WNIDS = [f"n{90000001 + label}" for label in range(len(SKETCHES))]


def make_shapes(root: Path, seed: int = 0, train: int = 2000, val: int = 500) -> Path:
    """Makes the data set of `train` + `val` images at `root`, unless it is there already.

    It appears at `root` whole or not at all. Image i of a split depends on (seed, split, i) alone.
    Raises UserError when something else is at `root` or the disk does not take it.
    """
    root = Path(root).resolve()
    wanted = {"generator": GENERATOR, "seed": seed, "train": train, "val": val}

    def check_made() -> None:
        try:
            found = json.loads(read_bytes(root / "shapes.json"))
        except (FileNotFoundError, ValueError):
            raise UserError(
                f"{root} holds something other than data=shapes; give another data.root="
            ) from None
        if found != wanted:
            raise UserError(
                f"{root} holds data=shapes with {found}, expected {wanted}; give another data.root="
            )

    def fill(making: Path) -> None:
        images = []
        names: dict[str, list[str]] = {split: [] for split in SPLITS}
        for split in SPLITS:
            for index in range(wanted[split]):
                images.append((split, index))
                names[split].append(_name(split, index))
        write_lists(making, dict(zip(WNIDS, SKETCHES, strict=True)), names)

        def write(image: tuple[str, int]) -> None:
            split, index = image
            _write_image(making, seed, split, index)

        written = in_threads(write, images)
        for _ in tqdm(written, "drawing data=shapes", len(images), unit=" images", disable=None):
            pass
        (making / "shapes.json").write_text(json.dumps(wanted) + "\n")

    make_folder(root, check_made, fill)
    return root


def _name(split: str, index: int) -> str:
    """As the lists of ILSVRC name it: `<wnid>/<wnid>_<n>` in train, a running number in val."""
    if split == "val":
        return f"shapes_val_{index + 1:08d}"
    wnid = WNIDS[index % len(WNIDS)]
    return f"{wnid}/{wnid}_{index // len(WNIDS) + 1}"


def _write_image(root: Path, seed: int, split: str, index: int) -> None:
    """The JPEG, and for val its annotation as ILSVRC writes them."""
    label = index % len(SKETCHES)
    name = _name(split, index)
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    pixels, boxes = draw_image(label, rng)
    file = root / IMAGES / split / f"{name}.JPEG"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    if split == "train":
        return
    height, width, _ = pixels.shape
    objects = "".join(OBJECT.format(WNIDS[label], *box) for box in boxes)
    annotation = root / ANNOTATIONS / f"{name}.xml"
    annotation.parent.mkdir(parents=True, exist_ok=True)
    annotation.write_text(ANNOTATION.format(name, width, height, objects))
