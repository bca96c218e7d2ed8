"""Every network of configs/model for `torch.hub`, with the weights of a file or at random.

torch.hub.load(FOLDER, "alexnet_gap", weights="alexnet_gap-shapes.safetensors", source="local")

FOLDER is a clone of this repository.
"""

from cam_repro.config import names_in as _names_in
from cam_repro.networks import build_network as _build_network

dependencies = ["torch", "torchvision", "timm", "hydra", "omegaconf", "safetensors", "numpy", "cv2"]
dependencies += ["PIL", "simplejpeg", "defusedxml", "tqdm"]


def _entry(name):
    def entry(weights=None, num_classes=None):
        return _build_network(name, num_classes, weights).eval()

    entry.__doc__ = (
        f"{name} in evaluation mode: network(x) → logits (N,C), network.forward_with_maps(x) → "
        "logits (N,C), maps (N,K,h,w).\n\n"
        "weights: what `make release` or `make export` wrote, a checkpoint, a backbone's file, "
        "DEFAULT (published), or None (random); num_classes: None: the file's own, else 1000."
    )
    return entry


for _name in _names_in("model"):
    globals()[_name] = _entry(_name)
