"""Maps of the five best classes beside the plain forward pass and beside other packages."""

from collections.abc import Iterator
from functools import partial
from math import nan
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import get_model

from benchmarks.timing import Row, beside, by_turns, row
from cam_repro import explain
from cam_repro.localization.methods import predict
from cam_repro.networks import CamNetwork, build_network

BATCH = 16
CLASSES = 5


def rows(_tree: Path, _work: Path) -> Iterator[Row]:
    for name in ("alexnet_gap", "resnet18"):
        network = build_network(name, num_classes=1000).eval()
        images = torch.randn(BATCH, 3, 224, 224).contiguous(memory_format=torch.channels_last)
        yield beside(
            part="maps",
            what=f"{name}: forward with the maps of {CLASSES} classes",
            peer="plain forward",
            ours=partial(predict, network, images),
            theirs=partial(_forward, network, images),
            count=BATCH,
            unit="images/s",
            wanted="≤ 1.05",
            rounds=21,
        )
    yield from _one_pass_a_map(network, images)
    yield from _peers(network, images)
    yield from _explain(images)


def _one_pass_a_map(network: CamNetwork, images: torch.Tensor) -> Iterator[Row]:
    """Score-CAM and Ablation-CAM of one image beside as many forward passes as there are maps."""
    _, maps = network.forward_with_maps(images[:1])
    passes = maps.shape[1]
    batch = images.repeat(2, 1, 1, 1)

    def plain() -> None:
        for part in torch.arange(passes).split(len(batch)):
            _forward(network, batch[: len(part)])

    works = [plain]
    for method in ("scorecam", "ablationcam"):
        works.append(lambda method=method: predict(network, images[:1], methods=[method]))
    times = by_turns(works, rounds=1)
    for column, name in ((1, "Score-CAM"), (2, "Ablation-CAM")):
        of_method = [[each[column], each[0]] for each in times]
        what = f"resnet18: {name} of an image, by its {passes} maps"
        yield row(
            part="maps",
            what=what,
            peer="plain forward",
            times=of_method,
            count=passes,
            unit="images/s",
            wanted="≥ 0.8",
        )


def _forward(network: CamNetwork, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network(images)


def _peers(network: CamNetwork, images: torch.Tensor) -> Iterator[Row]:
    ours = predict(network, images)
    for name, wanted, peer in (("grad-cam", "≥ 10", _grad_cam), ("torchcam", "≥ 1", _torchcam)):
        try:
            theirs = peer(network, images, ours.classes)
        except ImportError as error:
            print(f"{name} cannot be imported ({error}); `make bench` installs it")
            yield _missing(f"resnet18: the same {CLASSES} maps", name, wanted)
            continue
        _refuse_difference(name, _relu_and_scaled(ours.maps["cam"][:, 0]), _relu_and_scaled(theirs))
        yield beside(
            part="maps",
            what=f"resnet18: the same {CLASSES} maps, equal",
            peer=name,
            ours=partial(predict, network, images),
            theirs=partial(peer, network, images, ours.classes),
            count=BATCH * CLASSES,
            unit="maps/s",
            wanted=wanted,
            rounds=5,
        )


def _explain(images: torch.Tensor) -> Iterator[Row]:
    """`explain` of a module that it has not met, beside packages that are told its layers.

    All enlarge the maps to the images; `explain` looks for them first, and draws boxes at the end.
    """
    model = get_model("resnet18", weights=None).eval()
    classes = explain(model, images).classes
    peers = (("grad-cam", "≥ 10", _grad_cam_enlarged), ("torchcam", "≥ 1", _torchcam_enlarged))
    for name, wanted, peer in peers:
        what = f"torchvision's resnet18: explain, {CLASSES} classes enlarged and boxed"
        try:
            peer(model, images[:1], classes[:1])
        except ImportError:
            yield _missing(what, name, wanted)
            continue
        yield beside(
            part="maps",
            what=what,
            peer=f"{name}, enlarged",
            ours=partial(explain, model, images, classes),
            theirs=partial(peer, model, images, classes),
            count=BATCH * CLASSES,
            unit="maps/s",
            wanted=wanted,
            rounds=5,
        )


def _grad_cam_enlarged(
    model: nn.Module, images: torch.Tensor, classes: torch.Tensor
) -> list[np.ndarray]:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    found = []
    with GradCAM(model, [model.layer4]) as method:
        for column in classes.T.tolist():
            found.append(method(images, [ClassifierOutputTarget(label) for label in column]))
    return found


def _torchcam_enlarged(
    model: nn.Module, images: torch.Tensor, classes: torch.Tensor
) -> list[torch.Tensor]:
    from torchcam.methods import CAM

    found = []
    with torch.inference_mode(), CAM(model, model.layer4, model.fc) as method:
        scores = model(images)
        for column in classes.T.tolist():
            (maps,) = method(column, scores, normalized=False)
            found.append(F.interpolate(maps[:, None], images.shape[2:], mode="bicubic"))
    return found


def _missing(what: str, name: str, wanted: str) -> Row:
    return Row(
        part="maps",
        what=what,
        peer=name,
        unit="maps/s",
        rate=nan,
        peer_rate=nan,
        ratio=nan,
        spread=(nan, nan),
        wanted=wanted,
    )


def _grad_cam(network: CamNetwork, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """One forward and one backward pass a class, without its resizing of the maps to the image."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class Small(GradCAM):
        def get_target_width_height(self, input_tensor: torch.Tensor) -> None:
            return None

    columns = []
    with Small(network, [_last_layer(network)]) as method:
        for column in classes.T.tolist():
            targets = [ClassifierOutputTarget(of_image) for of_image in column]
            columns.append(torch.from_numpy(method(images, targets)))
    return torch.stack(columns, 1)


def _torchcam(network: CamNetwork, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """One forward pass, then its map of one class for each image at a time."""
    from torchcam.methods import CAM

    columns = []
    with torch.inference_mode(), CAM(network, _last_layer(network), network.classifier) as method:
        scores = network(images)
        for column in classes.T.tolist():
            (maps,) = method(column, scores, normalized=False)
            columns.append(maps.clone())
    return torch.stack(columns, 1)


def _last_layer(network: CamNetwork) -> torch.nn.Module:
    return network.trunk[-1]


def _relu_and_scaled(maps: torch.Tensor) -> torch.Tensor:
    """What both packages agree on: no negatives, from 0 to 1."""
    maps = maps.float().relu().flatten(2)
    maps = maps - maps.amin(2, keepdim=True)
    return maps / maps.amax(2, keepdim=True).clamp_min(1e-12)


def _refuse_difference(name: str, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(
        ours, theirs, rtol=1e-3, atol=1e-3, msg=lambda text: f"{name}'s maps differ: {text}"
    )
