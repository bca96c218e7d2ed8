"""A state dict as other programs keep it: inside a checkpoint, with a prefix before its names.

timm, torchvision's reference scripts and Lightning save it beside the optimizer's state. Data
parallelism, torch.compile and a module that holds the network put a prefix before each name
("module.", "_orig_mod.", "model.").
"""

from typing import Any

import torch

State = dict[str, torch.Tensor]
# Averaged weights come first: the programs that keep them evaluate them.
KEYS = (
    "model_ema",
    "state_dict_ema",
    "ema_state_dict",
    "ema",
    "state_dict",
    "model_state_dict",
    "model",
    "network",
    "net",
    "module",
)


def unwrapped(state: Any) -> tuple[Any, list[str]]:
    """What lies under KEYS in a checkpoint, however deep, and the keys that led there."""
    under = []
    while isinstance(state, dict):
        wrapping = [key for key in KEYS if isinstance(state.get(key), dict) and state[key]]
        if not wrapping:
            break
        under.append(wrapping[0])
        state = state[wrapping[0]]
    return state, under


def prefix_of(names: list[str], wanted: list[str]) -> str:
    """What stands before the names of a network's layers, `wanted`, in a state dict of other names.

    Empty where nothing does, or the first layer is not there at all. Where the network is there
    several times, as a student and its teacher are, the most complete one is meant.
    """
    known = set(names)
    best = ""
    most = 0
    for name in names:
        if not f".{name}".endswith(f".{wanted[0]}"):
            continue
        prefix = name.removesuffix(wanted[0])
        found = sum(prefix + layer in known for layer in wanted)
        if found > most:
            best = prefix
            most = found
    return best


def without_prefix(tensors: State, under: list[str], wanted: list[str]) -> tuple[State, str]:
    """The layers that are named as in `wanted` but for a prefix, and in words what was removed.

    under: the keys that led to the state dict; wanted may be empty, then the names stay.
    """
    prefix = prefix_of(list(tensors), wanted) if wanted else ""
    said = []
    if under:
        said.append(f"the state dict under {'.'.join(under)}")
    if not prefix:
        return tensors, ", ".join(said)
    said.append(f"{prefix!r} taken off the names of its layers")
    kept = {}
    left_out = []
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            kept[name.removeprefix(prefix)] = tensor
        else:
            left_out.append(name)
    if left_out:
        more = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        said.append(f"left out: {left_out[0]}{more}")
    return kept, ", ".join(said)
