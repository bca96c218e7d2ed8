"""A heatmap in colours, and laid over its image."""

import numpy as np


def colour(heatmap: np.ndarray) -> np.ndarray:
    """(H,W) → (H,W,3) uint8: blue at and below zero, red at the maximum."""
    share = _share_of_maximum(heatmap)[..., None]
    centres = np.array([0.75, 0.5, 0.25])
    width = 0.25
    rgb = np.clip(1.5 - np.abs(share - centres) / width, 0, 1)
    return (255 * rgb).astype(np.uint8)


def overlay(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """(H,W,3) uint8 and (H,W) → (H,W,3) uint8: the hotter, the less of the image shines through.

    The heatmap is taken in 256 levels, so that every product of a level can be looked up.
    """
    levels = np.rint(255 * _share_of_maximum(heatmap)).astype(np.uint8)
    share = np.linspace(0, 1, 256)
    opacity = 0.2 + 0.35 * share
    shining = np.rint(256 * (1 - opacity)).astype(np.uint16)  # in 256ths, as whole numbers
    painted = np.rint(256 * opacity[:, None] * colour(share[None])[0] + 127.5).astype(np.uint16)
    mixed = image * shining[levels][..., None]
    mixed += np.take(painted, levels, axis=0)  # three times as fast as painted[levels]
    return (mixed >> 8).astype(np.uint8)


def _share_of_maximum(heatmap: np.ndarray) -> np.ndarray:
    return np.maximum(heatmap, 0) / max(float(heatmap.max()), 1e-12)
