"""Commands as messages propose them: complete, so that they can be typed as they stand."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cam_repro.config import CONFIGS, Config, DataConfig, GenerateConfig, names_in, typed_model
from cam_repro.option_errors import as_typed


def typed_data(data: DataConfig) -> str:
    """What chooses this data set: `data=shapes`, `data=folder data.root=/home/me/pets`.

    It names the file of configs/data that describes it best, and each setting in which it differs
    from that file.
    """
    files = {name: _of_file(name, data.root) for name in names_in("data")}
    alike = [name for name, written in files.items() if _kind(written) == _kind(data)]
    choice = "ilsvrc"
    if data.name in alike:
        choice = data.name
    elif alike:
        choice = alike[0]
    words = [f"data={choice}"]
    written = _settings(files[choice])
    for key, value in _settings(data).items():
        if value != written.get(key):
            words.append(typed(f"data.{key}", value))
    return " ".join(words)


def train_command(config: Config) -> str:
    """What trains the configured run, or AlexNet-GAP where no network is named."""
    model = typed_model(config.model) if config.model else "model=alexnet_gap"
    words = [f"make train {model}"]
    for key in config.typed:
        if key.startswith("model."):
            words.append(typed(key, getattr(config.model, key.removeprefix("model."))))
    words.append(typed_data(config.data))
    if config.name is not None:
        words.append(typed("name", config.name))
    if config.runs != Config.runs:
        words.append(typed("runs", config.runs))
    return " ".join(words)


def typed(key: str, value: Any) -> str:
    """An option, quoted for the shell where that is needed."""
    return shlex.quote(f"{key}={as_typed(value)}")


def _of_file(name: str, root: str | None) -> DataConfig:
    """The data set of `configs/data/<name>.yaml`, named as it would be at `root`."""
    content = OmegaConf.load(CONFIGS / "data" / f"{name}.yaml")
    data = content.get("data", content)
    usual_root = data.root and str(Path(data.root).expanduser())
    data.root = root
    return DataConfig(
        name=data.name,
        root=usual_root,
        layout=data.get("layout", DataConfig.layout),
        generate=GenerateConfig(**data.generate) if "generate" in data else None,
        download=data.get("download"),
    )


def _kind(data: DataConfig) -> tuple[str, bool, bool]:
    """How it lies on the disk, and whether it is made or downloaded."""
    return data.layout, data.generate is None, data.download is None


def _settings(data: DataConfig) -> dict[str, Any]:
    """Dotted key → value of what tells one data set from others."""
    settings = {"name": data.name, "root": data.root, "layout": data.layout}
    usual = {"split": DataConfig.split, "lists": None, "boxes": None, "box_corners": None}
    for key, value in usual.items():
        if getattr(data, key) != value:
            settings[key] = getattr(data, key)
    if data.generate is not None:
        for key, value in asdict(data.generate).items():
            settings[f"generate.{key}"] = value
    return settings
