"""Every setting is checked, each mistake in one line that names it, before anything heavy is imported."""

from __future__ import annotations

import errno
import io
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints
from unittest import mock

import pytest
from conftest import REPOSITORY, composed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cam_repro import UserError
from cam_repro.command import command
from cam_repro.config import CONFIGS, Config, ModelConfig, keys_of, model_config, names_in, protocols_of, validated
from cam_repro.mistakes import check_choice, did_you_mean, shown

KEYS = [*keys_of(Config)]
SCRIPTS = sorted(path.stem for path in (REPOSITORY / "scripts").glob("*.py") if "command(" in path.read_text())


class Answer(NamedTuple):
    code: int
    given: list[Config]  # what the work was asked to do
    out: str
    err: str


def run(*words: str, needs_model: bool = False, work: Callable[[Config], None] | None = None) -> Answer:
    """A script's start on a command line."""
    given, code = [], 0
    words, out, err = ["script.py", *words], io.StringIO(), io.StringIO()
    with mock.patch.multiple(sys, argv=words, stdout=out, stderr=err), mock.patch.dict("os.environ"):
        try:
            command(work or given.append, needs_model)
        except SystemExit as end:
            code = end.code
    return Answer(code, given, out.getvalue(), err.getvalue())


# No heavy import before the command line is known to be right

AS_SCRIPTS = """
import runpy, sys
def run(path, *arguments):
    sys.argv = [path, *arguments]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        return end.code
for path in sys.argv[1:]:
    codes = run(path, "recipe.epoch=3"), run(path, "model=nin", "weights=no.pth")
    heavy = {"torch", "torchvision", "numpy", "scipy", "PIL", "tensorboard"} & set(sys.modules)
    print("after", *codes, sorted(heavy), file=sys.stderr)
"""


def test_mistakes_are_answered_without_importing_torch() -> None:
    paths = [str(REPOSITORY / f"scripts/{name}.py") for name in SCRIPTS]
    command = [sys.executable, "-c", AS_SCRIPTS, *paths]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=200)
    *of_each, rest = done.stderr.split("after 2 1 []\n")
    assert len(of_each) == len(SCRIPTS) > 10 and not rest, done.stderr
    for said in of_each:
        unknown, missing = said.splitlines()
        assert "did you mean recipe.epochs?" in unknown and "weights=no.pth is not a file" in missing


# Hydra's own ways


def test_hydras_flags_show_the_configuration_and_do_no_work() -> None:
    for flags, answer in {"--cfg job": "backbone: vgg16", "--info defaults": "model/vgg_gap", "--help": "nin"}.items():
        done = run("model=vgg_gap", *flags.split(), needs_model=True)
        assert (done.code, done.given, done.err) == (0, [], "") and answer in done.out


def test_a_sweep_does_the_work_for_each_choice_until_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # Hydra writes multirun.yaml there
    done = run("--multirun", "model=vgg_gap,nin", "recipe.lr=1e-3")
    assert done.code == 0
    assert [(config.model.name, config.recipe.lr) for config in done.given] == [("vgg_gap", 1e-3), ("nin", 1e-3)]
    assert [config.name for config in done.given] == [None, None]
    assert len(run("--multirun", "model=glob(resnet*)").given) == 2
    swept = ("model=vgg_gap,nin", "recipe.lr=1e-3,0.1", "shown_class=a,b c")
    done = run("--multirun", *swept, "seed=3", "data.root=/été")
    assert len(done.given) == 8 and {config.shown_class for config in done.given} == {"a", "b c"}
    names = {f"{model}-recipe.lr_{lr}" for model in ("vgg_gap", "nin") for lr in (0.001, 0.1)}
    assert {config.name for config in done.given} == names and run("recipe.lr=0.1").given[0].name is None
    assert {config.name for config in run("--multirun", "seed=1,2", "model=nin", "name=mine").given} == {"mine"}
    done = run("--multirun", "recipe.lr=1e-3,0,1e-4")
    assert done.code == 2 and len(done.given) == 1 and done.err.count("\n") == 1 and "recipe.lr=0.0" in done.err


def test_a_fault_of_the_work_keeps_its_traceback() -> None:
    for fault in (ValueError("wrong"), AssertionError("never"), OSError("no disk trouble")):
        with pytest.raises(type(fault), match=str(fault)):
            run(work=mock.Mock(side_effect=fault))


def test_a_mistake_found_by_the_work_ends_in_one_line_with_code_1() -> None:
    done = run(work=mock.Mock(side_effect=UserError("no picture\nhere")))
    assert (done.code, done.err) == (1, "error: no picture here\n")


@pytest.mark.parametrize("name", ["été (1).jpg", "a,b.jpg", "it's.jpg", "a=b$c.jpg", "c\\", "[1]{2}: #3.jpg"])
def test_a_text_may_have_any_sign(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    files = [f"{key}={tmp_path / name}" for key in ("image", "predictions", "blacklist")]
    others = [f"data.root=~/{name}", f"results={name}", 'shown_class="tabby, cat"', "weights=null", "runs=a/${seed}"]
    (given,) = run(*files, *others).given
    assert [given.image, given.predictions, given.blacklist] == [str(tmp_path / name)] * 3
    assert (given.data.root, given.results, given.shown_class) == (f"{Path.home()}/{name}", name, "tabby, cat")
    assert (given.weights, given.runs) == (None, "a/0")
    assert run(f"weights={tmp_path / name}").given[0].weights == str(tmp_path / name)


def test_a_stop_or_a_file_that_may_not_be_read_is_told_as_it_is() -> None:
    stopped = run(work=mock.Mock(side_effect=KeyboardInterrupt))
    assert stopped.code == 130 and "begins again, a training where it was last saved" in stopped.err
    refused = run(work=mock.Mock(side_effect=PermissionError(errno.EACCES, "Permission denied", "/a b/c.jpg")))
    assert (refused.code, refused.err) == (1, "error: Permission denied (/a b/c.jpg); allow it, or choose another\n")
    full = run(work=mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    assert full.err == "error: No space left on device; free space or choose another folder\n"


# One mistake, one line

MISTAKES = [
    ("foo", "foo is not key=value"),
    ("recipe.epoch=3", "unknown option recipe.epoch; did you mean recipe.epochs?"),
    ("model=vgg_gp", "model=vgg_gp is unknown; did you mean vgg_gap? choose one of: alexnet, alexnet_gap"),
    ("recipe.schedule=cosin", "recipe.schedule=cosin is unknown; did you mean cosine? choose one of: step, cosine"),
    ("~recipe.lr", "~recipe.lr: RecipeConfig (DictConfig) does not support deletion"),
    ("recipe.lr=[1", "recipe.lr=[1 is not key=value, or its value needs quotes"),
    ("recipe.lr=1,2", "Ambiguous value for argument 'recipe.lr=1,2'"),
    ("recipe.lr=???", "recipe.lr: Missing mandatory value: lr"),
    ("recipe.epochs=abc", "recipe.epochs=abc: Value 'abc' of type 'str' could not be converted to Integer"),
    ("recipe.sizes=64", "recipe.sizes=64: Invalid value assigned: int is not a ListConfig"),
    ("recipe.lr=nan", "recipe.lr=nan is out of range"),
    ("data.download.tries=3", "data.download.tries=3: one of these sets a part that this data= does not have"),
    ("data.name=../elsewhere", "data.name=../elsewhere is not allowed; it names a folder"),
    ("device=gpu", "device=gpu is not allowed; choose auto, cpu, cuda or cuda:<number>"),
    ("recipe.sizes=[]", "recipe.sizes=[] recipe.size_starts=[0.0]: one start for each size is needed"),
    ("recipe.milestones=[0.5,0.25]", "recipe.milestones=[0.5,0.25] must rise"),
    ("protocol.thresholds=[20]", "protocol.thresholds=[20] needs protocol.boxes=release, not paper"),
    ("protocol.boxes=release", "protocol.threshold=0.2 needs protocol.boxes=paper, not release"),
    ("protocol.guesses=tight", "protocol.guesses=tight needs protocol.boxes=release"),
    (
        "protocol=release protocol.thresholds=[110,20,20]",
        "protocol.thresholds=[110,20,20] must be one or more and rise",
    ),
    ("protocol=wsol protocol.view=ten_crop", "is defined on protocol.view=squash"),
    ("protocol=all protocol.threshold=0.3", "leave protocol.threshold= out"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_a_mistake_is_one_line_with_the_nearest_right_choice(mistake: str, message: str) -> None:
    done = run("data=ilsvrc", "model=vgg_gap", *mistake.split())
    assert (done.code, done.given) == (2, [])
    assert message in done.err and done.err.startswith("error: ") and done.err.count("\n") == 1


@pytest.mark.parametrize("option", ["weights", "predictions", "blacklist", "a"])
def test_a_file_that_is_not_there_is_named_before_any_work(option: str) -> None:
    for path in ("/nowhere.pth", "x/" * 3000, "/"):
        done = run(f"{option}={path}")
        assert (done.code, done.given) == (1, []) and f"{option}={shown(path)} is not a file" in done.err
    assert run("weights=IMAGENET1K_V1").given[0].weights == "IMAGENET1K_V1"


def test_a_model_is_asked_for_by_what_needs_one() -> None:
    assert "model= is needed; choose one of: alexnet, alexnet_gap" in run(needs_model=True).err
    done = run("model.groups=2")
    assert done.code == 2 and "model= is needed for model.groups=2; choose one of: alexnet" in done.err
    assert run().given[0].model is None


def test_a_name_that_no_registry_has_is_told_the_nearest_that_one_has() -> None:
    check_choice("method", "cam", {"cam": 1})
    with pytest.raises(UserError, match=r"^method=grdcam is unknown; did you mean gradcam\? choose one of: cam, gradc"):
        check_choice("method", "grdcam", {"cam": 1, "gradcam": 2})
    assert did_you_mean("data.generate.trian", KEYS) == "did you mean data.generate.train? "
    assert did_you_mean("nothing.like_it_anywhere", KEYS) == ""
    assert len(shown("x" * 1000)) < 100 and shown([1, 2]) == "[1,2]" and shown(None) == "null"


# What is in the files


def test_what_is_in_the_configuration_files_is_right() -> None:
    assert [model_config(name).name for name in names_in("model")] == names_in("model")
    for path in (CONFIGS / "experiment").glob("*.yaml"):  # taken where both are chosen
        data, _, model = path.stem.partition("-")
        config = composed([f"data={data}", f"model={model}"])
        assert (config.data.name, config.model.name) == (data, model)
    for group in ("data", "recipe"):
        for name in names_in(group):
            assert getattr(composed([f"{group}={name}"]), group) is not None


def test_all_stands_for_every_other_protocol_as_its_file_says() -> None:
    everything = protocols_of(composed(["protocol=all", "protocol.size=96"]).protocol)
    assert [protocol.name for protocol in everything] == [name for name in names_in("protocol") if name != "all"]
    for protocol in everything:
        alone = composed([f"protocol={protocol.name}"]).protocol
        assert protocol == replace(alone, size=96) and protocols_of(alone) == [alone]


def test_a_model_from_a_file_is_checked_like_one_from_the_command_line() -> None:
    for wrong in ({"units": "many"}, {"unit": 3}, {"units": 0}, {"pool": "mean"}):
        with pytest.raises(UserError, match=r"model\.(unit|pool)"):
            model_config("vgg_gap", **wrong)
    with pytest.raises(UserError, match="model=vgg_gp is unknown; did you mean vgg_gap?"):
        model_config("vgg_gp")
    assert model_config("vgg_gap", groups=2) == ModelConfig("vgg_gap", "vgg16", groups=2)


# All fields at once


def leaves(schema: type, prefix: str = "") -> dict[str, tuple[Any, dict[str, Any]]]:
    """Dotted key → type and what is allowed, of every field that holds no other settings."""
    found: dict[str, Any] = {}
    for field in fields(schema):
        kind = get_type_hints(schema)[field.name]
        inner = [part for part in (kind, *get_args(kind)) if is_dataclass(part)]
        found |= leaves(inner[0], f"{prefix}{field.name}.") if inner else {prefix + field.name: (kind, field.metadata)}
    return found


LEAVES = leaves(Config)
ODD_NUMBERS = [0, -1, 1, 2, 3, 31, 64, 255, 2**31, 2**70, 0.5, -0.0, 1e-300, 1e300, math.nan, math.inf, -math.inf]
ODD_WORDS = ["", " ", "..", "a/b", "\0", "é", "x" * 300, "cam", "IMAGENET1K_V9", "DEFAULT", "cuda:0", "null", "a\nb"]


def test_every_number_says_its_range() -> None:
    for key, (kind, allowed) in LEAVES.items():
        assert ("range" in allowed) == ("int" in str(kind) or "float" in str(kind)), key


def values(key: str) -> st.SearchStrategy[Any]:
    """Of the field's type, right or wrong by themselves."""
    kind, allowed = LEAVES[key]
    if kind is bool:
        return st.booleans()
    if "range" in allowed:
        low, high = allowed["range"]
        whole = "float" not in str(kind)
        odd = st.sampled_from([number for number in ODD_NUMBERS if isinstance(number, int) or not whole])
        one = odd | (st.integers(low, min(high, 400)) if whole else st.floats(low, high))
        return st.lists(one, max_size=4) if "list" in str(kind) else one
    words = st.sampled_from([*allowed.get("choices", ()), *ODD_WORDS])
    return st.lists(words, max_size=3) if "list" in str(kind) else words


RIGHT = composed(["model=alexnet_star_gap", "protocol=all"])
PROTOCOLS = {"all": RIGHT.protocol} | {protocol.name: protocol for protocol in protocols_of(RIGHT.protocol)}


@given(st.data(), st.sampled_from(sorted(PROTOCOLS)))
@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_any_configuration_is_right_or_refused_in_one_line_that_names_a_key(data: st.DataObject, name: str) -> None:
    raw = OmegaConf.structured(replace(RIGHT, protocol=PROTOCOLS[name]))
    changed = st.lists(st.sampled_from([key for key in sorted(LEAVES) if "download" not in key]), max_size=5)
    for key in data.draw(changed):
        optional = type(None) in get_args(LEAVES[key][0])
        OmegaConf.update(raw, key, data.draw(st.none() | values(key) if optional else values(key)))
    try:
        config = validated(raw)
    except UserError as error:
        assert any(f"{key}=" in str(error) or str(error).startswith(key) for key in KEYS), error
        assert "\n" not in str(error)
    else:
        assert isinstance(config, Config) and config.recipe.sizes and math.isfinite(config.recipe.lr)


TYPED = ["null", "nan", "1e999", "-1", "0", "[]", "[1,a]", "{a:1}", "true", "''", "${x}", "???", "'", "a=b", "1,2"]


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(TYPED)), min_size=1, max_size=2))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_any_command_line_is_right_or_refused_in_one_line_that_names_a_key(words: list[tuple[str, str]]) -> None:
    done = run("model=resnet18", *(f"{key}={value}" for key, value in words))
    assert done.code == 0 or (any(key in done.err for key in KEYS) and done.err.count("\n") == 1), done
