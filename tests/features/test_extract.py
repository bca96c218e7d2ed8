"""Features are what the last layer is given, of the right network and images, and kept whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_checkpoint
from random_networks import configured, random_network
from torch import nn
from torchvision.models import resnet18, squeezenet1_0

from cam_repro import UserError
from cam_repro.config import model_config
from cam_repro.data.loaders import evaluation_batches
from cam_repro.data.split import load_arrays, save_arrays
from cam_repro.data.views import normalise
from cam_repro.evaluation.trained import load_trained
from cam_repro.features import extract
from cam_repro.features import kept as kept_features
from cam_repro.features.extract import open_networks
from cam_repro.features.kept import features_path, make_features, read_features
from cam_repro.features.record import read_svm_record, svm_record_files
from cam_repro.features.svm import measure_svms
from cam_repro.networks import build_network
from cam_repro.networks.network import last_layer

WNIDS = [f"n9000000{number}" for number in range(10)]


@pytest.mark.parametrize(
    ("name", "length"),
    [
        ("squeezenet_gap", 1024),
        ("squeezenet", 7),
        ("googlenet_gmp", 1024),
        ("alexnet", 4096),
        ("googlenet_caffe", 1024),
        ("googlenet_cam_caffe", 1024),
        ("mobilenet_v2", 1280),
    ],
)
def test_the_last_layer_makes_the_logits_of_the_features(name: str, length: int) -> None:
    network = build_network(name, 7).eval()
    images = torch.randn(2, 3, 64, 64)
    _, last = last_layer(network)
    with torch.inference_mode():
        features = network.features(images)
        scores = last(features) if isinstance(last, nn.Linear) else features
        assert torch.equal(scores, network(images))
    assert features.shape == (2, length)


def test_features_are_kept_for_training_and_for_test_and_are_not_made_twice(
    tiny_shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    network = random_network(tmp_path, tiny_shapes)
    config = configured(tmp_path, tiny_shapes, "name=one", "protocol.view=ten_crop")
    make_features(config)
    assert "one on shapes val: 20 images, 16 features each (pooled maps)" in capsys.readouterr().out
    (evaluations,) = open_networks(config)
    train, val = evaluations
    assert read_features(train, np.arange(60)).features.shape == (60, 16)
    kept = load_arrays(features_path(val))
    assert kept["files"].tolist() == val.split.files.tolist()
    assert kept["labels"].tolist() == val.split.labels.tolist()
    assert features_path(val).name == "features-ten_crop-val.npz"

    (batch,) = evaluation_batches(val.split.subset([3]), 48, 1, view="ten_crop", workers=0)
    with torch.inference_mode():
        of_crops = network.features(normalise(batch.pixels))
    third = read_features(val, np.arange(20)).of(np.array([3]))
    assert np.allclose(third, of_crops.mean(0), atol=1e-5)

    monkeypatch.setattr(kept_features, "extract", None)
    make_features(config)
    assert capsys.readouterr().out.count("nothing has changed since") == 2


def test_of_few_drawn_images_no_others_features_are_made(
    tiny_shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random_network(tmp_path, tiny_shapes)
    few = ["svm.per_class=3", "svm.test_per_class=1", "svm.draws=1", "svm.c=[0.1]"]
    config = configured(tmp_path, tiny_shapes, "name=one", *few)
    make_features(config)
    said = capsys.readouterr().out
    assert "train: 30 of 60 images" in said and "val: 10 of 20 images" in said
    list(measure_svms(config))
    (record,) = (tmp_path / "results").rglob("svm-softmax-*-3+1x1-*.json")
    of_the_few = read_svm_record(record)

    more = configured(tmp_path, tiny_shapes, "name=one", *few[:2], "svm.draws=4", "seed=1")
    with pytest.raises(UserError, match=r"lacks \d+ of the \d+ .* drawn .*svm.draws=4 seed=1"):
        list(measure_svms(more))
    with pytest.raises(UserError, match="lacks 30 of the 60 images"):
        list(measure_svms(configured(tmp_path, tiny_shapes, "name=one")))
    make_features(configured(tmp_path, tiny_shapes, "name=one"))
    make_features(config)
    assert capsys.readouterr().out.count("nothing has changed since") == 2
    list(measure_svms(config))
    assert read_svm_record(record)["each_draw"] == of_the_few["each_draw"]


def test_an_extraction_that_was_cut_off_goes_on(
    tiny_shapes: Path, tmp_path: Path, monkeypatch
) -> None:
    random_network(tmp_path, tiny_shapes)
    config = configured(tmp_path, tiny_shapes, "name=one", "eval_batch_size=8")
    (evaluations,) = open_networks(config)
    images = []
    pooled = extract.pooled

    def fails_at_the_third(*arguments: object) -> torch.Tensor:
        images.append(len(arguments[1]))
        if len(images) == 3:
            raise KeyboardInterrupt
        return pooled(*arguments)

    monkeypatch.setattr(extract, "pooled", fails_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        extract.extract(evaluations[1])
    assert not features_path(evaluations[1]).exists()
    found = extract.extract(evaluations[1])
    assert images == [8, 8, 4, 4]
    whole = configured(tmp_path / "another", tiny_shapes, "name=one", "eval_batch_size=8")
    anew = replace(evaluations[1], config=whole)
    assert np.array_equal(found, extract.extract(anew))


def test_features_of_another_network_view_or_data_are_refused(
    tiny_shapes: Path, tmp_path: Path
) -> None:
    random_network(tmp_path, tiny_shapes)
    config = configured(tmp_path, tiny_shapes, "name=one")
    (evaluations,) = open_networks(config)
    with pytest.raises(UserError, match=r"is not there.*make features model=squeezenet_gap .*name"):
        read_features(evaluations[0], np.arange(60))
    make_features(config)
    for changes, what in (
        ({"fingerprint": "ffff"}, r"other images \(\w+ against ffff\); type make features"),
        (
            {"config": configured(tmp_path, tiny_shapes, "protocol.size=40")},
            "other size .48 against",
        ),
    ):
        with pytest.raises(UserError, match=what):
            read_features(replace(evaluations[0], **changes), np.arange(60))
    random_network(tmp_path, tiny_shapes, seed=1)
    (evaluations,) = open_networks(config)
    with pytest.raises(UserError, match="has features of other weights"):
        read_features(evaluations[0], np.arange(60))


def test_networks_of_other_data_and_one_name_are_kept_apart_by_name(
    tiny_shapes: Path, tmp_path: Path
) -> None:
    """As a network fine-tuned on Imagenette, whose features serve Scene-15."""
    model = model_config("squeezenet_gap", units=16, input_size=48)
    words = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        path = tmp_path / f"runs/pets/one/{seed}.pt"
        write_checkpoint(path, model, build_network(model, 3), ["n1", "n2", "n3"])
        words.append(["model=squeezenet_gap", f"weights={path}", "svm.c=[0.1]"])
    make_features(configured(tmp_path, tiny_shapes, *words[0]))
    kept = tmp_path / "runs/shapes/squeezenet_gap/features-squash-val.npz"
    before = kept.read_bytes()
    other = configured(tmp_path, tiny_shapes, *words[1])
    for work in (make_features, measure_svms):
        with pytest.raises(UserError, match=r"train.npz has .* other weights .*1.pt .*name="):
            list(work(other) or [])
    assert kept.read_bytes() == before

    other.name = "second"
    make_features(other)
    list(measure_svms(other))
    path, *_ = svm_record_files(tmp_path / "results/shapes")
    record = read_svm_record(path)
    assert path.parent.name == record["name"] == "second"
    assert record["model"] == "squeezenet_gap"


def test_features_that_are_not_finite_are_refused(tiny_shapes: Path, tmp_path: Path) -> None:
    random_network(tmp_path, tiny_shapes)
    (evaluations,) = open_networks(configured(tmp_path, tiny_shapes, "name=one"))
    evaluations[1].trained.network.head[0].weight.data.fill_(float("inf"))
    with pytest.raises(UserError, match="NaN or infinite of 20 of 20 images"):
        extract.extract(evaluations[1])


def test_kept_features_that_are_not_finite_are_refused(tiny_shapes: Path, tmp_path: Path) -> None:
    random_network(tmp_path, tiny_shapes)
    config = configured(tmp_path, tiny_shapes, "name=one")
    make_features(config)
    (evaluations,) = open_networks(config)
    path = features_path(evaluations[0])
    arrays = load_arrays(path)
    arrays["features"][2, 3] = np.nan
    save_arrays(path, **arrays)
    with pytest.raises(UserError, match="NaN or infinite of 1 of 60 images"):
        list(measure_svms(config))


def test_a_network_without_a_classifier_has_features_and_one_without_its_maps_has_none(
    tiny_shapes: Path, tmp_path: Path
) -> None:
    state = resnet18().state_dict()
    trunk = {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}
    torch.save(trunk, tmp_path / "trunk.pth")
    words = [f"weights={tmp_path / 'trunk.pth'}", "model.input_size=32"]
    config = configured(tmp_path, tiny_shapes, "model=resnet18", *words)
    (evaluations,) = open_networks(config)
    assert extract.extract(evaluations[1]).shape == (20, 512)
    with pytest.raises(UserError, match="the classifier .* is not trained"):
        load_trained(config, "resnet18", (WNIDS, WNIDS), torch.device("cpu"))
    torch.save(squeezenet1_0().state_dict(), tmp_path / "trunk.pth")
    with pytest.raises(UserError, match="the new head of squeezenet_gap is not trained"):
        next(open_networks(configured(tmp_path, tiny_shapes, "model=squeezenet_gap", words[0])))
