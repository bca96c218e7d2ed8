"""Several processes give what one gives, and end together."""

from __future__ import annotations

import json
from pathlib import Path
from signal import SIGTERM

import pytest
from conftest import REPOSITORY, TINY, composed, evaluated, under
from harm import (
    RUN,
    assert_same,
    begun,
    finish,
    places,
    result,
    signal_when,
    start_torchrun,
    start_two,
)
from processes import CONTEXT
from two_processes import agree

from cam_repro.data.loaders import epoch_order
from cam_repro.data.shapes import make_shapes
from cam_repro.training.loop import train


def write_uneven_shapes(root: Path) -> Path:
    """13 train images, fewer than a batch, and 7 val images.

    Of the batch one process's whole share is corrupt.
    """
    make_shapes(root, seed=0, train=13, val=7)
    (shown,) = epoch_order(13, 16, seed=0, epoch=0)
    lists = (root / "ILSVRC/ImageSets/CLS-LOC/train_cls.txt").read_text().splitlines()
    for image in shown[1::2]:
        name = Path(lists[image].split()[0]).name
        (file,) = (root / "ILSVRC/Data/CLS-LOC/train").glob(f"*/{name}.JPEG")
        file.write_bytes(b"\xff\xd8")
    return root


def test_two_processes_train_and_evaluate_like_one(tmp_path: Path) -> None:
    """No number divides by two, and one process has no image to learn from in the first step."""
    root = write_uneven_shapes(tmp_path / "shapes")
    sizes = (
        "data.generate.train=13",
        "data.generate.val=7",
        "model.input_size=64",
        "eval_batch_size=3",
    )
    options = [f"data.root={root}", *TINY, *sizes, "model=squeezenet_gap", "device=cpu"]
    one, two = tmp_path / "one", tmp_path / "two"
    train(composed([*under(one), *options]))
    finish(two, *start_two(two, *options))
    epochs = [(folder / RUN / "metrics.jsonl").read_text().splitlines() for folder in (one, two)]
    for alone, together in (map(json.loads, lines) for lines in zip(*epochs, strict=True)):
        assert together["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-3)
        assert together["val_loss"] == pytest.approx(alone["val_loss"], rel=1e-3)
        assert together["skipped"] == alone["skipped"] == 6
    weights = f"weights={one / RUN}/checkpoint.pt"
    (alone,) = evaluated(composed([*under(one), *options, weights]))
    localize = REPOSITORY / "scripts/eval_localization.py"
    finish(two, *start_two(two, *options, weights, file=localize))
    together = json.loads(
        (two / "results/shapes/squeezenet_gap/localization-cam-paper.json").read_text()
    )
    assert alone["metrics"] == together["metrics"] and alone["images"] == together["images"] == 7


def test_a_process_without_images_neither_waits_nor_miscounts(
    tiny_shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, its = places()
    other = CONTEXT.Process(target=agree, args=(tiny_shapes, tmp_path / "cache", its), daemon=True)
    other.start()
    for key, value in ours.items():
        monkeypatch.setenv(key, value)
    agree(tiny_shapes, tmp_path / "cache", {})
    other.join(60)
    assert other.exitcode == 0


def test_two_processes_that_fail_or_stop_end_as_undisturbed_ones(
    tiny_shapes: Path, tmp_path: Path
) -> None:
    """With dropout in each process and deterministic=true, which so gives the same bits twice.

    A process fails, torchrun starts both again, one of them alone is stopped within a validation,
    then within an epoch.
    """
    options = (
        f"data.root={tiny_shapes}",
        *TINY,
        "recipe.epochs=3",
        "recipe.batch_size=8",
        "deterministic=true",
        "model=squeezenet_gap",
        "model.units=8",
        "model.dropout=0.5",
    )
    one, two = tmp_path / "one", tmp_path / "two"
    finish(one, *start_two(one, *options))
    assert "2 process(es) × 4 on cpu" in (one / "out").read_text()

    two.mkdir()
    harmed = start_torchrun(two, *options, SAVE_EVERY="0", FAIL_AT_STEP="4", STOP_IN_VALIDATION="1")
    assert harmed.wait(120) == 1
    said, told = (two / "err").read_text(), (two / "out").read_text()
    assert said.count("error: this process fails, as asked") == 1
    assert "onnection closed" not in said
    assert "resumes at step" in told and "epoch 1/3" not in told
    assert said.count("stopped and saved at step 7") == 2

    both = start_two(two, *options)
    assert (
        signal_when(both[0], lambda: begun(two / RUN) == 3, SIGTERM, 0.2) == both[1].wait(60) == 1
    )
    assert "stopped and saved at step" in (two / "err").read_text()

    finish(two, *start_two(two, *options))
    assert "resumes at step" in (two / "out").read_text()
    assert_same(result(two), result(one))
