"""Every setting is checked before heavy imports, and each mistake is one line that names it."""

from __future__ import annotations

import errno
import math
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from command_line import run
from conftest import REPOSITORY, composed
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cam_repro import UserError
from cam_repro.config import (
    COMMANDS,
    CONFIGS,
    Config,
    ModelConfig,
    check_typed_model,
    keys_of,
    model_config,
    names_in,
    options_of,
    protocols_of,
    typed_model,
    validated,
)

KEYS = keys_of(Config)
PROTOCOLS = names_in("protocol")
SCRIPTS = [
    str(path)
    for path in sorted((REPOSITORY / "scripts").glob("*.py"))
    if "command(" in path.read_text()
]
TRAIN = str(REPOSITORY / "scripts/train.py")

AS_SCRIPTS = """
import runpy, sys
lines = [[path, "recipe.epoch=3"] for path in sys.argv[2:]]
lines.append([sys.argv[1], "model=nin", "weights=no.pth"])
for sys.argv in lines:
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        heavy = {"torch", "torchvision", "numpy", "scipy", "PIL", "tensorboard"} & set(sys.modules)
        print(end.code, sorted(heavy))
"""


def test_mistakes_are_answered_without_importing_torch() -> None:
    command = [sys.executable, "-c", AS_SCRIPTS, TRAIN, *SCRIPTS]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=200)
    assert len(SCRIPTS) > 10 and done.stdout == (len(SCRIPTS) + 1) * "2 []\n", done.stderr
    *unknown, missing = done.stderr.splitlines()
    assert len(unknown) == len(SCRIPTS)
    assert all("did you mean recipe.epochs?" in line for line in unknown)
    assert "weights=no.pth is not a file" in missing


# Hydra's own ways


def test_hydras_flags_show_the_configuration_and_do_no_work() -> None:
    for flags, answer in {
        "--cfg job": "backbone: vgg16",
        "--info defaults": "model/vgg_gap",
        "--help": "nin",
    }.items():
        done = run("model=vgg_gap", *flags.split(), needs_model=True)
        assert (done.code, done.given, done.err) == (0, [], "") and answer in done.out


def test_a_sweep_does_the_work_for_each_choice_or_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # Hydra writes multirun.yaml there
    done = run(
        "--multirun",
        "model=vgg_gap,nin",
        "recipe.lr=1e-3,0.1",
        "shown_class=a,b c",
        "seed=3",
        "data.root=/été",
    )
    assert done.code == 0 and len(done.given) == 8
    assert {config.shown_class for config in done.given} == {"a", "b c"}
    trainings = set()
    for model in ("vgg_gap", "nin"):
        for rate in (0.001, 0.1):
            trainings.add((model, rate, f"{model}-recipe.lr_{rate}"))
    found = {(config.model.name, config.recipe.lr, config.name) for config in done.given}
    assert found == trainings
    # Where one training alone is meant, the network's own name will do.
    (vgg, nin) = run("--multirun", "model=vgg_gap,nin", "recipe.lr=0.1").given
    assert vgg.name is nin.name is run("recipe.lr=0.1").given[0].name is None
    done = run("--multirun", "seed=1,2", "model=nin", "name=mine")
    assert {config.name for config in done.given} == {"mine"}
    assert len(run("--multirun", "model=glob(resnet*)").given) == 2
    done = run("--multirun", "recipe.lr=1e-3,0,1e-4")
    assert done.code == 2 and not done.given
    assert done.err.count("\n") == 1 and "recipe.lr=0.0" in done.err


def test_a_launcher_which_would_do_the_work_nowhere_is_refused() -> None:
    done = run("--multirun", "model=vgg_gap,nin", "hydra/launcher=joblib")
    assert (done.code, done.given) == (2, [])
    assert "hydra/launcher=joblib: a sweep's jobs run here" in done.err


def test_a_fault_of_the_work_keeps_its_traceback() -> None:
    for fault in (ValueError("wrong"), AssertionError("never"), OSError("no disk trouble")):
        with pytest.raises(type(fault), match=str(fault)):
            run(work=mock.Mock(side_effect=fault))


def test_what_ends_the_work_is_told_in_one_line() -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", "/a b/c.jpg")
    full = OSError(errno.ENOSPC, "No space left on device")
    for end, code, line in (
        (UserError("no image\nhere"), 1, "no image here"),
        (denied, 1, "Permission denied (/a b/c.jpg); allow it, or choose another"),
        (full, 1, "No space left on device; free space or choose another folder"),
        (
            KeyboardInterrupt(),
            130,
            "stopped; the same command begins again, a training where it was last saved",
        ),
    ):
        done = run(work=mock.Mock(side_effect=end))
        assert (done.code, done.err) == (code, f"error: {line}\n")


@pytest.mark.parametrize(
    "name", ["été (1).jpg", "a,b.jpg", "it's.jpg", "a=b$c.jpg", "c\\", "[1]{2}: #3.jpg"]
)
def test_a_text_may_have_any_sign(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    files = [f"{key}={tmp_path / name}" for key in ("image", "predictions", "blacklist")]
    others = [
        f"data.root=~/{name}",
        f"results={name}",
        'shown_class="tabby, cat"',
        "weights=null",
        "runs=a/${seed}",
    ]
    (given,) = run(*files, *others).given
    assert [given.image, given.predictions, given.blacklist] == [str(tmp_path / name)] * 3
    assert given.data.root == f"{Path.home()}/{name}"
    assert (given.results, given.shown_class) == (name, "tabby, cat")
    assert (given.weights, given.runs) == (None, "a/0")
    assert run(f"weights={tmp_path / name}").given[0].weights == str(tmp_path / name)


# One mistake, one line

MISTAKES = [
    ("foo", "foo is not key=value"),
    ("recipe.epoch=3", "unknown option recipe.epoch; did you mean recipe.epochs?"),
    ("epochs=3", "unknown option epochs; did you mean recipe.epochs?"),
    (
        "model=vgg_gp",
        "model=vgg_gp is unknown; did you mean vgg_gap? choose one of: alexnet, alexnet_gap",
    ),
    (
        "recipe.schedule=cosin",
        "recipe.schedule=cosin is unknown; did you mean cosine? choose one of: step, cosine",
    ),
    ("~recipe.lr", "~recipe.lr: RecipeConfig (DictConfig) does not support deletion"),
    ("recipe.lr=[1", "recipe.lr=[1 is not key=value, or its value needs quotes"),
    ("recipe.lr=1,2", "Ambiguous value for argument 'recipe.lr=1,2'"),
    ("recipe.lr=???", "recipe.lr: Missing mandatory value: lr"),
    (
        "recipe.epochs=abc",
        "recipe.epochs=abc: Value 'abc' of type 'str' could not be converted to Integer",
    ),
    ("recipe.sizes=64", "recipe.sizes=64: Invalid value assigned: int is not a ListConfig"),
    ("recipe.lr=nan", "recipe.lr=nan is out of range"),
    (
        "data.download.images=a",
        "data.download.images=a: one of these sets a part that this data= does not have",
    ),
    ("data.name=../elsewhere", "data.name=../elsewhere is not allowed; it names a folder"),
    (
        "device=gpu",
        "device=gpu is not allowed; choose auto, cpu, mps (Apple's GPUs), cuda or cuda:<number>",
    ),
    (
        "recipe.sizes=[]",
        "recipe.sizes=[] recipe.size_starts=[0.0]: one start for each size is needed",
    ),
    ("recipe.milestones=[0.5,0.25]", "recipe.milestones=[0.5,0.25] must rise"),
    (
        "protocol.thresholds=[20]",
        "protocol.thresholds=[20] needs protocol.boxes=release, not paper",
    ),
    (
        "protocol=release protocol.thresholds=[110,20]",
        "protocol.thresholds=[110,20] must be one or more and rise",
    ),
    ("protocol.steps=8", "protocol.steps=8 is of protocol.metric=faithfulness or randomisation"),
    ("protocol=pointing protocol.tolerance=null", "pointing needs protocol.tolerance="),
    (
        "protocol=faithfulness protocol.percentiles=[50,20]",
        "protocol.percentiles=[50,20] must be one or more and rise",
    ),
    ("protocol=faithfulness protocol.threshold=0.3", "protocol.threshold=0.3 is about boxes"),
    ("protocol=faithfulness protocol.deletion_to=grey", "choose one of: blur, mean, black"),
    ("protocol=wsol protocol.view=ten_crop", "is defined on protocol.view=squash"),
    ("protocol.interpolation=bicubi", "did you mean bicubic? choose one of: bilinear, bicubic"),
    ("protocol=all protocol.threshold=0.3", "leave protocol.threshold= out"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_a_mistake_is_one_line_with_the_nearest_right_choice(mistake: str, message: str) -> None:
    done = run("data=ilsvrc", "model=vgg_gap", *mistake.split())
    assert (done.code, done.given) == (2, [])
    assert message in done.err and done.err.startswith("error: ") and done.err.count("\n") == 1


def test_a_file_that_is_not_there_is_named_before_any_work() -> None:
    missing = [(option, "/nowhere.pth") for option in ("weights", "predictions", "blacklist", "a")]
    for option, path in (*missing, ("weights", "x/" * 3000), ("weights", "/")):
        done = run(f"{option}={path}")
        assert (done.code, done.given) == (2, [])
        assert f"{option}={path[:80]}" in done.err and len(done.err) < 200
        assert "is not a file; give the path of one that is there" in done.err
    assert run("weights=IMAGENET1K_V1").given[0].weights == "IMAGENET1K_V1"


def test_a_model_is_asked_for_by_what_needs_one() -> None:
    assert "model= is needed; choose one of: alexnet, alexnet_gap" in run(needs_model=True).err
    done = run("model.groups=2")
    assert done.code == 2
    assert "model= is needed for model.groups=2; choose one of: alexnet" in done.err
    assert run().given[0].model is None


# One command, its own options

OF_OTHERS = [
    (
        "train",
        "image=x.jpg top=3",
        "image=x.jpg is no option of `make train`; it is one of: make cam",
    ),
    (
        "train",
        "class=cat",
        "class=cat is no option of `make train`; it is one of: make figures, make cam",
    ),
    (
        "train",
        "protocol=wsol",
        "protocol=wsol is no option of `make train`; it is one of: make eval-classification, ",
    ),
    ("train", "report.images=3", "it is one of: make report, make figures, make reproduce"),
    (
        "train",
        "force=true",
        "it is one of: make eval-classification, make eval-localization, make reproduce",
    ),
    (
        "train",
        "a=README.md",
        "a=README.md is no option of `make train`; it is one of: make compare",
    ),
    ("eval-localization", "predictions_labels=devkit", "it is one of: make score"),
    (
        "eval-localization",
        "recipe.epochs=3",
        "it is one of: make train, make rehearse, make reproduce",
    ),
    (
        "eval-localization",
        "recipe=scratch",
        "it is one of: make train, make rehearse, make reproduce",
    ),
    ("eval-localization", "data.download.boxes=x", "it is one of: make data"),
    (
        "eval-classification",
        "protocol.threshold=0.3",
        "it is one of: make eval-localization, make figures, make cam",
    ),
    (
        "curves",
        "model=nin model.pool=max",
        "model.pool=max is no option of `make curves`; it is one of: make train, ",
    ),
    (
        "compare",
        "data=shapes",
        "data=shapes is no option of `make compare`; it is one of: make data, ",
    ),
    (
        "rehearse",
        "data=imagenette",
        "data=imagenette: `make rehearse` is always data=ilsvrc; leave it out",
    ),
    (
        "reproduce",
        "model=vgg",
        "model=vgg: `make reproduce` is always model=alexnet_gap; leave it out",
    ),
    (
        "reproduce",
        "protocol=release",
        "protocol=release is no option of `make reproduce`; it is one of: make eval-",
    ),
    ("train", "recipe.lr=1,2 top=3 --multirun", "top=3 is no option of `make train`"),
    ("train", "typed=[seed]", "unknown option typed;"),
]


@pytest.mark.parametrize(("name", "typed", "message"), OF_OTHERS)
def test_an_option_of_another_command_is_refused_with_the_commands_that_have_it(
    name: str, typed: str, message: str
) -> None:
    done = run(*typed.split(), name=name)
    assert (done.code, done.given) == (2, []) and message in done.err and done.err.count("\n") == 1


def test_every_option_is_of_some_command_with_the_type_that_it_has_in_all() -> None:
    known = KEYS | {"experiment": None}
    for name, command in COMMANDS.items():
        assert options_of(name) <= known.keys()
        assert all(known[key] == kind for key, kind in keys_of(command.options).items())
        assert (REPOSITORY / f"scripts/{name.replace('-', '_')}.py").is_file()
    assert set().union(*map(options_of, COMMANDS)) == known.keys() - {"typed"}


def test_a_step_of_a_command_passes_over_the_options_of_the_other_steps() -> None:
    (given,) = run(
        "--part-of=reproduce", "force=true", "report.images=3", "recipe.epochs=2", name="train"
    ).given
    assert (given.model.name, given.data.name, given.recipe.epochs) == ("alexnet_gap", "shapes", 2)
    refused = run("--part-of=reproduce", "image=x", name="train")
    assert "image=x is no option of `make reproduce`" in refused.err
    (given,) = run("--part-of=reproduce", "protocol=wsol", name="eval-localization").given
    assert given.protocol.name == "wsol"


def test_what_was_typed_of_a_network_must_be_what_was_trained() -> None:
    (given,) = run(
        "model=vgg_gap", "model.pool=max", "model.input_size=300", name="eval-localization"
    ).given
    assert given.typed == ["model", "model.pool", "model.input_size"]
    check_typed_model(given, given.model, "a.pt")
    message = "model.pool=max: a.pt was trained with model.pool=average; leave it out"
    with pytest.raises(UserError, match=message):
        check_typed_model(given, model_config("vgg_gap", input_size=300), "a.pt")
    message = "input_size=300: .* trained with .*=224; type protocol.size=300"
    with pytest.raises(UserError, match=message):
        check_typed_model(given, model_config("vgg_gap", pool="max"), "a.pt")
    # A file of configs/experiment sets its size, which is not typed.
    (untyped,) = run("model=alexnet_gap", name="eval-localization").given
    check_typed_model(untyped, replace(untyped.model, input_size=64), "a.pt")


def test_windows_is_told_of_wsl_before_anything_is_imported() -> None:
    with (
        mock.patch.object(sys, "platform", "win32"),
        pytest.raises(SystemExit, match="error: .* WSL") as end,
    ):
        runpy.run_path(str(REPOSITORY / "cam_repro/__init__.py"))
    assert "\n" not in str(end.value)


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
    shown = ["protocol.size=96", "protocol.interpolation=bicubic"]
    everything = protocols_of(composed(["protocol=all", *shown]).protocol)
    left_out = ("all", "faithfulness", "randomisation")  # the latter take long
    others = [name for name in PROTOCOLS if name not in left_out]
    assert [protocol.name for protocol in everything] == others
    for protocol in everything:
        alone = composed([f"protocol={protocol.name}"]).protocol
        assert protocol == replace(alone, size=96, interpolation="bicubic")
        assert protocols_of(alone) == [alone] and alone.interpolation is None


def test_a_model_from_a_file_is_checked_like_one_from_the_command_line() -> None:
    for wrong in ({"units": "many"}, {"unit": 3}, {"units": 0}, {"pool": "mean"}):
        with pytest.raises(UserError, match=r"model\.(unit|pool)"):
            model_config("vgg_gap", **wrong)


# Any setting at once

ODD = [
    "null", "nan", "1e999", "1e300", "-1", "0", "0.5", "31", "255", "[]", "[1,a]", "[20,5]",
    "[0.0,0.5]", "{a:1}", "true", "''", "' '", "'", "1,2", "x" * 300, "..", "a/b", "é", "cam",
    "release", "cuda:0", "${x}", "???",
]  # fmt: skip


def test_no_number_is_taken_however_large() -> None:
    right = composed(["model=alexnet_star_gap", "data=shapes"])
    numbers = [key for key, kind in KEYS.items() if re.search(r"\b(int|float)\b", str(kind))]
    assert len(numbers) > 25
    for key in numbers:
        raw = OmegaConf.structured(right)
        kind = str(KEYS[key])
        largest = 10**13 if "int" in kind else math.inf
        OmegaConf.update(raw, key, [largest] if "list" in kind else largest)
        with pytest.raises(UserError, match=f"^{key}=.* is out of range"):
            validated(raw)


@given(
    st.lists(st.tuples(st.sampled_from([*KEYS]), st.sampled_from(ODD)), max_size=3),
    st.sampled_from(PROTOCOLS),
)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_any_command_line_is_right_or_refused_in_one_line_that_names_a_key(
    words: list[tuple[str, str]], protocol: str
) -> None:
    options = [f"{key}={value}" for key, value in words]
    done = run("model=resnet18", f"protocol={protocol}", *options)
    if done.code != 0:
        assert any(key in done.err for key in KEYS) and done.err.count("\n") == 1, done
    for config in done.given:
        assert config.recipe.sizes and math.isfinite(config.recipe.lr)


def test_a_networks_name_in_timm_or_torchvision_needs_no_file() -> None:
    (config,) = run("model=timm/test_resnet", "image=a.jpg", name="cam").given
    wanted = ModelConfig("timm-test_resnet", "timm/test_resnet", native=True, input_size=160)
    assert config.model == wanted == model_config("timm/test_resnet")
    assert typed_model(config.model) == "model=timm/test_resnet"
    assert typed_model(model_config("vgg_gap")) == "model=vgg_gap"
    (config,) = run("model=torchvision/shufflenet_v2_x0_5", "model.pool=max", name="train").given
    assert (config.model.backbone, config.model.pool) == ("torchvision/shufflenet_v2_x0_5", "max")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model=timm/resnt50", "timm has no network resnt50; the nearest: resnet50"),
        ("model=torchvision/regnet_y_400", "torchvision has no network .* nearest: regnet_y_400mf"),
        ("model=keras/resnet50", "model=keras/resnet50 is unknown"),
    ],
)
def test_a_library_without_such_a_network_offers_the_nearest(word: str, message: str) -> None:
    done = run(word, name="cam")
    assert done.code == 2 and re.search(message, done.err) and "\n" not in done.err.strip()


@pytest.mark.parametrize("word", ["format=json", "format=json,csv", "format=[json,csv]"])
def test_a_list_of_words_needs_no_brackets(word: str) -> None:
    (config,) = run(word, name="cam").given
    assert config.format == (["json"] if word == "format=json" else ["json", "csv"])


def test_a_format_that_is_none_is_refused_with_the_nearest() -> None:
    assert "format=jsn is unknown; did you mean json?" in run("format=[png,jsn]", name="cam").err
