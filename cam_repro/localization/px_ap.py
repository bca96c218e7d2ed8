"""PxAP, the pixel average precision of the WSOL benchmark (Choe et al., CVPR 2020), from masks.

The pixels of all images are one set: at each threshold those above it are held against the masks,
and the area under precision over recall is the number.
"""

import numpy as np

from cam_repro.localization.intervals import INTERVAL
from cam_repro.localization.max_box_acc import THRESHOLDS

# The last bin but one holds the maximum itself; the last stays empty, where recall is 0.
EDGES = np.append(THRESHOLDS, [1.0, 2.0, 3.0])


def score_histograms(heatmap: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(2,1002): how many pixels of a normalised heatmap (H,W) fall between two thresholds.

    The first row counts those of the object, where the mask (H,W) is 1, the second those where it
    is 0.
    """
    of_object, _ = np.histogram(heatmap[mask == 1], EDGES)
    of_the_rest, _ = np.histogram(heatmap[mask == 0], EDGES)
    return np.stack([of_object, of_the_rest])


def precision_and_recall(histograms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(…,1002) each, at falling thresholds, from the sum of `score_histograms` (…,2,1002)."""
    above = histograms[..., ::-1].cumsum(axis=-1)
    of_object = above[..., 0, :]
    predicted = above.sum(axis=-2)
    precision = np.divide(of_object, predicted, out=np.zeros(predicted.shape), where=predicted > 0)
    return precision, of_object / of_object[..., -1:]


def px_ap(histograms: np.ndarray) -> np.ndarray:
    """(…,) in percent, from the sum of `score_histograms` over images (…,2,1002)."""
    precision, recall = precision_and_recall(histograms)
    return 100.0 * (precision[..., 1:] * np.diff(recall)).sum(axis=-1)


def px_ap_interval(histograms: np.ndarray, seed: int = 0, samples: int = 1000) -> list[float]:
    """The 95 % interval of the histograms' (N,2,1002) PxAP, over redrawings of the images."""
    images = len(histograms)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(images, np.full(images, 1 / images), samples)
    flat = histograms.reshape(images, -1).astype(float)
    drawn = px_ap((counts.astype(float) @ flat).reshape(samples, *histograms.shape[1:]))
    return np.nanpercentile(drawn, INTERVAL).tolist()
