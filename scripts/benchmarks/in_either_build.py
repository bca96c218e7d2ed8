"""Tasks for `against.py`, run in each of two builds: they call what both have, and no more.

`python in_either_build.py TASK …` prints its seconds, those of the processor and what was found.
"""

import hashlib
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from hydra import compose, initialize_config_dir

MAPS = 24
SIZE = 224  # pixels a side of a training crop
FIRST = 4  # batches that do not count: the workers begin by decoding some ahead


def release() -> dict[str, object]:
    """The release's boxes of 8-bit maps of 500×375 pixels with a few bright places."""
    from cam_repro.localization.boxes import release_boxes

    rng = np.random.default_rng(0)
    heatmaps = []
    for small in rng.random((MAPS, 5, 5), np.float32) ** 3:
        heatmap = cv2.resize(small, (500, 375), interpolation=cv2.INTER_CUBIC).clip(0)
        heatmaps.append((255 * heatmap / heatmap.max() + 0.5).astype(np.uint8))
    release_boxes(heatmaps[0])
    began = time.perf_counter()
    of_processor = time.process_time()
    said = [str(release_boxes(heatmap)) for heatmap in heatmaps]
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "processor": time.process_time() - of_processor, "said": said}


def batches(shapes: str, cache: str) -> dict[str, object]:
    """An epoch of training batches from two workers: this process's own seconds a 1,000 images."""
    from cam_repro import distributed
    from cam_repro.config import CONFIGS, register_schema, validated
    from cam_repro.data import load_split
    from cam_repro.data.loaders import training_batches

    register_schema()
    options = ["data=shapes", f"data.root={shapes}", "model=alexnet_gap", "recipe.batch_size=64"]
    options += ["data.generate.train=640", "data.generate.val=20"]
    options += ["recipe.crop_area=0.25"]  # whatever a build's recipe for this network has
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = validated(compose("config", overrides=options))
    # An older build calls it otherwise
    join = getattr(distributed, "join_distributed", None) or distributed.join_world
    said = []
    images = 0
    took = 0.0
    with join("cpu") as world:
        split = load_split(config.data, "train", Path(cache), world)
        epoch = training_batches(split, config.recipe, SIZE, seed=0, epoch=0, workers=2)
        for number in range(len(split) // config.recipe.batch_size):
            began = time.process_time()
            batch = next(epoch)
            if number >= FIRST:
                took += time.process_time() - began
                images += len(batch)
            said.append(hashlib.sha256(batch.pixels.numpy().tobytes()).hexdigest()[:16])
    seconds = 1000 * took / images
    return {"seconds": seconds, "processor": seconds, "said": said}


if __name__ == "__main__":
    task, *words = sys.argv[1:]
    print(json.dumps({"release": release, "batches": batches}[task](*words)))
