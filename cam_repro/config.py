"""Every setting in one place: its type, its default, what it may be and what it means.

Settings are checked without importing torch.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hydra.core.config_store import ConfigStore
from hydra.errors import OverrideParseException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from cam_repro import UserError
from cam_repro.option_errors import check_choice, did_you_mean, shown

REPOSITORY = Path(__file__).resolve().parent.parent
INSTALLED = Path(__file__).resolve().parent / "configs"  # where `pip install .` puts them
CONFIGS = INSTALLED if INSTALLED.is_dir() else REPOSITORY / "configs"

LIBRARIES = ("timm", "torchvision")  # whose networks model= takes by their names there
NAME = r"\w[\w.+-]*", "it names a folder or file: letters, digits, and . _ + - between them"
FOLDER = r"[^\0]+", "give a folder"
FILE = r"[^\0]+", "give a file"
PATH = r"[^\0]+", "give a file or folder"
DEVICE = (
    r"auto|cpu|mps|cuda(:\d{1,3})?",
    "choose auto, cpu, mps (Apple's GPUs), cuda or cuda:<number>",
)


def number(default: Any, low: float, high: float) -> Any:
    """A number, or a list of numbers, each from `low` to `high`."""
    metadata = {"range": (low, high)}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def choice(default: str, *others: str) -> Any:
    return field(default=default, metadata={"choices": (default, *others)})


def choices(default: list[str], *known: str) -> Any:
    """A list of some of these words."""
    return field(default_factory=default.copy, metadata={"choices": known})


def choice_or_none(*choices: str) -> Any:
    """One of these words; none by default."""
    return field(default=None, metadata={"choices": choices})


def word(form: tuple[str, str], default: str | None = MISSING) -> Any:
    """A word of a form: a regular expression of the whole value, and what a wrong value is told."""
    return field(default=default, metadata={"form": form})


def file(or_name: str = "") -> Any:
    """None, a name of this form, or the path of a file that must be there before work begins."""
    return field(default=None, metadata={"file": or_name})


@dataclass
class ModelConfig:
    """A network: a backbone cut after its last wanted maps, with a head (Zhou et al. 2016, §3)."""

    name: str = word(NAME)
    backbone: str = MISSING  # a key of networks.trunks.BACKBONES
    # Keep the backbone whole, with its own classifier: no surgery, no added convolution.
    native: bool = False
    # Maps twice as dense, of the same weights: the last stride of 2 becomes a dilation of 2.
    atrous: bool = False
    units: int = number(1024, 1, 65536)  # of the added 3×3 convolution
    groups: int = number(1, 1, 65536)  # 1: the paper's text; 2: the authors' release
    pool: str = choice("average", "max")  # GAP | GMP
    # On the pooled vector. The release has 0.5 for VGG and AlexNet*.
    dropout: float = number(0.0, 0.0, 0.99)
    conv_init: str = choice("he", "gaussian")  # gaussian: standard deviation 0.01, as the release
    # The initial bias of the added convolution. The release has 1 for GoogLeNet.
    conv_bias: float = number(0.0, -100.0, 100.0)
    input_size: int = number(224, 1, 2048)  # pixels a side at evaluation


@dataclass
class GenerateConfig:
    """The built-in data set: how many images, from which seed."""

    seed: int = number(0, 0, 2**32 - 1)
    train: int = number(2000, 1, 10**6)
    val: int = number(500, 1, 10**5)


@dataclass
class DownloadConfig:
    """Where `make data` gets a data set from: archives by address, with their checksums in hex."""

    images: str = MISSING  # address of the archive of images, one folder a class
    images_checksum: str = MISSING  # "md5:…" or "sha256:…"
    # Address, or a file already here, of ILSVRC's val annotations (XMLs), where they are apart.
    boxes: str | None = None
    boxes_checksum: str | None = None


@dataclass
class DataConfig:
    """A data set on the disk."""

    name: str = word(NAME)  # names the data set in runs/ and results/
    root: str | None = None
    get: str = ""  # one line: how to come by the data
    layout: str = "ilsvrc"  # how it lies on the disk: a key of data.LAYOUTS
    lists: str | None = word(FOLDER, None)  # of layout=wsol: the benchmark's metadata/<data set>
    boxes: str | None = word(PATH, None)  # boxes from elsewhere, in any format of data.annotations
    box_corners: str | None = choice_or_none(  # of XMLs and CSVs in boxes=; none: 0-inclusive
        "0-inclusive", "1-inclusive", "0-exclusive", "1-exclusive"
    )
    # What is evaluated. ILSVRC has train and val alone.
    split: str = choice("val", "train", "test", "all")
    generate: GenerateConfig | None = None  # made on first use
    download: DownloadConfig | None = None  # for `make data`
    workers: int | None = number(None, 0, 256)  # decoding processes; none: one per core, at most 24


@dataclass
class RecipeConfig:
    """How a network is trained.

    Every schedule is in fractions of `epochs`, so that one number rescales it.
    """

    name: str = word(NAME)
    epochs: int = number(8, 1, 100000)
    batch_size: int = number(64, 1, 65536)  # over all processes
    # Of an epoch: where there are few images, batches and learning rate become smaller for it.
    min_steps: int | None = number(None, 1, 65536)
    sizes: list[int] = number([224], 1, 2048)  # pixels a side of a training crop
    size_starts: list[float] = number([0.0], 0.0, 1.0)  # fraction of training at which each begins
    # Pixels a side of the val images that each epoch is measured on; none: those of its crops.
    val_size: int | None = number(None, 1, 2048)
    # Warp to 256/224 of the size and crop anywhere | a crop of random area and aspect.
    crop: str = choice("squash", "resized")
    crop_area: float = number(0.25, 0.01, 1.0)  # smallest share of the image in a `resized` crop
    mirror: bool = True
    optimizer: str = choice("sgd", "adamw")  # sgd: momentum 0.9
    lr: float = number(1e-3, 1e-8, 100.0)
    bias_lr: float = number(2.0, 0.0, 100.0)  # factor on the learning rate of biases
    new_lr: float = number(1.0, 0.0, 100.0)  # factor on that of the added head and the classifier
    # Of weights only, never of biases or of the parameters of batch norm.
    weight_decay: float = number(5e-4, 0.0, 10.0)
    schedule: str = choice("step", "cosine")  # ×0.1 at each milestone | to zero
    # Fractions of training; []: the learning rate stays as it is.
    milestones: list[float] = number([0.25, 0.5, 0.75], 0.0, 1.0)
    warmup: float = number(0.0, 0.0, 1.0)  # fraction of training in which the rate rises linearly
    label_smoothing: float = number(0.0, 0.0, 0.9)
    clip: float = number(0.0, 0.0, 1e6)  # largest gradient norm; 0: no clipping
    init: str = choice("pretrained", "he")  # keep what `weights` gives | scale every convolution
    batch_norm: str = choice("train", "frozen")  # frozen: running statistics kept
    compile: bool = False  # in place, CUDA only


@dataclass
class ProtocolConfig:
    """From an image to a scored box (view, boxes, scoring)."""

    name: str = word(NAME)
    view: str = "squash"  # what the network sees of an image: a key of the views
    # The devkit's errors | MaxBoxAcc, which tries every threshold | PxAP, its like for masks | the
    # pointing game | insertion, deletion, average drop, ROAD | cascading randomisation.
    metric: str = choice(
        "localization", "max_box_acc", "px_ap", "pointing", "faithfulness", "randomisation"
    )
    boxes: str = "paper"  # paper: one box a map | release: a loose and a tight one
    threshold: float | None = number(None, 0.0, 1.0)  # paper: of the map's maximum
    thresholds: list[int] | None = number(None, 0, 254)  # release: of 255, rising
    # Release: which boxes of which classes.
    guesses: str = choice("loose", "tight", "heuristics")
    # Release: the 8-bit map is a JPEG of quality 75 before it is boxed, as the authors' files were.
    jpeg: bool = False
    # max_box_acc: a record of another split, whose best thresholds are taken.
    thresholds_from: str | None = file()
    tolerance: float | None = number(None, 0.0, 10000.0)  # pointing: pixels from a box
    # Faithfulness: parts in which pixels come or go. Randomisation: numbers of random layers.
    steps: int | None = number(None, 2, 10**5)
    # Faithfulness: what stands in place of pixels; mean: ImageNet's mean colour.
    insertion_from: str | None = choice_or_none("blur", "mean", "black")
    deletion_to: str | None = choice_or_none("blur", "mean", "black")
    percentiles: list[int] | None = number(None, 1, 99)  # ROAD: percent of the pixels, rising
    images: int | None = number(None, 1, 10**7)  # of the split, drawn by a fixed seed; none: all
    resize: str = choice("bicubic", "bilinear")  # of the map, to the original pixels
    # Pixels a side of what the network sees; none: the network's own.
    size: int | None = number(None, 1, 2048)
    interpolation: str | None = choice_or_none("bilinear", "bicubic")  # none: the weights' own


@dataclass
class ReportConfig:
    """What `make report` shows."""

    # Of the gallery: how many, drawn by seed=, or a file with the name of an image a line.
    images: str = "60"
    # Folders of results/<data>/; none: model=, else every folder there.
    networks: list[str] = field(default_factory=list)
    # None: method=, else every method with results of these networks.
    methods: list[str] = field(default_factory=list)


@dataclass
class SvmConfig:
    """Linear classifiers on features, and which images they are trained and tested on (§4)."""

    # of each class so many, drawn, for training; none: the data set's own training split
    per_class: int | None = number(None, 1, 10**6)
    # of each class so many, drawn, for test; none: all that are not for training
    test_per_class: int | None = number(None, 1, 10**6)
    draws: int = number(10, 1, 1000)  # how often, where any are drawn; draw d by seed= and d
    scaling: str = choice("none", "l2")  # of a feature vector: as it is | divided by its length
    # rising; of several the best in cross-validation on the training images alone
    c: list[float] = number([1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0], 1e-12, 1e12)
    folds: int = number(3, 2, 1000)  # of the cross-validation
    # test images of the first draw whose maps and boxes are measured; none: all
    map_images: int | None = number(None, 0, 10**7)
    crops: bool = False  # of the first draw too: only what is inside of boxes (Table 4)
    crop_class: str = choice("answer", "truth")  # whose map crops a training image
    # Boxes of objects of any name in the images, in any format of data.boxes=, for Fig. 9.
    objects: str | None = word(PATH, None)
    tolerance: float = number(1e-5, 1e-15, 1.0)  # of the solver; LIBLINEAR's 0.01 is too loose


# Each command has a class of options, made of the classes that several commands share. A command
# refuses the options of others. Config has them all: Hydra composes it, and the work of every
# command is given it.

# Which data set.
DATA = ("name", "root", "layout", "lists", "boxes", "box_corners", "split", "get", "generate")
VIEW = ("name", "view", "size", "interpolation")  # what the network sees of an image
BOX = ("boxes", "threshold", "thresholds", "jpeg", "resize")  # how a map is boxed


def part(group: type | None, *keys: str) -> Any:
    """A group of settings, or none, of which a command reads these keys alone."""
    if group is None:
        return field(default=None, metadata={"only": keys})
    return field(default_factory=group, metadata={"only": keys})


@dataclass
class RunOptions:
    """A network: one that was trained, is to be trained, or is given by its weights."""

    model: ModelConfig | None = None
    name: str | None = word(NAME, None)  # of this run and its results; none: the network's name
    # A file, or a name: IMAGENET1K_V1; none: random, in evaluations what was trained.
    weights: str | None = file(r"\w+")
    runs: str = word(FOLDER, "runs")


@dataclass
class DataOptions:
    data: DataConfig = part(DataConfig, *DATA)


@dataclass
class SplitOptions(DataOptions):
    """A split of a data set, whose images are decoded in batches."""

    data: DataConfig = part(DataConfig, *DATA, "workers")
    cache: str = word(FOLDER, "cache")


@dataclass
class DeviceOptions:
    device: str = word(DEVICE, "auto")  # auto: CUDA where there is any
    deterministic: bool = False  # the same bits twice on the same machine


@dataclass
class ResultsOption:
    results: str = word(FOLDER, "results")


@dataclass
class SeedOption:
    seed: int = number(0, 0, 2**32 - 1)


@dataclass
class BatchSizeOption:
    eval_batch_size: int = number(32, 1, 65536)


@dataclass
class MethodOption:
    # None: cam; with protocol=all several. all: every method that the network can serve.
    method: str | None = None


@dataclass
class ShownClassOption:
    # Whose map is drawn: a name, a wnid or a number; also typed as class=. None: the best class.
    shown_class: str | None = None


@dataclass
class BlacklistOption:
    blacklist: str | None = file()  # the devkit's list of val images left out of localization


@dataclass
class GetDataOptions:
    data: DataConfig = part(DataConfig, *DATA, "download")


@dataclass
class CheckDataOptions(DataOptions):
    runs: str = word(FOLDER, "runs")


@dataclass
class TrainOptions(RunOptions, SplitOptions, DeviceOptions, SeedOption, BatchSizeOption):
    recipe: RecipeConfig = field(default_factory=RecipeConfig)


@dataclass
class ClassificationOptions(
    RunOptions, SplitOptions, DeviceOptions, ResultsOption, BatchSizeOption
):
    protocol: ProtocolConfig = part(ProtocolConfig, *VIEW)
    force: bool = False  # evaluate again what has not changed


@dataclass
class LocalizationOptions(ClassificationOptions, MethodOption, BlacklistOption):
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)


@dataclass
class FeaturesOptions(RunOptions, SplitOptions, DeviceOptions, SeedOption, BatchSizeOption):
    protocol: ProtocolConfig = part(ProtocolConfig, *VIEW)
    svm: SvmConfig = part(SvmConfig, "per_class", "test_per_class", "draws")


@dataclass
class CellsOptions(
    RunOptions, SplitOptions, DeviceOptions, ResultsOption, SeedOption, BatchSizeOption
):
    protocol: ProtocolConfig = part(ProtocolConfig, *VIEW, *BOX)


@dataclass
class SvmOptions(
    RunOptions, SplitOptions, DeviceOptions, ResultsOption, SeedOption, BatchSizeOption
):
    protocol: ProtocolConfig = part(ProtocolConfig, *VIEW, *BOX)
    svm: SvmConfig = field(default_factory=SvmConfig)


@dataclass
class TablesOptions(DataOptions, ResultsOption):
    protocol: ProtocolConfig = part(ProtocolConfig, "name")


@dataclass
class ReportOptions(
    RunOptions,
    SplitOptions,
    DeviceOptions,
    ResultsOption,
    SeedOption,
    BatchSizeOption,
    MethodOption,
):
    report: ReportConfig = field(default_factory=ReportConfig)


@dataclass
class FiguresOptions(
    RunOptions, SplitOptions, DeviceOptions, ResultsOption, SeedOption, ShownClassOption
):
    protocol: ProtocolConfig = part(ProtocolConfig, *VIEW, *BOX)
    report: ReportConfig = part(ReportConfig, "images")


@dataclass
class CurvesOptions(DataOptions, ResultsOption):
    model: ModelConfig | None = part(None, "name")
    name: str | None = word(NAME, None)
    runs: str = word(FOLDER, "runs")


@dataclass
class ScoreOptions(DataOptions, BlacklistOption):
    predictions: str | None = file()  # five guesses a line, or Kaggle's CSV
    maps: str | None = word(FOLDER, None)  # .npy maps of each image's true class, in their place
    kaggle: str | None = word(FILE, None)  # where the same guesses are written as such a CSV
    # What the numbers of the predictions count: evaluation/predictions.py.
    predictions_labels: str = choice("mapping", "imagenet", "devkit")
    devkit: str | None = file()  # the devkit's classes, `ILSVRC2012_ID wnid …` a line
    cache: str = word(FOLDER, "cache")


@dataclass
class CompareOptions:
    a: str | None = file()  # two localization results
    b: str | None = file()


@dataclass
class CamOptions(
    RunOptions, DataOptions, DeviceOptions, BatchSizeOption, MethodOption, ShownClassOption
):
    data: DataConfig = part(DataConfig, *DATA, "workers")
    protocol: ProtocolConfig = part(ProtocolConfig, *VIEW, *BOX)
    image: str | None = None  # an image, a folder of images or a pattern
    top: int = number(1, 1, 5)  # classes whose maps are drawn side by side
    # What is written: of each image its drawing, its maps or their masks; of all of them together
    # the classes and boxes, as JSON, CSV or COCO's detections.
    format: list[str] = choices(["png"], "png", "jpg", "npy", "mask", "json", "csv", "coco")
    # Of a map: that of its largest region above the threshold, or one of every region.
    boxes: str = choice("one", "all")
    out: str = word(FOLDER, "runs/cam")  # the folder of what is written


@dataclass
class ExportOptions(RunOptions, DataOptions):
    """Which training is published, or which file of another program."""


@dataclass
class ReleaseOptions(DataOptions, ResultsOption):
    best: int = number(3, 1, 100)  # networks, by GT-known
    runs: str = word(FOLDER, "runs")
    release: str = word(FOLDER, "release")


@dataclass
class WeightsOptions:
    model: ModelConfig | None = part(None, "name", "backbone")
    weights: str | None = file(r"\w+")


@dataclass
class RehearseOptions(DeviceOptions, SeedOption, BatchSizeOption):
    model: ModelConfig | None = None
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    data: DataConfig = part(DataConfig, "workers")
    cache: str = word(FOLDER, "cache")


@dataclass
class ReproduceOptions(DeviceOptions, ResultsOption, SeedOption, BatchSizeOption):
    """What may change in `make reproduce`: a training, its evaluations, tables and report."""

    model: ModelConfig | None = None
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    data: DataConfig = part(DataConfig, "root", "generate", "workers")
    report: ReportConfig = part(ReportConfig, "images")
    name: str | None = word(NAME, None)
    runs: str = word(FOLDER, "runs")
    cache: str = word(FOLDER, "cache")
    force: bool = False


@dataclass
class Config(
    TrainOptions,
    LocalizationOptions,
    ReportOptions,
    FiguresOptions,
    CamOptions,
    ScoreOptions,
    CompareOptions,
    SvmOptions,
    ReleaseOptions,
):
    """Every option there is, with every key of its group."""

    data: DataConfig = field(default_factory=DataConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    # Not an option: the keys that the command line set.
    typed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Command:
    """The options of a target of make, which runs the script of the same name.

    fixed: the choices that it always makes, which are therefore not options of it.
    """

    options: type
    fixed: tuple[str, ...] = ()


COMMANDS = {
    "data": Command(GetDataOptions),
    "check-data": Command(CheckDataOptions),
    "train": Command(TrainOptions),
    "eval-classification": Command(ClassificationOptions),
    "eval-localization": Command(LocalizationOptions),
    "tables": Command(TablesOptions),
    "report": Command(ReportOptions),
    "figures": Command(FiguresOptions),
    "curves": Command(CurvesOptions),
    "score": Command(ScoreOptions),
    "compare": Command(CompareOptions),
    "cam": Command(CamOptions),
    "export": Command(ExportOptions),
    "release": Command(ReleaseOptions),
    "weights": Command(WeightsOptions),
    "rehearse": Command(RehearseOptions, fixed=("data=ilsvrc",)),
    "reproduce": Command(ReproduceOptions, fixed=("data=shapes", "model=alexnet_gap")),
    "features": Command(FeaturesOptions),
    "svm": Command(SvmOptions),
    "cells": Command(CellsOptions),
}


def options_of(name: str) -> set[str]:
    """The dotted keys that a command's line may set, among them those of whole groups."""
    command = COMMANDS[name]
    keys = set(keys_of(command.options))
    if "recipe" in keys:
        keys.add("experiment")  # a file of configs/experiment is of a recipe
    return keys - {fixed.partition("=")[0] for fixed in command.fixed}


def folder_name(path: str | None) -> str:
    """The last part of a path, "folder" where there is none: `${folder_name:PATH}` in a file."""
    return Path(path or "folder").expanduser().resolve().name


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


def register_schema() -> None:
    """Make Hydra check every file and every override against the dataclasses above."""
    ConfigStore.instance().store(name="schema", node=Config)


def run_folder(config: Config, name: str | None = None) -> Path:
    """Where a training is kept: under the name of a run, else the configured or network's name."""
    name = name or config.name or config.model.name
    return Path(config.runs) / config.data.name / name


def names_in(group: str) -> list[str]:
    """What can be chosen of a folder of configs/."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def model_config(name: str, **changes: Any) -> ModelConfig:
    """The network of `configs/model/<name>.yaml` or of a library. Raises UserError."""
    if is_of_library(name):
        return stored_model(library_model(name), changes)
    check_choice("model", name, names_in("model"))
    return stored_model(OmegaConf.load(CONFIGS / "model" / f"{name}.yaml"), changes)


def is_of_library(name: str) -> bool:
    """Whether model= names a network by its name in timm or torchvision: `timm/resnet50`."""
    return name.partition("/")[0] in LIBRARIES and "/" in name


def library_model(name: str) -> dict[str, Any]:
    """The settings of a library's network as it is, as a file of configs/model has them.

    Its runs and results are in a folder `timm-resnet50`. Raises UserError, with the nearest names,
    where the library has no such network.
    """
    from cam_repro.networks.trunks import backbone  # torch, which no other setting needs

    return {
        "name": name.replace("/", "-"),
        "backbone": name,
        "native": True,
        "input_size": backbone(name).input_size,
    }


def offer_library_model(name: str) -> None:
    """Let Hydra take model=timm/resnet50 as if there were a file of it."""
    folder, _, file = name.rpartition("/")
    node = library_model(name)
    ConfigStore.instance().store(name=file, node=node, group=f"model/{folder}", package="model")


def typed_model(model: ModelConfig) -> str:
    """What chooses a network: model=timm/resnet50, or the name of its file."""
    of_library = is_of_library(model.backbone) and model.name == model.backbone.replace("/", "-")
    return f"model={model.backbone if of_library else model.name}"


def stored_model(*settings: Mapping[str, Any]) -> ModelConfig:
    """The network that settings from files describe; later settings count before earlier ones.

    Raises UserError.
    """
    return _typed(ModelConfig, "model.", *settings)


def check_typed_model(config: Config, trained: ModelConfig, source: str) -> None:
    """Raises UserError for a typed setting of the network that is not that of the trained one."""
    for key in config.typed:
        if not key.startswith("model."):
            continue
        setting = key.removeprefix("model.")
        asked = getattr(config.model, setting)
        own = getattr(trained, setting)
        if asked != own:
            advice = f"type protocol.size={asked}" if key == "model.input_size" else "leave it out"
            raise UserError(
                f"{key}={shown(asked)}: {source} was trained with {key}={shown(own)}; {advice}"
            )


# Protocol metrics that need many forward passes an image: protocol=all leaves them out.
COSTLY = ("faithfulness", "randomisation")
# Settings of ProtocolConfig -> the metrics that have them, and cannot do without.
OF_METRICS = {
    "tolerance": ("pointing",),
    "steps": COSTLY,
    "insertion_from": ("faithfulness",),
    "deletion_to": ("faithfulness",),
    "percentiles": ("faithfulness",),
}


@cache
def written_protocols() -> dict[str, ProtocolConfig]:
    """Every protocol of configs/protocol but `all`, by name."""
    protocols = {}
    for name in names_in("protocol"):
        if name != "all":
            written = OmegaConf.load(CONFIGS / f"protocol/{name}.yaml")
            protocols[name] = _typed(ProtocolConfig, "protocol.", written)
    return protocols


@cache
def written_recipe(name: str) -> RecipeConfig:
    """The recipe of configs/recipe/<name>.yaml, which may begin with that of another."""
    written = OmegaConf.load(CONFIGS / f"recipe/{name}.yaml")
    bases = [base for base in written.pop("defaults", []) if base != "_self_"]
    begins_with = [asdict(written_recipe(base)) for base in bases]
    return _typed(RecipeConfig, "recipe.", *begins_with, written)


def protocols_of(protocol: ProtocolConfig) -> list[ProtocolConfig]:
    """The protocol, or for `all` every other one with the `size` and `interpolation` of `all`.

    Those of the costly metrics are not among them.
    """
    if protocol.name != "all":
        return [protocol]
    shown_by = {"size": protocol.size, "interpolation": protocol.interpolation}
    every = written_protocols().values()
    return [replace(written, **shown_by) for written in every if written.metric not in COSTLY]


def validated(raw: DictConfig) -> Config:
    """The typed configuration.

    Raises UserError of one line: the option, what was found, what is allowed.
    """
    config: Config = _typed(Config, "", raw)
    _check_recipe(config.recipe)
    _check_protocol(config.protocol)
    return config


def _typed(schema: type, prefix: str, *settings: Mapping[str, Any] | DictConfig) -> Any:
    """Settings over the schema's defaults, each of its type and in its range.

    prefix: what stands before their names in messages.
    """
    try:
        plain = []
        for given in settings:
            made = OmegaConf.create(given)
            plain.append(OmegaConf.to_container(made, throw_on_missing=True))
        typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), *plain))
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(explained(error, prefix)) from None
    _check_values(typed, prefix)
    return typed


def explained(error: Exception, prefix: str = "") -> str:
    """What Hydra or OmegaConf refused, in one line; `prefix` stands before the option's name."""
    if isinstance(error, OverrideParseException):
        return (
            f"{shown(error.override)} is not key=value, or its value needs quotes of its own: "
            "'key=\"value\"'"
        )
    cause = error.__cause__ or error
    if not isinstance(cause, OmegaConfBaseException):
        return " ".join(str(error).split())
    option = f"{prefix}{cause.full_key or ''}"
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        near = did_you_mean(option, [*keys_of(Config)])
        return f"unknown option {shown(option)}; {near}see --help"
    typed = option if cause is error else str(error).removeprefix("Error merging override ")
    return f"{typed}: {str(cause).splitlines()[0]}"


def keys_of(schema: type, prefix: str = "") -> dict[str, Any]:
    """Every dotted key of a dataclass of dataclasses → its type; of a `part` only what it names.

    The keys of optional groups are among them.
    """
    keys = {}
    types = get_type_hints(schema)
    for setting in fields(schema):
        kind = types[setting.name]
        keys[prefix + setting.name] = kind
        only = setting.metadata.get("only")
        for group in (kind, *get_args(kind)):
            inner = keys_of(group) if is_dataclass(group) else {}
            for key, of_key in inner.items():
                if only is None or key.partition(".")[0] in only:
                    keys[f"{prefix}{setting.name}.{key}"] = of_key
    return keys


def _check_values(settings: Any, prefix: str) -> None:
    """Raises UserError for a value that its declaration does not allow.

    None is right wherever its type allows it. A path's ~ is written out, which no shell does in
    data.root=~/pets.
    """
    for setting in fields(settings):
        option = prefix + setting.name
        value = getattr(settings, setting.name)
        if is_dataclass(value):
            _check_values(value, f"{option}.")
        if value is None:
            continue
        if isinstance(value, str) and value.startswith("~"):
            value = str(Path(value).expanduser())
            setattr(settings, setting.name, value)
        _check_value(option, value, setting.metadata)


def _check_value(option: str, value: Any, allowed: Mapping[str, Any]) -> None:
    """allowed: the metadata of a setting, as the functions at the top of this file write it."""
    if "file" in allowed:
        # os.path takes any text, where Path refuses some.
        is_file = os.path.isfile(value)  # noqa: PTH113
        if not is_file and not re.fullmatch(allowed["file"], value):
            raise UserError(
                f"{option}={shown(value)} is not a file; give the path of one that is there"
            )
    if "choices" in allowed:
        for one in value if isinstance(value, list) else [value]:
            check_choice(option, one, allowed["choices"])
    if "form" in allowed:
        form, advice = allowed["form"]
        if not re.fullmatch(form, value):
            raise UserError(f"{option}={shown(value)} is not allowed; {advice}")
    if "range" in allowed:
        low, high = allowed["range"]
        for one in value if isinstance(value, list) else [value]:
            # Written so that NaN is out of range too.
            if not isinstance(one, int | float) or not low <= one <= high:
                raise UserError(
                    f"{option}={shown(value)} is out of range; it must lie between {low} and {high}"
                )


def _check_recipe(recipe: RecipeConfig) -> None:
    sizes = recipe.sizes
    starts = recipe.size_starts
    if len(sizes) != len(starts) or starts[:1] != [0] or not _rises([*starts, 1]):
        raise UserError(
            f"recipe.sizes={shown(sizes)} recipe.size_starts={shown(starts)}: one start for each "
            "size is needed, the first 0, each above the last and below 1"
        )
    milestones = recipe.milestones
    if not _rises([0, *milestones, 1]):
        raise UserError(f"recipe.milestones={shown(milestones)} must rise and lie between 0 and 1")


def _rises(numbers: list[float]) -> bool:
    """Whether each number is above the one before it."""
    return numbers == sorted(set(numbers))


def _check_protocol(protocol: ProtocolConfig) -> None:
    boxes = protocol.boxes
    shown_by = {"size": protocol.size, "interpolation": protocol.interpolation}
    unset = ProtocolConfig(name=protocol.name, **shown_by)
    if protocol.name == "all":
        for key, value in asdict(protocol).items():
            if value != getattr(unset, key):
                raise UserError(
                    f"protocol=all runs each protocol as written; leave protocol.{key}= out, "
                    "or name one"
                )
        return
    rules = {"threshold": "paper", "thresholds": "release", "guesses": "release", "jpeg": "release"}
    for key, rule in rules.items():
        value = getattr(protocol, key)
        if protocol.metric != "localization":
            if value != getattr(unset, key):
                why = f"protocol.metric={protocol.metric} draws none"
                raise UserError(f"protocol.{key}={shown(value)} is about boxes, and {why}")
            continue
        if boxes != rule and value != getattr(unset, key):
            raise UserError(
                f"protocol.{key}={shown(value)} needs protocol.boxes={rule}, not {boxes}"
            )
        if boxes == rule and value is None:
            raise UserError(f"protocol.boxes={boxes} needs protocol.{key}=")
    for key, metrics in OF_METRICS.items():
        value = getattr(protocol, key)
        if value is not None and protocol.metric not in metrics:
            raise UserError(
                f"protocol.{key}={shown(value)} is of protocol.metric={' or '.join(metrics)}, "
                f"not {protocol.metric}"
            )
        if value is None and protocol.metric in metrics:
            raise UserError(f"protocol.metric={protocol.metric} needs protocol.{key}=")
    for key in ("thresholds", "percentiles"):
        levels = getattr(protocol, key)
        if levels is not None and not (levels and _rises(levels)):
            raise UserError(f"protocol.{key}={shown(levels)} must be one or more and rise")
    if protocol.thresholds_from is not None and protocol.metric != "max_box_acc":
        raise UserError(
            f"protocol.thresholds_from= is of protocol.metric=max_box_acc, not {protocol.metric}: "
            "choose protocol=wsol"
        )
    if protocol.metric != "localization" and protocol.view != "squash":
        raise UserError(
            f"protocol.metric={protocol.metric} is defined on protocol.view=squash, "
            f"not {protocol.view}"
        )
