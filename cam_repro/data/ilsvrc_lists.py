"""ILSVRC's lists: its classes, the images of each split, and the devkit's classes of val."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from cam_repro import UserError
from cam_repro.data.annotations import Annotation, Known
from cam_repro.files import read_text

# Places under Kaggle's root.
MAPPING = "LOC_synset_mapping.txt"
IMAGE_SETS = {
    "train": "ILSVRC/ImageSets/CLS-LOC/train_cls.txt",
    "val": "ILSVRC/ImageSets/CLS-LOC/val.txt",
}
VAL_NAME = "ILSVRC2012_val_{:08d}"
DEVKIT_SYNSETS = "meta.mat"
DEVKIT_TRUTH = "ILSVRC2012_validation_ground_truth.txt"


def read_synset_mapping(path: Path) -> tuple[list[str], list[str]]:
    """wnids and words, one class a line: class i is line i."""
    wnids = []
    words = []
    for line in read_text(path).splitlines():
        if line.strip():
            wnid, *rest = line.split(maxsplit=1)
            wnids.append(wnid)
            words.append(rest[0] if rest else wnid)
    _check_each_once(path, wnids, "classes")
    return wnids, words


def imagenet_classes() -> tuple[list[str], list[str]]:
    """wnids and words of ILSVRC 2012's 1000 classes, in the order of all published networks."""
    return read_synset_mapping(Path(__file__).with_name("imagenet_classes.txt"))


def imagenet_subset(folders: set[str], root: Path) -> tuple[list[str], list[str]]:
    """Those of ILSVRC's classes that have folders, in ILSVRC's order; all where none has."""
    wnids, words = imagenet_classes()
    if not folders:
        return wnids, words
    others = sorted(folders - set(wnids))
    if others:
        raise UserError(
            f"no {MAPPING} under data.root={root}, and the folder {others[0]} is none of ILSVRC's "
            "classes; write one line `wnid words` a class there, or choose data=folder"
        )
    words_of = dict(zip(wnids, words, strict=True))
    kept = [wnid for wnid in wnids if wnid in folders]
    return kept, [words_of[wnid] for wnid in kept]


def read_image_set(path: Path) -> list[str]:
    """The names in a list of `name number` lines, where the number may be left out."""
    lines = [line.split() for line in read_text(path).splitlines()]
    names = [words[0] for words in lines if words]
    _check_each_once(path, names, "images")
    return names


def _check_each_once(path: Path, names: list[str], kind: str) -> None:
    different = len(set(names))
    if different != len(names) or not names:
        raise UserError(
            f"{path} lists {len(names)} {kind}, {different} different; expected one a line"
        )


def in_listed_order(image_set: Path, files: list[str]) -> list[str]:
    """The files that a list names, in its order; it may leave their class folders out."""
    names = read_image_set(image_set)
    file_of = {}
    for file in files:
        base = file.rpartition("/")[2]
        file_of[base.rpartition(".")[0]] = file
    file_of |= by_listed_name(files)
    missing = [name for name in names if name not in file_of]
    if missing:
        raise UserError(
            f"{image_set} lists {len(missing)} images that are not there, first {missing[0]}"
        )
    return [file_of[name] for name in names]


def by_listed_name(files: list[str]) -> dict[str, str]:
    """Files by their name without the suffix, as ImageSets name them."""
    return {file.rpartition(".")[0]: file for file in files}


def read_devkit(path: Path) -> Known:
    """The classes of val by ILSVRC2012_devkit_t12, packed or unpacked."""
    from scipy.io import loadmat

    try:
        lists = _devkit_lists(path)
        synsets = loadmat(io.BytesIO(lists[DEVKIT_SYNSETS]), squeeze_me=True)["synsets"]
        wnid_of = {}
        for synset in synsets:
            number = int(synset["ILSVRC2012_ID"])
            wnid_of[number] = str(synset["WNID"])
        known = {}
        for image, number in enumerate(lists[DEVKIT_TRUTH].split(), 1):
            wnid = wnid_of[int(number)]
            known[VAL_NAME.format(image)] = Annotation(name=wnid)
    except (
        OSError,
        tarfile.TarError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        NotImplementedError,
    ) as error:
        raise UserError(f"{path} is not ILSVRC2012's devkit: {error}; fetch it again") from None
    return known


def _devkit_lists(path: Path) -> dict[str, bytes]:
    lists = {DEVKIT_SYNSETS: b"", DEVKIT_TRUTH: b""}
    if path.is_dir():
        for name in lists:
            lists[name] = (path / "data" / name).read_bytes()
        return lists
    with tarfile.open(path) as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            if name in lists and member.isfile():
                lists[name] = archive.extractfile(member).read()
    return lists


def write_lists(root: Path, classes: Mapping[str, str], names: Mapping[str, Iterable[str]]) -> None:
    """Writes the classes (wnid → words), and the sorted names of each split's images.

    A name has no suffix. Its line is `<name> <number>`.
    """
    mapping = [f"{wnid} {words}\n" for wnid, words in classes.items()]
    (root / MAPPING).write_text("".join(mapping), encoding="utf-8")
    for split, of_split in names.items():
        lines = []
        for number, name in enumerate(sorted(of_split), 1):
            lines.append(f"{name} {number}\n")
        path = root / IMAGE_SETS[split]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))


def words_of_ilsvrc(wnids: list[str]) -> list[str]:
    """The words of ILSVRC's classes; other classes have their own names."""
    words_of = dict(zip(*imagenet_classes(), strict=True))
    return [words_of.get(wnid, wnid) for wnid in wnids]
