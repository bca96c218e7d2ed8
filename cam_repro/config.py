"""Every setting, its type and its range, checked before anything heavy is imported."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from cam_repro import UserError

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = REPOSITORY / "configs"


@dataclass
class ModelConfig:
    """A network: a backbone cut at its last wanted maps, and the head put on it (§3, PROTOCOL names)."""

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
    timeout: float = 30.0  # seconds without an answer before a try is given up
    tries: int = 5


@dataclass
class DataConfig:
    """A tree in ILSVRC's CLS-LOC layout."""

    name: str = MISSING  # names the data set in runs/ and results/
    root: str | None = None
    get: str = ""  # one line: how to come by the data
    synset_mapping: str | None = None  # the network's class order, if not the tree's own
    generate: GenerateConfig | None = None  # made on first use
    download: DownloadConfig | None = None  # for `make data`
    workers: int | None = None  # decoding processes; none: one per core, at most 16


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
    milestones: list[float] = field(default_factory=lambda: [0.25, 0.5, 0.75])
    warmup: float = 0.0  # fraction of training with a linearly rising learning rate
    label_smoothing: float = 0.0
    clip: float = 0.0  # largest gradient norm; 0: no clipping
    init: str = "pretrained"  # pretrained: keep what `weights` or torchvision gives | he: scale every convolution
    batch_norm: str = "train"  # train | frozen (running statistics kept)
    compile: bool = False  # in place, CUDA only


@dataclass
class ProtocolConfig:
    """From a picture to a scored box (PROTOCOL: views, boxes, scoring)."""

    name: str = MISSING
    view: str = "squash"  # squash | center_crop | ten_crop (summed, as released) | ten_crop_averaged
    boxes: str = "paper"  # paper: one box a map | release: a loose and a tight one | sweep: every threshold (MaxBoxAcc)
    threshold: float | None = None  # paper: of the map's maximum
    thresholds: list[int] | None = None  # release: of 255
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
    device: str = "auto"
    eval_batch_size: int = 64
    blacklist: str | None = None  # the devkit's file of val images left out of localization
    runs: str = "runs"
    results: str = "results"
    cache: str = "cache"
    image: str | None = None  # the picture of `make cam`
    predictions: str | None = None  # the file that `make score` scores
    force: bool = False  # evaluate again what has not changed


def register_schema() -> None:
    """Make Hydra check every file and every override against the dataclasses above."""
    ConfigStore.instance().store(name="schema", node=Config)


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
RANGES = {
    "model.units": (1, 65536),
    "model.groups": (1, 1024),
    "model.dropout": (0.0, 0.99),
    "model.input_size": (32, 2048),
    "recipe.epochs": (1, 100000),
    "recipe.batch_size": (1, 65536),
    "recipe.crop_area": (0.01, 1.0),
    "recipe.lr": (1e-8, 100.0),
    "recipe.bias_lr": (0.0, 100.0),
    "recipe.weight_decay": (0.0, 10.0),
    "recipe.warmup": (0.0, 1.0),
    "recipe.label_smoothing": (0.0, 0.9),
    "recipe.clip": (0.0, 1e6),
    "protocol.size": (32, 2048),
    "protocol.threshold": (0.0, 1.0),
    "data.download.timeout": (0.1, 3600.0),
    "data.download.tries": (1, 100),
    "eval_batch_size": (1, 65536),
    "data.workers": (0, 256),
    "data.generate.train": (1, 10**6),
    "data.generate.val": (1, 10**5),
}


def validated(raw: DictConfig) -> Config:
    """The typed configuration, or a UserError naming the key, the value and what is allowed."""
    for key, allowed in CHOICES.items():
        value = OmegaConf.select(raw, key)
        if value is not None and value not in allowed:
            raise UserError(f"{key}={value} is unknown; choose one of: {', '.join(allowed)}")
    for key, (low, high) in RANGES.items():
        value = OmegaConf.select(raw, key)
        if value is not None and not low <= value <= high:
            raise UserError(f"{key}={value} is out of range; it must lie between {low} and {high}")
    config: Config = OmegaConf.to_object(raw)  # type: ignore[assignment]
    _check_agreement(config)
    return config


def _check_agreement(config: Config) -> None:
    """Settings that are right alone but not together."""
    recipe = config.recipe
    if len(recipe.sizes) != len(recipe.size_starts) or not recipe.sizes:
        raise UserError(
            f"recipe.sizes={recipe.sizes} and recipe.size_starts={recipe.size_starts} must be lists of one length"
        )
    if recipe.size_starts[0] != 0 or recipe.size_starts != sorted(recipe.size_starts):
        raise UserError(f"recipe.size_starts={recipe.size_starts} must begin with 0 and rise")
    if min(recipe.sizes) < 32:
        raise UserError(f"recipe.sizes={recipe.sizes}: a training crop needs 32 pixels a side at least")
    if config.model:
        _check_model(config.model)
    (_check_all if config.protocol.name == "all" else _check_protocol)(config.protocol)


def _check_protocol(protocol: ProtocolConfig) -> None:
    takes = {"paper": "threshold", "release": "thresholds", "sweep": None}[protocol.boxes]
    for key in ("threshold", "thresholds"):
        given = getattr(protocol, key) is not None
        if given != (key == takes):
            needs = "needs" if key == takes else "takes no"
            raise UserError(f"protocol.boxes={protocol.boxes} {needs} protocol.{key}=")
    if protocol.boxes != "release" and protocol.guesses != "loose":
        raise UserError(f"protocol.guesses={protocol.guesses} needs protocol.boxes=release, which has a tight box too")
    if protocol.boxes == "sweep" and protocol.view != "squash":
        raise UserError(f"protocol.boxes=sweep (MaxBoxAcc) is defined on protocol.view=squash, not {protocol.view}")


def _check_all(protocol: ProtocolConfig) -> None:
    """protocol=all stands for the others as they are, but for the size of what the network sees."""
    changed = [key for key, value in asdict(protocol).items() if value != getattr(ProtocolConfig, key, None)]
    if given := [key for key in changed if key not in ("name", "size")]:
        raise UserError(f"protocol=all runs every protocol as written; leave protocol.{given[0]}= out, or name one")


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


def _check_model(model: ModelConfig) -> None:
    if model.units % model.groups:
        raise UserError(f"model.groups={model.groups} does not divide model.units={model.units}")
    for key in ("units", "groups", "conv_init", "conv_bias"):
        if model.native and getattr(model, key) != getattr(ModelConfig, key):
            raise UserError(
                f"model.{key}={getattr(model, key)} sets an added convolution, which model.native=true of {model.name} "
                "does not have; leave one of them out"
            )


def model_names() -> list[str]:
    return sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))


def model_config(name: str, **changes: Any) -> ModelConfig:
    """The network of `configs/model/<name>.yaml`."""
    if name not in model_names():
        raise UserError(f"unknown model {name!r}; choose one of: {', '.join(model_names())}")
    file = OmegaConf.load(CONFIGS / "model" / f"{name}.yaml")
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ModelConfig), file, changes))  # type: ignore
