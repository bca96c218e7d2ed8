#!/usr/bin/env bash
# Pillow 13 resizes some images by columns first, where Pillow 12 resized all of them by rows first.
#
# Image.resize works in two passes, and each rounds and clips to 8 bits. So the order of the passes shows in the pixels:
# the same call gives values that differ by up to 20 levels between the two versions, on noise, and which images are
# concerned depends on their shape: 333×251 and 400×300 (height × width) to 224×224, but neither 500×375 nor 375×500.
# An evaluation whose images are shrunk by Pillow is therefore not the same evaluation after an update of Pillow, though
# the filter is; and shrinking the transpose of an image is not the transpose of the shrunk image.
#
# Seen with pillow 12.2.0 and 13.0.0, numpy 2.4.6, Python 3.11:
#   12.2.0 500x375 rows  375x500 rows  400x300 rows     333x251 rows
#   13.0.0 500x375 rows  375x500 rows  400x300 columns  333x251 columns
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/order.py" <<'PY'
import numpy as np
import PIL
from PIL import Image

SIDE = 224
BICUBIC = Image.Resampling.BICUBIC
rng = np.random.default_rng(0)
said = [PIL.__version__]
for height, width in ((500, 375), (375, 500), (400, 300), (333, 251)):
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    at_once = np.array(image.resize((SIDE, SIDE), BICUBIC))
    by_rows = np.array(image.resize((SIDE, height), BICUBIC).resize((SIDE, SIDE), BICUBIC))
    by_columns = np.array(image.resize((width, SIDE), BICUBIC).resize((SIDE, SIDE), BICUBIC))
    assert (by_rows != by_columns).any()
    order = {(True, False): "rows", (False, True): "columns"}
    same = ((at_once == by_rows).all().item(), (at_once == by_columns).all().item())
    said.append(f"{height}x{width} {order.get(same, 'neither')}")
print("  ".join(said))
PY

for version in 12.2.0 13.0.0; do
  python3 -m venv "$work/$version"
  "$work/$version/bin/pip" install --quiet --disable-pip-version-check "pillow==$version" numpy==2.4.6
  "$work/$version/bin/python" "$work/order.py"
done | tee "$work/seen"

diff "$work/seen" - <<'SEEN'
12.2.0  500x375 rows  375x500 rows  400x300 rows  333x251 rows
13.0.0  500x375 rows  375x500 rows  400x300 columns  333x251 columns
SEEN
