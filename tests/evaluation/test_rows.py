"""From an image to each metric's rows, with a network whose map is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ALONE
from PIL import Image
from torch import nn
from tqdm import tqdm

from cam_repro.config import DataConfig, ProtocolConfig
from cam_repro.data import open_split
from cam_repro.data.split import Split
from cam_repro.data.views import VIEWS
from cam_repro.evaluation.maps import MapBatch, predict_split
from cam_repro.evaluation.metric import ImageFacts, Metric, Rows
from cam_repro.evaluation.metrics import METRICS
from cam_repro.evaluation.rows import RowPool, in_order
from cam_repro.networks.network import CamNetwork

PAPER = ProtocolConfig(name="paper", threshold=0.5)
RELEASE = ProtocolConfig(name="release", boxes="release", thresholds=[20, 100, 110])
WSOL = ProtocolConfig(name="wsol", metric="max_box_acc")


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


def tree_with_bright_blobs(
    root: Path, *blobs: tuple[tuple[int, int], tuple[int, int, int, int]]
) -> Split:
    """A black image for each ((width, height), blob), its true box in LOC_val_solution.csv."""
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
def three_images(tmp_path: Path) -> Split:
    """A wide, a tall and a square one."""
    wide, tall = ((480, 160), (300, 40, 419, 99)), ((120, 300), (30, 60, 99, 219))
    return tree_with_bright_blobs(tmp_path / "tree", wide, tall, ((224, 224), (0, 0, 111, 111)))


def map_batches(split: Split, view: str, methods: tuple[str, ...]) -> Iterator[MapBatch]:
    return predict_split(
        brightness_network(), split, view, 224, methods, ALONE, batch_size=2, workers=0
    )


def metric_of(protocol: ProtocolConfig) -> Metric:
    return METRICS[protocol.metric](protocol, 224)


def rows_of(
    split: Split, view: str, *protocols: ProtocolConfig, methods: tuple[str, ...] = ("cam",)
) -> dict[tuple[str, str], Rows]:
    """(method, protocol's name) -> the rows of all images."""
    metrics = {protocol.name: metric_of(protocol) for protocol in protocols}
    wanted = [(method, metric) for method in methods for metric in metrics.values()]
    with RowPool(split, wanted, lambda batch: None, tqdm(disable=True)) as pool:
        for batch in map_batches(split, view, methods):
            pool.submit(batch)
        pool.finish()
    found = {}
    for method in methods:
        for name, metric in metrics.items():
            found[method, name] = in_order(pool.rows, (method, metric), len(split))
    return found


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    ("size", "blob"),
    [
        ((480, 160), (190, 40, 279, 109)),
        ((150, 400), (31, 140, 90, 199)),
        ((320, 240), (120, 80, 219, 159)),
    ],
)
def test_every_view_finds_a_blob_at_its_place_in_original_pixels(
    tmp_path: Path, view: str, size: tuple[int, int], blob: tuple[int, int, int, int]
) -> None:
    split = tree_with_bright_blobs(tmp_path / "tree", (size, blob))
    protocol = ProtocolConfig(name="paper", threshold=0.5, view=view)
    found = rows_of(split, view, protocol, methods=("cam", "gradcam"))
    seen = np.array(size) if view != "center_crop" else np.full(2, 0.875 * min(size))
    patch = np.tile(seen / 28, 2)  # a map's pixel in the image's pixels
    for (method, _), rows in found.items():
        assert rows["sizes"].tolist() == [[*size]]
        box = rows["boxes"][0, -1, 0]  # of the true class, the loose one
        assert (np.abs(box - blob) <= patch).all(), f"{method}: {box} for {blob}"


def test_metrics_and_methods_asked_together_have_the_rows_that_each_has_alone(
    three_images: Split,
) -> None:
    protocols = [PAPER, RELEASE, WSOL]
    together = rows_of(three_images, "squash", *protocols, methods=("cam", "backprop"))
    for method in ("cam", "backprop"):
        for protocol in protocols:
            alone = rows_of(three_images, "squash", protocol, methods=(method,))
            for name, rows in alone[method, protocol.name].items():
                assert np.array_equal(rows, together[method, protocol.name][name])
    of_release = together["cam", "release"]["boxes"]
    assert of_release.shape == (3, 3, 2, 4)  # two classes, and the true one last


@pytest.mark.parametrize("protocol", [PAPER, RELEASE])
def test_the_true_class_has_its_own_boxes_whether_or_not_it_is_among_the_best(
    protocol: ProtocolConfig,
) -> None:
    rng = np.random.default_rng(0)
    best = rng.random((1, 5, 7, 7), np.float32)
    image = ImageFacts((90, 60), np.array([[0, 0, 9, 9]]))
    metric = metric_of(protocol)
    boxes_of_best = metric.of_image(best, image)["boxes"]
    for maps, expected in (
        (np.concatenate([best, best[:, 2:3]], axis=1), boxes_of_best[2]),
        (np.concatenate([best[:, 1:], best[:, :1]], axis=1), boxes_of_best[0]),
    ):
        assert np.array_equal(metric.of_image(maps, image)["boxes"][-1], expected)


def test_max_box_acc_is_right_about_a_blob_at_some_threshold(three_images: Split) -> None:
    rows = rows_of(three_images, "squash", WSOL)["cam", "wsol"]
    right = np.unpackbits(rows["right"], axis=-1)
    assert right.shape == (3, 4, 1000)
    assert right[:, 0].any(axis=1).all() and not right[:, 0, -1].any()


def test_a_blacklisted_image_does_not_count_for_max_box_acc(three_images: Split) -> None:
    rows = rows_of(three_images, "squash", WSOL)["cam", "wsol"]
    metric = metric_of(WSOL)
    everything = metric.compute(rows, three_images, frozenset())
    without_first = metric.compute(rows, three_images, frozenset({1}))
    rows_of_others = {name: of_images[1:] for name, of_images in rows.items()}
    of_others = metric.compute(rows_of_others, three_images.subset([1, 2]), frozenset())
    assert everything.counts["loc_images"] == 3
    assert without_first.counts["loc_images"] == 2 and without_first.counts["blacklisted"] == 1
    assert without_first.metrics == of_others.metrics


def test_a_failure_in_a_process_ends_the_evaluation(three_images: Split) -> None:
    with pytest.raises(KeyError, match="no such rule"):
        rows_of(three_images, "squash", ProtocolConfig(name="new", boxes="no such rule"))


def test_loose_tight_and_heuristics_ask_for_the_same_rows() -> None:
    tight = ProtocolConfig(
        name="tight", boxes="release", thresholds=[20, 100, 110], guesses="tight"
    )
    assert metric_of(tight) == metric_of(RELEASE) != metric_of(PAPER)
    assert hash(metric_of(tight)) == hash(metric_of(RELEASE))


def test_an_image_counted_twice_or_not_at_all_is_an_error(three_images: Split) -> None:
    wanted = [("cam", metric_of(PAPER))]
    with RowPool(three_images, wanted, lambda batch: None, tqdm(disable=True)) as pool:
        first, second = map_batches(three_images, "squash", ("cam",))
        pool.submit(first)
        pool.finish()
        with pytest.raises(RuntimeError, match="twice or not at all"):
            in_order(pool.rows, wanted[0], 3)
        for batch in (second, second):
            pool.submit(batch)
        pool.finish()
    with pytest.raises(RuntimeError, match="twice or not at all"):
        in_order(pool.rows, wanted[0], 3)


def test_an_undefined_metric_is_none_and_heuristics_have_no_top_5(three_images: Split) -> None:
    rows = rows_of(three_images, "squash", RELEASE)["cam", "release"]
    metric = metric_of(RELEASE)
    scores = metric.compute(rows, three_images, frozenset({1, 2, 3}))
    assert scores.metrics["loc_top1_error"] is None and scores.metrics["gt_known_loc"] is None
    assert scores.metrics["cls_top5_error"] is None  # of two classes
    classes = np.tile(np.arange(5), (3, 1))
    five = rows | {"classes": classes, "boxes": np.tile(rows["boxes"][:, :1], (1, 6, 1, 1))}
    assert metric.compute(five, three_images, frozenset()).metrics["cls_top5_error"] is not None
    heuristics = replace(RELEASE, guesses="heuristics")
    metrics = metric_of(heuristics).compute(five, three_images, frozenset()).metrics
    assert [name for name in metrics if name.startswith("cls_top")] == ["cls_top1_error"]
    assert "loc_top5_error" in metrics
