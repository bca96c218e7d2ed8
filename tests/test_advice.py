"""What a message or a page tells people to type can be typed as it stands."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command_line import asked_by, run, target_and_options
from conftest import REPOSITORY

from cam_repro import UserError
from cam_repro.advice import train_command, typed_data
from cam_repro.config import CONFIGS, Config, DataConfig, GenerateConfig, keys_of
from cam_repro.evaluation.spec import localization_specs
from cam_repro.evaluation.trained import load_trained, trained_runs
from cam_repro.networks import build_network
from cam_repro.reporting.gallery import chosen_results
from cam_repro.reporting.plots import draw_curves
from cam_repro.reporting.results import read_record
from scripts.export import main as export_weights
from scripts.tables import main as make_tables

# Options whose value must be a file
FILES = ("a", "b", "predictions", "devkit", "blacklist", "weights")
# A command ends where its options do, each of which may be quoted, whole or in part.
PART = r"""(?:'[^'\n]*'|"[^"\n]*"|[^\s'"`<])"""
COMMAND = re.compile(rf"\bmake [a-z][a-z-]*(?: (?='?[\w.]+=){PART}+)*")
# What stands in the braces of a message, and a value that it may have.
EXAMPLES = {
    "typed_data(config.data)": "data=folder data.root=pets",
    "typed('weights', source)": "weights=DEFAULT",
    "typed_model(model)": "model=vgg_gap",
    "model": "model=vgg_gap",
    "model.name": "vgg_gap",
    "kind": "localization",
    "name": "train",
    "whole": "train",
    "other": "train",
    "results": "a=one.json b=two.json",
}
PROSE = {"make it", "make than"}  # no commands


def commands_in(text: str) -> Iterator[str]:
    for found in COMMAND.findall(text):
        if found not in PROSE:
            yield found.rstrip(",.;:")


# What the code says


def texts_of(path: Path) -> Iterator[str]:
    """Every text of a source file.

    Of an f-string the code in its braces, as an example's value where there is one.
    """
    tree = ast.parse(path.read_text())
    within = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = ""
            for part in node.values:
                if isinstance(part, ast.Constant):
                    text += part.value
                else:
                    source = ast.unparse(part.value)
                    text += EXAMPLES.get(source, f"NO_EXAMPLE={source}")
            yield text
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in within
        ):
            yield node.value


SOURCES = [*REPOSITORY.glob("cam_repro/**/*.py"), *REPOSITORY.glob("scripts/*.py")]


def test_every_command_in_the_code_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it fails for a new message: a value in braces needs an example above.

    A data set needs `typed_data`.
    """
    monkeypatch.chdir(tmp_path)
    lines = {line for path in SOURCES for text in texts_of(path) for line in commands_in(text)}
    for page in REPOSITORY.glob("cam_repro/reporting/page/*.html"):
        lines |= {*commands_in(page.read_text())}
    assert len(lines) > 15
    for line in sorted(lines):
        target, options = target_and_options(line)
        if target == "bench":  # which is no command of ours with a configuration
            continue
        for word in options:
            key, _, value = word.partition("=")
            if key in FILES:
                Path(value).parent.mkdir(parents=True, exist_ok=True)
                Path(value).touch()
        if options:
            asked_by(line)


def test_every_option_that_a_refusal_names_is_one() -> None:
    known = {*keys_of(Config), "class"}
    refusals = 0
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and "UserError" in ast.unparse(node):
                refusals += 1
                text = " ".join(part.value for part in ast.walk(node) if is_text(part))
                for key in re.findall(r"(?<![\w.-])[a-z]\w*(?:\.\w+)*(?==)", text):
                    assert key in known, f"{path}: {key}= is no option: {text}"
    assert refusals > 80


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


# What the pages say


def commands_of_page(path: Path) -> Iterator[str]:
    """Those in backticks, and the lines of code that begin with make."""
    text = path.read_text()
    yield from re.findall(r"`(make [^`]+)`", text)
    yield from re.findall(r"^(make [^\n]+)", text, re.MULTILINE)


def test_every_command_of_the_pages_can_be_typed() -> None:
    """`model=…` stands for any network."""
    pages = [
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        *REPOSITORY.glob("docs/*.md"),
    ]
    lines = {line for path in pages for line in commands_of_page(path)}
    for path in [
        *REPOSITORY.glob("configs/**/*.yaml"),
        REPOSITORY / "Makefile",
        *REPOSITORY.glob("docs/slurm/*"),
    ]:
        lines |= {line for line in commands_in(path.read_text()) if "=" in line}
    assert len(lines) > 40
    for line in sorted(lines):
        target_and_options(line.replace("model=…", "model=vgg_gap").replace("\\|", "|"))


# What is said when it is said


GENERATED = GenerateConfig(seed=2, train=60)
DATA_SETS = {
    "data=shapes": DataConfig("shapes", root="data/shapes", generate=GenerateConfig()),
    "data=shapes data.root=/few data.generate.seed=2 data.generate.train=60": DataConfig(
        "shapes", "/few", generate=GENERATED
    ),
    "data=ilsvrc data.name=cub data.root=/cub": DataConfig("cub", "/cub"),
    "data=folder data.root=/home/pets": DataConfig("pets", "/home/pets", layout="folder"),
    "data=folder data.root=/home/shapes": DataConfig("shapes", "/home/shapes", layout="folder"),
    "data=folder 'data.root=/my cats/a,b=c&d/pets'": DataConfig(
        "pets", "/my cats/a,b=c&d/pets", layout="folder"
    ),
    """data=folder data.name=pets 'data.root=/it'"'"'s/[1]'""": DataConfig(
        "pets", "/it's/[1]", layout="folder"
    ),
}


def described(data: DataConfig) -> tuple[str, str | None, str, GenerateConfig | None]:
    return data.name, data.root, data.layout, data.generate


@pytest.mark.parametrize(("line", "data"), DATA_SETS.items())
def test_a_data_set_is_typed_shortly_and_as_it_is(line: str, data: DataConfig) -> None:
    assert typed_data(data) == line
    assert described(asked_by(f"make train {line}").data) == described(data)


def test_a_data_set_with_a_file_of_its_own_is_chosen_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(CONFIGS / "data", tmp_path / "data")
    (tmp_path / "data/cub.yaml").write_text("{name: cub, root: /birds}")
    for module in ("config", "advice"):
        monkeypatch.setattr(f"cam_repro.{module}.CONFIGS", tmp_path)
    assert typed_data(DataConfig("cub", "/birds")) == "data=cub"
    assert typed_data(DataConfig("ilsvrc", "/tree")) == "data=ilsvrc data.root=/tree"


def test_a_data_set_that_is_where_its_file_says_needs_no_root(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ILSVRC_ROOT", "/big/imagenet")
    assert typed_data(DataConfig("ilsvrc", "/big/imagenet")) == "data=ilsvrc"
    assert typed_data(DataConfig("ilsvrc", "/other")) == "data=ilsvrc data.root=/other"


def advice_of(refused: Callable[[], object]) -> str:
    """The command of the one line that says why something is refused."""
    with pytest.raises(UserError) as error:
        refused()
    (line,) = commands_in(str(error.value))
    return line


def test_what_is_missing_is_made_by_the_command_that_is_proposed(tmp_path: Path) -> None:
    """Of a folder of one's own, which is none of configs/data, and of a run with a name."""
    words = [
        "data=folder",
        f"data.root={tmp_path / 'my pets'}",
        "data.name=pets",
        f"runs={tmp_path / 'runs'}",
    ]
    (config,) = run(
        *words, f"results={tmp_path / 'results'}", "model=resnet18", "name=second"
    ).given
    (unnamed,) = run(*words, name="curves").given
    without_boxes = SimpleNamespace(
        config=config,
        trained=SimpleNamespace(model=config.model, network=build_network("squeezenet_gap", 2)),
        split=SimpleNamespace(boxes=[], masks=None),
    )
    cpu = torch.device("cpu")
    for refused, target in (
        (lambda: trained_runs(unnamed), "train"),
        (lambda: load_trained(config, "second", ([], []), cpu), "train"),
        (lambda: draw_curves(config), "train"),
        (lambda: export_weights(config), "train"),
        (lambda: localization_specs(without_boxes), "eval-classification"),
        (lambda: chosen_results(config, tmp_path, "localization"), "eval-localization"),
        (lambda: make_tables(config), "eval-classification"),
    ):
        line = advice_of(refused)
        asked = asked_by(line)
        assert line.startswith(f"make {target} ") and described(asked.data) == described(
            config.data
        )
        if target == "train":
            assert asked.runs == config.runs
            assert (asked.name, asked.model.name) in (("second", "resnet18"), (None, "alexnet_gap"))


def test_a_setting_of_the_network_that_was_typed_is_typed_again() -> None:
    (config,) = run(
        "model=vgg_gap", "model.units=8", "model.native=false", name="eval-localization"
    ).given
    asked = asked_by(train_command(config))
    assert asked.model == config.model and sorted(asked.typed) == [
        "data",
        "model",
        "model.native",
        "model.units",
    ]


def test_no_target_is_proposed_for_what_is_no_result(tmp_path: Path) -> None:
    cases = {
        "README.md": "give a localization-",
        "localization-cam-paper.json": "make eval-localization",
    }
    for name, said in cases.items():
        (tmp_path / name).write_text("{")
        with pytest.raises(UserError, match=said) as error:
            read_record(tmp_path / name)
        assert "eval-README" not in str(error.value)


def test_a_proposed_command_has_the_split_and_the_boxes_that_were_chosen() -> None:
    data = DataConfig(name="shapes", root="data/shapes", split="all", boxes="my boxes.json")
    words = typed_data(data)
    assert "data.split=all" in words and "'data.boxes=my boxes.json'" in words
