"""Caffe's networks and files, held against OpenCV's reader of both, which is not our code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from caffe_files import blob, caffemodel, describe, field, write_network
from conftest import composed
from safetensors import safe_open

from cam_repro import UserError
from cam_repro.config import model_config
from cam_repro.data import imagenet_classes
from cam_repro.data.views import normalise
from cam_repro.networks import build_network, read_weights
from cam_repro.networks.trunks import backbone
from scripts.export import main as export_weights
from scripts.weights import main as fetch_weights

OLD, NEW = True, False
# Heights and widths at which pooling rounds; fc6 fixes those of caffenet. vgg16_caffe is left out
# for its 2 GB: its layers are all among those of vgg16_cam_caffe and caffenet.
NETWORKS = {
    "googlenet_cam_caffe": (NEW, 97, 85),
    "vgg16_cam_caffe": (OLD, 49, 35),
    "alexnetplus_cam_caffe": (OLD, 163, 131),
    "googlenet_caffe": (NEW, 97, 85),
    "caffenet": (OLD, 227, 227),
    "nin_caffe": (OLD, 131, 163),
}


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        state = backbone(model_config(name).backbone).build().state_dict()
    return {key: tuple(value.shape) for key, value in state.items()}


def written(name: str, folder: Path, old: bool, height: int = 64, width: int = 64) -> Path:
    """A .caffemodel of the network with random weights, beside its deploy.prototxt."""
    return write_network(folder, describe(name, height, width)[0], shapes_of(name), old)[1]


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_and_maps_are_those_of_opencvs_reader_of_caffe(name: str, tmp_path: Path) -> None:
    old, height, width = NETWORKS[name]
    description, last_maps = describe(name, height, width)
    prototxt, file = write_network(tmp_path, description, shapes_of(name), old)
    theirs = cv2.dnn.readNetFromCaffe(str(prototxt), str(file))
    rgb = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    mean = (104, 117, 123) if name.startswith(("googlenet", "vgg")) else (104.007, 116.669, 122.679)
    theirs.setInput((rgb[None, :, :, ::-1] - np.float32(mean)).transpose(0, 3, 1, 2))
    scores_and_maps = [theirs.forward(layer) for layer in (description.top, last_maps)]
    network = build_network(name, 1000, file).eval()
    assert network.untrained == ""
    with torch.inference_mode():
        found = network.forward_with_maps(normalise(torch.from_numpy(rgb).permute(2, 0, 1)[None]))
    assert found[1].shape == scores_and_maps[1].shape
    for ours, expected in zip(found, scores_and_maps, strict=True):
        assert np.std(expected) > 0.1
        assert (
            np.abs(ours.numpy() - expected.reshape(ours.shape)).max()
            < 1e-4 * np.abs(expected).max()
        )


def test_both_formats_and_doubles_are_the_same_weights(tmp_path: Path) -> None:
    first = read_weights(written("alexnetplus_cam_caffe", tmp_path, OLD), "").tensors
    second = read_weights(written("alexnetplus_cam_caffe", tmp_path, NEW), "").tensors
    assert first.keys() == second.keys() == shapes_of("alexnetplus_cam_caffe").keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    row = np.array([[1.0, 2.0, 3.0]])
    layer = field(1, b"fc") + field(
        7, blob(row, old=False, data=field(8, row.astype("<f8").tobytes()))
    )
    (tmp_path / "w.caffemodel").write_bytes(field(100, layer))
    assert read_weights(tmp_path / "w.caffemodel", "").tensors["fc.weight"].tolist() == [
        [1.0, 2.0, 3.0]
    ]


def test_a_caffe_file_starts_a_fine_tuning_and_auxiliary_classifiers_are_passed_over(
    tmp_path: Path,
) -> None:
    file = written("googlenet_caffe", tmp_path, NEW)
    auxiliary = caffemodel(
        {"loss1/conv": [np.ones((128, 512, 1, 1), np.float32), np.ones(128, np.float32)]}, NEW
    )
    file.write_bytes(file.read_bytes() + auxiliary)
    network = build_network("googlenet_gap_caffe", 10, file)
    assert network.untrained == "the new head" and network.num_classes == 10
    theirs = read_weights(file, "").tensors["inception_4e.5x5.weight"]
    assert torch.equal(network.trunk.inception_4e["5x5"].weight, theirs)


def test_a_caffe_file_is_exported_as_safetensors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written("alexnetplus_cam_caffe", tmp_path, OLD)
    options = ["model=alexnetplus_cam_caffe", f"weights={file}", f"runs={tmp_path}"]
    fetch_weights(composed(options))
    assert f"{file.stat().st_size / 1e6:.1f} MB, sha256 " in capsys.readouterr().out
    with pytest.raises(UserError, match="type data=ilsvrc"):
        export_weights(composed(options))
    export_weights(composed([*options, "data=ilsvrc"]))
    exported = read_weights(
        tmp_path / "ilsvrc/alexnetplus_cam_caffe/alexnetplus_cam_caffe-ilsvrc.safetensors", ""
    )
    assert (exported.model, exported.wnids) == (
        model_config("alexnetplus_cam_caffe"),
        imagenet_classes()[0],
    )
    assert exported.starting_weights["source"] == f"weights={file}"
    assert exported.words[1].startswith("goldfish")
    with safe_open(exported.path, "pt") as opened:
        pixels = json.loads(opened.metadata()["cam_repro"])["pixels"]
    assert pixels["order"] == "BGR" and pixels["std"] == [1 / 255] * 3
    one, two = (
        build_network("alexnetplus_cam_caffe", 1000, of).state_dict() for of in (file, exported)
    )
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    with pytest.raises(
        UserError, match="is of another network: .* expected the weights of googlenet_caffe"
    ):
        export_weights(
            composed(
                ["model=googlenet_gap_caffe", f"weights={file}", f"runs={tmp_path}", "data=ilsvrc"]
            )
        )


def changed(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(
        change(written("alexnetplus_cam_caffe", path.parent, OLD).read_bytes())
    )


def without_groups(path: Path) -> None:
    shapes = shapes_of("alexnetplus_cam_caffe") | {"conv4.weight": (384, 384, 3, 3)}
    write_network(path.parent, describe("alexnetplus_cam_caffe", 64, 64)[0], shapes, OLD)[1].rename(
        path
    )


def holds(layer: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(field(100, layer))


def claims(dims: list[int]) -> Callable[[Path], object]:
    """A blob that says it is of these dimensions and holds two numbers."""
    shape = field(7, b"".join(field(1, dim) for dim in dims))
    return holds(field(1, b"conv1") + field(7, field(5, bytes(8)) + shape))


ONE = np.ones((1, 1), np.float32)
DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (
        changed(lambda content: content[:-1000]),
        "cannot be read (DecodeError): it is damaged",
    ),
    "empty": (lambda path: path.touch(), "cannot be read: there is no layer with weights in it"),
    "of 3 GB": (
        lambda path: path.open("wb").truncate(3 * 10**9),
        "has 3.0 GB, a .caffemodel of a network here",
    ),
    "a layer missing": (
        changed(lambda content: content.replace(b"conv7", b"conv8")),
        "conv7.bias (none here, [512]",
    ),
    "a layer without groups": (
        without_groups,
        "among them conv4.weight ([384, 384, 3, 3] here, [384, 192, 3, 3] in",
    ),
    "a shape to fill all memory": (
        claims([2**31, 2**31]),
        "the weight of 'conv1' has 2 numbers for a shape of [21474",
    ),
    "a shape below zero": (claims([2**64 - 1, 2**64 - 2]), "has 2 numbers for a shape of [-1, -2]"),
    "half a number": (holds(field(7, field(5, b"123"))), "cannot be read (ValueError)"),
    "a name of no letters": (
        holds(field(1, b"\xff") + field(7, blob(ONE, NEW))),
        "cannot be read (TypeError)",
    ),
    "masses of empty blobs": (holds(field(7, b"") * 200_000), "more than 100,000 fields"),
    "a number without an end": (
        holds(field(7, field(7, field(1, b"\x80" * 20)))),
        "cannot be read (DecodeError)",
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_or_foreign_file_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    write, message = DAMAGED[kind]
    write(tmp_path / "w.caffemodel")
    with pytest.raises(UserError) as refused:
        build_network("alexnetplus_cam_caffe", 1000, tmp_path / "w.caffemodel")
    line = str(refused.value)
    assert line.startswith(f"weights={tmp_path}") and message in line and "\n" not in line
