"""The built-in data set: ten kinds of drawn objects with boxes, made on first use as an ILSVRC CLS-LOC tree.

It needs nothing but a seed and half a minute, so that every command can be tried without ImageNet.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.cores import in_threads
from cam_repro.data.annotations import Box
from cam_repro.data.drawing import KINDS, draw_picture
from cam_repro.data.ilsvrc import annotations_folder, images_folder, write_lists
from cam_repro.files import make_folder

GENERATOR = 2  # to be raised whenever the same seed gives other pictures
SPLITS = ("train", "val")
WNIDS = [f"n{90000001 + label}" for label in range(len(KINDS))]  # beyond WordNet's own: none is taken for ImageNet's


def make_shapes(root: Path, seed: int = 0, train: int = 2000, val: int = 500) -> Path:
    """Makes the data set at `root` unless it is there already: `train` + `val` pictures, over ten classes.

    It appears at `root` whole or not at all. Picture i of a split depends on (seed, split, i) alone.
    Raises UserError when something else is at `root` or the disk does not take it.
    """
    root = Path(root).expanduser().resolve()
    wanted = {"generator": GENERATOR, "seed": seed, "train": train, "val": val}
    make_folder(root, lambda: _is_made(root, wanted), lambda making: _write_tree(making, seed, train, val))
    return root


def _is_made(root: Path, wanted: dict[str, int]) -> bool:
    """Whether the wanted data set is at `root`; UserError if something else is."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / "shapes.json").read_text())
    except (OSError, ValueError):
        raise UserError(f"{root} holds something other than data=shapes; give another data.root=") from None
    if found != wanted:
        raise UserError(f"{root} holds data=shapes with {found}, expected {wanted}; give another data.root=")
    return True


def _write_tree(root: Path, seed: int, train: int, val: int) -> None:
    pictures = [(split, index) for split, count in zip(SPLITS, (train, val), strict=True) for index in range(count)]
    words = dict(zip(WNIDS, (kind.words for kind in KINDS), strict=True))
    names = {split: [_name(split, index) for of_split, index in pictures if of_split == split] for split in SPLITS}
    write_lists(root, words, names)
    for folder in (images_folder(root, "val"), annotations_folder(root)):
        folder.mkdir(parents=True)
    for wnid in WNIDS:
        (images_folder(root, "train") / wnid).mkdir(parents=True)
    drawn = in_threads(lambda picture: _write_picture(root, seed, *picture), pictures)
    for _ in tqdm(drawn, "drawing data=shapes", len(pictures), unit=" pictures", disable=None):
        pass
    made = {"generator": GENERATOR, "seed": seed, "train": train, "val": val}
    (root / "shapes.json").write_text(json.dumps(made) + "\n")


def _name(split: str, index: int) -> str:
    """As the lists of ILSVRC name it: `<wnid>/<wnid>_<n>` in train, a running number in val."""
    wnid = WNIDS[index % len(WNIDS)]
    return f"shapes_val_{index + 1:08d}" if split == "val" else f"{wnid}/{wnid}_{index // len(WNIDS) + 1}"


def _write_picture(root: Path, seed: int, split: str, index: int) -> None:
    label, name = index % len(KINDS), _name(split, index)
    pixels, boxes = draw_picture(label, np.random.default_rng([seed, SPLITS.index(split), index]))
    Image.fromarray(pixels).save(images_folder(root, split) / f"{name}.JPEG", "JPEG", quality=80)
    if split == "val":
        annotation = _annotation(name, pixels.shape[1], pixels.shape[0], WNIDS[label], boxes)
        (annotations_folder(root) / f"{name}.xml").write_text(annotation)


def _annotation(name: str, width: int, height: int, wnid: str, boxes: list[Box]) -> str:
    """The picture's boxes as ILSVRC writes them."""
    objects = "".join(
        f"""\
	<object>
		<name>{wnid}</name>
		<pose>Unspecified</pose>
		<truncated>0</truncated>
		<difficult>0</difficult>
		<bndbox>
			<xmin>{x1}</xmin>
			<ymin>{y1}</ymin>
			<xmax>{x2}</xmax>
			<ymax>{y2}</ymax>
		</bndbox>
	</object>
"""
        for x1, y1, x2, y2 in boxes
    )
    return f"""\
<annotation>
	<folder>val</folder>
	<filename>{name}</filename>
	<source>
		<database>shapes</database>
	</source>
	<size>
		<width>{width}</width>
		<height>{height}</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
{objects}</annotation>
"""
