"""A tree of five images in ILSVRC's layout, for tests to read and to damage."""

from pathlib import Path

from PIL import Image

from cam_repro import UserError
from cam_repro.config import Config, DataConfig
from cam_repro.data import open_split
from cam_repro.data.check import check
from cam_repro.data.ilsvrc import ANNOTATIONS, IMAGES
from cam_repro.data.ilsvrc_lists import IMAGE_SETS
from cam_repro.data.split import Split

SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"
BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


def write_small_tree(root: Path) -> Path:
    """Two train and three val images of 40×30 in two classes; XMLs with 1, 3 and no boxes."""
    train = ["train/n1/n1_7.JPEG", "train/n2/n2_3.JPEG"]
    val = ["val/a.JPEG", "val/b.JPEG", "val/c.JPEG"]
    for file in train + val:
        path = root / IMAGES / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(path, "JPEG")
    (root / "LOC_synset_mapping.txt").write_text("n1 cat, tom\nn2 dog\n")
    write_xml(root, "a", ("n2", (1, 2, 3, 4)))
    write_xml(root, "b", ("n1", (0, 0, 9, 9)), ("n1", (5, 5, 20, 20)), ("n2", (1, 1, 2, 2)))
    write_xml(root, "c")
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\nc,n2\na,n2 0 0 1 1 \n")
    return root


def write_xml(
    root: Path, name: str, *objects: tuple[str, tuple[object, ...]], size: str = SIZE
) -> Path:
    path = root / ANNOTATIONS / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"<object><name>{wnid}</name>{BOX.format(*box)}</object>" for wnid, box in objects]
    path.write_text(f"<annotation>{size}{''.join(lines)}</annotation>")
    return path


def write_list(root: Path, split: str, text: str) -> None:
    path = root / IMAGE_SETS[split]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def opened(root: Path, split: str = "val") -> Split:
    return open_split(DataConfig(name="tree", root=str(root)), split, root.parent / "cache")


def checked(root: Path, name: str = "tree") -> tuple[str | None, str]:
    """The one-line error of the check, none where the data is clean, and its report."""
    runs = root.parent / "runs"
    error = None
    data = DataConfig(name=name, root=str(root))
    try:
        check(Config(data=data, runs=str(runs)))
    except UserError as raised:
        error = str(raised)
        assert "\n" not in error
    return error, (runs / name / "check.txt").read_text(encoding="utf-8")
