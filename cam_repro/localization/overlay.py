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
    """(H,W,3) uint8 and (H,W) → (H,W,3) uint8: the hotter, the less of the image shines through."""
    opacity = (0.2 + 0.35 * _share_of_maximum(heatmap))[..., None]
    mixed = (1 - opacity) * image + opacity * colour(heatmap)
    return np.round(mixed).astype(np.uint8)


def _share_of_maximum(heatmap: np.ndarray) -> np.ndarray:
    return np.maximum(heatmap, 0) / max(float(heatmap.max()), 1e-12)
