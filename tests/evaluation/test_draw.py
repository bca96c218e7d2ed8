"""From a picture to a box in original pixels, with a network whose map is known."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ALONE
from PIL import Image
from torch import nn

from cam_repro.config import DataConfig, ProtocolConfig
from cam_repro.data.ilsvrc import open_split
from cam_repro.data.split import Split
from cam_repro.data.views import VIEWS
from cam_repro.evaluation.draw import DrawnImage, draw_boxes, rule_of
from cam_repro.evaluation.maps import KeptMaps, MapBatch, predict_split
from cam_repro.networks.network import CamNetwork

PAPER = ProtocolConfig(name="paper", threshold=0.5)
RELEASE = ProtocolConfig(name="release", boxes="release", thresholds=[20, 100, 110])
SWEEP = ProtocolConfig(name="wsol", boxes="sweep")


def brightness_network(classes: int = 2) -> CamNetwork:
    """Maps = how bright each 8×8 patch is; every class weighs them alike."""
    patches = nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 1, 1), nn.ReLU())
    with torch.no_grad():
        patches[1].weight.fill_(1.0)
        patches[1].bias.fill_(6.0)  # black is −2.1, −2.0 and −1.8 after normalisation
    classifier = nn.Linear(1, classes)
    nn.init.ones_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    return CamNetwork(patches, nn.Identity(), classifier, "average", 0.0)


def tree_with_bright_blobs(root: Path, *blobs: tuple[tuple[int, int], tuple[int, int, int, int]]) -> Split:
    """One black picture for each ((width, height), blob), with its true box in LOC_val_solution.csv."""
    folder = root / "ILSVRC/Data/CLS-LOC/val/n1"
    folder.mkdir(parents=True)
    rows = ["ImageId,PredictionString"]
    for number, ((width, height), (x1, y1, x2, y2)) in enumerate(blobs):
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[y1 : y2 + 1, x1 : x2 + 1] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append(f"{number},n1 {x1} {y1} {x2} {y2}")
    (root / "LOC_synset_mapping.txt").write_text("n1 blob\nn2 other\n")
    (root / "LOC_val_solution.csv").write_text("\n".join(rows))
    return open_split(DataConfig(name="blob", root=str(root)), "val", root)


@pytest.fixture
def three_pictures(tmp_path: Path) -> Split:
    """A wide, a tall and a square one."""
    wide, tall = ((480, 160), (300, 40, 419, 99)), ((120, 300), (30, 60, 99, 219))
    return tree_with_bright_blobs(tmp_path / "tree", wide, tall, ((224, 224), (0, 0, 111, 111)))


def map_batches(split: Split, view: str, methods: tuple[str, ...], batch_size: int = 1) -> Iterator[MapBatch]:
    return predict_split(brightness_network(), split, view, 224, methods, ALONE, batch_size=batch_size, workers=0)


def drawn_of(
    split: Split, view: str, *protocols: ProtocolConfig, methods: tuple[str, ...] = ("cam",)
) -> list[DrawnImage]:
    return draw_boxes(map_batches(split, view, methods, 2), protocols, 224, split, ALONE, examples=[1])


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    ("size", "blob"),
    [((480, 160), (190, 40, 279, 109)), ((150, 400), (31, 140, 90, 199)), ((320, 240), (120, 80, 219, 159))],
)
def test_every_view_finds_a_blob_at_its_place_in_original_pixels(
    tmp_path: Path, view: str, size: tuple[int, int], blob: tuple[int, int, int, int]
) -> None:
    split = tree_with_bright_blobs(tmp_path / "tree", (size, blob))
    protocol = ProtocolConfig(name="paper", threshold=0.5, view=view)
    (drawn,) = drawn_of(split, view, protocol, methods=("cam", "gradcam"))
    assert drawn.size.tolist() == [*size]
    seen = np.array(size) if view != "center_crop" else np.full(2, 0.875 * min(size))
    patch = np.tile(seen / 28, 2)  # a map's pixel in the picture's pixels
    for method in ("cam", "gradcam"):
        box = drawn.true_class_box[method, rule_of(protocol)][0]
        assert (np.abs(box - blob) <= patch).all(), f"{method}: {box} for {blob}"


def test_rules_and_methods_asked_together_draw_what_each_draws_alone(three_pictures: Split) -> None:
    protocols = [PAPER, RELEASE, SWEEP]
    together = drawn_of(three_pictures, "squash", *protocols, methods=("cam", "backprop"))
    for method in ("cam", "backprop"):
        for protocol in protocols:
            alone, key = drawn_of(three_pictures, "squash", protocol, methods=(method,)), (method, rule_of(protocol))
            for one, of_all in zip(alone, together, strict=True):
                for kind in ("boxes", "true_class_box", "right_by_threshold"):
                    assert np.array_equal(getattr(one, kind).get(key), getattr(of_all, kind).get(key))
    assert together[2].boxes["cam", rule_of(RELEASE)].shape == (2, 2, 4)
    shapes = [image.heatmaps["cam", rule_of(PAPER)].shape for image in together if image.heatmaps]
    assert shapes == [(300, 120)] and together[1].heatmaps


def test_a_sweep_is_right_about_a_blob_at_some_threshold(three_pictures: Split) -> None:
    bits = [image.right_by_threshold["cam", rule_of(SWEEP)] for image in drawn_of(three_pictures, "squash", SWEEP)]
    right = np.unpackbits(np.stack(bits), axis=-1)
    assert right.shape == (3, 4, 1000) and right[:, 0].any(axis=1).all() and not right[:, 0, -1].any()


def test_kept_maps_give_the_same_boxes_without_the_network(three_pictures: Split, tmp_path: Path) -> None:
    kept, methods = KeptMaps(tmp_path / "maps", {"network": "a"}), ("cam", "gradcam", "backprop")
    batches = kept.keep(map_batches(three_pictures, "squash", methods, 2), methods)
    first = draw_boxes(batches, [PAPER, RELEASE], 224, three_pictures, ALONE)
    assert [kept.holds(method) for method in methods] == [True, True, False]  # as large as the picture: not kept
    again = draw_boxes(kept.read("cam"), [PAPER, RELEASE], 224, three_pictures, ALONE)
    for one, other in zip(again, first, strict=True):
        assert np.array_equal(one.classes, other.classes) and len(one.boxes) == 2
        for key, boxes in one.boxes.items():
            assert np.array_equal(boxes, other.boxes[key])
            assert np.array_equal(one.true_class_box[key], other.true_class_box[key])
    assert not KeptMaps(tmp_path / "maps", {"network": "b"}).holds("cam")


def test_a_full_disk_costs_the_kept_maps_and_not_the_evaluation(
    three_pictures: Split, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, limits = KeptMaps(tmp_path / "maps", {}), resource.getrlimit(resource.RLIMIT_FSIZE)
    batches = kept.keep(map_batches(three_pictures, "squash", ("cam",)), ["cam"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        seen = [int(image) for batch in batches for image in batch.images]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert seen == [0, 1, 2] and not kept.holds("cam") and not list((tmp_path / "maps").iterdir())
    said = capsys.readouterr().out
    assert said.count("the maps are not kept") == said.count("\n") == 1 and "free space" in said


def test_an_evaluation_broken_off_keeps_no_maps(three_pictures: Split, tmp_path: Path) -> None:
    batches = KeptMaps(tmp_path / "maps", {}).keep(map_batches(three_pictures, "squash", ("cam",)), ["cam"])
    next(batches)
    batches.close()
    assert not list((tmp_path / "maps").iterdir())


def test_a_failure_while_boxes_are_drawn_ends_the_evaluation(three_pictures: Split) -> None:
    with pytest.raises(KeyError, match="no such rule"):
        drawn_of(three_pictures, "squash", ProtocolConfig(name="new", boxes="no such rule"))


def test_loose_tight_and_heuristics_share_their_boxes() -> None:
    tight = ProtocolConfig(name="release_tight", boxes="release", thresholds=[20, 100, 110], guesses="tight")
    assert rule_of(tight) == rule_of(RELEASE) != rule_of(PAPER)
