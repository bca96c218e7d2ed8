"""A split through a network and a protocol: maps, boxes, scores, predictions, cached maps."""
