"""Table 4's experiment: features of the inside of boxes, and classifiers trained anew on them.

Zhou et al. 2016, §4.1: the boxes are drawn from the maps of the SVM on the full images, in training
and test images alike, or are the true ones. The paper does not say whose class's map crops a
training image: `svm.crop_class` chooses. A test image is cropped by the class that the SVM answers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from cam_repro import UserError
from cam_repro.data.loaders import BatchRequest, Decoders
from cam_repro.data.views import VIEWS
from cam_repro.evaluation.maps import images_a_batch
from cam_repro.evaluation.spec import Evaluation
from cam_repro.features.draws import Draw, score_draws
from cam_repro.features.extract import (
    check_finite,
    input_size,
    interpolation,
    layer_of,
    pooled,
)
from cam_repro.features.heads import LinearClassifier, scaled, train_head
from cam_repro.features.maps import head_box, maps_of_heads
from cam_repro.features.record import write_svm_record
from cam_repro.localization.errors import BASELINES, centred_boxes
from cam_repro.localization.intervals import Shares, bootstrap, difference_over_draws, percentages
from cam_repro.localization.iou import IOU_OF_A_RIGHT_BOX, area, best_iou

SVM = "liblinear"  # a key of heads.HEADS: the paper's


@dataclass(frozen=True)
class CropsOfBoxes:
    """The V crops of a view of what is inside of each image's box, of boxes (n,4)."""

    boxes: np.ndarray
    view: str
    size: int
    interpolation: str

    def take(self, pixels: np.ndarray, image: int) -> np.ndarray:
        """Of an image (H,W,3) and its number -> (V,size,size,3)."""
        inside = inside_of(pixels, self.boxes[image])
        return VIEWS[self.view].take(inside, self.size, self.interpolation)


def inside_of(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    """What of an image (H,W,3) is inside of a box, both of its corners with it."""
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = np.rint(box).astype(int)
    x1 = min(x1, width - 1)  # a box may begin one pixel over the edge
    y1 = min(y1, height - 1)
    return pixels[y1 : y2 + 1, x1 : x2 + 1]


def measure_crops(
    train: Evaluation,
    test: Evaluation,
    draw: Draw,
    classifier: LinearClassifier,
    training_answers: np.ndarray,
    test_answers: np.ndarray,
) -> np.ndarray:
    """Train and measure the SVM anew on CAM's boxes and on the true ones; a record of each.

    classifier: the SVM of the draw's full images, and its answers (n,) to both kinds of them.
    Without true boxes of every image that part is left out. Returns CAM's boxes of the test images.
    """
    settings = train.config.svm
    kind = "cam"
    classes = training_answers
    if settings.crop_class == "truth":
        kind = "cam_of_true_class"
        classes = train.split.labels[draw.train]
    right_of_full = test_answers == test.split.labels[draw.test]
    began = time.perf_counter()
    inside = head_boxes(train, draw.train, classifier, classes)
    cam_boxes = head_boxes(test, draw.test, classifier, test_answers)
    _measure_inside(train, test, draw, kind, inside, cam_boxes, right_of_full, began)
    began = time.perf_counter()
    if without_boxes(train, draw.train) or without_boxes(test, draw.test):
        print("crops by true boxes are left out: not every image has one", flush=True)
        return cam_boxes
    inside = largest_true_boxes(train, draw.train)
    true_boxes = largest_true_boxes(test, draw.test)
    _measure_inside(train, test, draw, "true_boxes", inside, true_boxes, right_of_full, began)
    return cam_boxes


def _measure_inside(
    train: Evaluation,
    test: Evaluation,
    draw: Draw,
    crop: str,
    train_boxes: np.ndarray,
    test_boxes: np.ndarray,
    right_of_full: np.ndarray,
    began: float,
) -> None:
    """The SVM on the features of what is inside of boxes (n,4), and its record.

    right_of_full (n,): whether the SVM on full images is right on each test image.
    """
    settings = train.config.svm
    features = scaled(features_inside(train, draw.train, train_boxes), settings.scaling)
    labels = train.split.labels[draw.train]
    classifier = train_head(SVM, features, labels, settings, train.config.seed)
    of_test = scaled(features_inside(test, draw.test, test_boxes), settings.scaling)
    answers = classifier.decisions(of_test).argmax(axis=1)

    measured, per_image = score_draws(test.split.labels, [draw], [answers])
    measured["c"] = [classifier.c]
    measured["converged"] = int(classifier.converged)
    measured["features"] = f"{features.shape[1]:,}, {layer_of(test)}"
    measured["train_data"] = train.fingerprint
    measured["crop"] = crop
    measured["gain"] = gain_over(per_image["right"], right_of_full, draw.test)
    per_image["right_of_full"] = np.zeros(len(test.split), np.int32)
    per_image["right_of_full"][draw.test] = right_of_full
    shares = box_shares(test, draw.test, test_boxes)
    if shares:
        measured["metrics"] |= percentages(shares)
        measured["confidence"] |= bootstrap(shares)
    seconds = time.perf_counter() - began
    write_svm_record(test, SVM, measured, per_image, seconds)


def gain_over(right: np.ndarray, right_of_full: np.ndarray, images: np.ndarray) -> list[float]:
    """Accuracy less that of full images on the same images (n,), in points: its value, and the ends
    of its 95 % interval, paired over images.

    right (N,): of all images of the split; right_of_full (n,).
    """
    full = right_of_full.astype(np.int8)
    return list(difference_over_draws(full[None], right[None, images]))


def box_shares(evaluation: Evaluation, images: np.ndarray, boxes: np.ndarray) -> Shares:
    """Whether each box (n,4) has IoU ≥ 0.5 with a true one, and whether both baselines have it.

    Empty where no image has a true box.
    """
    if without_boxes(evaluation, images) == len(images):
        return {}
    split = evaluation.split.subset(images.tolist())
    truth = [split.true_boxes(image) for image in range(len(split))]
    sizes = [split.read(image).shape[1::-1] for image in range(len(split))]
    all_boxes = {"box_right": boxes}
    for name, side in BASELINES.items():
        all_boxes[f"baseline_{name}"] = centred_boxes(sizes, side)
    counted = np.array([len(of_image) > 0 for of_image in truth])
    shares: Shares = {}
    for name, of_images in all_boxes.items():
        pairs = zip(of_images, truth, strict=True)
        overlaps = np.array([best_iou([box], of_image)[0] for box, of_image in pairs])
        shares[name] = (overlaps >= IOU_OF_A_RIGHT_BOX, counted)
    return shares


def head_boxes(
    evaluation: Evaluation, images: np.ndarray, classifier: LinearClassifier, classes: np.ndarray
) -> np.ndarray:
    """The boxes (n,4) of the maps of these classes (n,) of images (n,), numbers in the split."""
    found = []
    for size, of_heads in maps_of_heads(
        evaluation, images, {SVM: classifier}, {SVM: classes[:, None]}
    ):
        found.append(head_box(evaluation, of_heads[SVM][:, 0], size))
    return np.array(found)


def without_boxes(evaluation: Evaluation, images: np.ndarray) -> int:
    """How many of the images have no true box."""
    return int((np.diff(evaluation.split.box_starts)[images] == 0).sum())


def largest_true_boxes(evaluation: Evaluation, images: np.ndarray) -> np.ndarray:
    """The largest true box (n,4) of each image."""
    boxes = []
    for image in images.tolist():
        of_image = evaluation.split.true_boxes(image)
        boxes.append(of_image[area(of_image).argmax()])
    return np.array(boxes)


def features_inside(evaluation: Evaluation, images: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The features (n,F) of what is inside of the boxes (n,4) of images (n,)."""
    config = evaluation.config
    view = config.protocol.view
    split = evaluation.split.subset(images.tolist())
    crops = CropsOfBoxes(boxes, view, input_size(evaluation), interpolation(evaluation))
    length = images_a_batch(config.eval_batch_size, view, [])
    requests = []
    for start in range(0, len(split), length):
        part = np.arange(start, min(start + length, len(split)))
        requests.append(BatchRequest.of(split, part, crops))
    found = []
    bar = tqdm(total=len(split), desc="crops", unit="image", disable=None)
    with bar, Decoders(config.data.workers) as decoders:
        for batch in decoders.batches(requests):
            if batch.corrupt:
                raise UserError(f"corrupt image {batch.corrupt[0]}; fetch it again")
            pixels = batch.to(evaluation.world.device).pixels
            features = pooled(evaluation.trained.network, pixels, VIEWS[view].crops)
            found.append(features.cpu().numpy())
            bar.update(len(batch))
    all_features = np.concatenate(found)
    check_finite(replace(evaluation, split=split), all_features)
    return all_features
