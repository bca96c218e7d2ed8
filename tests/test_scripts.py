"""The real scripts end to end on the tiny data set, and the mistakes their users make."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from conftest import REPOSITORY, TINY, Script, evaluated, own, says, succeeds, tiny_config, under
from result_files import METRICS

from cam_repro import UserError
from cam_repro.reporting.results import compare
from cam_repro.reporting.tables import write_tables

FINISHED = {
    "checkpoint.pt",
    "checkpoint.previous.pt",
    "config.yaml",
    "environment.txt",
    "metrics.jsonl",
    ".lock",
}


def test_train_evaluate_and_tabulate(script: Script, tiny_shapes: Path, tmp_path: Path) -> None:
    """The main job in one go: the files it leaves are the files the design names."""
    assert "trained 2 epochs" in succeeds(script("train", "model=alexnet_gap"))
    run = tmp_path / "runs/shapes/alexnet_gap"
    assert {path.name for path in run.iterdir() if not path.name.startswith("events.")} == FINISHED
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(of["epoch"], of["step"], of["size"]) for of in epochs] == [(1, 3, 32), (2, 6, 48)]
    assert "already trained" in succeeds(script("train", "model=alexnet_gap"))

    succeeds(script("eval_classification", "data.workers=0"))
    succeeds(script("eval_localization", "data.workers=0"))
    folder = tmp_path / "results/shapes/alexnet_gap"
    files = {f"localization-cam-paper.{kind}" for kind in ("json", "npz", "png")}
    files |= {"classification.json", "classification.npz", "predictions.txt"}
    assert {path.name for path in folder.iterdir()} == files
    classification = json.loads((folder / "classification.json").read_text())
    localization = json.loads((folder / "localization-cam-paper.json").read_text())
    assert classification["images"] == 20 and classification["input_size"] == 64
    metrics = localization["metrics"]
    assert metrics.keys() >= METRICS["localization"].keys()
    assert metrics["loc_top1_error"] >= metrics["cls_top1_error"]
    assert classification["metrics"]["cls_top1_error"] == metrics["cls_top1_error"]
    assert localization["provenance"]["training"]["name"] == "scratch"
    assert len((folder / "predictions.txt").read_text().splitlines()) == 20

    refused = says(script("eval_localization", "model=alexnet_gap", "model.pool=max"))
    assert "model.pool=max: " in refused
    assert "was trained with model.pool=average; leave it out" in refused

    table = succeeds(script("tables"))
    assert "Table 1: classification error" in table and "Table 2: localization error" in table
    assert "context only" in table and "VGGnet" not in table

    last_line = succeeds(script("report", "report.images=2")).splitlines()[-1]
    assert last_line.endswith(f"MB: {tmp_path / 'results/shapes/report.html'}")
    image = shutil.copy(next(tiny_shapes.glob("**/val/*.JPEG")), tmp_path)
    out = succeeds(script("cam", "model=alexnet_gap", f"image={image}", f"out={tmp_path / 'out'}"))
    (drawn,) = (tmp_path / "out").iterdir()
    *_, file, last = out.splitlines()
    assert out.count("box") == 5 and file == f"  → {drawn}" and drawn.name in last
    assert drawn.name.startswith(Path(image).stem)
    assert drawn.name.endswith(".alexnet_gap.cam.paper.png")


def test_a_sweeps_trainings_are_kept_apart_evaluated_and_compared(
    script: Script, tiny_shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["model=squeezenet_gap", "recipe.epochs=1", "recipe.lr=1e-3,1e-4", "--multirun"]
    out = succeeds(script("train", *options))
    assert out.count("trained 1 epochs") == 2
    names = [f"squeezenet_gap-recipe.lr_{rate}" for rate in ("0.0001", "0.001")]
    assert sorted(path.name for path in (tmp_path / "runs/shapes").iterdir()) == names
    config = partial(tiny_config, tmp_path, tiny_shapes)
    records = evaluated(config())
    assert [record["model"] for record in records] == ["squeezenet_gap", "squeezenet_gap"]
    assert [record["name"] for record in records] == names
    again = evaluated(config(f"name={names[0]}", "force=true"))[0]
    assert again["metrics"] == records[0]["metrics"]
    table1, *_ = write_tables(tmp_path / "results", "shapes")
    assert all(f"squeezenet_gap ({name})" in table1.read_text() for name in names)

    a, b = (tmp_path / f"results/shapes/{name}/localization-cam-paper.json" for name in names)
    for metric, (difference, low, high) in compare(config(f"a={a}", f"b={b}")).items():
        expected = records[1]["metrics"][metric] - records[0]["metrics"][metric]
        assert difference == pytest.approx(expected, abs=1e-3)
        assert low <= difference <= high
    assert "the same images for both: data=shapes" in capsys.readouterr().out
    records[0]["provenance"]["data"] = "0ther"
    a.write_text(json.dumps(records[0]))
    message = r"a= and b= are of other images: data=shapes \(0ther\), 20"
    with pytest.raises(UserError, match=message):
        compare(config(f"a={a}", f"b={b}"))
    a.with_suffix(".npz").unlink()
    refused = says(script("compare", f"a={a}", f"b={b}"))
    assert "localization-cam-paper.npz is not there, beside" in refused


def test_a_reader_that_leaves_and_a_closed_stderr_cost_no_training(
    tiny_shapes: Path, tmp_path: Path
) -> None:
    where = own("train", under(tmp_path))
    options = " ".join(
        [*where, *TINY, f"data.root={tiny_shapes}", "model=squeezenet_gap", "model.units=8"]
    )
    piped = f"{sys.executable} scripts/train.py {options} 2>&- | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", piped], capture_output=True, text=True, cwd=REPOSITORY, timeout=240
    )
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    run = tmp_path / "runs/shapes/squeezenet_gap"
    assert (run / "checkpoint.pt").is_file()
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("eval_classification", "model=vgg_gap", "vgg_gap is not trained on shapes"),
        ("eval_localization", "", "no trained network in"),
        ("tables", "", "; first: make eval-classification data=shapes data.root="),
        ("cam", "model=vgg_gap", "image= is needed"),
        ("train", "model=vgg_gap runs=/proc/runs", "cannot write to /proc/runs"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    script: Script, name: str, options: str, message: str
) -> None:
    assert message in says(script(name, *options.split()))


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
    """The unpacked wheel is all there is, in a folder that is a git repository of its own."""
    for name in ("cam_repro", "configs"):
        shutil.copytree(REPOSITORY / name, tmp_path / "source" / name)
    for name in ("pyproject.toml", "requirements.txt", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path / "source")
    installed = tmp_path / "elsewhere"
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    pip += ["--no-deps", "--no-index", "--no-build-isolation"]
    pip += ["--target", str(installed), str(tmp_path / "source")]
    subprocess.run(pip, check=True, timeout=120)
    subprocess.run(["git", "init", "--quiet", str(installed)], check=True)
    shutil.rmtree(tmp_path / "source")
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLE], capture_output=True, text=True, cwd=installed, timeout=60,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )  # fmt: skip
    module = str(installed / "cam_repro/__init__.py")
    assert succeeds(done).split(maxsplit=2) == [module, "4", "('unknown', True)\n"]
    files = [*REPOSITORY.glob("cam_repro/**/*.py"), *REPOSITORY.glob("cam_repro/reporting/page/*")]
    assert all((installed / path.relative_to(REPOSITORY)).is_file() for path in files)
