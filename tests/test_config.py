"""Every setting is checked, each mistake in one line that names it, before anything heavy is imported."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from conftest import REPOSITORY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cam_repro import UserError
from cam_repro.command import configuration
from cam_repro.config import (
    CHOICES,
    CONFIGS,
    FORMS,
    RANGES,
    Config,
    ModelConfig,
    model_config,
    model_names,
    register_schema,
    stored_model,
    validated,
)
from cam_repro.mistakes import did_you_mean, keys_of, shown
from cam_repro.networks import build_network

register_schema()
KEYS = keys_of(Config)
SCRIPTS = sorted(path.stem for path in (REPOSITORY / "scripts").glob("*.py") if "command(main" in path.read_text())


# No heavy import before the command line is known to be right

AS_SCRIPT = """
import runpy, sys
def run(*arguments):
    sys.argv = [{path!r}, *arguments]
    try:
        runpy.run_path({path!r}, run_name="__main__")
    except SystemExit as end:
        return end.code
codes = run("recipe.epoch=3"), run("model=vgg_gap", "model.groups=3"), run("--help")
print(*codes, sorted({{"torch", "torchvision", "numpy", "scipy", "PIL", "tensorboard"}} & set(sys.modules)))
"""


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_and_mistakes_are_answered_without_importing_torch(name: str) -> None:
    code = AS_SCRIPT.format(path=str(REPOSITORY / f"scripts/{name}.py"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert done.stdout.splitlines()[-1] == "2 2 0 []", done.stdout + done.stderr
    unknown, contradiction = done.stderr.splitlines()
    assert "did you mean recipe.epochs?" in unknown and "model.groups=3 does not divide 512" in contradiction
    assert "alexnet_gap" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "answer"),
    [
        (("--cfg", "job"), 0, "backbone: vgg16"),
        (("--cfg", "job", "--package", "model"), 0, "name: vgg_gap"),
        (("--info", "defaults"), 0, "model/vgg_gap"),
        (("--version",), 0, "Hydra 1.3"),
        (("--cfg", "jobs"), 2, "error: argument --cfg/-c: invalid choice: 'jobs'"),
        (("--epochs", "3"), 2, "error: unrecognized arguments: --epochs 3; write options as key=value"),
    ],
)
def test_hydras_own_flags_still_work(arguments: tuple[str, ...], code: int, answer: str) -> None:
    command = [sys.executable, "scripts/train.py", "model=vgg_gap", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert done.returncode == code
    assert answer in (done.stderr if code else done.stdout)
    assert len(done.stderr.splitlines()) == (1 if code else 0)


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("train", "weights=/nowhere.safetensors", "weights=/nowhere.safetensors is not a file; give a .pth"),
        ("predict", "image=/nowhere.jpg", "image=/nowhere.jpg: No such file; give the path of one picture"),
        ("score", "predictions=/", "predictions=/: No such file; give a file of five guesses"),
        ("eval_localization", "blacklist=/nowhere.txt", "blacklist=/nowhere.txt: No such file; give the devkit's"),
    ],
)
def test_a_file_that_is_not_there_is_named_first_of_all(name: str, argument: str, message: str) -> None:
    command = [sys.executable, "-X", "importtime", f"scripts/{name}.py", "model=vgg_gap", argument]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 1 and len(said) == 1 and message in said[0]
    assert " torch\n" not in done.stderr


# One mistake, one line

MISTAKES = [
    ("=3", "'=3' is no option"),
    ("foo", "'foo' is no option; options are written key=value"),
    ("recipe.epoch=3", "unknown option recipe.epoch; did you mean recipe.epochs?"),
    ("+recipe.epoch=3", "unknown option recipe.epoch; did you mean recipe.epochs?"),
    ("lr=3", "unknown option lr; did you mean recipe.lr?"),
    ("recip.lr=3", "unknown option recip.lr; did you mean recipe.lr?"),
    ("~recipe.lr", "~recipe.lr: it can be set to another value, not taken away"),
    ("recipe.lr=[1", "recipe.lr=[1 cannot be read"),
    ("recipe.lr=???", "recipe.lr has no value; type recipe.lr="),
    ("recipe.lr=${nothing}", "recipe.lr: Interpolation key 'nothing' not found"),
    ("recipe.lr=fast", "recipe.lr=fast: expected a number"),
    ("recipe.lr=nan", "recipe.lr=nan is out of range"),
    ("recipe.lr=inf", "recipe.lr=inf is out of range"),
    ("model.conv_bias=-inf", "model.conv_bias=-inf is out of range"),
    ("recipe.epochs=1.5", "recipe.epochs=1.5: expected a whole number"),
    ("recipe.epochs=null", "recipe.epochs=null: expected a value, not null"),
    ("recipe.mirror=maybe", "recipe.mirror=maybe: expected true or false"),
    ("recipe.sizes=64", "recipe.sizes=64: expected a list, as [1,2]"),
    ("recipe.sizes=[[64]]", "recipe.sizes=[[64]]: expected whole numbers in one list"),
    ("recipe.sizes=[]", "recipe.sizes=[] and recipe.size_starts=[0.0,0.8] must be lists of one length"),
    ("recipe.size_starts=[0,0]", "recipe.size_starts=[0.0,0.0] must begin with 0 and rise"),
    ("recipe.size_starts=[0.5,0.8]", "recipe.size_starts=[0.5,0.8] must begin with 0 and rise"),
    ("recipe.milestones=[0.5,0.25]", "type recipe.milestones=[0.25,0.5]"),
    ("recipe.milestones=[0,0.5,1]", "type recipe.milestones=[0.5]"),
    ("recipe.milestones=[nan]", "recipe.milestones=[nan] is out of range"),
    ("recipe.schedule=cosin", "recipe.schedule=cosin is unknown; did you mean cosine?"),
    ("seed=-1", "seed=-1 is out of range; it must lie between 0 and"),
    ("data.generate.seed=-1", "data.generate.seed=-1 is out of range"),
    ("data.download.tries=3", "data.download.tries=3: this data= has no such part"),
    ("data.name=../elsewhere", "data.name=../elsewhere is not allowed"),
    ("device=gpu", "device=gpu is not allowed; choose auto, cpu, cuda or cuda:<number>"),
    ("runs=", "runs= is not allowed; give a folder"),
    ("method=grad", "method=grad is unknown; did you mean gradcam?"),
    ("model.backbone=vgg19", "model.backbone=vgg19 is unknown; did you mean vgg16?"),
    ("model=vgg_gp", "unknown model 'vgg_gp'; did you mean vgg_gap?"),
    ("experiment=shapes-vgg", "unknown experiment 'shapes-vgg'; did you mean shapes-vgg_gap?"),
    ("weights=IMAGENET1K_V2", "weights=IMAGENET1K_V2 is neither a file nor weights of vgg16; did you mean IMAGENET1K"),
]  # fmt: skip


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_a_mistake_is_one_line_with_the_nearest_right_choice(mistake: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        configuration(["model=vgg_gap", mistake])
    assert message in str(refused.value) and "\n" not in str(refused.value)


CONTRADICTIONS = [
    ("vgg_gap", ["model.groups=3"], "model.groups=3 does not divide 512; vgg16's maps .* type model.groups=2"),
    ("googlenet_gap", ["model.groups=128"], "model.groups=128 does not divide 832.*type model.groups=64"),
    ("alexnet_star_gap", ["model.groups=256"], "have 256, 384, 512, 512: type model.groups=128"),
    ("vgg_gap", ["model.units=10", "model.groups=4"], "model.groups=4 does not divide 10.*type model.groups=2"),
    ("vgg", ["model.units=64"], "sets an added convolution, which model.native=true of vgg does not have"),
    ("vgg", ["model.pool=max"], "vgg16 as it is has no pooled maps"),
    ("alexnet", ["model.dropout=0.5"], "alexnet as it is has no pooled maps"),
    ("nin", ["model.dropout=0.5"], "would drop classes; type model.dropout=0"),
    ("alexnet", ["model.input_size=62"], "model=alexnet: alexnet as it is takes 63 pixels .* type model.input_size=63"),
    ("alexnet_gap", ["protocol.size=30"], "protocol.size=30 is too small for model=alexnet_gap.*type protocol.size=31"),
    ("nin", ["recipe.sizes=[32,64,96]"], r"nin as it is takes 39 pixels.*type recipe.sizes=\[39,64,96\]"),
    ("nin", ["weights=IMAGENET1K_V1"], "torchvision has no nin; give a file"),
    ("vgg", ["method=cam"], "method=cam cannot serve model=vgg: fully connected .* type method=gradcam"),
    ("vgg_gap", ["protocol=release", "protocol.thresholds=[20,20]"], r"type protocol.thresholds=\[20\]"),
    ("vgg_gap", ["protocol=release", "protocol.thresholds=[110,20]"], r"type protocol.thresholds=\[20,110\]"),
    ("vgg_gap", ["protocol=release", "protocol.thresholds=[]"], r"type protocol.thresholds=\[20,100,110\]"),
    ("vgg_gap", ["protocol=release", "protocol.thresholds=[255]"], "it must lie between 0 and 254"),
    ("vgg_gap", ["protocol=release", "protocol.thresholds=[2.5]"], "expected a whole number"),
    ("vgg_gap", ["protocol.boxes=release"], "protocol.boxes=release takes no protocol.threshold="),
    ("vgg_gap", ["protocol=wsol", "protocol.view=ten_crop"], "is defined on protocol.view=squash"),
    ("vgg_gap", ["protocol=all", "protocol.threshold=0.3"], "protocol=all runs every protocol as written"),
]


@pytest.mark.parametrize(("model", "overrides", "message"), CONTRADICTIONS)
def test_settings_that_contradict_each_other_are_refused(model: str, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        configuration([f"model={model}", *overrides])


@pytest.mark.parametrize("model", ["vgg", "alexnet"])
def test_the_default_method_is_refused_where_maps_are_drawn_of_a_network_without_cam(model: str) -> None:
    assert configuration([f"model={model}"]).method is None
    with pytest.raises(UserError, match=r"method=cam \(the default\) cannot serve"):
        configuration([f"model={model}"], makes_maps=True)
    for choice in ("method=gradcam", "protocol=all"):
        assert configuration([f"model={model}", choice], makes_maps=True).model


def test_a_model_is_asked_for_by_what_needs_one() -> None:
    with pytest.raises(UserError, match="model= is needed; choose one of: alexnet, alexnet_gap"):
        configuration([], needs_model=True)
    with pytest.raises(UserError, match=r"model= is needed for model.groups=2"):
        configuration(["model.groups=2"])
    assert configuration([]).model is None


@pytest.mark.parametrize("overrides", [[], ["data=ilsvrc"], ["data=imagenette"], ["protocol=all"], ["protocol=wsol"]])
@pytest.mark.parametrize("model", ["alexnet_star_gap", "nin", "vgg"])
def test_what_is_in_the_configuration_files_is_right(model: str, overrides: list[str]) -> None:
    assert configuration([f"model={model}", *overrides]).model.name == model


def test_long_values_are_cut_and_the_word_asked_for_is_near() -> None:
    assert len(shown("x" * 1000)) < 100 and shown([1, 2]) == "[1,2]" and shown(None) == "null"
    assert did_you_mean("data.generate.trian", KEYS) == "did you mean data.generate.train? "
    assert did_you_mean("nothing.like_it_anywhere", KEYS) == ""


# All fields at once


def leaves(schema: type, prefix: str = "") -> dict[str, Any]:
    """Dotted key → type, of every field that holds no other settings."""
    found: dict[str, Any] = {}
    for field in fields(schema):
        kind = get_type_hints(schema)[field.name]
        inner = [part for part in (kind, *get_args(kind)) if is_dataclass(part)]
        found |= leaves(inner[0], f"{prefix}{field.name}.") if inner else {prefix + field.name: kind}
    return found


LEAVES = leaves(Config)


def test_every_number_has_a_range_and_every_word_that_names_a_folder_a_form() -> None:
    numbers = {key for key, kind in LEAVES.items() if {int, float} & {kind, *get_args(kind), *inner_types(kind)}}
    assert numbers == set(RANGES)
    assert set(CHOICES) | set(FORMS) <= set(LEAVES)


def inner_types(kind: Any) -> set[Any]:
    return {part for outer in get_args(kind) for part in get_args(outer)}


def test_every_key_is_known_by_its_dotted_name() -> None:
    assert set(LEAVES) <= set(KEYS) and {"model", "data.generate"} <= set(KEYS)


ODD_NUMBERS = [0, -1, 1, 2, 3, 31, 64, 255, 2**31, 2**70, 0.5, -0.0, 1e-300, 1e300, math.nan, math.inf, -math.inf]
ODD_WORDS = ["", " ", "..", "a/b", "\0", "é", "x" * 300, "cam", "IMAGENET1K_V9", "DEFAULT", "cuda:0", "null", "a\nb"]


def values(key: str) -> st.SearchStrategy[Any]:
    """Of the field's type, right or wrong by themselves."""
    kind, (low, high) = LEAVES[key], RANGES.get(key, (0, 1))
    if bool in (kind, *get_args(kind)):
        return st.booleans()
    if key in RANGES:
        whole = isinstance(low, int)
        odd = st.sampled_from([number for number in ODD_NUMBERS if isinstance(number, int) or not whole])
        number = odd | (st.integers(low, min(high, 400)) if whole else st.floats(low, high))
        return st.lists(number, max_size=4) if "list" in str(kind) else number
    return st.sampled_from([*CHOICES.get(key, ()), *ODD_WORDS])


@st.composite
def configurations(draw: st.DrawFn) -> Any:
    """A right configuration of some model with a few fields changed, as OmegaConf's tree."""
    raw = draw(st.sampled_from(RIGHT)).copy()
    for key in draw(st.lists(st.sampled_from(sorted(LEAVES)), max_size=5, unique=True)):
        optional = type(None) in get_args(LEAVES[key])
        if not key.startswith("data.download."):
            OmegaConf.update(raw, key, draw(st.none() | values(key) if optional else values(key)))
    return raw


def right(model: str, protocol: str) -> Any:
    config = configuration([f"model={model}", f"protocol={protocol}"])
    return OmegaConf.structured(config)


RIGHT = [right("alexnet_star_gap", "release"), right("nin", "paper"), right("vgg", "all"), right("googlenet", "wsol")]


@given(configurations(), st.booleans())
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_any_configuration_is_right_or_refused_in_one_line_that_names_a_key(raw: Any, makes_maps: bool) -> None:
    try:
        config = validated(raw, makes_maps)
    except UserError as error:
        assert any(f"{key}=" in str(error) or str(error).startswith(key) for key in KEYS), error
        assert "\n" not in str(error)
    else:
        assert isinstance(config, Config) and config.recipe.sizes and math.isfinite(config.recipe.lr)


TYPED = ["null", "nan", "1e999", "-1", "0", "[]", "[1,a]", "{a:1}", "true", "''", "${x}", "???", "'", "a=b", "1,2"]


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(TYPED)), min_size=1, max_size=2))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_any_command_line_is_right_or_refused_in_one_line_that_names_a_key(words: list[tuple[str, str]]) -> None:
    overrides = [f"{key}={value}" for key, value in words]
    try:
        configuration(["model=resnet18", *overrides])
    except UserError as error:
        assert any(key in str(error) for key in KEYS) and "\n" not in str(error), error


SMALL_MODELS = st.builds(
    dict,
    backbone=st.sampled_from(["alexnet", "alexnet_star", "vgg16", "googlenet", "resnet18", "squeezenet1_0", "nin"]),
    native=st.booleans(),
    units=st.sampled_from([1024, 16, 24]),
    groups=st.sampled_from([1, 1, 2, 4, 8, 3]),
    pool=st.sampled_from(["average", "max"]),
    dropout=st.sampled_from([0.0, 0.5]),
    input_size=st.integers(1, 80),
)


@given(SMALL_MODELS)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_model_that_is_allowed_can_be_built_and_sees_its_input_size(changes: dict[str, Any]) -> None:
    try:
        model = stored_model({"name": "small", **changes})
    except UserError:
        return
    with torch.device("meta"), torch.no_grad():  # shapes without numbers
        network = build_network(model, num_classes=3).eval()
        logits, maps = network.forward_with_maps(torch.zeros(2, 3, model.input_size, model.input_size))
    assert logits.shape == (2, 3) and maps.ndim == 4 and min(maps.shape) > 0


def test_a_model_from_a_file_is_checked_like_one_from_the_command_line() -> None:
    for wrong in ({"units": "many"}, {"unit": 3}, {"units": 0}, {"groups": 3}, {"backbone": "vgg19"}):
        with pytest.raises(UserError, match=r"model.*(unit|groups|backbone)"):
            model_config("vgg_gap", **wrong)
    with pytest.raises(UserError, match="unknown model 'vgg_gp'; did you mean vgg_gap?"):
        model_config("vgg_gp")
    assert model_config("vgg_gap", groups=2) == ModelConfig("vgg_gap", "vgg16", groups=2)


def test_each_experiment_belongs_to_a_data_set_and_a_model() -> None:
    data = {path.stem for path in (CONFIGS / "data").glob("*.yaml")}
    for path in Path(CONFIGS / "experiment").glob("*.yaml"):
        of_data, _, model = path.stem.partition("-")
        assert of_data in data and model in model_names()
        assert configuration([f"data={of_data}", f"model={model}"]).recipe.sizes
