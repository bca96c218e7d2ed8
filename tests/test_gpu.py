"""What only a GPU can show: it learns, stops, goes on, compiles and draws as the processor does."""

from __future__ import annotations

import os
import signal
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, composed, evaluated, under
from torch.optim.optimizer import register_optimizer_step_post_hook

from cam_repro import UserError
from cam_repro.config import Config
from cam_repro.data import load_split
from cam_repro.data.loaders import training_batches
from cam_repro.distributed import DistributedContext, float32
from cam_repro.evaluation.maps import predict_split
from cam_repro.networks import build_network
from cam_repro.training.loop import starting_network, train, train_step
from cam_repro.training.solver import build_optimizer

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU that this torch can use"
)

CPU = DistributedContext(0, 1, torch.device("cpu"))
GPU = DistributedContext(0, 1, torch.device("cuda", 0))


def config(folder: Path, root: Path, *options: str) -> Config:
    return composed(
        [
            *under(folder),
            *TINY,
            f"data.root={root}",
            "model=alexnet_gap",
            "model.input_size=64",
            *options,
        ]
    )


@pytest.mark.parametrize(
    "model", ["alexnet_gap", "googlenet_gap", "vgg_gap", "efficientnet_lite0_gap"]
)
def test_a_step_in_bfloat16_has_the_processors_loss_and_gradient(
    tiny_shapes: Path, tmp_path: Path, model: str
) -> None:
    settings = config(
        tmp_path, tiny_shapes, f"model={model}", "weights=none", "recipe.batch_norm=frozen"
    )
    split = load_split(settings.data, "train", tmp_path, CPU)
    batch = next(training_batches(split, settings.recipe, 64, seed=0, epoch=0, workers=0))
    losses, gradients = [], []
    for world in (CPU, GPU):
        network, _ = starting_network(settings, 10, world, resumes=False)
        optimizer = build_optimizer(network, settings.recipe, fused=world is GPU)
        batch = batch.to(world.device)
        sums = train_step(network, optimizer, batch, settings.recipe, 60, world)
        losses.append(sums[0].item())
        gradients.append(network.classifier.weight.grad.flatten().cpu())
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


def test_a_training_stopped_on_a_gpu_ends_bit_for_bit_as_an_undisturbed_one(
    tiny_shapes: Path, tmp_path: Path
) -> None:
    """With dropout, whose random numbers are the GPU's own."""

    def run(name: str) -> Config:
        return config(
            tmp_path, tiny_shapes, "deterministic=true", "model.dropout=0.5", f"name={name}"
        )

    steps = count(1)

    def stop(*_: object) -> None:
        if next(steps) == 4:  # within the second epoch
            os.kill(os.getpid(), signal.SIGTERM)

    whole = train(run("whole"))
    with (
        register_optimizer_step_post_hook(stop),
        pytest.raises(UserError, match="stopped and saved at step 4"),
    ):
        train(run("halved"))
    halved = train(run("halved"))
    one, two = (
        torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (whole, halved)
    )
    assert all(torch.equal(one["network"][key], two["network"][key]) for key in one["network"])
    assert torch.equal(one["processes"][0]["cuda"], two["processes"][0]["cuda"])


def test_a_compiled_training_learns_what_a_plain_one_does(
    tiny_shapes: Path, tmp_path: Path
) -> None:
    def trained(compile: str) -> dict[str, torch.Tensor]:
        run = train(
            config(tmp_path, tiny_shapes, f"name=compiled-{compile}", f"recipe.compile={compile}")
        )
        return torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)["network"]

    plain, compiled = trained("false"), trained("true")
    assert plain.keys() == compiled.keys()
    for key, weights in plain.items():
        assert torch.dist(weights, compiled[key]) <= 0.02 * weights.norm() + 1e-3, key


def test_products_are_whole_float32_where_maps_are_made() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, 512, 512, generator=generator, dtype=torch.float64)
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with float32():
            product = one.float().cuda() @ two.float().cuda()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    assert (product.cpu() - one @ two).abs().max() < 1e-3  # TF32's ten bits are off by some 2e-2


@pytest.mark.parametrize("model", ["alexnet_gap", "googlenet", "efficientnet_lite0"])
@pytest.mark.parametrize("view", ["squash", "ten_crop"])
def test_maps_are_the_processors(tiny_shapes: Path, tmp_path: Path, model: str, view: str) -> None:
    """To 1e-4 of the split's largest value.

    The pixels' gradient, which jumps where a ReLU opens, in its direction.
    """
    torch.manual_seed(0)
    settings = config(tmp_path, tiny_shapes, f"model={model}")
    split = load_split(settings.data, "val", tmp_path, CPU)
    network = build_network(settings.model, 10)
    methods = ["cam", "gradcam", "layercam", "backprop"]
    there, here = (
        [
            {method: of[:, :, -1] for method, of in batch.maps.items()}
            for batch in predict_split(network.to(world.device), split, view, 64, methods, world)
        ]
        for world in (GPU, CPU)
    )
    for method in methods:  # of all images: of a few, a ReLU may leave next to nothing
        of_gpu, of_cpu = (
            np.concatenate([maps[method].ravel() for maps in of_all]) for of_all in (there, here)
        )
        if method == "backprop":
            assert np.corrcoef(of_gpu, of_cpu)[0, 1] > 0.999
        else:
            assert np.abs(of_gpu - of_cpu).max() <= 1e-4 * np.abs(of_cpu).max(), method


def test_an_evaluation_gives_the_processors_boxes(tiny_shapes: Path, tmp_path: Path) -> None:
    settings = config(tmp_path, tiny_shapes, "recipe.epochs=1")
    settings.weights = str(train(settings) / "checkpoint.pt")
    boxes = []
    for device in ("cpu", "cuda"):
        settings.device = device
        settings.results = str(tmp_path / device)
        settings.cache = str(tmp_path / device)
        evaluated(settings)
        boxes.append(np.loadtxt(tmp_path / device / "shapes/alexnet_gap/predictions.txt"))
    assert np.isclose(*boxes, atol=1).mean() > 0.98
