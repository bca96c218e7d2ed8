"""A heatmap laid over its picture, and boxes drawn on it."""

import numpy as np


def colour(heatmap: np.ndarray) -> np.ndarray:
    """(H,W) → (H,W,3) uint8: blue at and below zero, red at the maximum."""
    share = (np.maximum(heatmap, 0) / max(float(heatmap.max()), 1e-12))[..., None]
    centres, width = np.array([0.75, 0.5, 0.25]), 0.25
    rgb = np.clip(1.5 - np.abs(share - centres) / width, 0, 1)
    return (255 * rgb).astype(np.uint8)


def overlay(picture: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """(H,W,3) uint8 and (H,W) → (H,W,3) uint8: the hotter, the less of the picture shines through."""
    share = np.maximum(heatmap, 0) / max(float(heatmap.max()), 1e-12)
    opacity = (0.2 + 0.35 * share)[..., None]
    return np.round((1 - opacity) * picture + opacity * colour(heatmap)).astype(np.uint8)
