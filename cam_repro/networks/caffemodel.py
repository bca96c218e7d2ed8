"""Caffe's files of weights (.caffemodel): NetParameter, in its older and its newer format."""

import math
from typing import Any

import numpy as np
import torch
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from cam_repro import UserError

LARGEST = 600_000_000  # bytes, which are held three times; VGG16 has 553 million, the most here
# A network here has a few thousand fields; of many empty ones protobuf makes 15 times their bytes
MOST_FIELDS = 100_000
# The part of caffe.proto that is read: message → field → its number, and its type or message
MESSAGES = {
    "BlobShape": {"dim": (1, "INT64")},
    "BlobProto": {
        "num": (1, "INT32"),
        "channels": (2, "INT32"),
        "height": (3, "INT32"),
        "width": (4, "INT32"),
        "data": (5, "BYTES"),  # packed numbers, which are taken at once, not one by one
        "shape": (7, "BlobShape"),
        "double_data": (8, "BYTES"),
    },
    "V1LayerParameter": {"name": (4, "STRING"), "blobs": (6, "BlobProto")},
    "LayerParameter": {"name": (1, "STRING"), "blobs": (7, "BlobProto")},
    "NetParameter": {"layers": (2, "V1LayerParameter"), "layer": (100, "LayerParameter")},
}
BYTES_OF = {1: 8, 5: 4}  # kind of a field on the wire → bytes of its value, where that is fixed


def read_caffemodel(content: bytes) -> dict[str, torch.Tensor]:
    """The layers with weights as a state dict.

    "conv1/7x7_s2" gives conv1.7x7_s2.weight and conv1.7x7_s2.bias. Raises UserError for numbers
    that do not fill their shape and where there are none, protobuf's DecodeError for what is no
    such message.
    """
    if _fields(memoryview(content), "NetParameter", MOST_FIELDS) >= MOST_FIELDS:
        raise UserError(f"there are more than {MOST_FIELDS:,} fields in it, which no network has")
    network = _net_parameter()
    network.ParseFromString(content)
    state = {}
    for layer in (*network.layers, *network.layer):
        name = "".join(layer.name)
        path = name.replace("/", ".")
        for part, blob in zip(("weight", "bias"), layer.blobs, strict=False):
            state[f"{path}.{part}"] = _tensor(blob, f"{part} of {name[:80]!r}")
    if not state:
        raise UserError("there is no layer with weights in it")
    return state


def _fields(content: memoryview, message: str, most: int) -> int:
    """How many fields lie in a message and those inside it, counted no further than `most`.

    It counts as far as the message can be read. On the wire a field is a varint of its number and
    kind, then a varint, 8 or 4 bytes, a length and so many bytes, or nothing, where a group begins
    or ends.
    """
    inside = dict(MESSAGES[message].values())
    at = 0
    count = 0

    def varint() -> int:
        nonlocal at
        value = 0
        for shift in range(0, 70, 7):
            byte = content[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise IndexError

    try:
        while at < len(content) and count < most:
            number, kind = divmod(varint(), 8)
            count += 1
            if kind == 0:
                varint()
            elif kind == 2:
                length = varint()
                end = at + length
                if inside.get(number) in MESSAGES:
                    count += _fields(content[at:end], inside[number], most - count)
                at = end
            else:
                at += BYTES_OF.get(kind, 0)
    except IndexError:  # cut off, or no number: protobuf says so
        pass
    return count


def _net_parameter() -> Any:
    """An empty NetParameter. Every field may repeat, which reads single ones too."""
    file = FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number)
            field.label = FieldDescriptorProto.LABEL_REPEATED
            if kind in MESSAGES:
                field.type = FieldDescriptorProto.TYPE_MESSAGE
                field.type_name = f".caffe.{kind}"
            else:
                field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind}")
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))()


def _tensor(blob: Any, what: str) -> torch.Tensor:
    """A blob in torch's shape; older files have four dimensions for any, ones in front."""
    shape = [*blob.num, *blob.channels, *blob.height, *blob.width]
    if blob.shape:
        shape = list(blob.shape[0].dim)
    numbers = np.frombuffer(b"".join(blob.data), "<f4")
    if blob.double_data:
        numbers = np.frombuffer(b"".join(blob.double_data), "<f8")
    if min(shape, default=0) < 1 or math.prod(shape) != numbers.size:
        raise UserError(f"the {what} has {numbers.size} numbers for a shape of {shape[:9]}")
    if shape[:3] == [1, 1, 1]:
        shape = shape[-1:]
    elif shape[:2] == [1, 1]:
        shape = shape[2:]
    return torch.from_numpy(numbers.astype(np.float32).reshape(shape))
