"""maps → heatmap → boxes → errors."""

from cam_repro.localization.maps import class_activation_maps, merge_ten_crops

__all__ = ["class_activation_maps", "merge_ten_crops"]
