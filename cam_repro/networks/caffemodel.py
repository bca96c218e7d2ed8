"""Caffe's files of weights (.caffemodel): the protobuf message NetParameter, in its older and its newer format.

A message is a run of fields, each the number that names it and a value. They are read one after the other and what is
not wanted is passed over, so that no file, whatever it is made of, takes more memory than its own size.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch

from cam_repro import UserError

LARGEST = 600_000_000  # bytes; VGG16's 553 million are the most that a network here has, and are held twice
MOST_FIELDS = 10_000  # of one message; a network here has some hundred layers
LAYERS = {2: (4, 6), 100: (1, 7)}  # NetParameter's fields of layers, older and newer → theirs of names and of blobs
SIZES, SHAPE, NUMBERS = (1, 2, 3, 4), 7, {5: "<f4", 8: "<f8"}  # BlobProto's fields
FIXED = {1: 8, 5: 4}  # kinds of values that have no length before them → their bytes


def read_caffemodel(content: bytes) -> dict[str, torch.Tensor]:
    """The layers with weights as a state dict: "conv1/7x7_s2" gives conv1.7x7_s2.weight and conv1.7x7_s2.bias.

    Raises UserError for numbers that do not fill their shape and where there are none; for what is no such message
    whatever fits.
    """
    state = {}
    for number, layer in _fields(memoryview(content)):
        if number not in LAYERS:
            continue
        (of_names, of_blobs), fields = LAYERS[number], [*_fields(layer)]
        name = "".join(str(value, "utf-8") for field, value in fields if field == of_names)
        blobs = [value for field, value in fields if field == of_blobs]
        for part, blob in zip(("weight", "bias"), blobs, strict=False):
            state[f"{name.replace('/', '.')}.{part}"] = _tensor(blob, f"{part} of {name[:80]!r}")
    if not state:
        raise UserError("there is no layer with weights in it")
    return state


def _tensor(blob: memoryview, what: str) -> torch.Tensor:
    """A blob in torch's shape; older files have four dimensions for any, ones in front."""
    shape, parts = [], [np.empty(0, np.float32)]
    for number, value in _fields(blob):
        if number in SIZES:
            shape += _whole_numbers(value)
        elif number == SHAPE:
            shape = [dim for _, dims in _fields(value) for dim in _whole_numbers(dims)]
        elif number in NUMBERS:
            parts.append(np.frombuffer(value, NUMBERS[number]))
    numbers = np.concatenate(parts, dtype=np.float32, casting="same_kind")
    if min(shape, default=0) < 1 or math.prod(shape) != numbers.size:
        raise UserError(f"the {what} has {numbers.size} numbers for a shape of {shape[:9]}")
    shape = shape[-1:] if shape[:3] == [1, 1, 1] else shape[2:] if shape[:2] == [1, 1] else shape
    return torch.from_numpy(numbers.reshape(shape))


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Each field's number and value: a whole number, or the bytes of a text, of packed numbers or of a message."""
    at = 0
    for _ in range(MOST_FIELDS):
        if at == len(message):
            return
        key, at = _varint(message, at)
        number, kind = divmod(key, 8)
        value, at = _varint(message, at) if kind in (0, 2) else (FIXED[kind], at)
        if kind:
            value, at = message[at : at + value], at + value
        if at > len(message):
            raise ValueError("cut off")
        yield number, value
    raise UserError(f"there are more than {MOST_FIELDS:,} fields in it, which no network has")


def _whole_numbers(value: int | memoryview) -> list[int]:
    """Of a field of sizes: one that stands alone, or several packed, the first nine; a shape has four at most."""
    if isinstance(value, int):
        return [value]
    numbers, at = [], 0
    while at < len(value) and len(numbers) < 9:
        number, at = _varint(value, at)
        numbers.append(number)
    return numbers


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """The whole number at a place, of seven bits a byte with the lowest first, and the place after it."""
    value = 0
    for length in range(10):
        value |= (content[at + length] & 0x7F) << 7 * length
        if content[at + length] < 0x80:
            return value, at + length + 1
    raise ValueError("a number without an end")
