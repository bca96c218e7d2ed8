"""Every setting, its type and its range, checked before anything heavy is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cam_repro import UserError
from cam_repro.agreement import check_agreement, check_model
from cam_repro.mistakes import did_you_mean, in_one_line, keys_of, shown, unknown_option

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = REPOSITORY / "configs"


@dataclass
class ModelConfig:
    """A network: a backbone cut at its last wanted maps, and the head put on it (Zhou et al. 2016, §3)."""

    name: str = MISSING
    backbone: str = MISSING  # a key of networks.trunks.BACKBONES
    native: bool = False  # keep the backbone whole, with its own classifier: no surgery, no added convolution
    units: int = 1024  # of the added 3×3 convolution
    groups: int = 1  # 1: the paper's text; 2: the authors' release
    pool: str = "average"  # average (GAP) | max (GMP)
    dropout: float = 0.0  # on the pooled vector; the release: 0.5 for VGG and AlexNet*
    conv_init: str = "he"  # he | gaussian (standard deviation 0.01: the release)
    conv_bias: float = 0.0  # initial bias of the added convolution; the release: 1 for GoogLeNet
    input_size: int = 224  # pixels a side at evaluation


@dataclass
class GenerateConfig:
    """The built-in data set: how many pictures, from which seed."""

    seed: int = 0
    train: int = 2000
    val: int = 500


@dataclass
class DownloadConfig:
    """Where `make data` gets a data set from: archives by address, with what they must be (sha256 or md5 in hex)."""

    images: str = MISSING  # address of the archive of pictures, one folder a class
    images_checksum: str = MISSING  # "md5:…" or "sha256:…"
    boxes: str = MISSING  # address, or a file already here, of ILSVRC's val annotations (XMLs)
    boxes_checksum: str | None = None


@dataclass
class DataConfig:
    """A data set on the disk."""

    name: str = MISSING  # names the data set in runs/ and results/
    root: str | None = None
    get: str = ""  # one line: how to come by the data
    layout: str = "ilsvrc"  # how it lies on the disk: a key of data.LAYOUTS
    synset_mapping: str | None = None  # the network's class order, if not the tree's own
    generate: GenerateConfig | None = None  # made on first use
    download: DownloadConfig | None = None  # for `make data`
    workers: int | None = None  # decoding processes; none: one per core, at most 24


@dataclass
class RecipeConfig:
    """How a network is trained; every schedule is a fraction of `epochs`, so that one number rescales it."""

    name: str = MISSING
    epochs: int = 8
    batch_size: int = 64  # over all processes
    sizes: list[int] = field(default_factory=lambda: [224])  # pixels a side of a training crop
    size_starts: list[float] = field(default_factory=lambda: [0.0])  # fraction of training at which each begins
    crop: str = "squash"  # squash: warp to 256/224 of the size, crop anywhere | resized: random area and aspect
    crop_area: float = 0.25  # smallest share of the picture in a `resized` crop
    mirror: bool = True
    optimizer: str = "sgd"  # sgd (momentum 0.9) | adamw
    lr: float = 1e-3
    bias_lr: float = 2.0  # factor on the learning rate of biases
    weight_decay: float = 5e-4  # weights only, never biases or batch-norm parameters
    schedule: str = "step"  # step: ×0.1 at each milestone | cosine: to zero
    milestones: list[float] = field(default_factory=lambda: [0.25, 0.5, 0.75])  # fractions of training; []: constant
    warmup: float = 0.0  # fraction of training with a linearly rising learning rate
    label_smoothing: float = 0.0
    clip: float = 0.0  # largest gradient norm; 0: no clipping
    init: str = "pretrained"  # pretrained: keep what `weights` or torchvision gives | he: scale every convolution
    batch_norm: str = "train"  # train | frozen (running statistics kept)
    compile: bool = False  # in place, CUDA only


@dataclass
class ProtocolConfig:
    """From a picture to a scored box (view, boxes, scoring)."""

    name: str = MISSING
    view: str = "squash"  # squash | center_crop | ten_crop (summed, as released) | ten_crop_averaged
    boxes: str = "paper"  # paper: one box a map | release: a loose and a tight one | sweep: every threshold (MaxBoxAcc)
    threshold: float | None = None  # paper: of the map's maximum
    thresholds: list[int] | None = None  # release: of 255, rising
    guesses: str = "loose"  # which boxes of which classes: loose | tight | heuristics (release only)
    resize: str = "bicubic"  # of the map, to the original pixels
    size: int | None = None  # pixels a side of what the network sees; none: the network's own


@dataclass
class Config:
    model: ModelConfig | None = None
    data: DataConfig = field(default_factory=DataConfig)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    weights: str | None = None  # IMAGENET1K_V1 | a file | none: random, or at evaluation the trained checkpoint
    method: str | None = None  # none: cam; with protocol=all every one that the network can serve
    seed: int = 0
    deterministic: bool = False  # the same bits twice on the same machine
    device: str = "auto"  # auto: CUDA where there is any | cpu | cuda | cuda:1
    eval_batch_size: int = 64
    blacklist: str | None = None  # the devkit's file of val images left out of localization
    runs: str = "runs"
    results: str = "results"
    cache: str = "cache"
    image: str | None = None  # the picture of `make cam`
    predictions: str | None = None  # the file that `make score` scores
    force: bool = False  # evaluate again what has not changed


def register_schema() -> None:
    """Make Hydra check every file and every override against the dataclasses above.

    `${folder_name:PATH}` in a file is the last part of a path, "folder" where there is none.
    """
    ConfigStore.instance().store(name="schema", node=Config)
    OmegaConf.register_new_resolver("folder_name", lambda path: Path(path or "folder").resolve().name, replace=True)


CHOICES = {
    "model.pool": ("average", "max"),
    "model.conv_init": ("he", "gaussian"),
    "recipe.crop": ("squash", "resized"),
    "recipe.optimizer": ("sgd", "adamw"),
    "recipe.schedule": ("step", "cosine"),
    "recipe.init": ("pretrained", "he"),
    "recipe.batch_norm": ("train", "frozen"),
    "protocol.view": ("squash", "center_crop", "ten_crop", "ten_crop_averaged"),
    "protocol.boxes": ("paper", "release", "sweep"),
    "protocol.guesses": ("loose", "tight", "heuristics"),
    "protocol.resize": ("bicubic", "bilinear"),
    "method": ("cam", "gradcam", "backprop", "backprop_sum"),
}
RANGES = {  # of every number, and of each number in a list
    "model.units": (1, 65536),
    "model.groups": (1, 65536),
    "model.dropout": (0.0, 0.99),
    "model.conv_bias": (-100.0, 100.0),
    "model.input_size": (1, 2048),
    "recipe.epochs": (1, 100000),
    "recipe.batch_size": (1, 65536),
    "recipe.sizes": (1, 2048),
    "recipe.size_starts": (0.0, 1.0),
    "recipe.crop_area": (0.01, 1.0),
    "recipe.lr": (1e-8, 100.0),
    "recipe.bias_lr": (0.0, 100.0),
    "recipe.weight_decay": (0.0, 10.0),
    "recipe.milestones": (0.0, 1.0),
    "recipe.warmup": (0.0, 1.0),
    "recipe.label_smoothing": (0.0, 0.9),
    "recipe.clip": (0.0, 1e6),
    "protocol.size": (1, 2048),
    "protocol.threshold": (0.0, 1.0),
    "protocol.thresholds": (0, 254),
    "data.workers": (0, 256),
    "data.generate.seed": (0, 2**32 - 1),
    "data.generate.train": (1, 10**6),
    "data.generate.val": (1, 10**5),
    "seed": (0, 2**32 - 1),
    "eval_batch_size": (1, 65536),
}
NAME = (r"\w[\w.+-]*", "it names a folder or file: letters, digits, and . _ + - between them")
FOLDER = (r"[^\0]+", "give a folder")
FORMS = {  # regular expression of the whole value, and what it says
    "model.name": NAME,
    "data.name": NAME,
    "recipe.name": NAME,
    "protocol.name": NAME,
    "device": (r"auto|cpu|cuda(:\d{1,3})?", "choose auto, cpu, cuda or cuda:<number>"),
    "runs": FOLDER,
    "results": FOLDER,
    "cache": FOLDER,
}


def validated(raw: DictConfig, makes_maps: bool = False) -> Config:
    """The typed configuration; a UserError of one line names the key, what was found and what is allowed.

    makes_maps: the work draws class maps, so that the default method must suit the network.
    """
    try:
        _check_keys(raw)
        config: Config = OmegaConf.to_object(raw)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise UserError(in_one_line(error, keys_of(Config))) from None
    settings = _flat(asdict(config))
    for key, value in settings.items():
        _check_value(key, value)
    check_agreement(config, makes_maps)
    return config


def _check_keys(raw: DictConfig) -> None:
    """Hydra lets unknown keys in with a plus, and values out with `???`."""
    known = keys_of(Config)
    for key in _flat(OmegaConf.to_container(raw, resolve=False)):  # type: ignore[arg-type]
        if key not in known:
            raise UserError(unknown_option(key, known))
    if missing := sorted(OmegaConf.missing_keys(raw)):
        raise UserError(f"{missing[0]} has no value; type {missing[0]}=…")


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key → value."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _check_value(key: str, value: Any) -> None:
    """A value by itself: one of its choices, in its range, of its form; none is right wherever its type allows it."""
    if value is None:
        return
    if key in CHOICES and value not in CHOICES[key]:
        near, allowed = did_you_mean(value, CHOICES[key]), ", ".join(CHOICES[key])
        raise UserError(f"{key}={shown(value)} is unknown; {near}choose one of: {allowed}")
    if key in FORMS and not re.fullmatch(FORMS[key][0], value):
        raise UserError(f"{key}={shown(value)} is not allowed; {FORMS[key][1]}")
    if key in RANGES:
        for number in value if isinstance(value, list) else [value]:
            _check_number(key, value, number)


def _check_number(key: str, value: Any, number: Any) -> None:
    low, high = RANGES[key]
    whole = isinstance(low, int)
    if isinstance(number, bool) or not isinstance(number, int if whole else int | float):
        raise UserError(f"{key}={shown(value)}: expected {'whole numbers' if whole else 'numbers'} in one list")
    if not low <= number <= high:  # nor is NaN
        raise UserError(f"{key}={shown(value)} is out of range; it must lie between {low} and {high}")


def protocols_of(protocol: ProtocolConfig) -> list[ProtocolConfig]:
    """The protocol itself, or for `all` every other one of configs/protocol, with the same `size`."""
    if protocol.name != "all":
        return [protocol]
    names = sorted(path.stem for path in (CONFIGS / "protocol").glob("*.yaml") if path.stem != "all")
    return [_protocol_config(name, protocol.size) for name in names]


def _protocol_config(name: str, size: int | None) -> ProtocolConfig:
    known = OmegaConf.merge(OmegaConf.structured(ProtocolConfig), _protocol_file(name), {"size": size})
    return OmegaConf.to_object(known)  # type: ignore[return-value]


def _protocol_file(name: str) -> DictConfig:
    """A protocol's own lines over those of the protocols it builds on; Hydra is busy with the command line."""
    file = OmegaConf.load(CONFIGS / "protocol" / f"{name}.yaml")
    bases = [_protocol_file(base) for base in file.pop("defaults", []) if base != "_self_"]
    return OmegaConf.merge(*bases, file)  # type: ignore[return-value]


def model_names() -> list[str]:
    return sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))


def model_config(name: str, **changes: Any) -> ModelConfig:
    """The network of `configs/model/<name>.yaml`."""
    if name not in model_names():
        near = did_you_mean(name, model_names())
        raise UserError(f"unknown model {name!r}; {near}choose one of: {', '.join(model_names())}")
    return stored_model(OmegaConf.load(CONFIGS / "model" / f"{name}.yaml"), changes)


def stored_model(*settings: Mapping[str, Any]) -> ModelConfig:
    """The network that settings from a file describe, the later ones over the earlier. Raises UserError."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(ModelConfig), *settings)
        model: ModelConfig = OmegaConf.to_object(merged)  # type: ignore[assignment]
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(f"model: {in_one_line(error, keys_of(ModelConfig))}") from None
    for key, value in asdict(model).items():
        _check_value(f"model.{key}", value)
    check_model(model)
    return model
