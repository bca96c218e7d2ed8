#!/usr/bin/env bash
# torchcam's Grad-CAM++ never divides its alpha, so that its weights are sums of cubed gradients.
#
# Grad-CAM++ weighs a map by the sum of alpha · ReLU(g) over its places, with alpha = g² / (2 g² + g³ Σ f), g the
# gradient of the class's score and f the map. torchcam 0.5.0 computes that denominator and divides by
# `alpha[idx][mask].div_(…)`: indexing with a mask gives a copy, the copy is divided, and alpha stays g². The weights are
# then Σ g³ wherever g > 0. On a network that is averaged and classified linearly g is the same at every place of a map:
# the maps are weighed by the cubes of the classifier's weights, in place of what the paper's rule gives, and no message
# says so. A comparison of Grad-CAM++ with other methods by torchcam is one of another method.
#
# Seen with torchcam 0.5.0, torch 2.14.1, Python 3.11:
#   equal to the weights with alpha = g^2: True
#   equal to the weights of the paper's rule: False
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/alpha.py" <<'PY'
import torch
from torch import nn
from torchcam.methods import GradCAMpp

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
).eval()
image = torch.rand(1, 3, 12, 12, requires_grad=True)
with GradCAMpp(model, target_layer="1") as extractor:
    scores = model(image)
    (theirs,) = extractor(2, scores, normalized=False)

maps = model[:2](image).detach()[0]  # (K,h,w)
places = maps[0].numel()
gradient = (model[4].weight[2] / places).detach()[:, None, None].expand_as(maps)
squares = gradient**2
divided = squares / (2 * squares + gradient**3 * maps.sum((1, 2), keepdim=True))


def same(alpha):
    weights = (torch.nan_to_num(alpha) * gradient.relu()).sum((1, 2))
    ours = (weights[:, None, None] * maps).sum(0).relu()
    return torch.allclose(ours / ours.max(), theirs[0] / theirs.max(), atol=1e-5)


print("equal to the weights with alpha = g^2:", same(squares))
print("equal to the weights of the paper's rule:", same(divided))
PY

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 torchcam==0.5.0
"$work/venv/bin/python" "$work/alpha.py" | tee "$work/seen"

diff "$work/seen" - <<'SEEN'
equal to the weights with alpha = g^2: True
equal to the weights of the paper's rule: False
SEEN
