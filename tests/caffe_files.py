"""Caffe's networks as others have them, written from their descriptions.

Prototxts, and .caffemodel files, byte by byte, in both formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

Blobs = Mapping[str, Sequence[np.ndarray]]  # Caffe's name of a layer → weight, bias

# Protobuf's wire format: a field is its number and kind, the length of what follows, and that.


def varint(number: int) -> bytes:
    low, high = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(high) if high else bytes([low])


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(array: np.ndarray, old: bool, data: bytes | None = None) -> bytes:
    """BlobProto: of the older files four dimensions, ones in front of fewer."""
    numbers = field(5, array.astype("<f4").tobytes()) if data is None else data
    if old:
        four = (1,) * (4 - array.ndim) + array.shape
        return b"".join(field(number, size) for number, size in enumerate(four, 1)) + numbers
    return numbers + field(7, field(1, b"".join(map(varint, array.shape))))


def caffemodel(blobs: Blobs, old: bool) -> bytes:
    """NetParameter, in the older or the newer format.

    With layers of no weights around the others, as in every file.
    """

    def layer(name: str, arrays: Iterable[np.ndarray]) -> bytes:
        number_of_name, number_of_blobs, number = (4, 6, 2) if old else (1, 7, 100)
        kind = field(5, 4 if len(arrays[0].shape) == 4 else 14) if old else field(2, b"any")
        inside = [field(number_of_blobs, blob(array, old)) for array in arrays]
        return field(number, field(number_of_name, name.encode()) + kind + b"".join(inside))

    data = (
        field(2, field(4, b"data") + field(5, 5))
        if old
        else field(100, field(1, b"data") + field(2, b"Data"))
    )
    return b"".join([field(1, b"a network"), data, *(layer(*of) for of in blobs.items())])


class Prototxt:
    """A deploy file under construction, a layer after the other."""

    def __init__(self, height: int, width: int) -> None:
        self.text = f'input: "data" input_shape {{ dim: 1 dim: 3 dim: {height} dim: {width} }}\n'
        self.top = "data"
        self.weighted: list[str] = []  # the names of the layers with weights

    def layer(self, name: str, kind: str, settings: str = "", *bottoms: str) -> str:
        below = " ".join(f'bottom: "{bottom}"' for bottom in bottoms or [self.top])
        self.text += f'layer {{ name: "{name}" type: "{kind}" {below} top: "{name}" {settings} }}\n'
        self.top = name
        if kind in ("Convolution", "InnerProduct"):
            self.weighted.append(name)
        return name

    def conv(
        self,
        name: str,
        units: int,
        kernel: int = 1,
        stride: int = 1,
        pad: int = 0,
        group: int = 1,
        *below: str,
    ):
        settings = (
            f"num_output: {units} kernel_size: {kernel} stride: {stride} pad: {pad} group: {group}"
        )
        self.layer(name, "Convolution", f"convolution_param {{ {settings} }}", *below)
        return self.relu(f"relu_{name}")

    def pool(self, name: str, kernel: int = 3, stride: int = 2, pad: int = 0, *below: str) -> str:
        settings = (
            f"pooling_param {{ pool: MAX kernel_size: {kernel} stride: {stride} pad: {pad} }}"
        )
        return self.layer(name, "Pooling", settings, *below)

    def norm(self, name: str) -> str:
        return self.layer(name, "LRN", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")

    def average(self, name: str) -> str:
        return self.layer(name, "Pooling", "pooling_param { pool: AVE global_pooling: true }")

    def linear(self, name: str, units: int = 1000) -> str:
        return self.layer(name, "InnerProduct", f"inner_product_param {{ num_output: {units} }}")

    def relu(self, name: str) -> str:
        return self.layer(name, "ReLU")


def _vgg(net: Prototxt) -> str:
    for block, (count, units) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], 1):
        for number in range(1, count + 1):
            maps = net.conv(f"conv{block}_{number}", units, 3, pad=1)
        if block < 5:
            net.pool(f"pool{block}", 2)
    return maps


def _alexnet(net: Prototxt, conv5: int) -> str:
    net.conv("conv1", 96, 11, stride=4)
    net.pool("pool1")
    net.norm("norm1")
    net.conv("conv2", 256, 5, pad=2, group=2)
    net.pool("pool2")
    net.norm("norm2")
    net.conv("conv3", 384, 3, pad=1)
    net.conv("conv4", 384, 3, pad=1, group=2)
    return net.conv("conv5", conv5, 3, pad=1, group=2)


INCEPTION = """\
3a 64 96 128 16 32 32
3b 128 128 192 32 96 64
4a 192 96 208 16 48 64
4b 160 112 224 24 64 64
4c 128 128 256 24 64 64
4d 112 144 288 32 64 64
4e 256 160 320 32 128 128
5a 256 160 320 32 128 128
5b 384 192 384 48 128 128"""


def _googlenet(net: Prototxt, modules: str) -> str:
    net.conv("conv1/7x7_s2", 64, 7, stride=2, pad=3)
    net.pool("pool1/3x3_s2")
    net.norm("pool1/norm1")
    net.conv("conv2/3x3_reduce", 64)
    net.conv("conv2/3x3", 192, 3, pad=1)
    net.norm("conv2/norm2")
    net.pool("pool2/3x3_s2")
    for row in INCEPTION.splitlines():
        name, *units = row.split()
        if name not in modules.split():
            continue
        if name in ("4a", "5a"):
            net.pool(f"pool{int(name[0]) - 1}/3x3_s2")
        one, three_in, three, five_in, five, pooled = map(int, units)
        module = f"inception_{name}"
        below = net.top
        tops = [net.conv(f"{module}/1x1", one, 1, 1, 0, 1, below)]
        net.conv(f"{module}/3x3_reduce", three_in, 1, 1, 0, 1, below)
        tops.append(net.conv(f"{module}/3x3", three, 3, pad=1))
        net.conv(f"{module}/5x5_reduce", five_in, 1, 1, 0, 1, below)
        tops.append(net.conv(f"{module}/5x5", five, 5, pad=2))
        net.pool(f"{module}/pool", 3, 1, 1, below)
        tops.append(net.conv(f"{module}/pool_proj", pooled))
        net.layer(f"{module}/output", "Concat", "", *tops)
    return net.top


def _cam(net: Prototxt) -> str:
    maps = net.conv("CAM_conv", 1024, 3, pad=1, group=2)
    net.average("CAM_pool")
    net.linear("CAM_fc")
    return maps


def describe(name: str, height: int, width: int) -> tuple[Prototxt, str]:
    """The network of Caffe that `name` is here, and the name of its last maps.

    Its last top is the class scores.
    """
    net = Prototxt(height, width)
    if name == "googlenet_cam_caffe":
        _googlenet(net, "3a 3b 4a 4b 4c 4d 4e")
        maps = _cam(net)
    elif name == "vgg16_cam_caffe":
        _vgg(net)
        maps = _cam(net)
    elif name == "alexnetplus_cam_caffe":
        _alexnet(net, 384)
        net.pool("pool5", stride=1)
        net.conv("conv6", 512, 3, pad=1, group=2)
        maps = net.conv("conv7", 512, 3, pad=1, group=2)
        net.average("pool8")
        net.linear("fc9")
    elif name == "googlenet_caffe":
        maps = _googlenet(net, "3a 3b 4a 4b 4c 4d 4e 5a 5b")
        net.average("pool5/7x7_s1")
        net.linear("loss3/classifier")
    elif name == "caffenet":
        maps = _alexnet(net, 256)
        net.pool("pool5")
        net.linear("fc6", 4096)
        net.relu("relu6")
        net.linear("fc7", 4096)
        net.relu("relu7")
        net.linear("fc8")
    else:
        net.conv("conv1", 96, 11, stride=4)
        net.conv("cccp1", 96)
        net.conv("cccp2", 96)
        net.pool("pool0")
        net.conv("conv2", 256, 5, pad=2)
        net.conv("cccp3", 256)
        net.conv("cccp4", 256)
        net.pool("pool2")
        net.conv("conv3", 384, 3, pad=1)
        net.conv("cccp5", 384)
        net.conv("cccp6", 384)
        net.pool("pool3")
        net.conv("conv4-1024", 1024, 3, pad=1)
        net.conv("cccp7-1024", 1024)
        maps = net.conv("cccp8-1024", 1000)
        net.average("pool4")
    return net, maps


def write_network(
    folder: Path, net: Prototxt, shapes: Mapping[str, tuple[int, ...]], old: bool
) -> tuple[Path, Path]:
    """Its deploy.prototxt, and a .caffemodel with random weights.

    Its signals neither grow nor vanish. shapes: of "<layer>.weight" and "<layer>.bias", with a dot
    for a slash.
    """
    rng = np.random.default_rng(0)
    blobs = {}
    for name in net.weighted:
        path = name.replace("/", ".")
        weight = shapes[f"{path}.weight"]
        bias = shapes[f"{path}.bias"]
        scale = np.sqrt(24 / np.prod(weight[1:]))
        if not blobs:  # the first sees pixels, spread by 60
            scale /= 60
        blobs[name] = [
            (rng.random(weight, np.float32) - 0.5) * np.float32(scale),
            rng.random(bias, np.float32) - 0.3,
        ]
    prototxt = folder / "deploy.prototxt"
    model = folder / "weights.caffemodel"
    prototxt.write_text(net.text)
    model.write_bytes(caffemodel(blobs, old))
    return prototxt, model
