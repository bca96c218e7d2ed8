"""The real scripts end to end on the tiny data set, and the mistakes their users make."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, TINY, Script, composed, evaluated

from cam_repro.reporting.compare import compare
from cam_repro.reporting.tables import write_tables

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
        "localization-cam-paper.npz",
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

    last_line = succeeds(script("report", "report.images=2")).splitlines()[-1]
    assert last_line.endswith(f"MB: {tmp_path / 'results/shapes/report.html'}")
    picture = shutil.copy(next(tiny_shapes.glob("**/val/*.JPEG")), tmp_path)
    out = succeeds(script("predict", "model=alexnet_gap", f"image={picture}", f"out={tmp_path / 'out'}"))
    assert out.count("box") == 5 and (tmp_path / f"out/{Path(picture).stem}.cam.png").is_file()


HOT = ("model=alexnet_gap", "recipe.optimizer=sgd", "recipe.lr=100", "recipe.warmup=0", "recipe.clip=0")


def test_a_loss_that_is_not_finite_ends_the_run_with_its_step(script: Script) -> None:
    assert "not finite at step" in says(script("train", *HOT), 1)


def test_a_sweeps_trainings_are_kept_apart_evaluated_and_compared(
    script: Script, tiny_shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = succeeds(script("train", "model=alexnet_gap", "recipe.epochs=1", "recipe.lr=1e-3,1e-4", "--multirun"))
    assert out.count("trained 1 epochs") == 2
    names = [f"alexnet_gap-recipe.lr_{rate}" for rate in ("0.0001", "0.001")]
    assert sorted(path.name for path in (tmp_path / "runs/shapes").iterdir()) == names
    where = [f"{key}={tmp_path / key}" for key in ("runs", "results", "cache")]
    options = [*where, *TINY, f"data.root={tiny_shapes}", "data.workers=0", "device=cpu"]
    records = evaluated(composed(options))
    assert [(record["model"], record["name"]) for record in records] == [("alexnet_gap", name) for name in names]
    assert evaluated(composed([*options, f"name={names[0]}", "force=true"]))[0]["metrics"] == records[0]["metrics"]
    paths = write_tables(tmp_path / "results", "shapes")
    assert all(f"AlexNet-GAP ({name})" in paths[0].read_text() for name in names)

    a, b = (tmp_path / f"results/shapes/{name}/localization-cam-paper.json" for name in names)
    for metric, (difference, low, high) in compare(composed([*options, f"a={a}", f"b={b}"])).items():
        assert difference == pytest.approx(records[1]["metrics"][metric] - records[0]["metrics"][metric], abs=1e-3)
        assert low <= difference <= high
    assert "20 images, the same for both: data=shapes" in capsys.readouterr().out
    a.write_text(json.dumps(records[0] | {"provenance": records[0]["provenance"] | {"data": "0ther"}}))
    assert "a= and b= are of other images: data=shapes (0ther), 20" in says(script("compare", f"a={a}", f"b={b}"), 1)
    a.with_suffix(".npz").unlink()
    assert "localization-cam-paper.npz, what was right on each image, is not there" in says(
        script("compare", f"a={a}", f"b={b}"), 1
    )


def test_a_reader_that_leaves_and_a_closed_stderr_cost_no_training(tiny_shapes: Path, tmp_path: Path) -> None:
    where = " ".join(f"{key}={tmp_path / key}" for key in ("runs", "results", "cache"))
    train = f"{sys.executable} scripts/train.py {where} data.root={tiny_shapes} {' '.join(TINY)} model=alexnet_gap"
    piped = f"{train} model.units=8 2>&- | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, cwd=REPOSITORY, timeout=240)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    run = tmp_path / "runs/shapes/alexnet_gap"
    assert (run / "checkpoint.pt").is_file() and len((run / "metrics.jsonl").read_text().splitlines()) == 2


def test_resuming_with_another_recipe_is_refused(script: Script) -> None:
    succeeds(script("train", "model=alexnet_gap", "recipe.epochs=1"))
    line = says(script("train", "model=alexnet_gap", "recipe.epochs=1", "recipe.label_smoothing=0.3"), 1)
    assert "recipe.label_smoothing 0.1 → 0.3" in line


@pytest.mark.parametrize(
    ("name", "arguments", "code", "message"),
    [
        ("train", (), 2, "model= is needed; choose one of: alexnet, alexnet_gap"),
        ("train", ("model=vgg_gap", "data=ilsvrc", "data.root=null"), 1, "set ILSVRC_ROOT or data.root="),
        ("eval_classification", ("model=vgg_gap",), 1, "vgg_gap is not trained on shapes"),
        ("eval_localization", (), 1, "no trained network in"),
        ("report", (), 1, "no boxes of any network in"),
        ("curves", (), 1, "no epoch of a training is over in"),
        ("tables", (), 1, "; type `make eval-classification data=shapes` first"),
        ("train", ("model=vgg_gap", "weights=IMAGENET1K_V9"), 1, "weights=IMAGENET1K_V9 is unknown; did you mean"),
        ("train", ("model=vgg_gap", "runs=/proc/runs"), 1, "cannot write to /proc/runs"),
        ("predict", ("model=vgg_gap",), 1, "image= is needed"),
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


EXAMPLE = """
import torch, cam_repro
from cam_repro.localization import class_activation_maps
from cam_repro.localization.boxes import paper_box
from cam_repro.networks import build_network
from cam_repro.provenance import git_state
network = build_network("alexnet_gap", num_classes=10).eval()
with torch.inference_mode():
    logits, maps = network.forward_with_maps(torch.rand(1, 3, 224, 224))
    heat = class_activation_maps(maps, network.classifier_weight, logits.topk(5).indices)
print(cam_repro.__file__, len(paper_box(heat[0, 0].numpy())), git_state())
"""


def test_what_pip_installs_works_without_a_checkout(tmp_path: Path) -> None:
    """The package is read from nothing but its wheel, unpacked, in a folder that is a git repository of its own."""
    for name in ("cam_repro", "configs"):
        shutil.copytree(REPOSITORY / name, tmp_path / "source" / name)
    for name in ("pyproject.toml", "requirements.txt", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    installed = tmp_path / "elsewhere"
    subprocess.run([*pip, "--target", str(installed), str(tmp_path / "source")], check=True, timeout=120)
    subprocess.run(["git", "init", "--quiet", str(installed)], check=True)
    shutil.rmtree(tmp_path / "source")
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLE], capture_output=True, text=True, cwd=installed, timeout=60,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )  # fmt: skip
    assert succeeds(done).split(maxsplit=2) == [str(installed / "cam_repro/__init__.py"), "4", "('unknown', True)\n"]
    package = REPOSITORY / "cam_repro"
    rooms = {path.relative_to(REPOSITORY) for path in [*package.rglob("*.py"), *package.glob("reporting/page/*")]}
    assert all((installed / path).is_file() for path in rooms)
