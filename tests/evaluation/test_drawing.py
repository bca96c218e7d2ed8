"""From a picture to a box in original pixels, with a network whose map is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cam_repro.config import DataConfig, ProtocolConfig
from cam_repro.data.ilsvrc import open_split
from cam_repro.data.split import Split
from cam_repro.data.views import VIEWS
from cam_repro.distributed import World
from cam_repro.evaluation.drawing import Drawings, draw, look_at_split, rule_of
from cam_repro.evaluation.kept_maps import MapCache
from cam_repro.networks.network import CamNetwork

ALONE = World(0, 1, torch.device("cpu"))
BLOB = (300, 40, 419, 99)
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
    return tree_with_bright_blobs(
        tmp_path / "tree", ((480, 160), BLOB), ((120, 300), (30, 60, 99, 219)), ((224, 224), (0, 0, 111, 111))
    )


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """How many threads, and so lanes, a network on a processor has."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def drawings(split: Split, view: str, *rules: ProtocolConfig, **options: object) -> Drawings:
    methods = options.pop("methods", ["cam"])
    batches = look_at_split(brightness_network(), split, view, 224, methods, ALONE, workers=0, **options)
    return draw(batches, rules, 224, split, ALONE, examples=[1])


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_finds_the_box_of_a_blob_in_original_pixels(tmp_path: Path, view: str) -> None:
    split = tree_with_bright_blobs(tmp_path / "tree", ((320, 240), (120, 80, 219, 159)))
    rule = ProtocolConfig(name="paper", threshold=0.5, view=view)
    found = drawings(split, view, rule)
    assert found.sizes.tolist() == [[320, 240]]
    assert found.drawn["cam", 0].shape == (1, 3, 1, 4)
    patch = np.array([320, 240, 320, 240]) / 28  # the map's resolution in the picture's pixels
    assert (np.abs(found.drawn["cam", 0][0, -1, 0] - split.true_boxes(0)[0]) <= 1.5 * patch).all()


def test_a_blob_at_the_edge_of_a_wide_picture_keeps_its_place(tmp_path: Path) -> None:
    split = tree_with_bright_blobs(tmp_path / "tree", ((480, 160), BLOB))
    box = drawings(split, "squash", PAPER).drawn["cam", 0][0, -1, 0]
    assert (np.abs(box - BLOB) <= np.array([480, 160, 480, 160]) / 28).all()


def test_rules_and_methods_asked_together_draw_what_each_draws_alone(three_pictures: Split) -> None:
    rules = [PAPER, RELEASE, SWEEP]
    together = drawings(three_pictures, "squash", *rules, methods=["cam", "gradcam"], batch_size=2)
    assert {way: drawn.shape[1:] for way, drawn in together.drawn.items() if way[0] == "cam"} == {
        ("cam", 0): (3, 1, 4),
        ("cam", 1): (3, 2, 4),
        ("cam", 2): (4, 125),
    }
    for method in ("cam", "gradcam"):
        for number, rule in enumerate(rules):
            alone = drawings(three_pictures, "squash", rule, methods=[method], batch_size=2)
            assert np.array_equal(together.drawn[method, number], alone.drawn[method, 0])
    assert together.examples["cam", 0].keys() == {1} and together.examples["cam", 0][1].shape == (300, 120)


def test_a_sweep_is_right_about_a_blob_at_some_threshold(three_pictures: Split) -> None:
    right = drawings(three_pictures, "squash", SWEEP).drawn["cam", 0]
    assert right[:, 0].any(axis=1).all()
    assert not right[:, 0, -1].any()


def test_kept_maps_give_the_same_boxes_without_the_network(three_pictures: Split, tmp_path: Path) -> None:
    cache = MapCache(tmp_path / "maps", {"network": "a"})
    options = {"methods": ["cam", "gradcam", "backprop"], "batch_size": 2, "cache": cache}
    first = drawings(three_pictures, "squash", PAPER, RELEASE, **options)
    assert sorted(path.name.split("-")[0] for path in (tmp_path / "maps").iterdir()) == ["cam", "gradcam"]
    assert cache.holds(["cam", "gradcam"]) and not cache.holds(["backprop"])
    batches = cache.read(["cam", "gradcam"], batch_size=2)
    again = draw(batches, [PAPER, RELEASE], 224, three_pictures, ALONE)
    for way, boxes in again.drawn.items():
        assert np.array_equal(boxes, first.drawn[way])
    assert np.array_equal(again.labels, first.labels)


@pytest.mark.parametrize("methods", [["cam"], ["cam", "gradcam", "backprop"]])
def test_several_lanes_draw_what_one_draws(tmp_path: Path, threads: Callable[[int], None], methods: list[str]) -> None:
    shifted = [((160 + 8 * k, 120), (10 * k, 20, 10 * k + 39, 79)) for k in range(11)]
    split = tree_with_bright_blobs(tmp_path / "tree", *shifted)
    threads(1)
    alone = drawings(split, "squash", PAPER, methods=methods, batch_size=12)
    threads(3)
    lanes = drawings(split, "squash", PAPER, methods=methods, batch_size=12)
    assert np.array_equal(alone.sizes, lanes.sizes) and np.array_equal(alone.labels, lanes.labels)
    for way, boxes in alone.drawn.items():
        assert np.array_equal(boxes, lanes.drawn[way])


def test_a_failure_in_a_lane_ends_the_evaluation(three_pictures: Split, threads: Callable[[int], None]) -> None:
    threads(2)
    network = brightness_network()
    network.classifier = nn.Linear(7, 2)
    with pytest.raises(RuntimeError, match="shapes"):
        list(look_at_split(network, three_pictures, "squash", 224, ["cam"], ALONE, workers=0, batch_size=2))


def test_maps_of_another_network_are_not_taken(three_pictures: Split, tmp_path: Path) -> None:
    drawings(three_pictures, "squash", PAPER, cache=MapCache(tmp_path, {"network": "a"}))
    assert not MapCache(tmp_path, {"network": "b"}).holds(["cam"])


def test_an_evaluation_broken_off_keeps_no_maps(three_pictures: Split, tmp_path: Path) -> None:
    cache = MapCache(tmp_path / "maps", {})
    batches = look_at_split(
        brightness_network(), three_pictures, "squash", 224, ["cam"], ALONE, workers=0, batch_size=1, cache=cache
    )
    next(batches)
    batches.close()
    assert not list((tmp_path / "maps").iterdir())


def test_loose_tight_and_heuristics_share_their_boxes() -> None:
    tight = ProtocolConfig(name="release_tight", boxes="release", thresholds=[20, 100, 110], guesses="tight")
    assert rule_of(tight) == rule_of(RELEASE) != rule_of(PAPER)
