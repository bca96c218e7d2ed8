"""Weights as other programs keep them: wrapped, prefixed, with another head or with none."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from conftest import ALONE, composed, weights_of
from torchvision.models import resnet34

from cam_repro import UserError
from cam_repro.config import ModelConfig
from cam_repro.evaluation.trained import load_trained
from cam_repro.networks import CamNetwork, Weights, build_network
from cam_repro.training.loop import starting_network

BACKBONE = "timm/test_resnet"  # timm's own tiny network for tests
NATIVE, GAP = ModelConfig("whole", BACKBONE, native=True), ModelConfig("cut", BACKBONE)
CLASSES = 6
State = dict[str, torch.Tensor]
THEIRS: State = timm.create_model("test_resnet", num_classes=CLASSES).state_dict()
OTHERS: State = timm.create_model("test_resnet", num_classes=CLASSES).state_dict()
OPTIONS = Namespace(lr=0.1, opt="sgd")


def behind(prefix: str, state: State = THEIRS) -> State:
    return {f"{prefix}{name}": of for name, of in state.items()}


def headless() -> State:
    return {name: of for name, of in THEIRS.items() if not name.startswith("fc.")}


def has_their_trunk(network: CamNetwork) -> bool:
    layers = network.trunk.maps.model.state_dict()
    return len(layers) > 10 and all(torch.equal(of, THEIRS[name]) for name, of in layers.items())


def read(state: State) -> Weights:
    return replace(weights_of(torch.nn.Identity()), tensors=state)


PROGRAMS: dict[str, tuple[Any, str]] = {  # what each saved, and what is said of it
    "nothing around it": (THEIRS, ""),
    "DataParallel": (behind("module."), "'module.' taken off the names of its layers"),
    "torch.compile": (behind("_orig_mod."), "'_orig_mod.' taken off the names of its layers"),
    "both": (behind("module._orig_mod."), "'module._orig_mod.' taken off the names of its layers"),
    "a module of one's own": (behind("net."), "'net.' taken off the names of its layers"),
    "a checkpoint": ({"epoch": 3, "state_dict": THEIRS}, "the state dict under state_dict"),
    "torchvision": (
        {"model": OTHERS, "model_ema": {"n": torch.ones(1)} | behind("module."), "args": OPTIONS},
        "the state dict under model_ema, 'module.' taken off the names of its layers, left out: n",
    ),
    "timm": (
        {"arch": "test_resnet", "state_dict": OTHERS, "state_dict_ema": THEIRS, "args": OPTIONS},
        "the state dict under state_dict_ema",
    ),
    "no average": ({"model": THEIRS, "model_ema": None}, "the state dict under model"),
    "Lightning": (
        {"state_dict": behind("model."), "hyper_parameters": {"lr": 0.1}, "callbacks": {}},
        "the state dict under state_dict, 'model.' taken off the names of its layers",
    ),
    "twice": ({"model": {"state_dict": THEIRS}}, "the state dict under model.state_dict"),
    "two of them": (
        behind("draft.", {"conv1.0.weight": torch.ones(1)}) | behind("model."),
        "'model.' taken off the names of its layers, left out: draft.conv1.0.weight",
    ),
    "a detector": (
        behind("backbone.body.", headless())
        | {"rpn.weight": torch.ones(3), "rpn.bias": torch.ones(3)},
        "'backbone.body.' taken off the names of its layers, left out: rpn.weight and 1 more",
    ),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_layers_are_taken_out_of_what_another_program_saved(
    program: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    saved, said = PROGRAMS[program]
    file = tmp_path / "w.pth"
    torch.save(saved, file)
    network = build_network(GAP, 3, file)
    assert has_their_trunk(network) and network.untrained == "the new head"
    assert capsys.readouterr().out == (f"weights={file}: {said}\n" if said else "")


def test_a_classifier_of_the_datas_own_classes_is_taken() -> None:
    for classes in (CLASSES, None):
        network = build_network(NATIVE, classes, read(THEIRS))
        assert has_their_trunk(network)
        assert torch.equal(network.classifier_weight, THEIRS["fc.weight"])
        assert (network.num_classes, network.untrained) == (CLASSES, "")
    network = build_network(NATIVE, 4, read(THEIRS))
    assert network.num_classes == 4
    assert network.untrained == "the classifier (the file has 6 classes, the data 4)"


def test_the_number_of_classes_is_the_files_or_else_1000() -> None:
    assert build_network(GAP, None, read(THEIRS)).num_classes == CLASSES
    assert build_network(GAP, None, read(headless())).num_classes == 1000
    assert build_network(GAP).num_classes == 1000


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"fc.0.weight": torch.ones(2, 2)},
        {"fc.weight": torch.ones(7, 3)},
        {"fc.weight": torch.ones(7)},
        {"fc.weight": THEIRS["fc.weight"]},  # without its bias
        {"fc.weight": THEIRS["fc.weight"].long(), "fc.bias": THEIRS["fc.bias"]},
    ],
)
def test_a_missing_or_another_head_does_not_keep_the_rest_from_being_taken(head: State) -> None:
    assert has_their_trunk(build_network(GAP, 3, read(headless() | head)))
    network = build_network(NATIVE, 3, read(headless() | head))
    assert has_their_trunk(network)
    assert network.untrained == "the classifier (the file has none that fits, the data 3)"


def test_a_head_under_a_name_of_its_own_is_cut_off_and_never_passed_over() -> None:
    renamed = headless() | {"cls.weight": torch.ones(3, 96)}
    assert has_their_trunk(build_network(GAP, 3, read(renamed)))
    with pytest.raises(UserError, match=r"1 layers differ, among them cls.weight \(\[3, 96\] here"):
        build_network(NATIVE, 3, read(renamed))


def test_a_deeper_network_of_the_same_names_is_refused_by_both_cuts() -> None:
    """Every layer of a ResNet-18 has its name and its shape in a ResNet-34."""
    deeper = weights_of(resnet34())
    for native in (True, False):
        with pytest.raises(UserError, match="layers differ, among them layer1.2.bn1.bias"):
            build_network(ModelConfig("any", "resnet18", native=native), 3, deeper)


def test_a_file_of_the_datas_classes_is_evaluated(tmp_path: Path) -> None:
    file, wnids = tmp_path / "w.pth", [f"n{label}" for label in range(CLASSES)]
    torch.save({"state_dict": behind("module.")}, file)
    config = composed(["model=resnet18", f"model.backbone={BACKBONE}", f"weights={file}"])
    trained = load_trained(config, "resnet18", (wnids, wnids), torch.device("cpu"))
    assert trained.wnids == wnids
    assert torch.equal(trained.network.classifier_weight, THEIRS["fc.weight"])


@pytest.mark.parametrize("native", [True, False])
def test_a_training_starts_from_a_file_without_a_head(tmp_path: Path, native: bool) -> None:
    file = tmp_path / "w.pth"
    torch.save(headless(), file)
    model = f"model={'resnet18' if native else 'resnet50_gap'}"
    config = composed([model, f"model.backbone={BACKBONE}", f"weights={file}", "recipe=finetune"])
    network, start = starting_network(config, 3, ALONE, resumes=False)
    assert has_their_trunk(network) and network.num_classes == 3
    assert start.startswith(f"starts from weights={file}, sha256 ")
