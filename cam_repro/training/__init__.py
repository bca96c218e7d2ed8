"""image, label → checkpoint."""
