"""The real scripts end to end on the tiny data set, and the mistakes their users make."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, TINY, Script

FINISHED = {"checkpoint.pt", "checkpoint.previous.pt", "config.yaml", "environment.txt", "metrics.jsonl", ".lock"}


def says(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line of a refused command."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def succeeds(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_train_evaluate_and_tabulate(script: Script, tiny_shapes: Path, tmp_path: Path) -> None:
    """The main job in one go: the files it leaves are the files the design names."""
    out = succeeds(script("train", "model=alexnet_gap"))
    assert "trained 2 epochs" in out
    run = tmp_path / "runs/shapes/alexnet_gap"
    names = {path.name for path in run.iterdir()}
    assert names - {name for name in names if name.startswith("events.")} == FINISHED
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(m["epoch"], m["step"], m["size"]) for m in metrics] == [(1, 3, 32), (2, 6, 48)]
    assert "already trained" in succeeds(script("train", "model=alexnet_gap"))

    succeeds(script("eval_classification", "data.workers=0"))
    succeeds(script("eval_localization", "data.workers=0"))
    folder = tmp_path / "results/shapes/alexnet_gap"
    assert sorted(path.name for path in folder.iterdir()) == [
        "classification.json",
        "localization-cam-paper.json",
        "localization-cam-paper.png",
        "predictions.txt",
    ]
    classification = json.loads((folder / "classification.json").read_text())
    localization = json.loads((folder / "localization-cam-paper.json").read_text())
    assert classification["images"] == 20 and classification["input_size"] == 64
    assert localization["metrics"].keys() >= {
        "cls_top1_error", "cls_top5_error", "loc_top1_error", "loc_top5_error", "gt_known_loc", "loc_given_cls",
        "floor_whole_image", "floor_centre_box",
    }  # fmt: skip
    assert localization["metrics"]["loc_top1_error"] >= localization["metrics"]["cls_top1_error"]
    assert classification["metrics"]["cls_top1_error"] == localization["metrics"]["cls_top1_error"]
    assert localization["provenance"]["training"]["name"] == "scratch"
    assert len((folder / "predictions.txt").read_text().splitlines()) == 20

    table = succeeds(script("tables"))
    assert "Table 1: classification error" in table and "Table 2: localization error" in table
    assert "context only" in table and "VGGnet" not in table

    picture = shutil.copy(next(tiny_shapes.glob("**/val/*.JPEG")), tmp_path)
    out = succeeds(script("predict", "model=alexnet_gap", f"image={picture}"))
    assert out.count("box") == 5 and Path(picture).with_suffix(".cam.png").is_file()


HOT = ("model=alexnet_gap", "recipe.optimizer=sgd", "recipe.lr=100", "recipe.warmup=0", "recipe.clip=0")


def test_a_loss_that_is_not_finite_ends_the_run_with_its_step(script: Script) -> None:
    assert "not finite at step" in says(script("train", *HOT), 1)


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_and_one_line(tiny_shapes: Path, tmp_path: Path) -> None:
    """The limit on a file's size stands in for the disk: the network fits under it, network and optimizer do not."""
    where = " ".join(f"{key}={tmp_path / key}" for key in ("runs", "results", "cache"))
    train = f"{sys.executable} scripts/train.py {where} data.root={tiny_shapes} {' '.join(TINY)} model=alexnet_gap"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 30000; {train}"], capture_output=True, text=True, cwd=REPOSITORY, timeout=240
    )
    line = says(done, 1)
    assert "cannot write" in line and "checkpoint.pt: File too large" in line
    left = [path.name for path in (tmp_path / "runs/shapes/alexnet_gap").iterdir()]
    assert not [name for name in left if name.endswith(".tmp") or name.startswith("checkpoint")]


def test_resuming_with_another_recipe_is_refused(script: Script) -> None:
    succeeds(script("train", "model=alexnet_gap", "recipe.epochs=1"))
    line = says(script("train", "model=alexnet_gap", "recipe.epochs=1", "recipe.label_smoothing=0.3"), 1)
    assert "recipe.label_smoothing 0.1 → 0.3" in line


@pytest.mark.parametrize(
    ("name", "arguments", "code", "message"),
    [
        ("train", (), 2, "model= is needed; choose one of: alexnet, alexnet_gap"),
        ("train", ("model=vgg_gp",), 2, "unknown model 'vgg_gp'; did you mean vgg_gap?"),
        ("train", ("model=vgg_gap", "data=shape"), 2, "unknown data 'shape'; did you mean shapes?"),
        ("train", ("model=vgg_gap", "recipe=fine"), 2, "unknown recipe 'fine'"),
        ("eval_localization", ("protocol=papr",), 2, "unknown protocol 'papr'; did you mean paper?"),
        ("train", ("model=vgg_gap", "recipe.epoch=3"), 2, "unknown option recipe.epoch; did you mean recipe.epochs?"),
        ("train", ("model=vgg_gap", "recipe.epochs=many"), 2, "recipe.epochs=many"),
        ("train", ("model=vgg_gap", "recipe.epochs=0"), 2, "recipe.epochs=0 is out of range"),
        ("train", ("model=vgg_gap", "recipe.optimizer=adam"), 2, "choose one of: sgd, adamw"),
        ("train", ("model=vgg_gap", "model.groups=3"), 2, "model.groups=3 does not divide"),
        ("train", ("model=vgg_gap", "data=ilsvrc", "data.root=null"), 1, "set ILSVRC_ROOT or data.root="),
        ("train", ("model=vgg_gap", "data=ilsvrc", "data.root=/nowhere"), 1, "no ILSVRC/Data/CLS-LOC under"),
        ("eval_classification", ("model=vgg_gap",), 1, "vgg_gap is not trained on shapes"),
        ("eval_localization", (), 1, "no trained network in"),
        ("tables", (), 1, "; type `make eval-classification data=shapes` first"),
        ("train", ("model=vgg_gap", "weights=/nowhere.pth"), 1, "weights=/nowhere.pth is not a file"),
        ("train", ("model=vgg_gap", "runs=/proc/runs"), 1, "cannot write to /proc/runs"),
        ("eval_localization", ("model.groups=2",), 2, "model= is needed for model.groups=2"),
        ("predict", ("model=vgg_gap",), 1, "image= is needed"),
        ("predict", ("model=vgg_gap", "image=/nowhere.jpg"), 1, "image=/nowhere.jpg: No such file"),
    ],
)
def test_a_mistake_ends_in_one_line(script: Script, name: str, arguments: tuple, code: int, message: str) -> None:
    tiny = not any(argument.startswith("data=") for argument in arguments) and any("model=" in a for a in arguments)
    assert message in says(script(name, *arguments, tiny=tiny, environment={"ILSVRC_ROOT": ""}), code)


def test_a_corrupt_picture_is_skipped_by_training_and_refused_by_evaluation(
    script: Script, tiny_shapes: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(tiny_shapes, tmp_path / "tree")
    folder = root / "ILSVRC/Data/CLS-LOC"
    next(iter(sorted((folder / "train").glob("*/*.JPEG")))).write_bytes(b"\xff\xd8")
    out = succeeds(script("train", "model=alexnet_gap", f"data.root={root}"))
    metrics = tmp_path / "runs/shapes/alexnet_gap/metrics.jsonl"
    skipped = sum(json.loads(line)["skipped"] for line in metrics.open())
    assert skipped == out.count("skipped: ")
    bad = sorted((folder / "val").glob("*.JPEG"))[0]
    bad.write_bytes(bad.read_bytes()[:500])
    assert f"corrupt image {bad}" in says(script("eval_localization", f"data.root={root}"), 1)


def test_help_shows_the_choices() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/train.py", "--help"], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0
    assert "alexnet_gap" in done.stdout and "recipe" in done.stdout
